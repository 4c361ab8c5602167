"""Tests of the move from another integration, as docs/moving.md describes it."""

import asyncio
from datetime import UTC, datetime, timedelta

from freezegun.api import FrozenDateTimeFactory
import pytest

from homeassistant.components.recorder import Recorder, get_instance
from homeassistant.components.recorder.statistics import (
    StatisticsRow,
    statistics_during_period,
)
from homeassistant.components.recorder.tasks import StatisticsTask, SynchronizeTask
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
from homeassistant.setup import async_setup_component
from tests.simulator import Simulator
from tests.simulator.counters import Counter

from . import statistics
from .conftest import Account
from .statistics import Energy, Run

recorder_config = statistics.recorder_config

OLD = "sensor.old_entity"
# Energy that the old entity has recorded.
RECORDED = 5.0


async def _record(
    hass: HomeAssistant, freezer: FrozenDateTimeFactory, last: float, state_class: str
) -> None:
    """Record an energy of another integration that is removed afterwards."""
    assert await async_setup_component(hass, "sensor", {})
    await hass.async_block_till_done()
    start = datetime.now(UTC)
    attributes = {
        "device_class": "energy",
        "state_class": state_class,
        "unit_of_measurement": "kWh",
    }
    hass.states.async_set(OLD, str(last - RECORDED), attributes)
    freezer.tick(timedelta(minutes=2))
    hass.states.async_set(OLD, str(last), attributes)
    freezer.tick(timedelta(minutes=3, seconds=5))
    recorder = get_instance(hass)
    recorder.queue_task(StatisticsTask(start, False))
    # The recorder may already run the task, so its queue can be empty.
    compiled: asyncio.Future[None] = hass.loop.create_future()
    recorder.queue_task(SynchronizeTask(compiled))
    await compiled
    hass.states.async_remove(OLD)


async def _last_statistics(hass: HomeAssistant) -> StatisticsRow:
    recorder = get_instance(hass)
    await recorder.async_block_till_done()
    rows = await recorder.async_add_executor_job(
        statistics_during_period,
        hass,
        datetime.fromtimestamp(0, UTC),
        None,
        {OLD},
        "5minute",
        None,
        {"state", "sum"},
    )
    return rows[OLD][-1]


@pytest.mark.parametrize(
    ("key", "state_class", "share"),
    [
        # Active energy (forward active energy) becomes the total export.
        ("active_cap", "total", 1.0),
        # Lifetime - Inverter yield becomes the total production of the plant.
        ("pv_energy", "total_increasing", 1.0),
        # Total Current Day Energy becomes the total production of the plant.
        ("pv_energy", "total_increasing", 0.0002),
    ],
)
async def test_statistics_continue(
    recorder_mock: Recorder,
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    freezer: FrozenDateTimeFactory,
    key: str,
    state_class: str,
    share: float,
) -> None:
    """An entity that gets the ID of a removed one continues its statistics."""
    run = Run(hass, account, simulator, freezer)
    counters: list[Counter | Energy] = [*run.expected, *run.energies]
    [counter] = [each for each in counters if each.key == key]
    last = round(share * counter.true(run.now), 2)
    await _record(hass, freezer, last, state_class)
    begin = run.now
    await run.start()
    get_instance(hass).entity_filter = {OLD}.__contains__
    registered = account.registered(counter.name, key)
    assert registered is not None
    er.async_get(hass).async_update_entity(registered.entity_id, new_entity_id=OLD)
    await hass.async_block_till_done()
    await run.until(begin + timedelta(hours=6))
    row = await _last_statistics(hass)
    assert row["state"] is not None
    assert row["sum"] == pytest.approx(RECORDED + row["state"] - last)
    # The first and the last interval are counted or not.
    true = counter.true(run.now) - counter.true(begin)
    assert true > 10.0
    assert row["sum"] == pytest.approx(RECORDED + true, abs=1.0)
