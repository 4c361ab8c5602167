"""Detection of the unit of a meter's powers: W or kW.

The document specifies kW for the grid meter and for the phases of the power sensor;
newer servers send W. The unit follows from the meter's voltages and currents: a power
in W is at most as large as the apparent power, and one in kW is 1000 times smaller.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

from .apparent_power import (
    METER_PHASE_A,
    MIN_APPARENT_POWER,
    PHASE_A,
    PHASE_B,
    PHASE_C,
    Phase,
    apparent_power,
)
from .northbound import DataItems, DeviceType, number

type Measured = tuple[float, float]
"""Power as reported, and apparent power in VA."""

# A power above this share of the apparent power cannot be in kW.
IN_WATTS: Final = 0.002
# A power above this share of the apparent power is false in either unit.
IMPOSSIBLE: Final = 10.0
# A power between these shares of the apparent power is rarely in W.
IN_KILOWATTS: Final = (0.0002, 0.0012)
# Number of readings that change the unit to kW: a power in W that passes through 0 has
# the same share for a short time.
DOUBTS: Final = 3


@dataclass(slots=True)
class PowerUnit:
    """Unit of one or more powers, by the evidence of the readings."""

    is_record: ClassVar = True

    kilowatts: bool | None = None
    doubts: int = 0

    def weigh(self, measured: Iterable[Measured]) -> None:
        """Add the evidence of one reading."""
        shares = [
            abs(power) / apparent
            for power, apparent in measured
            if apparent >= MIN_APPARENT_POWER and abs(power) <= IMPOSSIBLE * apparent
        ]
        low, high = IN_KILOWATTS
        if any(share > IN_WATTS for share in shares):
            self.kilowatts = False
            self.doubts = 0
        elif any(low <= share <= high for share in shares):
            self.doubts += 1
            if self.kilowatts is None or self.doubts >= DOUBTS:
                self.kilowatts = True

    def in_watts(self, power: float) -> float:
        """Convert a reported power to W."""
        return round(power * 1000, 3) if self.kilowatts else power


_PHASE_POWERS: Final = ("active_power_a", "active_power_b", "active_power_c")
_PHASES: Final[Mapping[int, tuple[Phase, ...]]] = {
    DeviceType.GRID_METER: (PHASE_A, PHASE_B, PHASE_C),
    DeviceType.POWER_SENSOR: (METER_PHASE_A, PHASE_B, PHASE_C),
}


@dataclass(slots=True)
class MeterPowers:
    """Converts the powers of one meter to W."""

    is_record: ClassVar = True

    type_id: int
    total: PowerUnit = field(default_factory=PowerUnit)
    phase: PowerUnit = field(default_factory=PowerUnit)

    @staticmethod
    def known(type_id: int) -> bool:
        """Return whether devices of a type report powers in W or in kW."""
        return type_id in _PHASES

    @property
    def _has_sure_total(self) -> bool:
        """Return whether the total is always in W, as in a power sensor."""
        return self.type_id != DeviceType.GRID_METER

    @property
    def unsure(self) -> bool:
        """Return whether the unit of a power is still unknown."""
        units = [self.phase] if self._has_sure_total else [self.phase, self.total]
        return any(unit.kilowatts is None for unit in units)

    def in_watts(self, items: DataItems) -> DataItems:
        """Return the items of a reading with all active powers in W."""
        apparent = [apparent_power(items, phase) for phase in _PHASES[self.type_id]]
        powers = {key: number(items.get(key)) for key in _PHASE_POWERS}
        self.phase.weigh(
            (power, va)
            for power, va in zip(powers.values(), apparent, strict=True)
            if power is not None
        )
        changed = {
            key: self.phase.in_watts(power)
            for key, power in powers.items()
            if power is not None
        }
        total = number(items.get("active_power"))
        if total is not None and not self._has_sure_total:
            self.total.weigh([(total, sum(apparent))])
            changed["active_power"] = self.total.in_watts(total)
        return {**items, **changed}
