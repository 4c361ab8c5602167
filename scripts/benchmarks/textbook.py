"""A plain integration with the same data, and empty entities in Home Assistant."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
import logging
from types import SimpleNamespace
from typing import Any, Final, Self, override

from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    MockModule,
    MockPlatform,
    mock_integration,
    mock_platform,
)
from yarl import URL

from custom_components.smartpvms.descriptions import ItemSensorDescription
from custom_components.smartpvms.entity import ItemEntity
from custom_components.smartpvms.models import SourceId
from custom_components.smartpvms.northbound import NorthboundClient, Session, number
from custom_components.smartpvms.polling import Batch
from homeassistant.components.sensor import SensorEntity, SensorEntityDescription
from homeassistant.config_entries import HANDLERS, ConfigEntry, ConfigFlow
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from homeassistant.helpers.device_registry import DeviceInfo
from homeassistant.helpers.entity import Entity
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.update_coordinator import (
    CoordinatorEntity,
    DataUpdateCoordinator,
)

from .fleet import Fleet

LOGGER: Final = logging.getLogger(__name__)

type Items = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TextbookDescription(SensorEntityDescription):
    """Description of a sensor of a data item."""

    value_fn: Callable[[Items], Any]


class TextbookCoordinator(DataUpdateCoordinator[dict[SourceId, Items]]):
    """Reads all values of an account."""

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry,
        client: NorthboundClient,
        batches: Iterable[Batch],
    ) -> None:
        """Read batches with a client."""
        super().__init__(hass, LOGGER, config_entry=entry, name="textbook")
        self._client = client
        self._batches = list(batches)

    @override
    async def _async_update_data(self) -> dict[SourceId, Items]:
        data: dict[SourceId, Items] = {}
        kpis: Any
        for batch in self._batches:
            ids: Any = batch.source_ids
            if batch.type_id is None:
                kpis = await self._client.plant_real_time(ids)
            else:
                kpis = await self._client.device_real_time(batch.type_id, ids)
            data |= kpis.rows
        return data


class TextbookSensor(CoordinatorEntity[TextbookCoordinator], SensorEntity):
    """A sensor as in Home Assistant's documentation."""

    entity_description: TextbookDescription
    _attr_has_entity_name = True

    def __init__(
        self,
        coordinator: TextbookCoordinator,
        source_id: SourceId,
        description: TextbookDescription,
    ) -> None:
        """Store the item of a plant or device."""
        super().__init__(coordinator)
        self.entity_description = description
        self._source_id = source_id
        self._attr_unique_id = f"{source_id}_{description.key}"
        self._attr_device_info = DeviceInfo(
            identifiers={("textbook", str(source_id))},
            name=f"Textbook {source_id}",
            manufacturer="Huawei",
        )

    @property
    @override
    def available(self) -> bool:
        return super().available and self._source_id in self.coordinator.data

    @property
    @override
    def native_value(self) -> Any:
        return self.entity_description.value_fn(self.coordinator.data[self._source_id])


class EmptySensor(SensorEntity):
    """A sensor without a source."""

    _attr_has_entity_name = True
    _attr_should_poll = False

    def __init__(self, number: int) -> None:
        """Store the number of the sensor."""
        self._attr_unique_id = str(number)
        self._attr_name = f"Empty {number}"

    def show(self, value: float) -> None:
        """Write a state."""
        self._attr_native_value = value
        self.async_write_ha_state()


async def add_sensors(
    hass: HomeAssistant,
    domain: str,
    sensors: Callable[[ConfigEntry], Iterable[Entity]],
) -> MockConfigEntry:
    """Add sensors with a separate integration."""

    async def set_up(hass: HomeAssistant, entry: ConfigEntry) -> bool:
        await hass.config_entries.async_forward_entry_setups(entry, [Platform.SENSOR])
        return True

    async def unload(hass: HomeAssistant, entry: ConfigEntry) -> bool:
        return await hass.config_entries.async_unload_platforms(
            entry, [Platform.SENSOR]
        )

    async def set_up_platform(
        hass: HomeAssistant,
        entry: ConfigEntry,
        async_add_entities: AddConfigEntryEntitiesCallback,
    ) -> None:
        async_add_entities(sensors(entry))

    mock_integration(
        hass,
        MockModule(domain, async_setup_entry=set_up, async_unload_entry=unload),
    )
    mock_platform(hass, f"{domain}.config_flow")
    mock_platform(
        hass, f"{domain}.sensor", MockPlatform(async_setup_entry=set_up_platform)
    )
    entry = MockConfigEntry(domain=domain, pref_disable_polling=True)
    entry.add_to_hass(hass)
    HANDLERS[domain] = ConfigFlow
    await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()
    return entry


def description_of(entity: ItemEntity) -> TextbookDescription:
    """Return the description of the same item for the plain integration."""
    described = entity.entity_description
    key = described.key
    if not isinstance(described, ItemSensorDescription):
        return TextbookDescription(
            key=key, name=key, value_fn=lambda items: number(items.get(key))
        )
    read = described.read
    return TextbookDescription(
        key=key,
        name=key,
        device_class=described.device_class,
        native_unit_of_measurement=described.native_unit_of_measurement,
        options=described.options,
        state_class=described.state_class,
        suggested_display_precision=described.suggested_display_precision,
        value_fn=lambda items: read(items.get(key)),
    )


class Textbook:
    """A plain integration with the account of a fleet."""

    coordinator: TextbookCoordinator
    entry: MockConfigEntry

    def __init__(self, fleet: Fleet) -> None:
        """Store the fleet."""
        self._fleet = fleet
        self._items = {
            source_id: reading.items
            for source_id, reading in fleet.coordinator.data.items()
        }
        self._batches = fleet.coordinator.polling.batches
        self._state = fleet.entry.runtime_data.account.session
        descriptions: dict[int, TextbookDescription] = {}
        self._described = [
            (
                entity.coordinator_context[0],
                descriptions.setdefault(
                    id(entity.entity_description), description_of(entity)
                ),
            )
            for entity in fleet.entities
        ]

    @classmethod
    async def add(cls, fleet: Fleet) -> Self:
        """Add the account."""
        textbook = cls(fleet)
        textbook.entry = await add_sensors(fleet.hass, "textbook", textbook._sensors)
        return textbook

    def _sensors(self, entry: ConfigEntry) -> Iterator[TextbookSensor]:
        fleet = self._fleet
        websession: Any = SimpleNamespace(closed=False)
        url = URL(fleet.simulator.url)
        client = NorthboundClient(Session(websession, url, "", "", self._state))
        self.coordinator = TextbookCoordinator(fleet.hass, entry, client, self._batches)
        self.coordinator.data = {**self._items}
        for source_id, description in self._described:
            yield TextbookSensor(self.coordinator, source_id, description)
