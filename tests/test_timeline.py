"""Tests of time in tests."""

import asyncio
from datetime import datetime, timedelta
import time

from freezegun.api import FrozenDateTimeFactory
import pytest

from homeassistant.core import HassJob, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later, async_track_point_in_utc_time
from homeassistant.util import dt as dt_util
from tests.conftest import Account
from tests.simulator import Simulator, faults
from tests.timeline import pass_time

pytestmark = pytest.mark.fast

BEGIN = datetime(2026, 6, 21, 10, tzinfo=dt_util.UTC)

type Diary = list[tuple[str, float]]


@pytest.fixture(autouse=True)
def begin(freezer: FrozenDateTimeFactory) -> None:
    """Start at a fixed time."""
    freezer.move_to(BEGIN)


def since_begin() -> float:
    """Return the seconds since the start, without the rounding error of loop time."""
    return round((dt_util.utcnow() - BEGIN).total_seconds(), 4)


async def test_timers_fire_when_they_are_due(
    hass: HomeAssistant, freezer: FrozenDateTimeFactory
) -> None:
    """Timers fire on time, up to the end, including timers started by timers."""
    diary: Diary = []

    @callback
    def note(_: datetime) -> None:
        diary.append(("called", since_begin()))
        async_call_later(hass, 7.25, HassJob(note, cancel_on_shutdown=True))

    def never() -> None:
        diary.append(("cancelled", since_begin()))

    hass.loop.call_later(5, never).cancel()
    async_call_later(hass, 1.5, note)
    async_track_point_in_utc_time(hass, note, BEGIN + timedelta(seconds=20.3))
    await pass_time(hass, freezer, BEGIN + timedelta(seconds=20.3))
    assert dt_util.utcnow() == BEGIN + timedelta(seconds=20.3)
    assert diary == [("called", at) for at in (1.5, 8.75, 16.0, 20.3)]


async def test_overdue_timers_fire_first(
    hass: HomeAssistant, freezer: FrozenDateTimeFactory
) -> None:
    """Overdue timers fire first, without moving the clock back."""
    diary: Diary = []
    hass.loop.call_at(
        hass.loop.time() - 60, lambda: diary.append(("overdue", since_begin()))
    )
    await pass_time(hass, freezer, BEGIN + timedelta(minutes=1))
    assert diary == [("overdue", 0.0)]
    assert since_begin() == 60


async def test_tasks_may_sleep(
    hass: HomeAssistant, freezer: FrozenDateTimeFactory
) -> None:
    """Time advances while Home Assistant waits for it, also across two calls."""
    diary: Diary = []
    lock = asyncio.Lock()

    async def sleep(seconds: float) -> None:
        async with lock:
            await asyncio.sleep(seconds)
        diary.append((f"{seconds:g} s", since_begin()))

    hass.async_create_task(sleep(40))
    hass.async_create_background_task(sleep(30), "sleep")
    await pass_time(hass, freezer, BEGIN + timedelta(seconds=39))
    assert diary == []
    await pass_time(hass, freezer, BEGIN + timedelta(minutes=10))
    assert diary == [("40 s", 40.0), ("30 s", 70.0)]


async def test_work_of_threads_takes_no_time(
    hass: HomeAssistant, freezer: FrozenDateTimeFactory
) -> None:
    """The clock waits for threads."""
    diary: Diary = []

    async def work() -> None:
        await hass.async_add_executor_job(time.sleep, 0.1)
        await hass.async_add_import_executor_job(time.sleep, 0.1)
        diary.append(("done", since_begin()))

    hass.async_create_task(work())
    await pass_time(hass, freezer, BEGIN + timedelta(minutes=1))
    assert diary == [("done", 0.0)]


async def test_simulator_uses_simulated_time(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    freezer: FrozenDateTimeFactory,
) -> None:
    """Late and missing responses take simulated time."""
    simulator.faults.add(faults.Latency(12.0), "getDevRealKpi")
    before = len(simulator.calls)
    await pass_time(hass, freezer, BEGIN + timedelta(minutes=6))
    first, second, *_ = [
        call for call in simulator.calls[before:] if call.interface == "getDevRealKpi"
    ]
    assert (second.at - first.at).total_seconds() == pytest.approx(12, abs=1e-3)
