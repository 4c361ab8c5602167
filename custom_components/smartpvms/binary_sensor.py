"""Binary sensors of data items that are 0 or 1, and of alarms."""

from collections.abc import Iterator
from typing import override

from homeassistant.components.binary_sensor import (
    BinarySensorEntity,
    BinarySensorEntityDescription,
)
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .active_alarms import PlantAlarms
from .descriptions import BINARY_SENSORS, PROBLEM, ItemBinarySensorDescription
from .entity import (
    AlarmEntity,
    ItemEntity,
    async_add_alarm_entities,
    async_add_reported_items,
)
from .models import Reading, SourceId
from .northbound import Device, number
from .runtime import SmartPvmsConfigEntry

PARALLEL_UPDATES = 0


async def async_setup_entry(
    hass: HomeAssistant,
    entry: SmartPvmsConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Set up the binary sensors of an account."""
    coordinator = entry.runtime_data.real_time
    inventory = entry.runtime_data.inventory

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

    def with_values(plant_code: str) -> Iterator[int]:
        for device in inventory.data.devices_of(plant_code):
            if device.id in coordinator.data:
                yield device.id

    def create_problem(
        source_id: SourceId, description: BinarySensorEntityDescription
    ) -> ProblemSensor:
        device = inventory.data.devices[int(source_id)]
        return ProblemSensor(entry, device, description)

    async_add_alarm_entities(
        entry, with_values, [PROBLEM], create_problem, async_add_entities
    )


class ProblemSensor(AlarmEntity, BinarySensorEntity):
    """Binary sensor of critical and major alarms of a device."""

    def __init__(
        self,
        entry: SmartPvmsConfigEntry,
        device: Device,
        description: BinarySensorEntityDescription,
    ) -> None:
        """Initialize the sensor of a device."""
        self._inventory = entry.runtime_data.inventory
        self._device = device
        super().__init__(
            entry.runtime_data.alarms, device.plant_code, device.id, description
        )

    @property
    @override
    def _alarms(self) -> PlantAlarms:
        # The device can have another name, or be in another plant.
        self._device = self._inventory.data.devices.get(self._device.id, self._device)
        self._plant_code = self._device.plant_code
        return super()._alarms

    @property
    @override
    def available(self) -> bool:
        return super().available and self._device.id in self._inventory.data.devices

    @property
    @override
    def is_on(self) -> bool:
        return self._alarms.has_severe(self._device)


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
