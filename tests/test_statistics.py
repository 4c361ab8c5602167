"""Tests of the recorder's statistics: no fault of the API may become energy."""

from collections.abc import AsyncIterator
from datetime import timedelta
import logging

from freezegun.api import FrozenDateTimeFactory
import pytest

from homeassistant.components.recorder import Recorder
from homeassistant.core import HomeAssistant
from tests.simulator import Simulator
from tests.simulator.plants import Home

from .conftest import Account
from .statistics import Run, assert_true


@pytest.fixture
def start() -> str:
    """Return when the account is added."""
    return "2026-06-21 21:00:30+02:00"


@pytest.fixture
def recorder_config() -> dict[str, int]:
    """Commit when statistics are compiled, and not after every state."""
    # Logging every statement, as the test framework does, takes half of the time.
    logging.getLogger("sqlalchemy.engine").setLevel(logging.WARNING)
    # Frozen time makes asyncio believe that everything is slow.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    return {"commit_interval": 3600}


@pytest.fixture
async def simulator(
    home: Home, start: str, socket_enabled: None, freezer: FrozenDateTimeFactory
) -> AsyncIterator[Simulator]:
    """Serve a home; its clock is the frozen one of the test."""
    freezer.move_to(start)
    simulator = Simulator(home)
    async with simulator.serve():
        yield simulator


@pytest.fixture
async def run(
    simulator: Simulator,
    recorder_mock: Recorder,
    hass: HomeAssistant,
    account: Account,
    freezer: FrozenDateTimeFactory,
) -> Run:
    """Return a run that begins now."""
    run = Run(hass, account, simulator, freezer)
    await run.start()
    return run


async def test_no_fault(run: Run) -> None:
    """Without a fault, nothing is held."""
    await run.until("2026-06-22 03:00")
    c = await run.compare()
    for x in c:
        print(
            x.told.counter.key,
            x.told.total,
            x.difference,
            x.worst,
            x.error(x.worst),
            x.told.lies,
        )
    assert_true(c)
