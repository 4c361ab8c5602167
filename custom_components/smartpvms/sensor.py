"""Sensors: every data item that is a number, a state or a moment."""

from typing import Final, override

from homeassistant.components.sensor import SensorDeviceClass, SensorEntity
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .const import CONF_CURRENCY, LOGGER
from .coordinator import RealTimeCoordinator, SmartPvmsConfigEntry
from .counters import Period, Place
from .descriptions import (
    BINARY_SENSORS,
    ItemSensorDescription,
    Value,
    sensors,
    undocumented,
)
from .entity import ItemEntity, async_add_reported_items
from .northbound import Plant, number
from .snapshot import Reading, SourceId

PARALLEL_UPDATES = 0

# Where a plant's capacity says nothing of its counters, in kW.
LEAST_CAPACITY: Final = 5.0
ANY_CAPACITY: Final = 1000.0


async def async_setup_entry(
    hass: HomeAssistant,
    entry: SmartPvmsConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Set up the sensors of an account."""
    coordinator = entry.runtime_data.real_time
    inventory = entry.runtime_data.inventory

    def create(
        source_id: SourceId, key: str, reading: Reading | None
    ) -> ItemSensor | None:
        documented = sensors(inventory.data.type_of(source_id))
        description = documented.get(key) or undocumented(key)
        if key in BINARY_SENSORS or description is None:
            return None
        if reading is not None:
            value = value_in(reading, description)
            if value is None or (value == 0 and not description.appears_with_zero):
                return None
        if description.period is None:
            return ItemSensor(coordinator, source_id, description)
        return CounterSensor(
            coordinator,
            source_id,
            description,
            description.period,
            inventory.data.plant_of(source_id),
        )

    async_add_reported_items(entry, Platform.SENSOR, create, async_add_entities)


def value_in(reading: Reading, description: ItemSensorDescription) -> Value:
    """Return the value of an item in a reading; `None` means unknown.

    A disconnected device reports what it once measured, or zeros: only its power can
    be believed, since it is 0 at night.
    """
    if reading.disconnected and description.device_class != SensorDeviceClass.POWER:
        return None
    return description.read(reading.items.get(description.key))


def _capacity(plant: Plant) -> float:
    """Return what a plant's counters are judged by, in kW.

    Installers leave the capacity out, or type it in a unit of their own.
    """
    capacity = plant.capacity or 0.0
    return max(capacity, LEAST_CAPACITY) if capacity >= 1 else ANY_CAPACITY


class ItemSensor(ItemEntity, SensorEntity):
    """The sensor of a data item."""

    entity_description: ItemSensorDescription
    _attr_native_value: Value = None
    _unknown_state_logged = False

    @override
    def _show(self, reading: Reading) -> None:
        description = self.entity_description
        self._attr_native_value = value_in(reading, description)
        if (
            self._attr_native_value is None
            and description.device_class == SensorDeviceClass.ENUM
        ):
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


class CounterSensor(ItemSensor):
    """The sensor of a counter, which shows only what can be true."""

    def __init__(
        self,
        coordinator: RealTimeCoordinator,
        source_id: SourceId,
        description: ItemSensorDescription,
        period: Period,
        plant: Plant,
    ) -> None:
        """Go on from where the counter was."""
        self._counter = coordinator.counter(f"{source_id}_{description.key}", period)
        self._zone = coordinator.zone_of(plant)
        self._capacity = _capacity(plant)
        if description.device_class == SensorDeviceClass.MONETARY:
            self._attr_native_unit_of_measurement = (
                coordinator.config_entry.options.get(
                    CONF_CURRENCY, coordinator.hass.config.currency
                )
            )
        self._publish(self._counter.value)
        super().__init__(coordinator, source_id, description)

    @override
    def _show(self, reading: Reading) -> None:
        if reading.disconnected:
            self._publish(self._counter.pass_time(reading.server_time, self._zone))
            return
        description = self.entity_description
        raw = number(reading.items.get(description.key))
        if raw is None:
            self._attr_native_value = None
            return
        place = Place(
            self._zone, description.most_per_hour(self._capacity, reading.items)
        )
        self._publish(
            self._counter.update(raw, reading.server_time, place, live=reading.live)
        )

    def _publish(self, value: float | None) -> None:
        self._attr_native_value = value
        self._attr_last_reset = self._counter.start
