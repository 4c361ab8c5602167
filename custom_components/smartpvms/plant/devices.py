"""Devices of a plant, as last read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from custom_components.smartpvms.northbound import DataItems, DeviceType, number

INVERTERS: Final = (DeviceType.STRING_INVERTER, DeviceType.RESIDENTIAL_INVERTER)
METERS: Final = (DeviceType.GRID_METER, DeviceType.POWER_SENSOR)
GRID_POINTS: Final = (*METERS, DeviceType.EMMA, DeviceType.MAINS)
"""Device types that can be at a plant's grid connection."""
TELECOM: Final = (
    DeviceType.MAINS,
    DeviceType.GENSET,
    DeviceType.AC_OUTPUT,
    DeviceType.BATTERY_RACK,
    DeviceType.SSU_GROUP,
    DeviceType.SSU,
    DeviceType.POWER_CONVERTER,
)
"""Device types of a telecom site, which has loads on both sides of its rectifiers."""
OPAQUE: Final = (23093,)
"""The PV-ESS all-in-one, which generates and stores; its items are undocumented."""

# Powers below this, in W, are no evidence.
NOISE: Final = 50.0

_NO_IRRADIATION: Final = 40960
_COMMUNICATION_INTERRUPTED: Final = 45056
# Sign of a battery rack's power by its state; discharge is positive.
_RACK_DISCHARGES: Final = {4: 1.0, 2: -1.0, 3: -1.0, 5: -1.0}


@dataclass(frozen=True)
class PlantDevice:
    """A device of the plant, as last read."""

    type_id: int
    items: DataItems | None
    """A fresh reading, with the powers of meters in W; `None` if there is none."""
    live: bool = True
    """Whether a value changed since the previous reading, so this is not a cached copy."""

    def read(self, key: str) -> float | None:
        """Return a value; `None` if it is missing or the device has no connection."""
        if self.items is None or self.has_no_connection:
            return None
        return number(self.items.get(key))

    @cached_property
    def has_no_connection(self) -> bool:
        """Return whether the device reports that it is asleep or unreachable."""
        items = self.items or {}
        state = number(items.get("inverter_state"))
        return (
            number(items.get("run_state")) == 0 or state == _COMMUNICATION_INTERRUPTED
        )

    @cached_property
    def is_silent(self) -> bool:
        """Return whether an inverter reports neither a connection nor a power."""
        items = self.items
        return (
            items is not None
            and self.has_no_connection
            and not number(items.get("active_power"))
        )

    @cached_property
    def output(self) -> float | None:
        """Return an inverter's AC power in W, negative while it draws power."""
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
        # Some meters without a connection do not report that, but only zeros.
        if power is None or power == voltage == 0:
            return None
        if self.type_id in METERS:
            return 0.0 - power
        # The sign of a negative power at the mains is unreliable.
        if self.type_id == DeviceType.MAINS and power < 0:
            return None
        return power * 1000

    @property
    def rack_discharge(self) -> float | None:
        """Return the power of a battery rack in W, with the sign of its state."""
        power = watts(self.read("charge_discharge_power"))
        state = self.read("battery_state")
        if not power:
            return power
        if state is None or state not in _RACK_DISCHARGES:
            return None
        return _RACK_DISCHARGES[int(state)] * abs(power)


type PlantDevices = Mapping[int, PlantDevice]
"""All devices of a plant, by id."""


def of_type(devices: PlantDevices, *type_ids: int) -> dict[int, PlantDevice]:
    """Return the devices of these types."""
    return {
        key: device for key, device in devices.items() if device.type_id in type_ids
    }


def total(values: Iterable[float | None]) -> float | None:
    """Return the sum, or `None` if any value is unknown."""
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def watts(kilowatts: float | None) -> float | None:
    """Convert a power from kW to W."""
    return None if kilowatts is None else kilowatts * 1000
