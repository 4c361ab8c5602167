"""Tests of the units in which powers and energies of a plant are shown."""

from datetime import timedelta
from typing import Any, Final

import pytest

from homeassistant.core import HomeAssistant
from tests.simulator import Simulator, faults, homes
from tests.simulator.plants import DeviceType, Home

from .conftest import Account

# Unit and decimal places below 100 kWp, by device class.
SMALL: Final = {
    "power": ("W", 0),
    "reactive_power": ("var", 0),
    "energy": ("kWh", 2),
}
LARGE: Final = {
    "power": ("kW", 1),
    "reactive_power": ("kvar", 1),
    "energy": ("kWh", 1),
}


@pytest.fixture
def capacity() -> float:
    """Return the plant's capacity in kWp."""
    return 99.99


@pytest.fixture
def home(capacity: float) -> Home:
    """Return a home with a capacity."""
    home = homes.family()
    home.plants[0].typed_capacity_kwp = capacity
    return home


def _shown(hass: HomeAssistant, account: Account) -> set[tuple[Any, ...]]:
    """Return device class, unit and decimal places of the sensors."""
    shown = set()
    for entry in account.entities():
        state = hass.states.get(entry.entity_id)
        if state is not None and state.attributes.get("device_class") in SMALL:
            options = entry.options["sensor"]
            shown.add(
                (
                    state.attributes["device_class"],
                    state.attributes["unit_of_measurement"],
                    options["suggested_display_precision"],
                )
            )
    return shown


@pytest.mark.parametrize(
    ("capacity", "expected"), [(99.99, SMALL), (100.0, LARGE)], ids=["W", "kW"]
)
async def test_capacity(
    hass: HomeAssistant,
    all_entities_enabled: None,
    account: Account,
    expected: dict[str, tuple[str, int]],
) -> None:
    """All powers of a plant have one unit."""
    await account.add()
    await account.poll()
    # Energies of years are shown without decimal places.
    assert _shown(hass, account) == {
        ("energy", "kWh", 0),
        *((device_class, *unit) for device_class, unit in expected.items()),
    }


async def test_values(account: Account, simulator: Simulator) -> None:
    """The unit of the API is converted."""
    await account.add()
    [plant] = simulator.home.plants
    inverter = next(
        each
        for each in plant.devices
        if each.type_id == DeviceType.RESIDENTIAL_INVERTER
    )
    true = simulator.device_items(inverter.id)["active_power"]
    state = account.state(inverter.id, "active_power")
    assert state is not None
    assert float(state.state) == pytest.approx(1000 * true)


async def test_capacity_changes(
    hass: HomeAssistant, account: Account, simulator: Simulator
) -> None:
    """The unit of an existing sensor does not change."""
    await account.add()
    [plant] = simulator.home.plants
    plant.typed_capacity_kwp = 120.0
    await account.poll(timedelta(days=1, hours=1))
    await account.poll()
    state = account.state(plant.code, "installed_capacity")
    assert state is not None
    assert (state.state, state.attributes["unit_of_measurement"]) == ("120.0", "kWp")
    await account.restart()
    await account.poll()
    state = account.state(plant.code, "pv_power")
    assert state is not None
    assert state.attributes["unit_of_measurement"] == "W"


async def test_capacities_have_no_statistics(
    hass: HomeAssistant, all_entities_enabled: None, account: Account
) -> None:
    """Capacities and limits have no state class."""
    await account.add()
    keys = {"installed_capacity", "rated_capacity"}
    keys |= {"max_charge_power", "max_discharge_power", "battery_modules"}
    found = {
        entry.unique_id.partition("_")[2]: hass.states.get(entry.entity_id)
        for entry in account.entities()
    }
    assert keys <= found.keys()
    for key in keys:
        state = found[key]
        assert state is not None
        assert "state_class" not in state.attributes
    modules = found["battery_modules"]
    assert modules is not None
    assert modules.state == "1"


@pytest.mark.parametrize("home", [homes.emma()])
async def test_external_meter(account: Account, simulator: Simulator) -> None:
    """The items of an EMMA's external meter appear once it reads anything."""
    [plant] = simulator.home.plants
    emma = plant.devices[0]
    await account.add()
    keys = ("ex_active_power", "ex_active_cap", "ex_reverse_active_cap")
    assert [account.registered(emma.id, key) for key in keys] == [None] * 3

    def read(payload: dict[str, Any]) -> dict[str, Any]:
        for row in payload["data"]:
            if row["devId"] == emma.id:
                row["dataItemMap"] |= dict.fromkeys(keys, 1.5)
        return payload

    simulator.faults.add(faults.Rewrite(read), "getDevRealKpi")
    await account.poll()
    for key in keys:
        registered = account.registered(emma.id, key)
        assert registered is not None
        assert registered.disabled_by is None
