"""A server that is some way off, in simulated time."""

import asyncio
from datetime import datetime
from random import Random
from typing import Any, override

from aiohttp import web
from freezegun.api import FrozenDateTimeFactory

from tests.simulator import Simulator

# One way of a call, in seconds.
TRAVEL = (0.1, 0.3)


class DistantSimulator(Simulator):
    """A server that calls, and answers, take time to reach."""

    def __init__(
        self, freezer: FrozenDateTimeFactory, seed: int, *args: Any, **kwargs: Any
    ) -> None:
        """Take the frozen clock, which is moved on, and what a simulator takes."""
        super().__init__(*args, **kwargs)
        self._freezer = freezer
        self._dice = Random(f"{seed}/travel")

    @override
    async def _handle(self, request: web.Request) -> web.StreamResponse:
        await self._travel()
        answer = await super()._handle(request)
        await self._travel()
        return answer

    async def _travel(self) -> None:
        self._freezer.tick(self._dice.uniform(*TRAVEL))
        self.arrive(self.clock.now())
        # Meanwhile happens what is due.
        await asyncio.sleep(0)

    def arrive(self, now: datetime) -> None:
        """Do what is due before a call or an answer arrives."""
