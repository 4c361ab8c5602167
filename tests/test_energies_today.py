"""Tests of a plant's energies today against the true ones."""

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from custom_components.smartpvms.account import ACCOUNTS
from custom_components.smartpvms.plant import EnergyToday
from custom_components.smartpvms.plant_flow import PlantFlow
from homeassistant.components.recorder import get_instance
from homeassistant.components.recorder.statistics import statistics_during_period
from homeassistant.const import STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant
from tests.simulator import Simulator, faults, homes
from tests.simulator.plants import DeviceType, Home, Plant

from . import statistics
from .conftest import Account
from .statistics import Run

recorder_config = statistics.recorder_config
started = statistics.run

# True energies by item of the plant.
ENERGIES: Final = {
    "day_import_energy": "grid_import",
    "day_on_grid_energy": "grid_export",
    "day_use_energy": "load",
    "day_charged_energy": "charge",
    "day_discharged_energy": "discharge",
}
# Items that newer servers report.
REPORTED: Final = {"day_on_grid_energy", "day_use_energy"}
MIDNIGHT: Final = datetime.fromisoformat("2026-06-22 00:00+02:00")
NEXT_DAY: Final = MIDNIGHT + timedelta(days=1)
NEVER: Final = MIDNIGHT + timedelta(days=5000)


def _older() -> Home:
    """Return a home on a server without energies of today of a plant."""
    home = homes.family()
    home.plants[0].newer_items = False
    return home


def _only_storage() -> Home:
    """Return a plant whose only device is a C&I storage."""
    home = homes.storage()
    [plant] = home.plants
    plant.devices = [each for each in plant.devices if each.type_id == DeviceType.ESS]
    return home


def _uncounted(plant: Plant) -> set[str]:
    """Return the items that neither the server nor a device counts."""
    types = {device.type_id for device in plant.devices}
    uncounted = set()
    if types.isdisjoint({DeviceType.BATTERY, DeviceType.ESS}):
        uncounted.add("day_charged_energy")
    if types == {DeviceType.ESS}:
        uncounted.add("day_import_energy")
    return uncounted


@pytest.fixture(
    params=[
        homes.family,
        homes.emma,
        homes.farm,
        homes.telecom,
        _older,
        _only_storage,
    ]
)
def home(request: pytest.FixtureRequest) -> Home:
    """Return one of the homes."""
    home: Home = request.param()
    return home


def _collected(simulator: Simulator) -> datetime:
    """Return when the server's current values were measured."""
    collected = simulator.clock.now().timestamp() // 300 * 300
    return datetime.fromtimestamp(collected, UTC)


def _assert_true(account: Account, simulator: Simulator, since: datetime) -> None:
    """Compare the energies since a time, within one reading and 1 %."""
    [plant] = simulator.home.plants
    until = _collected(simulator)
    true = simulator.energy(plant.code, since, until)
    early = simulator.energy(plant.code, since - timedelta(minutes=5), since)
    late = simulator.energy(plant.code, until - timedelta(minutes=5), until)
    uncounted = _uncounted(plant)
    for key, name in ENERGIES.items():
        state = account.state(plant.code, key)
        if key in uncounted:
            assert state is None
            continue
        assert state is not None, key
        expected = getattr(true, name)
        reading = max(getattr(early, name), getattr(late, name))
        assert float(state.state) == pytest.approx(
            expected, abs=reading + 0.01 * expected + 0.05
        ), key


@pytest.fixture
async def run(started: Run, hass: HomeAssistant) -> Run:
    """Return a run that records all entities."""
    get_instance(hass).entity_filter = lambda entity_id: True
    return started


async def _changes(hass: HomeAssistant, entity_id: str, begin: datetime) -> list[float]:
    """Return the changes of an energy in the statistics of five minutes."""
    await get_instance(hass).async_block_till_done()
    rows = await get_instance(hass).async_add_executor_job(
        statistics_during_period,
        *(hass, begin - timedelta(hours=1), None, {entity_id}),
        *("5minute", None, {"change"}),
    )
    return [row["change"] or 0.0 for row in rows[entity_id]]


async def test_midnight(account: Account, simulator: Simulator) -> None:
    """Energies begin at 0 with the first reading, and at midnight; a restart adds none."""
    [plant] = simulator.home.plants
    await account.add()
    begin = _collected(simulator)
    is_reported = plant.newer_items
    for key in ENERGIES.keys() - (REPORTED if is_reported else set()):
        if state := account.state(plant.code, key):
            assert state.state == "0.0"
            assert datetime.fromisoformat(state.attributes["last_reset"]) >= begin
    for _ in range(12 * 6):
        await account.poll()
    if not is_reported:
        _assert_true(account, simulator, begin)
    await account.restart()
    await account.poll()
    while simulator.clock.now() < MIDNIGHT + timedelta(hours=6):
        await account.poll()
    _assert_true(account, simulator, MIDNIGHT)
    await account.kill()
    for _ in range(12 * 6):
        await account.poll()
    _assert_true(account, simulator, MIDNIGHT)
    for key in ENERGIES:
        if state := account.state(plant.code, key):
            start = datetime.fromisoformat(state.attributes["last_reset"])
            assert start == MIDNIGHT


@pytest.mark.parametrize("home", [homes.family()], ids=["family"])
async def test_production(account: Account, simulator: Simulator) -> None:
    """The total is the DC energy of the panels; the server's day excludes the losses."""
    [plant] = simulator.home.plants
    await account.add()
    while simulator.clock.now() < MIDNIGHT:
        await account.poll()
    before = float(account.value(plant.code, "pv_energy") or "")
    while simulator.clock.now() < MIDNIGHT + timedelta(hours=12):
        await account.poll()
    counted = float(account.value(plant.code, "pv_energy") or "") - before
    today = float(account.value(plant.code, "day_power") or "")
    assert today == simulator.plant_items(plant.code)["day_power"]
    assert today == pytest.approx(counted * plant.site.efficiency, rel=0.002)
    true = simulator.energy(plant.code, MIDNIGHT, _collected(simulator))
    assert true.charge > 1
    assert counted == pytest.approx(true.pv, rel=0.002)


@pytest.mark.parametrize("home", [_older()], ids=["older"])
async def test_off_over_midnight(account: Account, simulator: Simulator) -> None:
    """The energy of an interval over midnight is divided by time."""
    [plant] = simulator.home.plants
    await account.add()
    while simulator.clock.now() < MIDNIGHT - timedelta(minutes=30):
        await account.poll()
    before = _collected(simulator)
    await account.restart(off=timedelta(hours=1))
    await account.poll()
    await account.poll()
    true = simulator.energy(plant.code, before, _collected(simulator)).load
    value = float(account.value(plant.code, "day_use_energy") or "")
    assert value == pytest.approx(true / 2, rel=0.25)


@pytest.mark.parametrize("home", [_older()], ids=["older"])
async def test_lost_file(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    hass_storage: dict[str, Any],
) -> None:
    """Energies begin anew without the stored state, and count nothing twice."""
    [plant] = simulator.home.plants
    await account.add()
    for _ in range(12):
        await account.poll()
    assert float(account.value(plant.code, "day_use_energy") or "") > 0.1
    assert await hass.config_entries.async_unload(account.entry.entry_id)
    del hass_storage[f"smartpvms.{account.entry.entry_id}"]
    # The server is called before the sensors are restored.
    await account.poll(timedelta(minutes=30))
    assert await hass.config_entries.async_setup(account.entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    begin = _collected(simulator)
    state = account.state(plant.code, "day_use_energy")
    assert state is not None
    assert state.state == "0.0"
    assert datetime.fromisoformat(state.attributes["last_reset"]) >= begin
    for _ in range(12):
        await account.poll()
    _assert_true(account, simulator, begin)


class TestOldFile:
    """A stored state that is older than what is recorded."""

    @pytest.mark.parametrize("home", [_older()], ids=["older"])
    @pytest.mark.parametrize("age", [timedelta(hours=3), timedelta(hours=20)])
    async def test_energies_do_not_fall(
        self,
        run: Run,
        hass: HomeAssistant,
        hass_storage: dict[str, Any],
        simulator: Simulator,
        age: timedelta,
    ) -> None:
        """The day goes on from the recorded energy, and nothing is subtracted."""
        [plant] = simulator.home.plants
        begin = _collected(simulator)
        end = MIDNIGHT + timedelta(hours=14)
        quarter = timedelta(minutes=15)
        await run.until(end - age, quarter)
        key = f"smartpvms.{run.account.entry.entry_id}"
        old = deepcopy(hass_storage[key])
        await run.until(end, quarter)
        before = {
            item: float(run.account.value(plant.code, item) or "nan")
            for item in ENERGIES
        }
        await get_instance(hass).async_block_till_done()
        assert await hass.config_entries.async_unload(run.account.entry.entry_id)
        hass.data.pop(ACCOUNTS)
        hass_storage[key] = old
        assert await hass.config_entries.async_setup(run.account.entry.entry_id)
        await hass.async_block_till_done(wait_background_tasks=True)
        for _ in range(12):
            await run.poll()
            for item, value in before.items():
                shown = run.account.value(plant.code, item)
                assert shown == STATE_UNAVAILABLE or float(shown or 0) >= value, item
        for item in ENERGIES:
            state = run.account.state(plant.code, item)
            assert state is not None
            changes = await _changes(hass, state.entity_id, begin)
            assert min(changes) >= 0, item
            true = simulator.energy(plant.code, begin, _collected(simulator))
            assert sum(changes) == pytest.approx(
                getattr(true, ENERGIES[item]), abs=2.0
            ), item


@pytest.mark.parametrize("home", [_older()], ids=["older"])
async def test_server_becomes_newer(account: Account, simulator: Simulator) -> None:
    """The server's own energy replaces the calculated one at midnight."""
    [plant] = simulator.home.plants
    await account.add()
    for _ in range(3):
        await account.poll()
    before = account.state(plant.code, "day_use_energy")
    assert before is not None
    plant.newer_items = True
    await account.poll()
    after = account.state(plant.code, "day_use_energy")
    assert after is not None
    assert after.entity_id == before.entity_id
    assert after.attributes["last_reset"] == before.attributes["last_reset"]
    assert 0 <= float(after.state) - float(before.state) < 0.3
    while simulator.clock.now() < MIDNIGHT + timedelta(hours=1):
        await account.poll()
    true = simulator.plant_items(plant.code)["day_use_energy"]
    assert float(account.value(plant.code, "day_use_energy") or "") == true


class TestLatePlants:
    """Plants that the server refuses to return at first."""

    @pytest.fixture
    def simulator(self, simulator: Simulator) -> Simulator:
        """Return a simulator whose first calls for plants fail."""
        simulator.faults.add(faults.FailCode(20010), "getStationRealKpi", times=3)
        return simulator

    @pytest.mark.parametrize("home", [homes.family()], ids=["family"])
    async def test_statistics(
        self, run: Run, hass: HomeAssistant, simulator: Simulator
    ) -> None:
        """The energy before the account was added is not counted."""
        [plant] = simulator.home.plants
        begin = _collected(simulator)
        assert simulator.plant_items(plant.code)["day_use_energy"] > 3
        await run.until(run.now + timedelta(hours=3))
        state = run.account.state(plant.code, "day_use_energy")
        assert state is not None
        counted = sum(await _changes(hass, state.entity_id, begin))
        true = simulator.energy(plant.code, begin, _collected(simulator)).load
        assert counted == pytest.approx(true, abs=0.3)


@pytest.mark.parametrize(
    "home", [homes.family(), homes.emma(), homes.farm()], ids=["family", "emma", "farm"]
)
async def test_failing_plants(account: Account, simulator: Simulator) -> None:
    """Calculated energies need no answer for plants."""
    [plant] = simulator.home.plants
    plant.newer_items = False
    await account.add()
    simulator.faults.add(faults.FailCode(407), "getStationRealKpi")
    for _ in range(12):
        await account.poll()
    assert float(account.value(plant.code, "day_use_energy") or "") > 0.1


@pytest.mark.parametrize(
    "damaged",
    [
        EnergyToday(NEVER, NEXT_DAY, 5.0, 3.0),
        EnergyToday(MIDNIGHT, NEVER, 5.0, 3.0),
    ],
    ids=["start", "read"],
)
def test_damaged_times(damaged: EnergyToday) -> None:
    """An energy with a time in the future begins anew at midnight."""
    assert damaged.update(5.5, NEXT_DAY, NEXT_DAY + timedelta(hours=1)) == 0.5
    assert damaged.start == NEXT_DAY


def test_unknown_item() -> None:
    """An item in the stored state that is none of today's energies has no effect."""
    begin = EnergyToday(MIDNIGHT, MIDNIGHT, 5.0)
    flow = PlantFlow(today={"unknown": begin})
    flow.resume("home_energy", 7.0)
    assert flow.today == {"unknown": begin}
    assert begin.total == 5.0
