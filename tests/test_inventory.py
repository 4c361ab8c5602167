"""Tests of plants and devices that come, change and go."""

from dataclasses import replace
from datetime import timedelta

import pytest

from custom_components.smartpvms import async_remove_config_entry_device
from custom_components.smartpvms.const import DOMAIN
from homeassistant.const import STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import device_registry as dr
from tests.simulator import Simulator, faults, homes
from tests.simulator.plants import Home

from .conftest import Account

INVERTER = 1000000035436842
BATTERY = 1000000035436843
OLD_CODE = "0123456789abcdef0123456789ABCDEF"


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


async def test_new_device_on_request(
    hass: HomeAssistant, account: Account, simulator: Simulator
) -> None:
    """A device of a new type is there at once, without a reload."""
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
    """The action says what went wrong, in the user's language."""
    simulator.withdraw_permission("getDevList")
    with pytest.raises(HomeAssistantError) as caught:
        await _refresh(hass, added)
    assert caught.value.translation_key == "no_permission"
    assert caught.value.translation_placeholders == {"interface": "getDevList"}


async def test_device_that_is_gone(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """A device is removed once a second list lacks it, an hour after the first."""
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
    """T#145: what is missing by mistake is back with the next list."""
    simulator.faults.add(fault, "getDevList", times=1)
    await added.pass_time(timedelta(days=1, minutes=5))
    assert _is_registered(hass, added, BATTERY)
    await added.pass_time(timedelta(hours=1, minutes=10))
    assert _is_registered(hass, added, BATTERY)
    assert added.value(BATTERY, "battery_soc") not in (None, STATE_UNAVAILABLE)


async def test_device_that_changed(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """Name, firmware and serial number follow; the entities are the same."""
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


async def test_only_what_is_gone_can_be_deleted(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """A device that is still listed would come back."""
    plant = simulator.home.plants[0]
    plant.devices = [device for device in plant.devices if device.id != BATTERY]
    await _refresh(hass, added)
    for name, deletable in ((INVERTER, False), (BATTERY, True)):
        device = _device(hass, added, name)
        assert (
            await async_remove_config_entry_device(hass, added.entry, device)
            is deletable
        )


class TestMigratedCode:
    """A plant whose code of 32 hexadecimal digits the server replaces."""

    @pytest.fixture
    def home(self) -> Home:
        """Return a family that has had its plant for long."""
        home = homes.family()
        home.plants = [replace(home.plants[0], code=OLD_CODE)]
        return home

    async def test_keeps_everything(
        self, hass: HomeAssistant, added: Account, simulator: Simulator
    ) -> None:
        """Device, entities and counters go on under the new code."""
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
        guards = added.entry.runtime_data.as_dict()["counters"]
        assert "NE=77_total_power" in guards
        assert not [key for key in guards if key.startswith(OLD_CODE)]

    async def test_of_twins_is_not_guessed(
        self, hass: HomeAssistant, account: Account, simulator: Simulator
    ) -> None:
        """Two plants with one name and address could be either."""
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
