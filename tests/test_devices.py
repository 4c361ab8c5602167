"""Tests of the devices in the registry."""

from dataclasses import replace
from datetime import timedelta

import pytest

from custom_components.smartpvms.const import DOMAIN
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr
from tests.simulator import Simulator, faults, homes
from tests.simulator.plants import Device, Home

from .conftest import OLD_CODE, Account, home_with_old_code

INVERTER = 1000000035436842
METER = 1000000035436844
NEW = Device(1000000035436899, 10, "EMI-1")


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


class TestSeveralPlants:
    """Names of devices in an account that has, or had, several plants."""

    @pytest.fixture
    def home(self) -> Home:
        """Return a family home with an old plant code."""
        return home_with_old_code()

    @staticmethod
    def _names(hass: HomeAssistant, account: Account) -> dict[str, str | None]:
        """Return the names of the devices, by id."""
        return {
            identifier: device.name
            for identifier, device in _devices(hass, account).items()
            if device.via_device_id
        }

    @staticmethod
    async def _list(account: Account) -> None:
        """List plants and devices, with what follows from it."""
        await account.entry.runtime_data.inventory.async_refresh()
        await account.pass_time(timedelta(minutes=1))

    async def _had_two(
        self, hass: HomeAssistant, account: Account, simulator: Simulator
    ) -> None:
        """Add the account with a second plant that is gone later."""
        simulator.home.plants += homes.apartment().plants
        await account.add_plants(simulator.home.plants)
        assert len(self._names(hass, account)) == 5
        del simulator.home.plants[1]
        await self._list(account)
        await account.pass_time(timedelta(hours=1, minutes=5))
        assert len(self._names(hass, account)) == 4

    async def test_second_plant(
        self, hass: HomeAssistant, added: Account, simulator: Simulator
    ) -> None:
        """The names carry the plants' from the second plant on; entity ids stay."""
        assert self._names(hass, added)[str(INVERTER)] == "Inverter-1"
        entity = added.registered(INVERTER, "active_power")
        assert entity
        other = homes.apartment().plants[0]
        simulator.home.plants.append(other)
        await self._list(added)
        await added.pass_time(timedelta(minutes=6))
        assert {*self._names(hass, added).values()} == {
            "Lindenweg 12 Dongle-1",
            "Lindenweg 12 Inverter-1",
            "Lindenweg 12 Battery-1",
            "Lindenweg 12 Meter-1",
            "Calle Mayor 7 Inverter-1",
        }
        state = hass.states.get(entity.entity_id)
        assert state
        assert state.name.startswith("Lindenweg 12 Inverter-1 ")
        of_other = added.registered(other.devices[0].id, "active_power")
        assert of_other
        assert of_other.entity_id.startswith("sensor.calle_mayor_7_inverter_1_")

    async def test_one_plant_again(
        self, hass: HomeAssistant, account: Account, simulator: Simulator
    ) -> None:
        """The names are never taken back, also those of devices that are new."""
        await self._had_two(hass, account, simulator)
        names = self._names(hass, account)
        assert names[str(INVERTER)] == "Lindenweg 12 Inverter-1"
        await account.restart()
        await self._list(account)
        assert self._names(hass, account) == names
        simulator.home.plants[0].devices.append(NEW)
        await self._list(account)
        assert self._names(hass, account) == names | {str(NEW.id): "Lindenweg 12 EMI-1"}

    async def test_user_deselects_the_second_plant(
        self, hass: HomeAssistant, account: Account, simulator: Simulator
    ) -> None:
        """The names stay when the user leaves only one plant."""
        simulator.home.plants += homes.apartment().plants
        await account.add_plants(simulator.home.plants)
        await account.set_option("plants", [OLD_CODE])
        names = self._names(hass, account)
        assert len(names) == 4
        assert names[str(INVERTER)] == "Lindenweg 12 Inverter-1"

    async def test_vendor_renames(
        self, hass: HomeAssistant, account: Account, simulator: Simulator
    ) -> None:
        """New names of plant and device are followed, also with one plant again."""
        await self._had_two(hass, account, simulator)
        plant = simulator.home.plants[0]
        devices = [
            replace(device, name="East") if device.id == INVERTER else device
            for device in plant.devices
        ]
        simulator.home.plants = [replace(plant, name="Home", devices=devices)]
        await self._list(account)
        names = self._names(hass, account)
        assert names[str(INVERTER)] == "Home East"
        assert names[str(METER)] == "Home Meter-1"
        await account.restart()
        assert self._names(hass, account) == names

    async def test_server_replaces_the_code(
        self, hass: HomeAssistant, account: Account, simulator: Simulator
    ) -> None:
        """The names stay when the code of the only plant changes."""
        await self._had_two(hass, account, simulator)
        simulator.home.plants = [replace(simulator.home.plants[0], code="NE=77")]
        await self._list(account)
        assert "NE=77" in _devices(hass, account)
        names = self._names(hass, account)
        assert names[str(INVERTER)] == "Lindenweg 12 Inverter-1"

    async def test_name_of_the_user(
        self, hass: HomeAssistant, added: Account, simulator: Simulator
    ) -> None:
        """A name that the user gave is shown unchanged, also in the options."""
        registry = dr.async_get(hass)
        meter = _devices(hass, added)[str(METER)]
        registry.async_update_device(meter.id, name_by_user="Meter in the cellar")
        simulator.home.plants += homes.emma().plants
        await self._list(added)
        meter = _devices(hass, added)[str(METER)]
        assert meter.name_by_user == "Meter in the cellar"
        assert meter.name == "Lindenweg 12 Meter-1"
        state = added.state(METER, "active_power")
        assert state
        assert state.name.startswith("Meter in the cellar ")
        result = await added.open_option("grid_meters")
        assert result["data_schema"] is not None
        [meters] = [
            selector.config["options"]
            for marker, selector in result["data_schema"].schema.items()
            if marker.schema == "grid_meters"
        ]
        assert [each["label"] for each in meters] == [
            "Meter in the cellar",
            "Ahornallee 3 EMMA-1",
        ]

    @pytest.mark.parametrize(
        ("plant", "device", "shown"),
        [
            ("Lindenweg 12", "Lindenweg 12 Inverter-1", "Lindenweg 12 Inverter-1"),
            ("Lindenweg 12", "Lindenweg 12-Inverter", "Lindenweg 12-Inverter"),
            ("Lindenweg 12", "Lindenweg 12", "Lindenweg 12"),
            (
                "Lindenweg 1",
                "Lindenweg 12-Inverter",
                "Lindenweg 1 Lindenweg 12-Inverter",
            ),
            ("I", "Inverter-1", "I Inverter-1"),
            ("阳光", "阳光逆变器-1", "阳光逆变器-1"),
        ],
    )
    async def test_name_that_begins_with_the_plants(
        self,
        hass: HomeAssistant,
        account: Account,
        simulator: Simulator,
        plant: str,
        device: str,
        shown: str,
    ) -> None:
        """A name that carries the plant's already is not changed."""
        [first] = simulator.home.plants
        devices = [
            replace(each, name=device) if each.id == INVERTER else each
            for each in first.devices
        ]
        second = homes.apartment().plants[0]
        simulator.home.plants = [replace(first, name=plant, devices=devices), second]
        await account.add_plants(simulator.home.plants)
        assert self._names(hass, account)[str(INVERTER)] == shown

    async def test_vendor_names_one_device_after_the_only_plant(
        self, hass: HomeAssistant, added: Account, simulator: Simulator
    ) -> None:
        """With one plant, names are the vendor's, whatever they begin with."""
        plant = simulator.home.plants[0]
        for name in ("Lindenweg 12 Inverter-1", "Inverter-1"):
            plant.devices = [
                replace(each, name=name) if each.id == INVERTER else each
                for each in plant.devices
            ]
            await self._list(added)
            await added.restart()
            names = self._names(hass, added)
            assert names[str(INVERTER)] == name
            assert names[str(METER)] == "Meter-1"
