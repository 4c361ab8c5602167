"""Apparent power, from the voltages and currents of the phases."""

from typing import Final

from .northbound import DataItems, number

MIN_APPARENT_POWER: Final = 100.0
"""Minimum in VA; lower apparent powers are noise."""

type Phase = tuple[str, str]
"""Keys of the voltage and the current of a phase."""

PHASE_A: Final[Phase] = ("a_u", "a_i")
PHASE_B: Final[Phase] = ("b_u", "b_i")
PHASE_C: Final[Phase] = ("c_u", "c_i")
METER_PHASE_A: Final[Phase] = ("meter_u", "meter_i")
"""Phase A of a power sensor."""


def apparent_power(items: DataItems, phase: Phase) -> float:
    """Return the apparent power of a phase in VA, 0 if unknown."""
    voltage, current = phase
    return abs(
        (number(items.get(voltage)) or 0.0) * (number(items.get(current)) or 0.0)
    )
