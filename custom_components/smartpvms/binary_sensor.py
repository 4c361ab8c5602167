"""Binary sensors of data items that are 0 or 1."""

from typing import override

from homeassistant.components.binary_sensor import BinarySensorEntity
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .descriptions import BINARY_SENSORS, ItemBinarySensorDescription
from .entity import ItemEntity, async_add_reported_items
from .models import Reading, SourceId
from .northbound import number
from .runtime import SmartPvmsConfigEntry

PARALLEL_UPDATES = 0


async def async_setup_entry(
    hass: HomeAssistant,
    entry: SmartPvmsConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Set up the binary sensors of an account."""
    coordinator = entry.runtime_data.real_time

    def create(
        source_id: SourceId, key: str, reading: Reading | None
    ) -> ItemBinarySensor | None:
        description = BINARY_SENSORS.get(key)
        if description is None or (
            reading is not None and number(reading.items[key]) is None
        ):
            return None
        return ItemBinarySensor(coordinator, source_id, description)

    async_add_reported_items(entry, Platform.BINARY_SENSOR, create, async_add_entities)


class ItemBinarySensor(ItemEntity, BinarySensorEntity):
    """Binary sensor of a data item."""

    entity_description: ItemBinarySensorDescription

    @override
    def _update_state(self, reading: Reading) -> bool:
        value = number(reading.items.get(self.entity_description.key))
        is_on = value == self.entity_description.on_value if value in (0, 1) else None
        must_write = is_on is not self._attr_is_on
        self._attr_is_on = is_on
        return must_write
