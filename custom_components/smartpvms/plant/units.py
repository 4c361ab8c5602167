"""Devices of a plant, as last read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from custom_components.smartpvms.northbound import DataItems, DeviceType, number

INVERTERS: Final = (DeviceType.STRING_INVERTER, DeviceType.RESIDENTIAL_INVERTER)
METERS: Final = (DeviceType.GRID_METER, DeviceType.POWER_SENSOR)
GRID_POINTS: Final = (*METERS, DeviceType.EMMA, DeviceType.MAINS)
"""The device types that can be where a plant meets the grid."""
TELECOM: Final = (
    DeviceType.MAINS,
    DeviceType.GENSET,
    DeviceType.AC_OUTPUT,
    DeviceType.BATTERY_RACK,
    DeviceType.SSU_GROUP,
    DeviceType.SSU,
    DeviceType.POWER_CONVERTER,
)
"""The device types of a telecom site, with loads on both sides of its rectifiers."""
OPAQUE: Final = (23093,)
"""The PV-ESS all-in-one, which generates and stores, but has undocumented items."""

_NO_IRRADIATION: Final = 40960
_COMMUNICATION_INTERRUPTED: Final = 45056
# Signs of a battery rack's power by its state.
_RACK_DISCHARGES: Final = {4: 1.0, 2: -1.0, 3: -1.0, 5: -1.0}


@dataclass(frozen=True)
class Unit:
    """A device of the plant, as last read."""

    type_id: int
    items: DataItems | None
    """A fresh reading, with the powers of meters in W; `None` where there is none."""
    live: bool = True
    """Whether the server surely does not repeat itself."""

    def read(self, key: str) -> float | None:
        """Return a value; a device that has no connection reports none."""
        if self.items is None or self.has_no_connection:
            return None
        return number(self.items.get(key))

    @cached_property
    def has_no_connection(self) -> bool:
        """Whether it says that it is asleep or cannot be reached."""
        items = self.items or {}
        state = number(items.get("inverter_state"))
        return (
            number(items.get("run_state")) == 0 or state == _COMMUNICATION_INTERRUPTED
        )

    @cached_property
    def is_silent(self) -> bool:
        """Whether an inverter without connection reports no power either."""
        items = self.items
        return (
            items is not None
            and self.has_no_connection
            and not number(items.get("active_power"))
        )

    @cached_property
    def output(self) -> float | None:
        """Return an inverter's AC power in W, negative for what it takes."""
        if self.is_silent:
            return 0.0
        power = self.read("active_power")
        if power is None:
            return 0.0 if self.read("inverter_state") == _NO_IRRADIATION else None
        return power * 1000

    @cached_property
    def panels(self) -> float | None:
        """Return the DC power of an inverter's panels in W."""
        return 0.0 if self.is_silent else watts(self.read("mppt_power"))

    @cached_property
    def imported(self) -> float | None:
        """Return the power at a meter in W, positive for import."""
        power = self.read("active_power")
        voltage = self.read(
            "meter_u" if self.type_id == DeviceType.POWER_SENSOR else "a_u"
        )
        # Not every meter says that it has no connection, but then all it says is 0.
        if power is None or power == voltage == 0:
            return None
        if self.type_id in METERS:
            return 0.0 - power
        # Where mains would take something back, its sign is not what it seems.
        if self.type_id == DeviceType.MAINS and power < 0:
            return None
        return power * 1000

    @property
    def rack_discharge(self) -> float | None:
        """Return the power of a battery rack in W, its direction by its state."""
        power = watts(self.read("charge_discharge_power"))
        state = self.read("battery_state")
        if not power:
            return power
        if state is None or state not in _RACK_DISCHARGES:
            return None
        return _RACK_DISCHARGES[int(state)] * abs(power)


type Units = Mapping[int, Unit]
"""All devices of a plant, by id."""


def of_type(units: Units, *type_ids: int) -> dict[int, Unit]:
    """Return the devices of some types."""
    return {key: unit for key, unit in units.items() if unit.type_id in type_ids}


def total(values: Iterable[float | None]) -> float | None:
    """Return a sum, which is unknown if a part of it is."""
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def watts(kilowatts: float | None) -> float | None:
    """Return a power in W."""
    return None if kilowatts is None else kilowatts * 1000
