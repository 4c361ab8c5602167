"""Tests that every documented data item becomes the correct entity."""

from collections.abc import Iterator
import json
from pathlib import Path
from typing import Any, Final

import pytest

from homeassistant.core import HomeAssistant, State
from homeassistant.helpers import entity_registry as er
from tests.simulator import Simulator, faults, homes
from tests.simulator.plants import Home

from .conftest import Account

DOCUMENT: Final = json.loads(
    (Path(__file__).parent / "fixtures" / "data_items.json").read_text()
)
PLANT: Final = "plant"
ITEMS: Final[dict[str, list[dict[str, Any]]]] = {
    PLANT: DOCUMENT["plant_realtime"],
    **{
        type_id: table["items"]
        for type_id, table in DOCUMENT["device_realtime"].items()
    },
}

type Kind = tuple[str | None, str | None, str | None]
"""Device class, unit and state class."""

ENERGY: Final[Kind] = ("energy", "kWh", "total_increasing")
REACTIVE_ENERGY: Final[Kind] = ("reactive_energy", "kvarh", "total_increasing")
WATTS: Final[Kind] = ("power", "W", "measurement")
STATE: Final[Kind] = ("enum", None, None)
CONNECTION: Final[Kind] = ("connectivity", None, None)
SWITCH: Final[Kind] = ("power", None, None)

KIND_OF_UNIT: Final[dict[str | None, Kind]] = {
    "A": ("current", "A", "measurement"),
    "currency": ("monetary", "EUR", "total"),
    "Degree": ("wind_direction", "°", "measurement_angle"),
    "h": ("duration", "h", "measurement"),
    "Hz": ("frequency", "Hz", "measurement"),
    "kVA": ("apparent_power", "kVA", "measurement"),
    "kVar": ("reactive_power", "kvar", "measurement"),
    "kW": ("power", "kW", "measurement"),
    "kWh": ENERGY,
    # Home Assistant shows wind speeds in the unit of its unit system.
    "m/s": ("wind_speed", "km/h", "measurement"),
    "MJ/m2": (None, "MJ/m²", "total"),
    "ms": ("timestamp", None, None),
    "times": (None, "cycles", "total_increasing"),
    "V": ("voltage", "V", "measurement"),
    "Var": ("reactive_power", "var", "measurement"),
    "W": WATTS,
    "W/m2": ("irradiance", "W/m²", "measurement"),
    "%": (None, "%", "measurement"),
    "°C": ("temperature", "°C", "measurement"),
}

# Device classes that do not follow from the unit, by key.
KIND_OF_KEY: Final[dict[str, Kind]] = {
    **dict.fromkeys(
        (
            *("day_cap", "day_power", "month_power", "charge_cap", "discharge_cap"),
            *("day_on_grid_energy", "day_use_energy"),
        ),
        ("energy", "kWh", "total"),
    ),
    "battery_soc": ("battery", "%", "measurement"),
    "soc": ("battery", "%", "measurement"),
    "battery_soh": (None, "%", "measurement"),
    "power_factor": ("power_factor", None, "measurement"),
    "total_capacity": ("energy_storage", "kWh", None),
    **dict.fromkeys(("max_charge_power", "max_discharge_power"), ("power", "W", None)),
    "total_runtime": ("duration", "h", "total_increasing"),
    "supply_duration_per_total": ("duration", "h", "total_increasing"),
    **dict.fromkeys(
        (
            *("inverter_state", "battery_status", "ch_discharge_model"),
            *("battery_state", "running_state", "grid_quality_grade"),
            "real_health_state",
        ),
        STATE,
    ),
    **dict.fromkeys(("run_state", "meter_status"), CONNECTION),
    **dict.fromkeys(("mains_state", "on_off_state"), SWITCH),
    # Units that are wrong in the document.
    "ac_output_frequency": ("frequency", "Hz", "measurement"),
    "forward_reactive_cap": REACTIVE_ENERGY,
    "reverse_reactive_cap": REACTIVE_ENERGY,
    **{
        f"{direction}_reactive_{tariff}": REACTIVE_ENERGY
        for direction in ("positive", "reverse")
        for tariff in ("peak", "power", "valley", "top")
    },
    **{f"active_power_{phase}": WATTS for phase in "abc"},
}
KIND_OF_ITEM: Final = {("17", "active_power"): WATTS}

OF_FARM: Final = {str(int(device.type_id)) for device in homes.farm().plants[0].devices}
# Units of powers below and from 100 kWp, by unit in the document.
SHOWN: Final[tuple[dict[str | None, tuple[str, float]], ...]] = (
    {"kW": ("W", 1000.0), "kvar": ("var", 1000.0), "kVA": ("VA", 1000.0)},
    {"W": ("kW", 0.001), "var": ("kvar", 0.001), "VA": ("kVA", 0.001)},
)

# A raw value and its state.
STATES: Final[dict[str, tuple[float, str]]] = {
    "inverter_state": (512.0, "grid_connected"),
    "battery_status": (2.0, "running"),
    "ch_discharge_model": (4.0, "automatic"),
    "battery_state": (5.0, "charging"),
    "running_state": (2.0, "running"),
    "grid_quality_grade": (3.0, "class_3"),
    "real_health_state": (3, "healthy"),
    "run_state": (1, "on"),
    "meter_status": (1.0, "on"),
    "mains_state": (1.0, "on"),
    "on_off_state": (0.0, "on"),
    "wind_speed": (2.25, "8.1"),
    "open_time": (1782010140000.0, "2026-06-21T02:49:00+00:00"),
    "close_time": (1781985600000.0, "2026-06-20T20:00:00+00:00"),
}


def _kind(source: str, item: dict[str, Any]) -> Kind:
    key = item["key"]
    return (
        KIND_OF_ITEM.get((source, key))
        or KIND_OF_KEY.get(key)
        or KIND_OF_UNIT[item["unit"]]
    )


def _raw_and_state(position: int, key: str) -> tuple[float, str]:
    value = round(1.25 + position * 0.5, 2)
    return STATES.get(key, (value, str(value)))


def _shown(source: str, unit: str | None, state: str) -> tuple[str | None, float | str]:
    """Return the unit and value of a power, which depend on the plant's capacity."""
    shown, factor = SHOWN[source in OF_FARM].get(unit, (unit, 1.0))
    value = _number(state)
    return shown, round(value * factor, 6) if isinstance(value, float) else value


def _number(state: str) -> float | str:
    try:
        return float(state)
    except ValueError:
        return state


@pytest.fixture
def home() -> Home:
    """Return an account that has every device type."""
    return Home(
        [
            *homes.family().plants,
            *homes.farm().plants,
            *homes.telecom().plants,
            *homes.emma().plants,
        ]
    )


def _rewrite(payload: dict[str, Any]) -> dict[str, Any]:
    """Give every documented item of every row a distinct value."""
    source = str(payload["params"].get("devTypeId", PLANT))
    for row in payload["data"]:
        row["dataItemMap"] = {
            item["key"]: _raw_and_state(position, item["key"])[0]
            for position, item in enumerate(ITEMS.get(source, []))
        }
    return payload


@pytest.fixture
async def reported(
    hass: HomeAssistant,
    all_entities_enabled: None,
    account: Account,
    simulator: Simulator,
) -> dict[str, dict[str, State]]:
    """Return the states by source and key, with every documented item reported."""
    simulator.faults.add(faults.Rewrite(_rewrite), "getStationRealKpi")
    simulator.faults.add(faults.Rewrite(_rewrite), "getDevRealKpi")
    result = await account.add()
    plants = simulator.home.plants
    await hass.config_entries.flow.async_configure(
        result["flow_id"], {"plants": [plant.code for plant in plants]}
    )
    await hass.async_block_till_done()
    ids: dict[str, str | int] = {PLANT: plants[0].code}
    for plant in plants:
        ids |= {str(int(device.type_id)): device.id for device in plant.devices}
    return {
        source: {
            item["key"]: state
            for item in items
            if (state := account.state(ids[source], item["key"]))
        }
        for source, items in ITEMS.items()
    }


def _rows(reported: dict[str, dict[str, State]]) -> Iterator[tuple[Any, ...]]:
    for source, states in reported.items():
        for key, state in states.items():
            yield (
                source,
                key,
                state.attributes.get("device_class"),
                state.attributes.get("state_class"),
                state.attributes.get("unit_of_measurement"),
                _number(state.state),
            )


async def test_every_documented_item(reported: dict[str, dict[str, State]]) -> None:
    """Every documented item has its device class, unit, state class and value."""
    expected = set()
    for source, items in ITEMS.items():
        for position, item in enumerate(items):
            key = item["key"]
            device_class, unit, state_class = _kind(source, item)
            shown = _shown(source, unit, _raw_and_state(position, key)[1])
            expected.add((source, key, device_class, state_class, *shown))
    assert len(expected) == 285
    assert set(_rows(reported)) == expected


async def test_every_item_has_a_name(
    hass: HomeAssistant, reported: dict[str, dict[str, State]]
) -> None:
    """Names exist, and differ within a device."""
    registry = er.async_get(hass)
    for states in reported.values():
        entries = [registry.async_get(state.entity_id) for state in states.values()]
        names = [entry.original_name for entry in entries if entry]
        assert len(set(names)) == len(states)
        assert all(name and "{" not in name and "_" not in name for name in names)


def test_every_inverter_state(account: Account) -> None:
    """The table of inverter states is that of the document."""
    from custom_components.smartpvms.descriptions import INVERTER_STATES

    assert {str(state) for state in INVERTER_STATES} == set(DOCUMENT["inverter_states"])
    assert len(set(INVERTER_STATES.values())) == 26


async def test_newer_items(
    hass: HomeAssistant,
    all_entities_enabled: None,
    account: Account,
    simulator: Simulator,
) -> None:
    """Items that are newer than the document are supported."""
    simulator.home.plants = homes.emma().plants
    await account.add()
    plant = simulator.home.plants[0]
    emma, _, battery = plant.devices
    energy: set[tuple[str | int, str]] = {
        (plant.code, "day_on_grid_energy"),
        (plant.code, "day_use_energy"),
        (battery.id, "total_charged_energy"),
        (battery.id, "total_discharged_energy"),
        (emma.id, "active_cap"),
        (emma.id, "reverse_active_cap"),
    }
    for source_id, key in energy:
        state = account.state(source_id, key)
        assert state
        assert state.attributes["device_class"] == "energy"
    truth = simulator.device_items(emma.id)
    power = float(account.value(emma.id, "active_power") or "")
    assert power == pytest.approx(1000 * truth["active_power"])
    assert (
        account.value(battery.id, "rated_capacity")
        == f"{simulator.device_items(battery.id)['rated_capacity']}"
    )
    assert account.registered(battery.id, "battery_unit_info") is None
    imported = account.registered(emma.id, "active_cap")
    assert imported
    assert imported.original_name == "Import total"
