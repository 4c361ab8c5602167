"""Tests of what flows at a plant, as Home Assistant shows it, against the truth."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from homeassistant.const import STATE_UNAVAILABLE, STATE_UNKNOWN
from tests.simulator import Simulator, faults, homes
from tests.simulator.plants import DeviceType, Home

from .conftest import Account

ENERGIES = ("home_energy", "charged_energy", "discharged_energy")
POWERS = ("pv_power", "grid_power", "battery_power", "home_power")


def _older() -> Home:
    """Return a home whose battery has only counters of a day."""
    home = homes.family()
    home.plants[0].newer_items = False
    return home


def _powers(account: Account, code: str) -> dict[str, float]:
    """Return the powers that are known."""
    values = {key: account.value(code, key) for key in POWERS}
    return {
        key: float(value)
        for key, value in values.items()
        if value not in (None, STATE_UNKNOWN, STATE_UNAVAILABLE)
    }


def _energies(account: Account, code: str) -> dict[str, float]:
    values = {key: account.value(code, key) for key in ENERGIES}
    return {key: float(value) for key, value in values.items() if value is not None}


def _collected(simulator: Simulator) -> datetime:
    """Return when what the server tells now was measured."""
    collected = simulator.clock.now().timestamp() // 300 * 300
    return datetime.fromtimestamp(collected, UTC)


class TestHomes:
    """Homes of every kind, for a day and a half."""

    @pytest.fixture(params=[homes.family, homes.emma, homes.farm, _older])
    def home(self, request: pytest.FixtureRequest) -> Home:
        """Return one of the homes."""
        build: Callable[[], Home] = request.param
        return build()

    async def test_powers(self, added: Account, simulator: Simulator) -> None:
        """PV, grid, battery and home are what they are, and the sums hold."""
        [plant, *_] = simulator.home.plants
        seen = 0
        # Signs that nobody agrees on are learned first.
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
        """A day of home consumption is true, although readings are minutes apart."""
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
        """What was used and stored from one collection to another is true."""
        [plant, *_] = simulator.home.plants
        await added.poll()
        before, began = _energies(added, plant.code), _collected(simulator)
        # Over midnight, where the counters of days start over.
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
    """Without a meter there is no grid and no home power, rather than a wrong one."""
    await added.poll()
    [plant] = simulator.home.plants
    assert set(_powers(added, plant.code)) == {"pv_power"}
    assert added.registered(plant.code, "home_energy") is None


async def test_restart_goes_on(added: Account, simulator: Simulator) -> None:
    """Energies and what was learned survive a restart."""
    [plant] = simulator.home.plants
    for _ in range(8):
        await added.poll()
    before = {key: added.value(plant.code, key) for key in ("home_energy", *POWERS)}
    assert None not in before.values()
    await added.restart(off=timedelta(minutes=2))
    after = {key: added.value(plant.code, key) for key in ("home_energy", *POWERS)}
    assert after == before


async def test_group_that_fails(added: Account, simulator: Simulator) -> None:
    """What hangs on a device that is too old is unknown, and nothing else."""
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
