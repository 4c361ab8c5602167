"""Tests of summed energies with lost files, and after an account is added again.

A real recorder compiles statistics. They rise by the energy counted while the plant is
read, and no hour contains energy from before.
"""

from collections.abc import AsyncIterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from freezegun.api import FrozenDateTimeFactory
import pytest
from sqlalchemy.exc import OperationalError

from custom_components.smartpvms.account import ACCOUNTS
from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.statistics import recorder as recording
from homeassistant.components.recorder import get_instance
from homeassistant.components.recorder.statistics import statistics_during_period
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er, restore_state
from tests.simulator import Simulator, faults, homes
from tests.simulator.plants import Home

from . import statistics
from .conftest import POLL
from .statistics import Run

ENERGIES: Final = ("pv_energy", "home_energy", "charged_energy", "discharged_energy")
HOUR: Final = timedelta(hours=1)
# The end of a day is known if readings are at most this far apart.
STEP: Final = timedelta(minutes=14)

recorder_config = statistics.recorder_config
started = statistics.run


@pytest.fixture(params=["newer", "older"])
def home(request: pytest.FixtureRequest) -> Home:
    """Return a home whose battery has lifetime counters, or only daily counters."""
    home = homes.family()
    home.plants[0].newer_items = request.param == "newer"
    return home


@pytest.fixture
async def simulator(
    home: Home, socket_enabled: None, freezer: FrozenDateTimeFactory
) -> AsyncIterator[Simulator]:
    """Serve a home without history."""
    freezer.move_to("2026-06-20 06:00:30+02:00")
    simulator = Simulator(home)
    simulator.faults.add(faults.FailCode(20013), "getDevHistoryKpi")
    async with simulator.serve():
        yield simulator


@pytest.fixture
async def run(started: Run, hass: HomeAssistant) -> Run:
    """Return a run in which everything is recorded from the start."""
    get_instance(hass).entity_filter = lambda entity_id: True
    await started.restart()
    return started


@pytest.fixture
def store(run: Run, hass_storage: dict[str, Any]) -> Store:
    """Return the files of the account."""
    return Store(run, hass_storage)


class Store:
    """The files of an account, which can be lost or replaced by older ones."""

    def __init__(self, run: Run, storage: dict[str, Any]) -> None:
        """Store the added account."""
        self._storage = storage
        self._key = f"{DOMAIN}.{run.account.entry.entry_id}"

    def copy(self) -> dict[str, Any]:
        """Return the current contents of the files."""
        return {
            name: deepcopy(content)
            for name, content in self._storage.items()
            if name.startswith(self._key)
        }

    def replace(self, content: dict[str, Any]) -> None:
        """Replace the contents of the files."""
        for name in self.copy():
            del self._storage[name]
        self._storage |= content


async def _start_with(
    run: Run, hass: HomeAssistant, store: Store, content: dict[str, Any]
) -> None:
    """Stop Home Assistant, and start it with other files."""
    entry_id = run.account.entry.entry_id
    assert await hass.config_entries.async_unload(entry_id)
    await get_instance(hass).async_block_till_done()
    hass.data.pop(ACCOUNTS)
    # The last state is only in the recorder.
    restore_state.async_get(hass).last_states.clear()
    store.replace(content)
    assert await hass.config_entries.async_setup(entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)


async def _hours(run: Run, hass: HomeAssistant) -> dict[str, dict[datetime, float]]:
    """Return the changes of the energies by hour."""
    [plant] = run.simulator.home.plants
    recorder = get_instance(hass)
    await recorder.async_block_till_done()
    registered = {key: run.account.registered(plant.code, key) for key in ENERGIES}
    ids = {key: each.entity_id for key, each in registered.items() if each}
    rows = await recorder.async_add_executor_job(
        statistics_during_period,
        hass,
        run.begin - HOUR,
        None,
        set(ids.values()),
        "hour",
        None,
        {"change"},
    )
    return {
        key: {
            datetime.fromtimestamp(row["start"], UTC): row["change"] or 0.0
            for row in rows.get(entity_id, [])
        }
        for key, entity_id in ids.items()
    }


async def _assert_true(
    run: Run, hass: HomeAssistant, lost: tuple[datetime, datetime] | None = None
) -> None:
    """Compare every hour of the statistics, and their sum, with the true energies."""
    [plant] = run.simulator.home.plants

    def truth(begin: datetime, end: datetime) -> dict[str, float]:
        true = run.simulator.energy(plant.code, begin, end)
        values = (true.pv, true.load, true.charge, true.discharge)
        return dict(zip(ENERGIES, values, strict=True))

    missing = truth(*lost) if lost else dict.fromkeys(ENERGIES, 0.0)
    end = run.now.replace(minute=0, second=0, microsecond=0)
    total = truth(run.begin, end)
    for key, hours in (await _hours(run, hass)).items():
        for hour, change in hours.items():
            assert change >= -1e-6, (key, hour)
            # A rise after an outage is counted with the third reading after it.
            assert change <= truth(hour - 4 * STEP, hour + HOUR)[key] + 0.1, (
                key,
                hour,
            )
        shown = sum(change for hour, change in hours.items() if hour < end)
        # The last reading of the hour is this far from its end, and its values are as
        # old
        # as the last collection.
        last = truth(end - STEP - POLL, end + STEP)[key]
        expected = total[key] - missing[key]
        assert shown <= expected * 1.005 + last + 0.05, key
        assert shown >= expected * 0.995 - last - 0.05, key


async def test_begin(run: Run) -> None:
    """Energies start at 0 with the first reading, and are complete afterwards."""
    [plant] = run.simulator.home.plants
    values = {key: run.account.value(plant.code, key) for key in ENERGIES}
    assert set(values.values()) <= {"0", "0.0"}
    began = run.now.replace(minute=0, second=0)
    await run.until("2026-06-20 08:00:30")
    true = run.simulator.energy(plant.code, began, run.now)
    # The server collects every five minutes.
    late = run.simulator.energy(plant.code, began, run.now - 2 * POLL)
    pv, home = (
        float(run.account.value(plant.code, key) or 0)
        for key in ("pv_energy", "home_energy")
    )
    assert late.pv - 0.02 <= pv <= true.pv + 0.02
    assert late.load - 0.02 <= home <= true.load + 0.02


@pytest.mark.parametrize("days", [0, 1])
async def test_older_file(
    run: Run, hass: HomeAssistant, store: Store, days: int
) -> None:
    """A file that is older than the recorder neither adds nor removes energy."""
    await run.until("2026-06-20 12:00:30", STEP)
    kept = store.copy()
    await run.until(f"2026-06-{20 + days} 14:30:30", STEP)
    await _start_with(run, hass, store, kept)
    await run.until(f"2026-06-{21 + days} 10:00:30", STEP)
    await _assert_true(run, hass)


async def test_lost_file(run: Run, hass: HomeAssistant, store: Store) -> None:
    """A lost file adds no energy, and loses only energy that was not read."""
    [plant] = run.simulator.home.plants
    await run.until("2026-06-20 14:00:30", STEP)
    before = {key: float(run.account.value(plant.code, key) or 0) for key in ENERGIES}
    await _start_with(run, hass, store, {})
    since = run.now
    await run.poll(STEP)
    for key, value in before.items():
        assert float(run.account.value(plant.code, key) or 0) >= value
    # Until the first reading, since the quotas are unknown as well.
    until = run.now
    await run.until("2026-06-21 10:00:30", STEP)
    await _assert_true(run, hass, (since, until))


async def test_added_again(run: Run, hass: HomeAssistant) -> None:
    """An account that is added again adds no energy from before."""
    await run.until("2026-06-20 13:00:30", STEP)
    await hass.config_entries.async_remove(run.account.entry.entry_id)
    since = run.now
    await run.poll(STEP)
    await run.account.add()
    await run.poll(STEP)
    until = run.now
    await run.until("2026-06-21 10:00:30", STEP)
    await _assert_true(run, hass, (since, until))


async def test_unit_of_the_user(run: Run, hass: HomeAssistant, store: Store) -> None:
    """Recorded energies may have another unit."""
    [plant] = run.simulator.home.plants
    registered = run.account.registered(plant.code, "pv_energy")
    assert registered
    er.async_get(hass).async_update_entity_options(
        registered.entity_id, "sensor", {"unit_of_measurement": "MWh"}
    )
    await run.until("2026-06-20 12:00:30", STEP)
    before = float(run.account.value(plant.code, "pv_energy") or 0)
    assert 0.01 < before < 0.06
    await _start_with(run, hass, store, {})
    await run.poll(STEP)
    after = float(run.account.value(plant.code, "pv_energy") or 0)
    assert before <= after <= before + 0.01


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("", {}, Exception()),
        RuntimeError("cannot schedule new futures after shutdown"),
    ],
)
async def test_recorder_that_fails(
    run: Run,
    hass: HomeAssistant,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    """If the recorder cannot be read, energies continue from the file."""
    [plant] = run.simulator.home.plants
    await run.until("2026-06-20 08:00:30", STEP)
    before = float(run.account.value(plant.code, "pv_energy") or 0)

    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr(recording, "_last_values", fail)
    await _start_with(run, hass, store, store.copy())
    await run.poll(STEP)
    after = float(run.account.value(plant.code, "pv_energy") or 0)
    assert before < after < before + 2
