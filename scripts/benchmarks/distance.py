"""A distant server, in simulated time."""

import asyncio
from datetime import datetime
from random import Random
from typing import Any, override

from aiohttp import web
from freezegun.api import FrozenDateTimeFactory

from tests.simulator import Simulator

# Duration of a call in one direction, in seconds.
TRAVEL = (0.1, 0.3)


class DistantSimulator(Simulator):
    """A simulator whose calls and responses take time."""

    def __init__(
        self, freezer: FrozenDateTimeFactory, seed: int, *args: Any, **kwargs: Any
    ) -> None:
        """Store the frozen clock, and create the simulator."""
        super().__init__(*args, **kwargs)
        self._freezer = freezer
        self._dice = Random(f"{seed}/travel")

    @override
    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        await self._travel()
        answer = await super()._handle(request)
        await self._travel()
        return answer

    async def _travel(self) -> None:
        self._freezer.tick(self._dice.uniform(*TRAVEL))
        self.arrive(self.clock.now())
        # Other tasks that are due run in the meantime.
        await asyncio.sleep(0)

    def arrive(self, now: datetime) -> None:
        """Run the tasks that are due before a call or a response arrives."""
