"""Sensors: every data item that is a number, a state or a moment."""

from collections.abc import Mapping
from typing import override

from homeassistant.components.sensor import (
    SensorDeviceClass,
    SensorEntity,
    SensorStateClass,
)
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .const import LOGGER
from .coordinator import Reading, RealTimeCoordinator, SmartPvmsConfigEntry, SourceId
from .descriptions import (
    BINARY_SENSORS,
    DEVICE_SENSORS,
    PLANT_SENSORS,
    ItemSensorDescription,
    Value,
    undocumented,
)
from .entity import ItemEntity, async_add_reported_items
from .northbound import number

PARALLEL_UPDATES = 0


async def async_setup_entry(
    hass: HomeAssistant,
    entry: SmartPvmsConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Set up the sensors of an account."""
    coordinator = entry.runtime_data.real_time
    devices = entry.runtime_data.inventory

    def documented(source_id: SourceId) -> Mapping[str, ItemSensorDescription]:
        if isinstance(source_id, str):
            return PLANT_SENSORS
        return DEVICE_SENSORS.get(devices.data.devices[source_id].type_id, {})

    def create(
        source_id: SourceId, key: str, reading: Reading | None
    ) -> ItemSensor | None:
        if key in BINARY_SENSORS:
            return None
        description = documented(source_id).get(key) or undocumented(key)
        if reading is not None:
            value = value_in(reading, description)
            if value is None or (value == 0 and not description.appears_with_zero):
                return None
        return ItemSensor(coordinator, source_id, description)

    async_add_reported_items(entry, Platform.SENSOR, create, async_add_entities)


def value_in(reading: Reading, description: ItemSensorDescription) -> Value:
    """Return the value of an item in a reading; `None` means unknown.

    A disconnected device reports what it once measured, or zeros: only its power can
    be believed, since it is 0 at night.
    """
    if reading.disconnected and description.device_class != SensorDeviceClass.POWER:
        return None
    return description.read(reading.items.get(description.key))


class ItemSensor(ItemEntity, SensorEntity):
    """The sensor of a data item."""

    entity_description: ItemSensorDescription
    _attr_native_value: Value = None
    _unknown_state_logged = False

    def __init__(
        self,
        coordinator: RealTimeCoordinator,
        source_id: SourceId,
        description: ItemSensorDescription,
    ) -> None:
        """Take the currency from Home Assistant, where the item is money."""
        if description.device_class == SensorDeviceClass.MONETARY:
            self._attr_native_unit_of_measurement = coordinator.hass.config.currency
        super().__init__(coordinator, source_id, description)

    @override
    def _show(self, reading: Reading) -> None:
        description = self.entity_description
        value = value_in(reading, description)
        if value is None and reading.disconnected and _is_counter(description):
            return
        self._attr_native_value = value
        if value is None and description.device_class == SensorDeviceClass.ENUM:
            self._log_unknown_state(reading.items.get(description.key))

    def _log_unknown_state(self, raw: object) -> None:
        state = number(raw)
        if state is not None and not self._unknown_state_logged:
            self._unknown_state_logged = True
            LOGGER.info(
                "State %s of %s is not documented",
                state,
                self.entity_description.key,
            )


def _is_counter(description: ItemSensorDescription) -> bool:
    return description.state_class in (
        SensorStateClass.TOTAL,
        SensorStateClass.TOTAL_INCREASING,
    )
