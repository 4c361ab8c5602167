"""Tests of a plant's powers and energies in Home Assistant against the true ones."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from homeassistant.const import STATE_UNAVAILABLE, STATE_UNKNOWN
from tests.simulator import Simulator, faults, homes
from tests.simulator.cloud import Change
from tests.simulator.plants import DeviceType, Home

from .conftest import Account

pytestmark = pytest.mark.fast

ENERGIES = ("home_energy", "charged_energy", "discharged_energy")
POWERS = ("pv_power", "grid_power", "battery_power", "home_power")


def _older() -> Home:
    """Return a home whose battery has only daily counters."""
    home = homes.family()
    home.plants[0].newer_items = False
    return home


def _powers(account: Account, code: str) -> dict[str, float]:
    """Return the known powers in W, and rates in percent."""
    states = {key: account.state(code, key) for key in POWERS}
    return {
        key: float(state.state)
        * (1000 if state.attributes["unit_of_measurement"] == "kW" else 1)
        for key, state in states.items()
        if state and state.state not in (STATE_UNKNOWN, STATE_UNAVAILABLE)
    }


def _energies(account: Account, code: str) -> dict[str, float]:
    values = {key: account.value(code, key) for key in ENERGIES}
    return {key: float(value) for key, value in values.items() if value is not None}


def _always(value: Any) -> Change:
    return lambda at, honest: value


def _collected(simulator: Simulator) -> datetime:
    """Return when the server's current values were measured."""
    collected = simulator.clock.now().timestamp() // 300 * 300
    return datetime.fromtimestamp(collected, UTC)


@pytest.mark.slow
class TestHomes:
    """Homes of every kind, for a day and a half."""

    @pytest.fixture(params=[homes.family, homes.emma, homes.farm, _older])
    def home(self, request: pytest.FixtureRequest) -> Home:
        """Return one of the homes."""
        build: Callable[[], Home] = request.param
        return build()

    async def test_powers(self, added: Account, simulator: Simulator) -> None:
        """PV, grid, battery and home power are true, and the balance is correct."""
        [plant, *_] = simulator.home.plants
        seen = 0
        # Unknown signs of storages are determined first.
        for _ in range(96):
            await added.poll(timedelta(minutes=15))
        for _ in range(60):
            await added.poll(timedelta(minutes=14, seconds=30))
            powers = _powers(added, plant.code)
            true = simulator.flows(plant.code, _collected(simulator))
            assert powers["home_power"] == pytest.approx(true.load, rel=0.02, abs=60)
            grid = true.grid_import - true.grid_export
            assert powers["grid_power"] == pytest.approx(grid, rel=0.02, abs=60)
            if "battery_power" in powers:
                seen += 1
                battery = true.discharge - true.charge
                assert powers["battery_power"] == pytest.approx(
                    battery, rel=0.06, abs=80
                )
                assert powers["home_power"] == pytest.approx(
                    powers["pv_power"] + powers["grid_power"] + powers["battery_power"],
                    abs=2,
                )
        assert seen > 50

    async def test_home_consumption(self, added: Account, simulator: Simulator) -> None:
        """A day's home consumption is true, although readings are minutes apart."""
        [plant, *_] = simulator.home.plants
        await added.poll(timedelta(minutes=15))
        before, began = added.value(plant.code, "home_energy"), simulator.clock.now()
        assert before is not None
        for _ in range(24 * 6):
            await added.poll(timedelta(minutes=10))
        after = added.value(plant.code, "home_energy")
        assert after is not None
        true = simulator.energy(plant.code, began, simulator.clock.now()).load
        assert float(after) - float(before) == pytest.approx(true, rel=0.015)

    async def test_energies(self, added: Account, simulator: Simulator) -> None:
        """Consumed and stored energies between two collections are true."""
        [plant, *_] = simulator.home.plants
        await added.poll()
        before, began = _energies(added, plant.code), _collected(simulator)
        # Over midnight, when daily counters are reset.
        for _ in range(24 * 12):
            await added.poll()
        after = _energies(added, plant.code)
        true = simulator.energy(plant.code, began, _collected(simulator))
        expected = dict(
            zip(ENERGIES, (true.load, true.charge, true.discharge), strict=True)
        )
        gained = {key: after[key] - before[key] for key in ENERGIES}
        assert gained == pytest.approx(expected, rel=0.005)


@pytest.mark.parametrize("home", [homes.apartment()])
async def test_no_meter(added: Account, simulator: Simulator) -> None:
    """Without a meter, grid and home power are unknown."""
    await added.poll()
    [plant] = simulator.home.plants
    assert set(_powers(added, plant.code)) == {"pv_power"}
    assert added.registered(plant.code, "home_energy") is None


async def test_energies_survive_a_restart(added: Account, simulator: Simulator) -> None:
    """Energies and evidence survive a restart."""
    [plant] = simulator.home.plants
    for _ in range(8):
        await added.poll()
    before = {key: added.value(plant.code, key) for key in ("home_energy", *POWERS)}
    assert None not in before.values()
    await added.restart(off=timedelta(minutes=2))
    after = {key: added.value(plant.code, key) for key in ("home_energy", *POWERS)}
    assert after == before


async def test_group_that_fails(added: Account, simulator: Simulator) -> None:
    """Only values that depend on an outdated device are unknown."""
    [plant] = simulator.home.plants
    await added.poll()
    simulator.faults.add(
        faults.FailCode(20004),
        "getDevRealKpi",
        when=lambda body: body.get("devTypeId") == DeviceType.POWER_SENSOR,
    )
    for _ in range(4):
        await added.poll()
    assert set(_powers(added, plant.code)) == {"pv_power", "battery_power"}
    simulator.faults.clear()
    await added.poll(timedelta(minutes=6))
    assert set(_powers(added, plant.code)) == set(POWERS)


class TestFirstReadings:
    """First readings."""

    @pytest.fixture(params=[homes.family, homes.emma, homes.farm])
    def home(self, request: pytest.FixtureRequest) -> Home:
        """Return one of the homes."""
        build: Callable[[], Home] = request.param
        return build()

    async def test_first_minutes(self, added: Account, simulator: Simulator) -> None:
        """The energies of the first five minutes are in the second reading."""
        [plant] = simulator.home.plants
        assert _energies(added, plant.code) == dict.fromkeys(ENERGIES, 0)
        began = _collected(simulator)
        await added.poll()
        true = simulator.energy(plant.code, began, _collected(simulator)).load
        used = _energies(added, plant.code)["home_energy"]
        # Each counter is rounded to 10 Wh.
        assert used == pytest.approx(true, abs=0.04)

    @pytest.mark.slow
    @pytest.mark.parametrize("way", ["restart", "kill"])
    async def test_over_restarts(
        self, added: Account, simulator: Simulator, way: str
    ) -> None:
        """The energy between the last reading before a restart and the next counts."""
        [plant] = simulator.home.plants
        began = _collected(simulator)
        for _ in range(6):
            await added.poll()
            await added.pass_time(timedelta(seconds=30))
            await getattr(added, way)(off=timedelta(minutes=8))
            await added.pass_time(timedelta(minutes=6))
        used = _energies(added, plant.code)["home_energy"]
        end = _collected(simulator)
        # The last reading may be ten minutes old. Each restart could lose as much.
        least, most = (
            simulator.energy(plant.code, began, moment).load
            for moment in (end - timedelta(minutes=10), end)
        )
        assert 0.99 * least - 0.04 <= used <= 1.01 * most + 0.04


async def test_restarts_where_nothing_counts(
    account: Account, simulator: Simulator
) -> None:
    """The home's power is integrated over restarts as well."""
    [plant] = simulator.home.plants
    [meter] = [each for each in plant.devices if each.type_id == 47]
    simulator.distort(plant.code, "day_use_energy", _always(None))
    simulator.distort(meter.id, "active_cap", _always(None))
    await account.add()
    began = _collected(simulator)
    for _ in range(6):
        await account.poll()
        await account.pass_time(timedelta(seconds=30))
        await account.restart(off=timedelta(minutes=8))
        await account.pass_time(timedelta(minutes=6))
    true = simulator.energy(plant.code, began, _collected(simulator)).load
    used = _energies(account, plant.code)["home_energy"]
    assert used == pytest.approx(true, rel=0.1)


async def test_false_power(added: Account, simulator: Simulator) -> None:
    """An implausible power is not shown, and adds no energy."""
    [plant] = simulator.home.plants
    [meter] = [each for each in plant.devices if each.type_id == 47]
    await added.poll()
    for key, value in (("active_cap", None), ("active_power", -65_230_000.0)):
        simulator.distort(meter.id, key, _always(value))
    await added.poll()
    assert added.value(meter.id, "active_power") == STATE_UNKNOWN
    assert set(_powers(added, plant.code)) == {"pv_power", "battery_power"}
    await added.poll()
    assert _energies(added, plant.code)["home_energy"] < 2


@pytest.mark.slow
@pytest.mark.parametrize("home", [homes.emma()])
async def test_unsupported_type(added: Account, simulator: Simulator) -> None:
    """A type with error 20013 is read hourly until it is supported."""
    [plant] = simulator.home.plants
    [emma] = [each for each in plant.devices if each.type_id == DeviceType.EMMA]

    def asked() -> int:
        calls = simulator.calls_to("getDevRealKpi")
        return sum(call.body["devTypeId"] == DeviceType.EMMA for call in calls)

    fault = simulator.faults.add(
        faults.FailCode(20013),
        "getDevRealKpi",
        when=lambda body: body.get("devTypeId") == DeviceType.EMMA,
    )
    before = asked()
    for _ in range(24 * 12):
        await added.pass_time(timedelta(minutes=5))
    assert 22 <= asked() - before <= 25
    assert added.value(emma.id, "active_power") == STATE_UNAVAILABLE
    assert "pv_power" in _powers(added, plant.code)
    fault.remove()
    for _ in range(13):
        await added.pass_time(timedelta(minutes=5))
    assert "grid_power" in _powers(added, plant.code)


async def test_unsupported_plants(added: Account, simulator: Simulator) -> None:
    """So is the interface of plants."""
    simulator.faults.add(faults.FailCode(20013), "getStationRealKpi")
    before = len(simulator.calls_to("getStationRealKpi"))
    for _ in range(24):
        await added.pass_time(timedelta(minutes=5))
    assert len(simulator.calls_to("getStationRealKpi")) - before <= 3


@pytest.mark.parametrize(
    ("soh", "units", "shown"),
    [
        (0, {"unit1": [{"soh": "95.0%"}, {"soh": "94.0%"}], "unit2": []}, "94.5"),
        (None, {"unit1": [{"soh": "95.0%"}], "unit2": [{"soh": 97}]}, "96.0"),
        (99.0, {"unit1": [{"soh": "95.0%"}]}, "99.0"),
        (0, {"unit1": [{"soh": "0.0%"}, {"soh": None}, "x", {}], "unit2": "x"}, None),
        (0, [], None),
    ],
)
async def test_health_of_modules(
    account: Account, simulator: Simulator, soh: Any, units: Any, shown: str | None
) -> None:
    """The state of health of a battery is that of its modules if it reports none."""
    [plant] = simulator.home.plants
    [battery] = [each for each in plant.devices if each.type_id == 39]
    for key, value in (("battery_soh", soh), ("battery_unit_info", units)):
        simulator.distort(battery.id, key, _always(value))
    await account.add()
    assert account.value(battery.id, "battery_soh") == shown
