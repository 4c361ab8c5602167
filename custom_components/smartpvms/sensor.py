"""Sensors of data items that are numbers, states or times."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, override

from homeassistant.components.sensor import (
    RestoreSensor,
    SensorDeviceClass,
    SensorEntity,
    SensorEntityDescription,
)
from homeassistant.const import EntityCategory, Platform, UnitOfRatio, UnitOfTime
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.device_registry import DeviceInfo
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.update_coordinator import CoordinatorEntity
from homeassistant.util import dt as dt_util

from .const import DOMAIN, LOGGER
from .coordinator import RealTimeCoordinator
from .counter_filter import CounterFilter
from .descriptions import (
    ALARM_SENSORS,
    BINARY_SENSORS,
    FLOW_SENSORS,
    REPORT_SENSORS,
    AlarmSensorDescription,
    ItemSensorDescription,
    ReportSensorDescription,
    Value,
    is_large,
    sensors,
    undocumented,
)
from .device_registry import account_device
from .entity import (
    AlarmEntity,
    ItemEntity,
    async_add_alarm_entities,
    async_add_reported_items,
)
from .models import Reading, ReportedValues, SourceId, unique_id
from .northbound import Plant, ServiceState, number, to_epoch
from .options import options_of
from .plant import EnergyToday
from .plant_flow import ENERGIES_TODAY
from .report_coordinator import ReportCoordinator
from .runtime import SmartPvmsConfigEntry
from .statistics import Activity, HistoryImporter, async_last_values

PARALLEL_UPDATES = 0

# Largest state of a device; the documented ones have 16 bits.
MAX_STATE: Final = 0xFFFF

# Minimum ratio of the production of all years to the plant's total in real time at which
# they differ.
MORE: Final = 1.01


@dataclass(frozen=True, kw_only=True)
class HistorySensorDescription(SensorEntityDescription):
    """Describes a sensor of the history import."""

    value: Callable[[HistoryImporter], str | float | datetime | None]


SERVICE_SENSOR: Final = SensorEntityDescription(
    key="service",
    translation_key="service",
    device_class=SensorDeviceClass.ENUM,
    entity_category=EntityCategory.DIAGNOSTIC,
    options=[state.value for state in ServiceState],
)

HISTORY_SENSORS: Final = (
    HistorySensorDescription(
        key="history",
        translation_key="history",
        device_class=SensorDeviceClass.ENUM,
        entity_category=EntityCategory.DIAGNOSTIC,
        options=[activity.value for activity in Activity],
        value=lambda history: history.activity.value,
    ),
    HistorySensorDescription(
        key="history_progress",
        translation_key="history_progress",
        entity_category=EntityCategory.DIAGNOSTIC,
        native_unit_of_measurement=UnitOfRatio.PERCENTAGE,
        suggested_display_precision=0,
        value=lambda history: history.progress,
    ),
    HistorySensorDescription(
        key="history_left",
        translation_key="history_left",
        device_class=SensorDeviceClass.DURATION,
        entity_category=EntityCategory.DIAGNOSTIC,
        native_unit_of_measurement=UnitOfTime.DAYS,
        suggested_display_precision=1,
        value=lambda history: history.days_left,
    ),
    HistorySensorDescription(
        key="history_done",
        translation_key="history_done",
        device_class=SensorDeviceClass.TIMESTAMP,
        entity_category=EntityCategory.DIAGNOSTIC,
        value=lambda history: history.plants.done_by,
    ),
    HistorySensorDescription(
        key="statistics_checked",
        translation_key="statistics_checked",
        device_class=SensorDeviceClass.TIMESTAMP,
        entity_category=EntityCategory.DIAGNOSTIC,
        value=lambda history: history.plants.checked_until,
    ),
)


async def async_setup_entry(
    hass: HomeAssistant,
    entry: SmartPvmsConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Set up the sensors of an account."""
    coordinator = entry.runtime_data.real_time
    inventory = entry.runtime_data.inventory
    reports = entry.runtime_data.reports
    alarms = entry.runtime_data.alarms

    def create(
        source_id: SourceId, key: str, reading: Reading | None
    ) -> ItemSensor | ReportSensor | None:
        if key in ALARM_SENSORS:
            return None
        if isinstance(source_id, str) and key in REPORT_SENSORS:
            if reading is not None:
                return None
            plant = inventory.data.plants[source_id]
            return ReportSensor(reports, plant, REPORT_SENSORS[key])
        flow = FLOW_SENSORS.get(key) if isinstance(source_id, str) else None
        documented = sensors(inventory.data.type_of(source_id))
        description = flow or documented.get(key)
        if description is None and (
            reading is None or coordinator.reported.has_room(source_id)
        ):
            description = undocumented(key)
        if key in BINARY_SENSORS or description is None:
            return None
        if reading is not None:
            value = description.value(reading)
            if value is None or (value == 0 and not description.appears_with_zero):
                return None
        if isinstance(source_id, str) and key in ENERGIES_TODAY:
            return TodaySensor(coordinator, source_id, description)
        if flow is not None:
            is_energy = flow.device_class == SensorDeviceClass.ENERGY
            flow_sensor = EnergySensor if is_energy else FlowSensor
            return flow_sensor(coordinator, source_id, flow)
        if description.period is None:
            return ItemSensor(coordinator, source_id, description)
        return CounterSensor(coordinator, source_id, description)

    async_add_entities(
        HistorySensor(entry, description) for description in HISTORY_SENSORS
    )
    async_add_entities([ServiceSensor(entry)])
    async_add_reported_items(entry, Platform.SENSOR, create, async_add_entities)

    @callback
    def add_reports() -> None:
        if entities := list(_reports(entry)):
            async_add_entities(entities)

    entry.async_on_unload(reports.async_add_listener(add_reports))

    def create_alarm_sensor(
        source_id: SourceId, description: AlarmSensorDescription
    ) -> AlarmSensor:
        return AlarmSensor(alarms, str(source_id), source_id, description)

    async_add_alarm_entities(
        entry,
        lambda code: [code],
        ALARM_SENSORS.values(),
        create_alarm_sensor,
        async_add_entities,
    )


def _reports(entry: SmartPvmsConfigEntry) -> Iterator[ReportSensor]:
    """Yield the sensors of plant reports that have a value for the first time."""
    real_time, reports = entry.runtime_data.real_time, entry.runtime_data.reports
    for code, spans in reports.data.items():
        plant = entry.runtime_data.inventory.data.plants.get(code)
        known = real_time.reported.with_entity.get(code, set())
        for key, description in REPORT_SENSORS.items():
            if plant is None or key in known or description.span not in spans:
                continue
            value = description.value(spans[description.span])
            if value is None:
                continue
            if key == "pv_production_of_all_years" and not _exceeds(
                value, real_time.data.get(code)
            ):
                continue
            real_time.reported.add(code, key)
            yield ReportSensor(reports, plant, description)


def _exceeds(production: float, reading: Reading | None) -> bool:
    """Return whether a production is more than the total in a plant's reading."""
    total = None if reading is None else number(reading.items.get("total_power"))
    return total is None or production > total * MORE


class ServiceSensor(SensorEntity):
    """Sensor of the state of the server's service to an account."""

    entity_description = SERVICE_SENSOR
    _attr_has_entity_name = True
    _attr_should_poll = False

    def __init__(self, entry: SmartPvmsConfigEntry) -> None:
        """Initialize the sensor with the device of the account."""
        self._session = entry.runtime_data.account.session
        self._real_time = entry.runtime_data.real_time
        self._attr_unique_id = f"{entry.entry_id}_{SERVICE_SENSOR.key}"
        self._attr_device_info = account_device(entry)

    @override
    async def async_added_to_hass(self) -> None:
        self.async_on_remove(
            self._real_time.async_add_listener(self.async_write_ha_state)
        )

    @property
    @override
    def native_value(self) -> str:
        return self._session.service_state.value

    @property
    @override
    def extra_state_attributes(self) -> Mapping[str, datetime | None]:
        since = self._session.service_since
        # The same second at each conversion from monotonic time.
        at = (
            None
            if since is None
            else dt_util.utc_from_timestamp(round(to_epoch(since)))
        )
        return {"since": at}


class HistorySensor(SensorEntity):
    """Sensor of the progress of an account's history import."""

    entity_description: HistorySensorDescription
    _attr_has_entity_name = True
    _attr_should_poll = False

    def __init__(
        self, entry: SmartPvmsConfigEntry, description: HistorySensorDescription
    ) -> None:
        """Initialize the sensor with the device of the account."""
        self.entity_description = description
        self._history = entry.runtime_data.history
        self._attr_unique_id = f"{entry.entry_id}_{description.key}"
        self._attr_device_info = account_device(entry)

    @override
    async def async_added_to_hass(self) -> None:
        self.async_on_remove(
            self._history.async_add_listener(self.async_write_ha_state)
        )

    @property
    @override
    def native_value(self) -> str | float | datetime | None:
        return self.entity_description.value(self._history)


class ReportSensor(CoordinatorEntity[ReportCoordinator], SensorEntity):
    """Sensor of an item of a plant's reports."""

    entity_description: ReportSensorDescription
    _attr_has_entity_name = True

    def __init__(
        self,
        coordinator: ReportCoordinator,
        plant: Plant,
        description: ReportSensorDescription,
    ) -> None:
        """Initialize the sensor with the device of the plant."""
        super().__init__(coordinator)
        self.entity_description = description
        self._plant_code = plant.code
        self._attr_unique_id = unique_id(plant.code, description.key)
        self._attr_device_info = DeviceInfo(identifiers={(DOMAIN, plant.code)})

    @property
    def _reported(self) -> ReportedValues | None:
        spans = self.coordinator.data.get(self._plant_code, {})
        return spans.get(self.entity_description.span)

    @property
    @override
    def available(self) -> bool:
        return self._reported is not None and self._reported.fresh

    @property
    @override
    def native_value(self) -> float | None:
        if (reported := self._reported) is None:
            return None
        return self.entity_description.value(reported)


class AlarmSensor(AlarmEntity, SensorEntity):
    """Sensor of the active alarms of a plant."""

    entity_description: AlarmSensorDescription

    @property
    @override
    def native_value(self) -> int | str:
        return self.entity_description.value(self._alarms)

    @property
    @override
    def extra_state_attributes(self) -> Mapping[str, int]:
        return self.entity_description.attributes(self._alarms)


class ItemSensor(ItemEntity, SensorEntity):
    """Sensor of a data item."""

    entity_description: ItemSensorDescription
    # The property cache of `_attr_native_value` would cost 3 kB per entity.
    _value: Value = None
    _unknown_state_logged = False

    def __init__(
        self,
        coordinator: RealTimeCoordinator,
        source_id: SourceId,
        description: ItemSensorDescription,
    ) -> None:
        """Initialize the sensor."""
        super().__init__(
            coordinator,
            source_id,
            description,
            always_written=description.always_written,
        )
        self._of_large_plant = is_large(coordinator.plant_of(source_id))

    @override
    def _update_state(self, reading: Reading) -> bool:
        description = self.entity_description
        value = description.value(reading)
        if value is None and description.device_class == SensorDeviceClass.ENUM:
            self._log_unknown_state(reading.items.get(description.key))
        if value == self._value:
            return description.always_written
        self._value = value
        return True

    @property
    @override
    def native_value(self) -> Value:
        return self._value

    @property
    @override
    def suggested_unit_of_measurement(self) -> str | None:
        return self.entity_description.unit(large=self._of_large_plant)

    @property
    @override
    def suggested_display_precision(self) -> int | None:
        return self.entity_description.precision(large=self._of_large_plant)

    def _log_unknown_state(self, raw: object) -> None:
        state = number(raw)
        # Any other number is no state, and may be a secret.
        is_state = state is not None and abs(state) <= MAX_STATE
        if is_state and not self._unknown_state_logged:
            self._unknown_state_logged = True
            LOGGER.info(
                "Undocumented state %s of %s",
                state,
                self.entity_description.key,
            )


class FlowSensor(ItemSensor):
    """Sensor of a value calculated from the devices of a plant."""

    @property
    @override
    def _reading(self) -> Reading | None:
        return self.coordinator.flows.readings.get(self._source_id)

    @property
    @override
    def _is_available(self) -> bool:
        return self._source_id in self.coordinator.available_flows


class EnergySensor(FlowSensor, RestoreSensor):
    """Sensor of an energy calculated from the devices of a plant."""

    @override
    async def async_added_to_hass(self) -> None:
        # The stored state of the account may be missing, or older than the recorder's.
        if (recorded := await self._async_recorded()) is not None:
            self.coordinator.flows.resume(
                str(self._source_id), self.entity_description.key, recorded
            )
        await super().async_added_to_hass()

    async def _async_recorded(self) -> float | None:
        """Return the highest of the restored, recorded and statistics values."""
        unit = self.entity_description.native_unit_of_measurement
        recorded = await async_last_values(self.hass, self.entity_id, unit)
        values = [each.value for each in recorded]
        last = await self.async_get_last_sensor_data()
        if last is not None and last.native_unit_of_measurement == unit:
            values += filter(None, [number(last.native_value)])
        return max(values, default=None)


class CounterSensor(ItemSensor):
    """Sensor of a counter, limited to plausible values."""

    _start: datetime | None = None
    _counter: CounterFilter

    def __init__(
        self,
        coordinator: RealTimeCoordinator,
        source_id: SourceId,
        description: ItemSensorDescription,
    ) -> None:
        """Initialize the sensor; revenues are in the account's currency."""
        super().__init__(coordinator, source_id, description)
        if description.device_class == SensorDeviceClass.MONETARY:
            self._attr_native_unit_of_measurement = (
                options_of(coordinator.config_entry).currency
                or coordinator.hass.config.currency
            )

    @override
    async def async_added_to_hass(self) -> None:
        # Not in the constructor, since most counters are disabled by default.
        self._counter = self.coordinator.counter(
            self._source_id, self.entity_description
        )
        self._set_value(self._counter.value)
        await super().async_added_to_hass()

    @override
    def _update_state(self, reading: Reading) -> bool:
        raw = number(reading.items.get(self.entity_description.key))
        is_known = reading.disconnected or raw is not None
        return self._set_value(self._counter.value if is_known else None)

    def _set_value(self, value: float | None) -> bool:
        return self._set(value, self._counter.start)

    def _set(self, value: float | None, start: datetime | None) -> bool:
        if value == self._value and start == self._start:
            return False
        self._value = value
        self._start = start
        return True

    @property
    @override
    def last_reset(self) -> datetime | None:
        return self._start


class TodaySensor(CounterSensor):
    """Sensor of a plant's energy today, which not all servers report."""

    @override
    async def async_added_to_hass(self) -> None:
        code, key = str(self._source_id), self.entity_description.key
        if self.coordinator.flows.today(code, key) is not None:
            # The stored state of the account may be older than the recorder's.
            unit = self.entity_description.native_unit_of_measurement
            for each in await async_last_values(self.hass, self.entity_id, unit):
                if each.start is not None:
                    self.coordinator.flows.resume_today(
                        code, key, each.start, each.value
                    )
        await super().async_added_to_hass()

    @property
    @override
    def _reading(self) -> Reading | None:
        return super()._reading or self.coordinator.flows.readings.get(self._source_id)

    @property
    @override
    def _is_available(self) -> bool:
        if self._calculated is None:
            return super()._is_available
        return self._source_id in self.coordinator.available_flows

    @property
    def _calculated(self) -> EnergyToday | None:
        """Return the calculated energy, unless the server reports it."""
        code, key = str(self._source_id), self.entity_description.key
        if self.coordinator.is_reported(code, key):
            return None
        return self.coordinator.flows.today(code, key)

    @override
    def _update_state(self, reading: Reading) -> bool:
        if (energy := self._calculated) is None:
            return super()._update_state(reading)
        start, value = energy.shown
        return self._set(value, start)
