"""Tests of plants and devices that are added, changed and removed."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

from freezegun.api import FrozenDateTimeFactory
import pytest
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.smartpvms.account import ACCOUNTS
from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.northbound import NorthboundClient
from custom_components.smartpvms.runtime import restored
from homeassistant.const import STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import device_registry as dr, entity_registry as er
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
from tests.simulator import Simulator, faults, homes
from tests.simulator.plants import Device, Home

from .conftest import OLD_CODE, Account, home_with_old_code

INVERTER = 1000000035436842
BATTERY = 1000000035436843
EMI = Device(1000000035436899, 10, "EMI-1")
REFUSED = "home_assistant_error"


def _device(hass: HomeAssistant, account: Account, name: object) -> dr.DeviceEntry:
    device = dr.async_get(hass).async_get_device_by_identifier(
        (DOMAIN, str(name)), account.entry.entry_id
    )
    assert device is not None
    return device


def _is_registered(hass: HomeAssistant, account: Account, name: object) -> bool:
    return (
        dr.async_get(hass).async_get_device_by_identifier(
            (DOMAIN, str(name)), account.entry.entry_id
        )
        is not None
    )


async def _refresh(hass: HomeAssistant, account: Account) -> object:
    response = await hass.services.async_call(
        DOMAIN,
        "refresh_inventory",
        {"config_entry_id": account.entry.entry_id},
        blocking=True,
        return_response=True,
    )
    await hass.async_block_till_done(wait_background_tasks=True)
    return response


async def _delete(
    hass: HomeAssistant,
    hass_ws_client: WebSocketGenerator,
    account: Account,
    name: object,
) -> str | None:
    """Delete a device manually; return the error if it is refused.

    The client must log in at the test's time, so `hass_ws_client` comes last.
    """
    assert await async_setup_component(hass, "config", {})
    client = await hass_ws_client(hass)
    await client.send_json_auto_id(
        {
            "type": "config/device_registry/remove",
            "device_id": _device(hass, account, name).id,
        }
    )
    response = await client.receive_json()
    await client.close()
    await hass.async_block_till_done()
    return None if response["success"] else response["error"]["code"]


def _take_away(simulator: Simulator, device_id: int) -> Device:
    """Remove a device from the first plant."""
    plant = simulator.home.plants[0]
    device = next(device for device in plant.devices if device.id == device_id)
    plant.devices.remove(device)
    return device


async def test_new_device_on_request(
    hass: HomeAssistant, account: Account, simulator: Simulator
) -> None:
    """A device of a new type is added at once, without a reload."""
    plant = simulator.home.plants[0]
    battery = next(device for device in plant.devices if device.id == BATTERY)
    plant.devices.remove(battery)
    await account.add()
    await account.pass_time(timedelta(minutes=1))
    plant.devices.append(battery)
    assert await _refresh(hass, account) == {"plants": 1, "devices": 4}
    assert account.value(BATTERY, "battery_soc") not in (None, STATE_UNAVAILABLE)
    assert simulator.refusals == []


async def test_refresh_that_fails(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """The error of the action is translated."""
    simulator.withdraw_permission("getDevList")
    with pytest.raises(HomeAssistantError) as caught:
        await _refresh(hass, added)
    assert caught.value.translation_key == "no_permission_device_list"


async def test_refresh_that_fails_unexpectedly(
    hass: HomeAssistant, added: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected error is an error of the action; the list is repeated soon."""
    with monkeypatch.context() as patched:
        patched.setattr(NorthboundClient, "devices", None)
        with pytest.raises(HomeAssistantError) as caught:
            await _refresh(hass, added)
    assert caught.value.translation_domain == DOMAIN
    assert caught.value.translation_key == "unknown"
    await added.pass_time(timedelta(minutes=16))
    assert added.entry.runtime_data.inventory.last_update_success


@pytest.mark.parametrize("fraction", [0.0, 0.35, 0.65, 0.95])
async def test_second_list_is_late_enough(
    hass: HomeAssistant, added: Account, simulator: Simulator, fraction: float
) -> None:
    """The confirming list is not made too early."""
    await added.pass_time(timedelta(minutes=10, seconds=fraction))
    _take_away(simulator, BATTERY)
    simulator.calls.clear()
    await _refresh(hass, added)
    await added.pass_time(timedelta(hours=1, seconds=3))
    assert not _is_registered(hass, added, BATTERY)
    assert len(simulator.calls_to("getDevList")) == 2


async def test_device_that_is_gone(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """A device is removed if it is missing from a second list an hour later."""
    plant = simulator.home.plants[0]
    battery = next(device for device in plant.devices if device.id == BATTERY)
    plant.devices.remove(battery)
    await _refresh(hass, added)
    await added.pass_time(timedelta(minutes=10))
    assert _is_registered(hass, added, BATTERY)
    assert added.value(BATTERY, "battery_soc") == STATE_UNAVAILABLE
    await added.restart(off=timedelta(minutes=5))
    assert _is_registered(hass, added, BATTERY)
    await added.pass_time(timedelta(hours=1))
    assert not _is_registered(hass, added, BATTERY)
    assert added.registered(BATTERY, "battery_soc") is None
    assert _is_registered(hass, added, INVERTER)
    plant.devices.append(battery)
    await _refresh(hass, added)
    await added.pass_time(timedelta(minutes=6))
    assert added.value(BATTERY, "battery_soc") not in (None, STATE_UNAVAILABLE)
    assert simulator.refusals == []


async def test_device_that_is_gone_since_the_future(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """A device that was missed with a wrong clock is removed an hour later, too."""
    _take_away(simulator, BATTERY)
    await _refresh(hass, added)
    coordinator = added.entry.runtime_data.inventory
    [name] = coordinator.data.missing
    later = coordinator.data.listed + timedelta(days=40)
    coordinator.data = replace(coordinator.data, missing={name: later}, listed=later)
    await added.restart()
    for _ in range(3):
        await added.pass_time(timedelta(hours=9))
    assert not _is_registered(hass, added, BATTERY)


@pytest.mark.parametrize(
    "fault",
    [
        faults.NullData(),
        faults.Rewrite(lambda payload: payload | {"data": []}),
        faults.MissingRows({BATTERY}),
    ],
)
async def test_list_that_lacks_devices_once(
    hass: HomeAssistant, added: Account, simulator: Simulator, fault: faults.Fault
) -> None:
    """T#145: a device that is missing by mistake returns with the next list."""
    simulator.faults.add(fault, "getDevList", times=1)
    await added.pass_time(timedelta(days=1, minutes=5))
    assert _is_registered(hass, added, BATTERY)
    await added.pass_time(timedelta(hours=1, minutes=10))
    assert _is_registered(hass, added, BATTERY)
    assert added.value(BATTERY, "battery_soc") not in (None, STATE_UNAVAILABLE)


async def test_devices_without_authorization(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """20056: devices without authorization are kept, and not read."""
    plant = simulator.home.plants[0]
    simulator.home.plants.append(homes.apartment().plants[0])
    await _refresh(hass, added)
    simulator.unauthorize(plant.code)
    simulator.calls.clear()
    await added.pass_time(timedelta(days=3))
    assert _is_registered(hass, added, BATTERY)
    # A list takes another call for the refused plant.
    assert len(simulator.calls_to("getDevList")) <= 8
    simulator.authorize(plant.code)
    battery = _take_away(simulator, BATTERY)
    await _refresh(hass, added)
    await added.pass_time(timedelta(minutes=30))
    assert _is_registered(hass, added, BATTERY)
    assert added.value(INVERTER, "active_power") != STATE_UNAVAILABLE
    await added.pass_time(timedelta(minutes=31))
    assert not _is_registered(hass, added, BATTERY)
    plant.devices.append(battery)


async def test_one_pass_at_a_time(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An inventory that arrives during a slow pass is used by the next pass."""
    simulator.calls.clear()
    simulator.faults.add(faults.Latency(20), "getDevRealKpi")
    await added.pass_time(timedelta(minutes=5, seconds=10))
    assert len(simulator.calls_to("getDevRealKpi")) == 1
    simulator.home.plants[0].devices.append(EMI)
    refreshing = hass.async_create_task(
        hass.services.async_call(
            DOMAIN,
            "refresh_inventory",
            {"config_entry_id": added.entry.entry_id},
            blocking=True,
        )
    )
    await added.pass_time(timedelta(seconds=40))
    assert refreshing.done()
    assert len(simulator.calls_to("getDevRealKpi")) == 3
    await added.pass_time(timedelta(minutes=1))
    assert added.value(EMI.id, "temperature") not in (None, STATE_UNAVAILABLE)
    types = [call.body["devTypeId"] for call in simulator.calls_to("getDevRealKpi")]
    assert sorted(types) == [10, 38, 39, 47]
    assert simulator.refusals == []
    assert "failed" not in caplog.text


async def test_device_that_changed(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """Name, firmware and serial number are updated; entities are kept."""
    plant = simulator.home.plants[0]
    index = next(i for i, each in enumerate(plant.devices) if each.id == INVERTER)
    before = added.registered(INVERTER, "active_power")
    plant.devices[index] = replace(
        plant.devices[index],
        name="Garage",
        software_version="V2",
        serial_number="HV0000000007",
    )
    await _refresh(hass, added)
    device = _device(hass, added, INVERTER)
    assert (device.name, device.sw_version) == ("Garage", "V2")
    assert device.serial_number == "HV0000000007"
    after = added.registered(INVERTER, "active_power")
    assert before is not None
    assert after is not None
    assert after.entity_id == before.entity_id


async def test_device_that_moved(
    hass: HomeAssistant, account: Account, simulator: Simulator
) -> None:
    """A device that is moved to another plant keeps its entities."""
    first, second = homes.family().plants[0], homes.emma().plants[0]
    simulator.home.plants = [first, second]
    result = await account.add()
    await hass.config_entries.flow.async_configure(
        result["flow_id"], {"plants": [first.code, second.code]}
    )
    await hass.async_block_till_done()
    before = account.registered(BATTERY, "battery_soc")
    second.devices.append(_take_away(simulator, BATTERY))
    await _refresh(hass, account)
    await account.pass_time(timedelta(minutes=16))
    device = _device(hass, account, BATTERY)
    assert device.via_device_id == _device(hass, account, second.code).id
    assert account.registered(BATTERY, "battery_soc") == before
    assert account.value(BATTERY, "battery_soc") not in (None, STATE_UNAVAILABLE)


async def test_only_missing_devices_can_be_deleted(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    hass_ws_client: WebSocketGenerator,
) -> None:
    """A listed device would return, so it cannot be deleted."""
    _take_away(simulator, BATTERY)
    await _refresh(hass, added)
    assert await _delete(hass, hass_ws_client, added, INVERTER) == REFUSED
    account = added.entry.entry_id
    assert await _delete(hass, hass_ws_client, added, account) == REFUSED
    assert _is_registered(hass, added, INVERTER)
    assert await _delete(hass, hass_ws_client, added, BATTERY) is None
    assert not _is_registered(hass, added, BATTERY)


async def test_deleted_device_returns(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    hass_ws_client: WebSocketGenerator,
) -> None:
    """A deleted device that is listed again is added like a new one."""
    await added.poll()
    entities = set(er.async_get(hass).entities)
    battery = _take_away(simulator, BATTERY)
    await _refresh(hass, added)
    assert await _delete(hass, hass_ws_client, added, BATTERY) is None
    assert added.registered(BATTERY, "battery_soc") is None
    simulator.home.plants[0].devices.append(battery)
    await _refresh(hass, added)
    await added.pass_time(timedelta(minutes=6))
    assert added.value(BATTERY, "battery_soc") not in (None, STATE_UNAVAILABLE)
    assert set(er.async_get(hass).entities) == entities


async def test_deleting_while_not_loaded(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    hass_ws_client: WebSocketGenerator,
) -> None:
    """An account that is not loaded uses its stored list."""
    _take_away(simulator, BATTERY)
    await _refresh(hass, added)
    await hass.config_entries.async_unload(added.entry.entry_id)
    assert await _delete(hass, hass_ws_client, added, INVERTER) == REFUSED
    assert await _delete(hass, hass_ws_client, added, BATTERY) is None


async def test_deleting_without_a_list(
    hass: HomeAssistant,
    hass_storage: dict[str, Any],
    added: Account,
    hass_ws_client: WebSocketGenerator,
) -> None:
    """Without a known list, no device can be deleted."""
    await hass.config_entries.async_unload(added.entry.entry_id)
    del hass_storage[f"{DOMAIN}.{added.entry.entry_id}"]
    assert await _delete(hass, hass_ws_client, added, BATTERY) == REFUSED


async def test_another_type(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A device that is listed with another type is read with that type."""
    await added.pass_time(timedelta(minutes=11))
    [plant] = simulator.home.plants
    plant.firmware = "kw"
    meter = next(each for each in plant.devices if each.type_id == 47)
    assert added.registered(meter.id, "grid_frequency") is not None
    registered = added.registered(meter.id, "reverse_active_cap")
    imported = float(added.value(meter.id, "reverse_active_cap") or 0)
    meter.type_id = 17
    await _refresh(hass, added)
    await added.pass_time(timedelta(minutes=16))
    assert float(added.value(meter.id, "reverse_active_cap") or 0) >= imported
    assert added.registered(meter.id, "reverse_active_cap") == registered
    assert added.entry.runtime_data.inventory.data.type_of(meter.id) == 17
    # Only a grid meter has it.
    assert added.registered(meter.id, "total_apparent_power") is not None
    # It reports kW, which a power sensor never does.
    kilowatts = float(simulator.device_items(meter.id)["active_power"])
    assert abs(kilowatts) > 1
    watts = float(added.value(meter.id, "active_power") or 0)
    assert watts == pytest.approx(1000 * kilowatts, rel=0.1)
    assert [each for each in caplog.records if each.exc_info] == []


async def test_wrong_type(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A list with a wrong type loses the values of that type until the next list."""
    await added.pass_time(timedelta(minutes=11))

    def confuse(payload: faults.Payload) -> faults.Payload:
        for row in payload["data"]:
            if row["devTypeId"] == 38:
                row["devTypeId"] = 39
        return payload

    fault = simulator.faults.add(faults.Rewrite(confuse), "getDevList")
    await _refresh(hass, added)
    await added.pass_time(timedelta(minutes=26))
    assert added.value(BATTERY, "battery_soc") not in (None, STATE_UNAVAILABLE)
    assert added.value(INVERTER, "active_power") in (None, STATE_UNAVAILABLE)
    fault.remove()
    await _refresh(hass, added)
    await added.pass_time(timedelta(minutes=11))
    assert added.value(INVERTER, "active_power") not in (None, STATE_UNAVAILABLE)
    assert [each for each in caplog.records if each.exc_info] == []


async def test_many_requests_at_the_same_time(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """Requests share the list that is under way."""
    simulator.calls.clear()
    responses = await asyncio.gather(*(_refresh(hass, added) for _ in range(50)))
    assert responses == [{"plants": 1, "devices": 4}] * 50
    assert len(simulator.calls_to("stations")) == 1
    assert len(simulator.calls_to("getDevList")) == 1
    await _refresh(hass, added)
    assert len(simulator.calls_to("stations")) == 2


class TestMigratedCode:
    """A plant whose code of 32 hexadecimal digits is replaced by the server."""

    @pytest.fixture
    def home(self) -> Home:
        """Return a family home with an old plant code."""
        return home_with_old_code()

    async def test_keeps_everything(
        self, hass: HomeAssistant, added: Account, simulator: Simulator
    ) -> None:
        """The device, entities and counters continue under the new code."""
        await added.pass_time(timedelta(minutes=11))
        before = added.registered(OLD_CODE, "total_power")
        device = _device(hass, added, OLD_CODE)
        yielded = added.value(OLD_CODE, "total_power")
        simulator.home.plants = [replace(simulator.home.plants[0], code="NE=77")]
        await _refresh(hass, added)
        await added.pass_time(timedelta(minutes=6))
        after = added.registered("NE=77", "total_power")
        assert before is not None
        assert after is not None
        assert after.entity_id == before.entity_id
        assert _device(hass, added, "NE=77").id == device.id
        assert not _is_registered(hass, added, OLD_CODE)
        assert float(added.value("NE=77", "total_power") or 0) >= float(yielded or 0)
        stored = restored(added.entry.runtime_data.stored())
        assert "total_power" in stored.plant_counters["NE=77"].counters
        assert OLD_CODE not in stored.plant_counters

    async def test_during_a_pass(
        self,
        hass: HomeAssistant,
        added: Account,
        simulator: Simulator,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A pass that ends before the reload keeps the energies of the plant."""
        await added.pass_time(timedelta(minutes=31))
        energy = float(added.value(OLD_CODE, "pv_energy") or 0)
        start = dt_util.utcnow()
        reloads: list[str] = []
        monkeypatch.setattr(
            hass.config_entries, "async_schedule_reload", reloads.append
        )
        fault = simulator.faults.add(faults.Latency(10), "getDevRealKpi")
        simulator.calls.clear()
        while not simulator.calls_to("getDevRealKpi"):
            await added.pass_time(timedelta(seconds=1))
        simulator.home.plants = [replace(simulator.home.plants[0], code="NE=77")]
        entry = added.entry
        refreshing = hass.async_create_task(
            entry.runtime_data.inventory.async_refresh()
        )
        await added.pass_time(timedelta(minutes=1))
        assert refreshing.done()
        assert reloads == [entry.entry_id]
        fault.remove()
        await hass.config_entries.async_reload(entry.entry_id)
        await added.pass_time(timedelta(minutes=11))
        counted = float(added.value("NE=77", "pv_energy") or 0) - energy
        true = simulator.energy("NE=77", start, dt_util.utcnow()).pv
        # A reading can be five minutes old.
        assert 0.7 * true < counted <= true

    async def test_survives_a_list_that_fails(
        self, hass: HomeAssistant, added: Account, simulator: Simulator
    ) -> None:
        """If only the plants were listed, the migration follows with the next lists."""
        await added.pass_time(timedelta(minutes=11))
        before = added.registered(OLD_CODE, "total_power")
        simulator.home.plants = [replace(simulator.home.plants[0], code="NE=77")]
        simulator.faults.add(faults.FailCode(20200), "getDevList", times=1)
        with pytest.raises(HomeAssistantError):
            await _refresh(hass, added)
        assert _is_registered(hass, added, OLD_CODE)
        await added.pass_time(timedelta(minutes=22))
        assert not _is_registered(hass, added, OLD_CODE)
        after = added.registered("NE=77", "total_power")
        assert before is not None
        assert after is not None
        assert after.entity_id == before.entity_id
        assert added.value("NE=77", "total_power") not in (None, STATE_UNAVAILABLE)

    async def test_ambiguous_plants_are_not_migrated(
        self, hass: HomeAssistant, account: Account, simulator: Simulator
    ) -> None:
        """Two plants with one name and address are not migrated."""
        [plant] = simulator.home.plants
        other = replace(plant, code=OLD_CODE[::-1], devices=[])
        simulator.home.plants = [plant, other]
        result = await account.add()
        await hass.config_entries.flow.async_configure(
            result["flow_id"], {"plants": [plant.code, other.code]}
        )
        await hass.async_block_till_done()
        simulator.home.plants = [replace(plant, code="NE=77"), other]
        await _refresh(hass, account)
        assert _is_registered(hass, account, OLD_CODE)
        assert _is_registered(hass, account, "NE=77")


@pytest.mark.parametrize("interface", ["stations", "getDevList"])
async def test_lists_that_fail_for_hours_during_setup(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    freezer: FrozenDateTimeFactory,
    interface: str,
) -> None:
    """Attempts without a stored inventory leave calls for those after the failure."""
    entry_id = added.entry.entry_id
    await added.stop_and_lose_file()
    freezer.tick(timedelta(minutes=11))
    fault = simulator.faults.add(faults.HttpStatus(503), interface)
    await hass.config_entries.async_setup(entry_id)
    await added.pass_time(timedelta(hours=22))
    fault.remove()
    await added.pass_time(timedelta(hours=2, minutes=10))
    assert added.value(INVERTER, "active_power") not in (None, STATE_UNAVAILABLE)
    assert simulator.refusals == []


async def test_reload_after_a_clock_that_was_ahead(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    freezer: FrozenDateTimeFactory,
) -> None:
    """A failure of the future does not delay an attempt to set up."""
    entry_id = added.entry.entry_id
    await added.stop_and_lose_file()
    freezer.tick(timedelta(days=40))
    fault = simulator.faults.add(faults.HttpStatus(503), "getDevList")
    await hass.config_entries.async_setup(entry_id)
    await added.pass_time(timedelta(hours=3))
    fault.remove()
    hass.data.pop(ACCOUNTS)
    freezer.move_to(dt_util.utcnow() - timedelta(days=30))
    await hass.config_entries.async_reload(entry_id)
    await hass.async_block_till_done()
    assert added.value(INVERTER, "active_power") not in (None, STATE_UNAVAILABLE)
