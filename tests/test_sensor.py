"""Tests of shown and unknown values, and of the creation of entities."""

from datetime import timedelta
from typing import Any, Literal

from freezegun.api import FrozenDateTimeFactory
import pytest

from custom_components.smartpvms import reported_items
from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.descriptions import FLOW_SENSORS
from homeassistant.const import STATE_OFF, STATE_ON, STATE_UNAVAILABLE, STATE_UNKNOWN
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr, entity_registry as er
from tests.simulator import Device, Simulator, faults

from .conftest import Account

pytestmark = pytest.mark.fast


@pytest.fixture
def inverter(simulator: Simulator) -> Device:
    """Return the family's inverter."""
    return simulator.home.plants[0].devices[1]


@pytest.fixture
def battery(simulator: Simulator) -> Device:
    """Return the family's battery."""
    return simulator.home.plants[0].devices[2]


def _send(simulator: Simulator, device: Device, items: dict[str, Any]) -> None:
    """Change some items of a device from now on."""

    def rewrite(payload: dict[str, Any]) -> dict[str, Any]:
        for row in payload["data"]:
            row["dataItemMap"] |= items if row["devId"] == device.id else {}
        return payload

    simulator.faults.add(faults.Rewrite(rewrite), "getDevRealKpi")


def _undocumented(word: str, number: int) -> dict[str, Any]:
    """Return a number of undocumented items."""
    return {f"{word}_{n // 10}_{n % 10}": 1.5 for n in range(number)}


def _number_of_entities(hass: HomeAssistant) -> int:
    return len(er.async_get(hass).entities)


@pytest.mark.parametrize("raw", [None, "N/A", "--", "", {}, [1], True, "0x1F"])
async def test_missing_is_unknown_never_zero(
    added: Account, simulator: Simulator, inverter: Device, raw: object
) -> None:
    """P#64, P#116: an invalid value is unknown, and does not affect others."""
    _send(simulator, inverter, {"active_power": raw})
    await added.poll()
    assert added.value(inverter.id, "active_power") == STATE_UNKNOWN
    assert added.value(inverter.id, "inverter_state") == "grid_connected"


async def test_strings_for_numbers(
    added: Account, simulator: Simulator, inverter: Device
) -> None:
    """Servers that send strings have the same values."""
    before = added.value(inverter.id, "active_power")
    simulator.faults.add(faults.StringsForNumbers(), "getDevRealKpi")
    await added.poll()
    assert added.value(inverter.id, "active_power") == before
    assert added.value(inverter.id, "inverter_state") == "grid_connected"
    assert added.value(inverter.id, "run_state") == STATE_ON


@pytest.mark.parametrize("raw", [512, 512.0, "512", "512.0"])
async def test_states_in_every_spelling(
    added: Account, simulator: Simulator, inverter: Device, raw: object
) -> None:
    """Integers, floats and strings have the same state."""
    _send(simulator, inverter, {"inverter_state": raw})
    await added.poll()
    assert added.value(inverter.id, "inverter_state") == "grid_connected"


async def test_undocumented_state(
    added: Account,
    simulator: Simulator,
    inverter: Device,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A state that is not in the table is unknown, and logged once."""
    _send(simulator, inverter, {"inverter_state": 9999.0, "run_state": 7})
    await added.poll()
    await added.poll()
    assert added.value(inverter.id, "inverter_state") == STATE_UNKNOWN
    assert added.value(inverter.id, "run_state") == STATE_UNKNOWN
    assert caplog.text.count("Undocumented state 9999.0 of inverter_state") == 1


async def test_number_that_is_no_state(
    added: Account,
    simulator: Simulator,
    inverter: Device,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A number that is too large for a state may be a secret, and is not logged."""
    _send(simulator, inverter, {"inverter_state": 49717717710.0})
    await added.poll()
    assert added.value(inverter.id, "inverter_state") == STATE_UNKNOWN
    assert "Undocumented state" not in caplog.text


@pytest.mark.parametrize(
    ("style", "power"), [("zeros", "0.0"), ("nulls", STATE_UNKNOWN)]
)
async def test_disconnected_device(
    added: Account,
    simulator: Simulator,
    inverter: Device,
    style: Literal["zeros", "nulls"],
    power: str,
) -> None:
    """A sleeping inverter has no measurements, but keeps its counters."""
    total = added.value(inverter.id, "total_cap")
    inverter.connected = False
    inverter.disconnected_style = style
    await added.poll()
    assert added.value(inverter.id, "run_state") == STATE_OFF
    assert added.value(inverter.id, "total_cap") == total
    assert added.value(inverter.id, "temperature") == STATE_UNKNOWN
    assert added.value(inverter.id, "inverter_state") == STATE_UNKNOWN
    assert added.value(inverter.id, "active_power") == power
    inverter.connected = True
    await added.poll()
    assert added.value(inverter.id, "temperature") not in (None, STATE_UNKNOWN)


async def test_missing_row_keeps_the_last_values(
    added: Account, simulator: Simulator, inverter: Device, battery: Device
) -> None:
    """A device without a row becomes unavailable after 15 minutes."""
    inverter.connected = False
    inverter.disconnected_style = "missing"
    for expected in ("8000.0", "8000.0", STATE_UNAVAILABLE):
        await added.poll()
        assert added.value(inverter.id, "active_power") == expected
    assert added.value(battery.id, "battery_soc") == "100.0"
    inverter.connected = True
    await added.poll()
    assert added.value(inverter.id, "active_power") == "8000.0"


async def test_failing_group(
    added: Account,
    simulator: Simulator,
    inverter: Device,
    battery: Device,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """T#91, T#145: a failing device type does not affect the others."""
    fault = simulator.faults.add(
        faults.FailCode(20200),
        "getDevRealKpi",
        when=lambda body: body["devTypeId"] == 39,
    )
    for _ in range(3):
        await added.poll()
    assert added.value(battery.id, "battery_soc") == STATE_UNAVAILABLE
    assert added.value(inverter.id, "active_power") == "8000.0"
    assert caplog.text.count("Failed to read devices of type 39") == 1
    fault.remove()
    await added.poll()
    assert added.value(battery.id, "battery_soc") == "100.0"
    assert caplog.text.count("Reading of devices of type 39 recovered") == 1


async def test_outage(
    added: Account,
    simulator: Simulator,
    inverter: Device,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Last values stay for 15 minutes; the outage is logged when they end."""
    simulator.faults.add(faults.DropConnection())
    for expected in ("8000.0", "8000.0", STATE_UNAVAILABLE, STATE_UNAVAILABLE):
        await added.poll()
        assert added.value(inverter.id, "active_power") == expected
    assert caplog.text.count("Error fetching real-time data") == 1
    simulator.faults.clear()
    await added.poll()
    assert added.value(inverter.id, "active_power") == "8000.0"


@pytest.mark.parametrize("number", [1e308, -1e308, 1e18, "1e300"])
async def test_number_without_meaning(
    added: Account, simulator: Simulator, inverter: Device, number: float | str
) -> None:
    """A number that nothing can have is unknown, and hides no later energy."""
    _send(simulator, inverter, {"active_power": number, "mppt_power": number})
    for _ in range(3):
        await added.poll()
        assert added.value(inverter.id, "active_power") == STATE_UNKNOWN
    simulator.faults.clear()
    await added.restart()
    for _ in range(3):
        await added.poll()
    true = simulator.device_items(inverter.id)
    for key in ("total_cap", "day_cap"):
        assert float(added.value(inverter.id, key) or "") == pytest.approx(true[key])


async def test_undocumented_number(
    hass: HomeAssistant, added: Account, simulator: Simulator, inverter: Device
) -> None:
    """An undocumented item becomes a disabled sensor named by its key."""
    _send(simulator, inverter, {"fan_speed": 1200, "note": "text", "list": [1]})
    await added.poll()
    registered = added.registered(inverter.id, "fan_speed")
    assert registered is not None
    assert registered.original_name == "fan_speed"
    assert registered.disabled_by is er.RegistryEntryDisabler.INTEGRATION
    assert registered.entity_category == "diagnostic"
    assert added.registered(inverter.id, "note") is None
    assert added.registered(inverter.id, "list") is None


async def test_undocumented_items_are_limited(
    hass: HomeAssistant, added: Account, simulator: Simulator, inverter: Device
) -> None:
    """A device has at most 100 undocumented items, however often their keys change."""
    # The sensors of reports are added a minute after the others.
    await added.poll()
    before = _number_of_entities(hass)
    documented = len(added.entry.runtime_data.real_time.data[inverter.id].items)
    for word in ("first", "second"):
        simulator.faults.clear()
        _send(simulator, inverter, _undocumented(word, 150))
        await added.poll()
        assert _number_of_entities(hass) == before + 100
        items = added.entry.runtime_data.real_time.data[inverter.id].items
        assert len(items) == documented + 100
    await added.restart()
    await added.poll()
    assert _number_of_entities(hass) == before + 100
    assert added.value(inverter.id, "active_power") == "8000.0"


async def test_undocumented_items_of_an_account_are_limited(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    inverter: Device,
    battery: Device,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All devices together have at most a number of undocumented items."""
    monkeypatch.setattr(reported_items, "MAX_OF_ACCOUNT", 120)
    # The sensors of reports are added a minute after the others.
    await added.poll()
    before = _number_of_entities(hass)
    for device in (inverter, battery):
        _send(simulator, device, _undocumented("item", 100))
    await added.poll()
    assert _number_of_entities(hass) == before + 120
    # Devices that were removed leave room.
    registry = dr.async_get(hass)
    for device in (inverter, battery):
        registered = registry.async_get_device_by_identifier(
            (DOMAIN, str(device.id)), added.entry.entry_id
        )
        assert registered
        registry.async_remove_device(registered.id)
    assert added.entry.runtime_data.real_time.reported.has_room(inverter.id)


async def test_order_of_undocumented_items(
    added: Account, simulator: Simulator, inverter: Device
) -> None:
    """The same undocumented items are kept if the server sends them in another order."""
    kept = []
    items = _undocumented("item", 150)
    for each in (items, dict(reversed(items.items()))):
        simulator.faults.clear()
        _send(simulator, inverter, each)
        await added.poll()
        readings = added.entry.runtime_data.real_time.data
        kept.append({*readings[inverter.id].items})
    assert kept[0] == kept[1]


async def test_lists_and_objects_are_not_kept(
    added: Account, simulator: Simulator, battery: Device
) -> None:
    """Only numbers, texts and booleans of an answer are kept."""
    _send(simulator, battery, {"battery_unit_info": {"unit1": [{"soh": "95.0%"}]}})
    _send(simulator, battery, {"battery_soh": 0, "battery_soc": [50], "list": [1]})
    await added.poll()
    items = added.entry.runtime_data.real_time.data[battery.id].items
    assert not items.keys() & {"battery_unit_info", "battery_soc", "list"}
    assert added.value(battery.id, "battery_soh") == "95.0"
    assert added.value(battery.id, "battery_soc") == STATE_UNKNOWN


async def test_null_items_have_no_entity(
    added: Account, simulator: Simulator, inverter: Device
) -> None:
    """An item that is always null has no entity until it has a value."""
    meter = simulator.home.plants[0].devices[3]
    assert added.registered(meter.id, "positive_active_peak") is None
    assert added.registered(inverter.id, "pv1_u") is not None
    assert added.registered(inverter.id, "pv7_u") is None
    _send(simulator, meter, {"positive_active_peak": 0})
    _send(simulator, inverter, {"pv7_u": 0, "pv8_u": 581.2, "mppt_3_cap": 0.0})
    await added.poll()
    assert added.registered(meter.id, "positive_active_peak") is not None
    assert added.registered(inverter.id, "pv7_u") is None
    assert added.registered(inverter.id, "pv8_u") is not None
    assert added.registered(inverter.id, "mppt_3_cap") is None


async def test_first_seen_disconnected(
    account: Account, simulator: Simulator, inverter: Device
) -> None:
    """Zeros of a disconnected device create no entity."""
    inverter.connected = False
    await account.add()
    assert account.registered(inverter.id, "run_state") is not None
    assert account.registered(inverter.id, "active_power") is not None
    assert account.registered(inverter.id, "temperature") is None
    assert account.registered(inverter.id, "total_cap") is None
    inverter.connected = True
    await account.poll()
    assert account.value(inverter.id, "total_cap") not in (None, STATE_UNKNOWN)


async def test_entities_are_restored(
    hass: HomeAssistant, added: Account, simulator: Simulator, inverter: Device
) -> None:
    """An entity that was created once is restored, for any current values."""
    _send(simulator, inverter, {"temperature": None, "run_state": None})
    await hass.config_entries.async_unload(added.entry.entry_id)
    await added.poll()
    await hass.config_entries.async_setup(added.entry.entry_id)
    await added.poll()
    assert added.value(inverter.id, "temperature") == STATE_UNKNOWN
    assert added.value(inverter.id, "run_state") == STATE_UNKNOWN


async def test_new_device_needs_no_reload(
    added: Account, simulator: Simulator, freezer: FrozenDateTimeFactory
) -> None:
    """A device of the next inventory is added automatically."""
    plant = simulator.home.plants[0]
    late = plant.devices.pop(2)
    await added.poll(timedelta(days=1, seconds=1))
    await added.poll()
    plant.devices.append(late)
    simulator.calls.clear()
    await added.poll(timedelta(days=1, seconds=1))
    await added.poll()
    assert len(simulator.calls_to("getDevList")) == 1
    assert added.value(late.id, "battery_soc") not in (None, STATE_UNAVAILABLE)


async def test_disabled_group_is_not_polled(
    hass: HomeAssistant, added: Account, simulator: Simulator, battery: Device
) -> None:
    """A group with only disabled entities that nothing needs is not read."""
    registry = er.async_get(hass)
    for entry in er.async_entries_for_config_entry(registry, added.entry.entry_id):
        disabled = entry.unique_id.startswith(f"{battery.id}_") or (
            entry.unique_id.partition("_")[2] in FLOW_SENSORS
        )
        registry.async_update_entity(
            entry.entity_id,
            disabled_by=er.RegistryEntryDisabler.USER if disabled else None,
        )
    # Home Assistant reloads after entities were enabled or disabled.
    await added.poll()
    simulator.calls.clear()
    await added.poll()
    await added.poll()
    types = {call.body["devTypeId"] for call in simulator.calls_to("getDevRealKpi")}
    assert types == {38, 47}


async def test_default_entities_of_a_home(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """A home has at most 60 enabled entities, including those people chart."""
    entries = er.async_entries_for_config_entry(
        er.async_get(hass), added.entry.entry_id
    )
    enabled = {
        entry.unique_id.split("_", 1)[1]
        for entry in entries
        if entry.disabled_by is None
    }
    assert len([entry for entry in entries if entry.disabled_by is None]) <= 60
    assert enabled >= {
        *("day_power", "month_power", "total_power", "day_income", "total_income"),
        *("day_on_grid_energy", "day_use_energy", "real_health_state"),
        *("active_power", "mppt_power", "day_cap", "total_cap", "inverter_state"),
        *("temperature", "efficiency", "active_cap", "reverse_active_cap"),
        *("battery_soc", "ch_discharge_power", "charge_cap", "discharge_cap"),
    }
    assert enabled.isdisjoint({"mppt_1_cap", "mppt_2_cap"})
