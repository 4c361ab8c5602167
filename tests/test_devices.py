"""Tests of the devices in the registry."""

import pytest

from custom_components.smartpvms.const import DOMAIN
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr
from tests.simulator import Simulator, faults, homes

from .conftest import Account


def _devices(hass: HomeAssistant, account: Account) -> dict[str, dr.DeviceEntry]:
    entries = dr.async_entries_for_config_entry(
        dr.async_get(hass), account.entry.entry_id
    )
    return {
        identifier: entry
        for entry in entries
        for domain, identifier in entry.identifiers
        if domain == DOMAIN and identifier != account.entry.entry_id
    }


async def test_plant_is_a_service(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """A plant is a service with a link to the portal."""
    plant = simulator.home.plants[0]
    device = _devices(hass, added)[plant.code]
    assert device.entry_type is dr.DeviceEntryType.SERVICE
    assert device.name == "Lindenweg 12"
    assert device.configuration_url == simulator.url
    assert device.via_device_id is None


async def test_devices_of_a_plant(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """Every device is registered below its plant, including those without KPIs."""
    plant = simulator.home.plants[0]
    devices = _devices(hass, added)
    plant_id = devices.pop(plant.code).id
    assert {
        (identifier, device.name, device.via_device_id, device.serial_number)
        for identifier, device in devices.items()
    } == {
        (str(device.id), device.name, plant_id, device.serial_number)
        for device in plant.devices
    }
    dongle, inverter, battery, _ = plant.devices
    assert devices[str(inverter.id)].model == "SUN2000-8KTL-M1"
    assert devices[str(inverter.id)].sw_version == "V100R001C00SPC162"
    assert devices[str(dongle.id)].manufacturer == "Huawei"
    assert devices[str(battery.id)].sw_version is None


async def test_model_falls_back_to_the_type(
    hass: HomeAssistant, account: Account, simulator: Simulator
) -> None:
    """A device without a model has the name of its type, if the type is known."""
    battery, meter = simulator.home.plants[0].devices[2:]
    battery.model = meter.model = None
    simulator.faults.add(
        faults.Rewrite(
            lambda answer: (
                answer
                | {
                    "data": [
                        row
                        | {
                            "model": None,
                            "devTypeId": {47: 99999}.get(
                                row["devTypeId"], row["devTypeId"]
                            ),
                        }
                        for row in answer["data"]
                    ]
                }
            )
        ),
        "getDevList",
    )
    await account.add()
    devices = _devices(hass, account)
    assert devices[str(battery.id)].model == "Residential battery"
    assert devices[str(meter.id)].model is None


@pytest.mark.parametrize("chosen", [0, 1])
async def test_devices_of_other_plants_are_not_registered(
    hass: HomeAssistant, account: Account, simulator: Simulator, chosen: int
) -> None:
    """Only devices of the chosen plants are registered."""
    simulator.home.plants += homes.apartment().plants
    result = await account.add()
    plant = simulator.home.plants[chosen]
    await hass.config_entries.flow.async_configure(
        result["flow_id"], {"plants": [plant.code]}
    )
    await hass.async_block_till_done()
    assert set(_devices(hass, account)) == {
        plant.code,
        *(str(device.id) for device in plant.devices),
    }


async def test_ids_are_unique_across_sources(
    hass: HomeAssistant, account: Account, simulator: Simulator
) -> None:
    """T#222: devices of different plants with one name never share an entity."""
    simulator.home.plants += homes.emma().plants
    result = await account.add()
    plants = simulator.home.plants
    await hass.config_entries.flow.async_configure(
        result["flow_id"], {"plants": [plant.code for plant in plants]}
    )
    await hass.async_block_till_done()
    inverters = [plants[0].devices[1].id, plants[1].devices[1].id]
    entities = [account.registered(inverter, "total_cap") for inverter in inverters]
    assert len({entity and entity.entity_id for entity in entities}) == 2
    assert [account.value(inverter, "total_cap") for inverter in inverters] == [
        str(simulator.device_items(inverter)["total_cap"]) for inverter in inverters
    ]
