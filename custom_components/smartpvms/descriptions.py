"""Entity descriptions of the documented data items, by device type."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import cached_property, partial
import math
import re
from typing import Any, Final

from homeassistant.components.binary_sensor import (
    BinarySensorDeviceClass,
    BinarySensorEntityDescription,
)
from homeassistant.components.event import EventEntityDescription
from homeassistant.components.sensor import (
    SensorDeviceClass,
    SensorEntityDescription,
    SensorStateClass,
)
from homeassistant.const import (
    DEGREE,
    EntityCategory,
    UnitOfApparentPower,
    UnitOfElectricCurrent,
    UnitOfElectricPotential,
    UnitOfEnergy,
    UnitOfFrequency,
    UnitOfIrradiance,
    UnitOfMass,
    UnitOfPower,
    UnitOfRatio,
    UnitOfReactiveEnergy,
    UnitOfReactivePower,
    UnitOfSpeed,
    UnitOfTemperature,
    UnitOfTime,
)

from .active_alarms import SEVERE, AlarmEvent, PlantAlarms
from .counter_evidence import CounterContext
from .counter_filter import Period
from .models import Reading, ReportedValues, ReportSpan
from .northbound import (
    AlarmLevel,
    DataItems,
    DeviceType,
    Plant,
    ReportItem,
    integer,
    moment,
    number,
)

# Words with optional numbers; excludes codes, serial numbers and addresses.
_KEY: Final = re.compile(
    r"(?=.{1,64}$)[a-z]+\d{0,2}(_[a-z]+\d{0,2}|_\d{1,2})*", re.IGNORECASE | re.ASCII
)

# Device classes that users integrate over time.
INTEGRATED: Final = frozenset(
    {
        SensorDeviceClass.APPARENT_POWER,
        SensorDeviceClass.IRRADIANCE,
        SensorDeviceClass.POWER,
        SensorDeviceClass.REACTIVE_POWER,
    }
)

# Minimum capacity in kW, and the capacity of plants without a valid one.
MIN_CAPACITY: Final = 5.0
ANY_CAPACITY: Final = 1000.0
# Ratio of the maximum power of PV modules to their rating.
EXCESS: Final = 1.1

# Capacity in kWp from which powers are shown in kW.
LARGE_PLANT: Final = 100.0
POWER_UNITS: Final[Mapping[SensorDeviceClass | None, tuple[str, str]]] = {
    SensorDeviceClass.POWER: (UnitOfPower.WATT, UnitOfPower.KILO_WATT),
    SensorDeviceClass.REACTIVE_POWER: (
        UnitOfReactivePower.VOLT_AMPERE_REACTIVE,
        UnitOfReactivePower.KILO_VOLT_AMPERE_REACTIVE,
    ),
    SensorDeviceClass.APPARENT_POWER: (
        UnitOfApparentPower.VOLT_AMPERE,
        UnitOfApparentPower.KILO_VOLT_AMPERE,
    ),
}


def is_large(plant: Plant) -> bool:
    """Return whether the powers of a plant are shown in kW."""
    return (plant.capacity or 0.0) >= LARGE_PLANT


type Value = float | str | datetime | None


@dataclass(frozen=True, kw_only=True)
class ItemSensorDescription(SensorEntityDescription):
    """Describes the sensor of a data item."""

    read: Callable[[object], Value] = number
    """Converts the raw item to the state; `None` means unknown."""
    appears_with_zero: bool = True
    """Whether a value of 0 creates the entity; if not, 0 means that it is unused."""
    period: Period | None = None
    """Reset period of a counter; `None` if the item is not a counter."""
    power: Callable[[DataItems], float | None] = lambda items: None
    """Returns the power in kW whose energy the counter measures, from the same row; for
    plants, from the plant's powers."""
    max_per_hour: float | None = None
    """Fixed maximum per hour of a counter that does not count energy."""
    past_key: str | None = None
    """Key of the item in history, if different."""

    @cached_property
    def always_written(self) -> bool:
        """Return whether every reading writes the state, even if it is unchanged.

        Integration over time assumes a linear change since the last report.
        """
        return self.device_class in INTEGRATED

    def value(self, reading: Reading) -> Value:
        """Return the value in a reading; `None` means unknown.

        A disconnected device reports old measurements or zeros. Only its power is
        valid, since it is 0 at night.
        """
        if reading.disconnected and self.device_class != SensorDeviceClass.POWER:
            return None
        return self.read(reading.items.get(self.key))

    def unit(self, *, large: bool) -> str | None:
        """Return the unit of a power of a small or large plant."""
        units = POWER_UNITS.get(self.device_class)
        return None if units is None else units[large]

    def precision(self, *, large: bool) -> int | None:
        """Return the number of decimal places in that unit."""
        is_power = self.device_class in POWER_UNITS
        if large and (is_power or self.device_class == SensorDeviceClass.ENERGY):
            return 1
        return 0 if is_power else self.suggested_display_precision

    def context(self, plant: Plant, zone: tzinfo, powers: DataItems) -> CounterContext:
        """Return the plant's data for the filter of a counter."""
        # Installers omit the capacity, or enter it in another unit.
        capacity = plant.capacity or 0.0
        capacity = max(capacity, MIN_CAPACITY) if capacity >= 1 else ANY_CAPACITY
        return CounterContext(
            zone=zone,
            capacity=EXCESS * capacity,
            power=self.power(powers),
            max_per_hour=self.max_per_hour,
            may_fall=self.device_class == SensorDeviceClass.MONETARY,
        )


@dataclass(frozen=True, kw_only=True)
class ReportSensorDescription(SensorEntityDescription):
    """Describes the sensor of an item of a plant report."""

    span: ReportSpan
    item: ReportItem
    factor: float = 1.0
    """Converts the item to the unit of the sensor."""

    def value(self, reported: ReportedValues) -> float | None:
        """Return the value of the item; `None` means unknown.

        No item is negative, except due to an error of the server.
        """
        value = reported.values.get(self.item, math.nan) * self.factor
        return value if 0 <= value < math.inf else None


@dataclass(frozen=True, kw_only=True)
class ItemBinarySensorDescription(BinarySensorEntityDescription):
    """Describes the binary sensor of a data item that is 0 or 1."""

    on_value: int = 1


def _item(
    key: str,
    translation_key: str | None = None,
    *,
    enabled: bool = True,
    diagnostic: bool = False,
    **fields: Any,
) -> ItemSensorDescription:
    name = translation_key or key
    return ItemSensorDescription(
        key=key,
        # Home Assistant translates the names of device classes.
        translation_key=None if name == fields.get("device_class") else name,
        entity_registry_enabled_default=enabled,
        entity_category=EntityCategory.DIAGNOSTIC if diagnostic else None,
        **fields,
    )


def _measured(
    device_class: SensorDeviceClass | None,
    unit: str | None,
    precision: int | None = None,
) -> Callable[..., ItemSensorDescription]:
    return partial(
        _item,
        device_class=device_class,
        native_unit_of_measurement=unit,
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=precision,
    )


def _power(key: str, *others: str, kilowatts: float = 1.0) -> Callable[..., Any]:
    """Return a function that reads the first known power in kW.

    `kilowatts` is the factor to kW. A power in the opposite direction is 0.
    """

    def read(items: DataItems) -> float | None:
        for name in (key, *others):
            if (power := number(items.get(name))) is not None:
                return round(max(power * kilowatts, 0.0), 6)
        return None

    return read


def _either(key: str, kilowatts: float = 1.0) -> Callable[..., Any]:
    """Return a function that reads a power in kW whose sign differs by device."""

    def read(items: DataItems) -> float | None:
        power = number(items.get(key))
        return None if power is None else round(abs(power) * kilowatts, 6)

    return read


def _counted(
    device_class: SensorDeviceClass | None,
    unit: str | None,
    precision: int,
    period: Period = Period.LIFETIME,
    **fields: Any,
) -> Callable[..., ItemSensorDescription]:
    # Counters that reset are `total` with a last reset. Home Assistant allows only
    # `total` for money.
    increasing = (
        period is Period.LIFETIME and device_class != SensorDeviceClass.MONETARY
    )
    return partial(
        _item,
        device_class=device_class,
        native_unit_of_measurement=unit,
        state_class=SensorStateClass.TOTAL_INCREASING
        if increasing
        else SensorStateClass.TOTAL,
        suggested_display_precision=precision,
        period=period,
        **fields,
    )


def _state(
    key: str,
    states: Mapping[float, str],
    translation_key: str | None = None,
    **fields: Any,
) -> ItemSensorDescription:
    def read(raw: object) -> str | None:
        value = number(raw)
        return None if value is None else states.get(value)

    return _item(
        key,
        translation_key,
        device_class=SensorDeviceClass.ENUM,
        options=list(dict.fromkeys(states.values())),
        read=read,
        **fields,
    )


_apparent_power = _measured(
    SensorDeviceClass.APPARENT_POWER, UnitOfApparentPower.KILO_VOLT_AMPERE
)
_battery_level = _measured(SensorDeviceClass.BATTERY, UnitOfRatio.PERCENTAGE, 0)
# Capacities and limits have no statistics.
_capacity = partial(
    _item,
    device_class=SensorDeviceClass.ENERGY_STORAGE,
    native_unit_of_measurement=UnitOfEnergy.KILO_WATT_HOUR,
    suggested_display_precision=2,
    diagnostic=True,
)
_limit = partial(
    _item,
    device_class=SensorDeviceClass.POWER,
    native_unit_of_measurement=UnitOfPower.WATT,
    diagnostic=True,
    enabled=False,
)
_current = _measured(SensorDeviceClass.CURRENT, UnitOfElectricCurrent.AMPERE, 2)
_duration = _measured(SensorDeviceClass.DURATION, UnitOfTime.HOURS, 1)
_kilowatt_hours = partial(
    _counted, SensorDeviceClass.ENERGY, UnitOfEnergy.KILO_WATT_HOUR, 2
)
_energy = _kilowatt_hours()
_energy_today = _kilowatt_hours(Period.DAY)
_energy_this_month = _kilowatt_hours(Period.MONTH)
_accumulated = partial(
    _item,
    device_class=SensorDeviceClass.ENERGY,
    native_unit_of_measurement=UnitOfEnergy.KILO_WATT_HOUR,
    state_class=SensorStateClass.TOTAL_INCREASING,
    suggested_display_precision=2,
)
_frequency = _measured(SensorDeviceClass.FREQUENCY, UnitOfFrequency.HERTZ, 2)
_irradiance = _measured(
    SensorDeviceClass.IRRADIANCE, UnitOfIrradiance.WATTS_PER_SQUARE_METER, 0
)
# Home Assistant has no device class for irradiation.
_irradiation_today = _counted(None, "MJ/m²", 2, Period.DAY, max_per_hour=6.0)
_kilowatts = _measured(SensorDeviceClass.POWER, UnitOfPower.KILO_WATT)
_revenue = _counted(SensorDeviceClass.MONETARY, None, 2)
_revenue_today = _counted(SensorDeviceClass.MONETARY, None, 2, Period.DAY)
_moment = partial(_item, device_class=SensorDeviceClass.TIMESTAMP, read=moment)
_power_factor = _measured(SensorDeviceClass.POWER_FACTOR, None, 3)
_ratio = _measured(None, UnitOfRatio.PERCENTAGE, 1)
_reactive_energy = _counted(
    SensorDeviceClass.REACTIVE_ENERGY,
    UnitOfReactiveEnergy.KILO_VOLT_AMPERE_REACTIVE_HOUR,
    2,
    max_per_hour=ANY_CAPACITY,
)
_reactive_kilovars = _measured(
    SensorDeviceClass.REACTIVE_POWER,
    UnitOfReactivePower.KILO_VOLT_AMPERE_REACTIVE,
)
_reactive_vars = _measured(
    SensorDeviceClass.REACTIVE_POWER, UnitOfReactivePower.VOLT_AMPERE_REACTIVE
)
_run_time = _counted(SensorDeviceClass.DURATION, UnitOfTime.HOURS, 1, max_per_hour=1.1)
_temperature = _measured(SensorDeviceClass.TEMPERATURE, UnitOfTemperature.CELSIUS, 1)
_times = _counted(None, None, 0, max_per_hour=60.0)
_voltage = _measured(SensorDeviceClass.VOLTAGE, UnitOfElectricPotential.VOLT, 1)
_watts = _measured(SensorDeviceClass.POWER, UnitOfPower.WATT)


INVERTER_STATES: Final[Mapping[float, str]] = {
    0: "standby_initializing",
    1: "standby_insulation_resistance_detecting",
    2: "standby_irradiation_detecting",
    3: "standby_grid_detecting",
    256: "start",
    512: "grid_connected",
    513: "grid_connected_power_limited",
    514: "grid_connected_self_derating",
    768: "shutdown_on_fault",
    769: "shutdown_on_command",
    770: "shutdown_ovgr",
    771: "shutdown_communication_interrupted",
    772: "shutdown_power_limited",
    773: "shutdown_manual_startup_required",
    774: "shutdown_dc_switch_disconnected",
    1025: "grid_scheduling_cos_phi_p_curve",
    1026: "grid_scheduling_q_u_curve",
    1280: "ready_for_terminal_test",
    1281: "terminal_testing",
    1536: "inspection_in_progress",
    1792: "afci_self_check",
    2048: "i_v_scanning",
    2304: "dc_input_detection",
    40960: "standby_no_irradiation",
    45056: "communication_interrupted",
    49152: "loading",
}

BATTERY_STATUSES: Final[Mapping[float, str]] = {
    0: "offline",
    1: "standby",
    2: "running",
    3: "faulty",
    4: "hibernating",
}

BATTERY_MODES: Final[Mapping[float, str]] = {
    0: "none",
    1: "forced",
    2: "time_of_use_price",
    3: "fixed",
    4: "automatic",
    5: "fully_fed_to_grid",
    6: "time_of_use",
    7: "remote_max_self_consumption",
    8: "remote_fully_fed_to_grid",
    9: "remote_time_of_use",
    10: "emma",
    11: "remote_ai",
    12: "third_party",
}

BATTERY_RACK_STATES: Final[Mapping[float, str]] = {
    0: "initial_power_on",
    1: "power_off",
    2: "float_charging",
    3: "boost_charging",
    4: "discharging",
    5: "charging",
    6: "testing",
    7: "hibernation",
    8: "standby",
}

GENSET_STATES: Final[Mapping[float, str]] = {
    0: "unknown_state",
    1: "stopped",
    2: "running",
}

GRID_QUALITY_GRADES: Final[Mapping[float, str]] = {
    0: "ungraded",
    1: "class_1",
    2: "class_2",
    3: "class_3",
    4: "class_4",
}

HEALTH_STATES: Final[Mapping[float, str]] = {
    1: "disconnected",
    2: "faulty",
    3: "healthy",
}


def _strings(count: int) -> Iterator[ItemSensorDescription]:
    for n in range(1, count + 1):
        fields: dict[str, Any] = {
            "enabled": False,
            "appears_with_zero": False,
            "translation_placeholders": {"number": str(n)},
        }
        yield _voltage(f"pv{n}_u", "pv_voltage", **fields)
        yield _current(f"pv{n}_i", "pv_current", **fields)


_AC_POWER: Final = _power("active_power")
_DC_POWER: Final = _power("mppt_power", "active_power")


def _mppts(count: int) -> Iterator[ItemSensorDescription]:
    for n in range(1, count + 1):
        yield _energy(
            f"mppt_{n}_cap",
            "mppt_input_total",
            power=_DC_POWER,
            enabled=False,
            appears_with_zero=False,
            translation_placeholders={"number": str(n)},
        )


_LINE_VOLTAGES: Final = (
    _voltage("ab_u", enabled=False),
    _voltage("bc_u", enabled=False),
    _voltage("ca_u", enabled=False),
)
_PHASES: Final = (
    *_LINE_VOLTAGES,
    _voltage("a_u", enabled=False),
    _voltage("b_u", enabled=False),
    _voltage("c_u", enabled=False),
    _current("a_i", enabled=False),
    _current("b_i", enabled=False),
    _current("c_i", enabled=False),
)

_INVERTER: Final = (
    _state("inverter_state", INVERTER_STATES),
    *_PHASES,
    _ratio("efficiency", diagnostic=True),
    _temperature("temperature", "internal_temperature", diagnostic=True),
    _power_factor("power_factor", enabled=False),
    _frequency("elec_freq", "grid_frequency", enabled=False),
    _kilowatts("active_power", "ac_output_power"),
    _reactive_kilovars("reactive_power", enabled=False),
    _energy_today("day_cap", "ac_output_today", power=_AC_POWER),
    _kilowatts("mppt_power"),
    _energy("total_cap", "ac_output_total", power=_AC_POWER),
    _moment("open_time", diagnostic=True),
    _moment("close_time", diagnostic=True),
)

# The positive direction of a grid meter and of a power sensor is feed-in.
_export = partial(_energy, power=_power("active_power", kilowatts=0.001))
_import = partial(_energy, power=_power("active_power", kilowatts=-0.001))
_GRID_METERING: Final = (
    _power_factor("power_factor", enabled=False),
    _export("active_cap", "export_total"),
    _import("reverse_active_cap", "import_total"),
    *_LINE_VOLTAGES,
    _voltage("b_u"),
    _voltage("c_u"),
    _current("b_i", enabled=False),
    _current("c_i", enabled=False),
    _watts("active_power", "export_power"),
    _watts("active_power_a", "export_power_a", enabled=False),
    _watts("active_power_b", "export_power_b", enabled=False),
    _watts("active_power_c", "export_power_c", enabled=False),
    _reactive_energy("forward_reactive_cap", enabled=False),
    _reactive_energy("reverse_reactive_cap", enabled=False),
    _reactive_kilovars("reactive_power_a", enabled=False),
    _reactive_kilovars("reactive_power_b", enabled=False),
    _reactive_kilovars("reactive_power_c", enabled=False),
    _apparent_power("total_apparent_power", "apparent_power", enabled=False),
    _frequency("grid_frequency", enabled=False),
    _import("reverse_active_peak", "import_total_peak", enabled=False),
    _import("reverse_active_power", "import_total_shoulder", enabled=False),
    _import("reverse_active_valley", "import_total_off_peak", enabled=False),
    _import("reverse_active_top", "import_total_sharp", enabled=False),
    _export("positive_active_peak", "export_total_peak", enabled=False),
    _export("positive_active_power", "export_total_shoulder", enabled=False),
    _export("positive_active_valley", "export_total_off_peak", enabled=False),
    _export("positive_active_top", "export_total_sharp", enabled=False),
    _reactive_energy("reverse_reactive_peak", enabled=False),
    _reactive_energy(
        "reverse_reactive_power", "reverse_reactive_shoulder", enabled=False
    ),
    _reactive_energy("reverse_reactive_valley", enabled=False),
    _reactive_energy("reverse_reactive_top", enabled=False),
    _reactive_energy("positive_reactive_peak", enabled=False),
    _reactive_energy(
        "positive_reactive_power", "positive_reactive_shoulder", enabled=False
    ),
    _reactive_energy("positive_reactive_valley", enabled=False),
    _reactive_energy("positive_reactive_top", enabled=False),
)


def _table(
    *descriptions: ItemSensorDescription,
) -> Mapping[str, ItemSensorDescription]:
    return {description.key: description for description in descriptions}


_PV_POWER: Final = _power("pv_power", kilowatts=0.001)

PLANT_SENSORS: Final = _table(
    _energy_today("day_power", "pv_production_today", power=_PV_POWER),
    _energy_this_month("month_power", "pv_production_this_month", power=_PV_POWER),
    _energy("total_power", "fusionsolar_yield_total", power=_PV_POWER),
    _revenue_today("day_income", "revenue_today"),
    _revenue("total_income", "revenue_total"),
    _state("real_health_state", HEALTH_STATES),
    _energy_today(
        "day_on_grid_energy",
        "grid_export_today",
        power=_power("grid_power", kilowatts=-0.001),
    ),
    _energy_today(
        "day_use_energy",
        "home_consumption_today",
        power=_power("home_power", kilowatts=0.001),
    ),
)

# Calculated from the devices of a plant. Signs are those of Home Assistant: positive
# grid power is import, positive battery power is discharge.
FLOW_SENSORS: Final = _table(
    _watts("pv_power"),
    _watts("grid_power"),
    _watts("battery_power"),
    _watts("home_power"),
    _ratio("self_consumption"),
    _ratio("self_sufficiency"),
    _accumulated("pv_energy", "pv_production_total"),
    _accumulated("charged_energy", "battery_charge_total"),
    _accumulated("discharged_energy", "battery_discharge_total"),
    _accumulated("home_energy", "home_consumption_total"),
    _accumulated("grid_import", "grid_import_total"),
    _accumulated("grid_export", "grid_export_total"),
    _energy_today("day_import_energy", "grid_import_today"),
    _energy_today("day_charged_energy", "battery_charge_today"),
    _energy_today("day_discharged_energy", "battery_discharge_today"),
    _item(
        "installed_capacity",
        native_unit_of_measurement="kWp",
        suggested_display_precision=2,
    ),
)


def _report(
    key: str, span: ReportSpan, item: ReportItem, **fields: Any
) -> ReportSensorDescription:
    return ReportSensorDescription(
        key=key, translation_key=key, span=span, item=item, **fields
    )


# Without statistics, which would count the energies of other sensors again.
_reported_energy = partial(
    _report,
    item=ReportItem.PRODUCTION,
    device_class=SensorDeviceClass.ENERGY,
    native_unit_of_measurement=UnitOfEnergy.KILO_WATT_HOUR,
    suggested_display_precision=0,
)
_specific_yield = partial(
    _report,
    item=ReportItem.SPECIFIC_ENERGY,
    native_unit_of_measurement="kWh/kWp",
    state_class=SensorStateClass.MEASUREMENT,
    suggested_display_precision=2,
)
_performance_ratio = partial(
    _report,
    item=ReportItem.PERFORMANCE_RATIO,
    native_unit_of_measurement=UnitOfRatio.PERCENTAGE,
    state_class=SensorStateClass.MEASUREMENT,
    suggested_display_precision=1,
)
# `total` without a last reset, because the server may correct a sum of years downwards.
_avoided = partial(
    _report,
    span=ReportSpan.ALL_YEARS,
    state_class=SensorStateClass.TOTAL,
    suggested_display_precision=0,
)
# The reports are in tonnes.
_avoided_mass = partial(
    _avoided,
    device_class=SensorDeviceClass.WEIGHT,
    native_unit_of_measurement=UnitOfMass.KILOGRAMS,
    factor=1000.0,
)

REPORT_SENSORS: Final[Mapping[str, ReportSensorDescription]] = {
    description.key: description
    for description in (
        _reported_energy("pv_production_this_year", ReportSpan.THIS_YEAR),
        _reported_energy("pv_production_of_all_years", ReportSpan.ALL_YEARS),
        _specific_yield("specific_yield_yesterday", ReportSpan.YESTERDAY),
        _specific_yield(
            "specific_yield_this_month",
            ReportSpan.THIS_MONTH,
            suggested_display_precision=0,
        ),
        _performance_ratio("performance_ratio_yesterday", ReportSpan.YESTERDAY),
        _performance_ratio("performance_ratio_this_month", ReportSpan.THIS_MONTH),
        _avoided_mass("co2_avoided", item=ReportItem.CO2_REDUCTION),
        _avoided_mass(
            "coal_saved",
            item=ReportItem.COAL_REDUCTION,
            entity_registry_enabled_default=False,
        ),
        _avoided(
            "equivalent_trees",
            item=ReportItem.TREES,
            entity_registry_enabled_default=False,
        ),
    )
}
"""The sensors of plants from their day, month and year reports."""


_CHARGING: Final = _power("ch_discharge_power", kilowatts=0.001)
_DISCHARGING: Final = _power("ch_discharge_power", kilowatts=-0.001)
# Some storages report charging as positive, and some as negative.
_EXCHANGED: Final = _either("ch_discharge_power", kilowatts=0.001)

DEVICE_SENSORS: Final[Mapping[int, Mapping[str, ItemSensorDescription]]] = {
    DeviceType.STRING_INVERTER: _table(
        *_INVERTER,
        *_strings(36),
        _energy("mppt_total_cap", "pv_input_total", power=_DC_POWER),
        *_mppts(10),
    ),
    DeviceType.RESIDENTIAL_INVERTER: _table(*_INVERTER, *_strings(8), *_mppts(4)),
    DeviceType.EMI: _table(
        _temperature("temperature", "ambient_temperature"),
        _temperature("pv_temperature"),
        _measured(SensorDeviceClass.WIND_SPEED, UnitOfSpeed.METERS_PER_SECOND, 1)(
            "wind_speed"
        ),
        _item(
            "wind_direction",
            device_class=SensorDeviceClass.WIND_DIRECTION,
            native_unit_of_measurement=DEGREE,
            state_class=SensorStateClass.MEASUREMENT_ANGLE,
            suggested_display_precision=0,
        ),
        _irradiation_today("radiant_total"),
        _irradiance("radiant_line", "irradiance"),
        _irradiance("horiz_radiant_line"),
        _irradiation_today("horiz_radiant_total"),
    ),
    DeviceType.GRID_METER: _table(
        *_GRID_METERING,
        _voltage("a_u"),
        _current("a_i", enabled=False),
        _reactive_kilovars("reactive_power", enabled=False),
    ),
    DeviceType.POWER_SENSOR: _table(
        *_GRID_METERING,
        _voltage("meter_u", "a_u"),
        _current("meter_i", "a_i", enabled=False),
        _reactive_vars("reactive_power", enabled=False),
    ),
    # The positive direction of an EMMA is consumption from the grid.
    DeviceType.EMMA: _table(
        *_PHASES,
        _kilowatts("active_power", "import_power"),
        _kilowatts("active_power_a", "import_power_a", enabled=False),
        _kilowatts("active_power_b", "import_power_b", enabled=False),
        _kilowatts("active_power_c", "import_power_c", enabled=False),
        _energy("active_cap", "import_total", power=_AC_POWER),
        _energy(
            "reverse_active_cap",
            "export_total",
            power=_power("active_power", kilowatts=-1.0),
        ),
        _reactive_kilovars("reactive_power", enabled=False),
        _power_factor("power_factor", enabled=False),
        # Without an external meter, its items are 0.
        _kilowatts("ex_active_power", appears_with_zero=False),
        _energy(
            "ex_active_cap", power=_power("ex_active_power"), appears_with_zero=False
        ),
        _energy(
            "ex_reverse_active_cap",
            power=_power("ex_active_power", kilowatts=-1.0),
            appears_with_zero=False,
        ),
    ),
    DeviceType.BATTERY: _table(
        _state("battery_status", BATTERY_STATUSES),
        _limit("max_charge_power"),
        _limit("max_discharge_power"),
        _watts("ch_discharge_power", "charging_power"),
        _voltage("busbar_u", "voltage", enabled=False),
        _battery_level("battery_soc"),
        _ratio("battery_soh", diagnostic=True, appears_with_zero=False),
        _state("ch_discharge_model", BATTERY_MODES),
        _energy_today("charge_cap", "charge_today", power=_CHARGING),
        _energy_today("discharge_cap", "discharge_today", power=_DISCHARGING),
        _energy("total_charged_energy", "charge_total", power=_CHARGING),
        _energy("total_discharged_energy", "discharge_total", power=_DISCHARGING),
        _capacity("rated_capacity"),
        _item(
            "battery_modules", read=integer, diagnostic=True, appears_with_zero=False
        ),
    ),
    DeviceType.ESS: _table(
        _watts("ch_discharge_power"),
        _battery_level("battery_soc"),
        _ratio("battery_soh", diagnostic=True, appears_with_zero=False),
        _energy_today("charge_cap", "charge_today", power=_EXCHANGED),
        _energy_today("discharge_cap", "discharge_today", power=_EXCHANGED),
    ),
    DeviceType.MAINS: _table(
        _voltage("ac_voltage"),
        _current("ac_current"),
        _kilowatts("active_power"),
        _frequency("ac_frequency"),
        _state("grid_quality_grade", GRID_QUALITY_GRADES),
        _energy(
            "total_energy_consumption",
            "consumption_total",
            power=_either("active_power"),
        ),
        _run_time("supply_duration_per_total"),
    ),
    DeviceType.GENSET: _table(
        _state("running_state", GENSET_STATES),
        _kilowatts("output_power"),
        _ratio("load_rate"),
    ),
    DeviceType.SSU_GROUP: _table(
        _current("total_output_current"),
        _kilowatts("total_output_power"),
    ),
    DeviceType.SSU: _table(
        _voltage("input_voltage"),
        _voltage("output_voltage"),
        _current("output_current"),
    ),
    DeviceType.POWER_CONVERTER: _table(
        _run_time("total_runtime", diagnostic=True),
        _voltage("pv_input_voltage"),
        _current("pv_input_current"),
        _kilowatts("pv_input_power"),
        _voltage("inverter_voltage"),
        _frequency("inverter_frequency"),
        _voltage("ac_output_voltage"),
        _current("ac_output_current"),
        _frequency("ac_output_frequency"),
        _apparent_power("ac_output_apparent_power", enabled=False),
    ),
    DeviceType.BATTERY_RACK: _table(
        _state("battery_state", BATTERY_RACK_STATES),
        _battery_level("soc", "battery_soc"),
        _kilowatts("charge_discharge_power", "ch_discharge_power"),
        _energy(
            "total_discharge",
            "discharge_total",
            power=_either("charge_discharge_power"),
        ),
        _voltage("voltage"),
        _current("current"),
        _duration("remaining_backup_time"),
        _times("total_discharge_times", diagnostic=True),
        _capacity("total_capacity"),
    ),
    DeviceType.AC_OUTPUT: _table(
        _voltage("ac_voltage"),
        _current("ac_current"),
        _frequency("ac_frequency"),
        _kilowatts("active_power", past_key="total_load_active_power"),
    ),
}

BINARY_SENSORS: Final = {
    description.key: description
    for description in (
        ItemBinarySensorDescription(
            key="run_state",
            translation_key="run_state",
            device_class=BinarySensorDeviceClass.CONNECTIVITY,
            entity_category=EntityCategory.DIAGNOSTIC,
        ),
        ItemBinarySensorDescription(
            key="meter_status",
            translation_key="meter_status",
            device_class=BinarySensorDeviceClass.CONNECTIVITY,
            entity_category=EntityCategory.DIAGNOSTIC,
            # It says the same as the connection.
            entity_registry_enabled_default=False,
        ),
        ItemBinarySensorDescription(
            key="mains_state",
            translation_key="mains_state",
            device_class=BinarySensorDeviceClass.POWER,
        ),
        ItemBinarySensorDescription(
            key="on_off_state",
            device_class=BinarySensorDeviceClass.POWER,
            on_value=0,
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class AlarmSensorDescription(SensorEntityDescription):
    """Describes a sensor of the active alarms of a plant."""

    value: Callable[[PlantAlarms], int | str]
    attributes: Callable[[PlantAlarms], Mapping[str, int]] = lambda alarms: {}


NO_ALARM: Final = "no_alarm"

ALARM_EVENTS: Final = EventEntityDescription(
    key="alarm",
    translation_key="alarm",
    event_types=[each.value for each in AlarmEvent],
)
ALARM_SENSORS: Final[Mapping[str, AlarmSensorDescription]] = {
    description.key: description
    for description in (
        AlarmSensorDescription(
            key="active_alarms",
            translation_key="active_alarms",
            state_class=SensorStateClass.MEASUREMENT,
            value=lambda alarms: sum(alarms.counts[level] for level in SEVERE),
            attributes=lambda alarms: {
                level.value: number for level, number in alarms.counts.items()
            },
        ),
        AlarmSensorDescription(
            key="most_severe_alarm",
            translation_key="most_severe_alarm",
            device_class=SensorDeviceClass.ENUM,
            options=[*(level.value for level in AlarmLevel), NO_ALARM],
            entity_registry_enabled_default=False,
            value=lambda alarms: alarms.most_severe or NO_ALARM,
        ),
    )
}
PROBLEM: Final = BinarySensorEntityDescription(
    key="problem",
    device_class=BinarySensorDeviceClass.PROBLEM,
    entity_category=EntityCategory.DIAGNOSTIC,
)

NOT_OF_ROWS: Final[frozenset[str]] = frozenset().union(
    FLOW_SENSORS,
    REPORT_SENSORS,
    ALARM_SENSORS,
    {ALARM_EVENTS.key, PROBLEM.key},
)
"""Keys of the entities that are not read from real-time rows."""

DOCUMENTED: Final[frozenset[str]] = NOT_OF_ROWS.union(
    PLANT_SENSORS,
    BINARY_SENSORS,
    *DEVICE_SENSORS.values(),
)
"""Keys of the items that have a description."""

MAX_UNDOCUMENTED: Final = 100
"""Maximum number of other items of a plant or device."""


def sensors(type_id: int | None) -> Mapping[str, ItemSensorDescription]:
    """Return the sensors of a device type; without a type, those of plants."""
    return PLANT_SENSORS if type_id is None else DEVICE_SENSORS.get(type_id, {})


def undocumented(key: str) -> ItemSensorDescription | None:
    """Return the description of an undocumented number, named by its raw key.

    Returns `None` for a key that may be private, since all users see the name.
    """
    if not _KEY.fullmatch(key):
        return None
    return ItemSensorDescription(
        key=key,
        name=key,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
    )
