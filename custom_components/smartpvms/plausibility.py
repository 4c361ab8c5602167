"""Values that cannot be measurements.

If a device has no value, servers may send a number whose bits are all ones: 65535,
21474836.47, 4294967.295. Powers may also be far above the limit of the device.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from .apparent_power import (
    METER_PHASE_A,
    MIN_APPARENT_POWER,
    PHASE_A,
    PHASE_B,
    PHASE_C,
    apparent_power,
)
from .northbound import DataItems, number

# Smaller numbers with the digits of a sentinel are usually measurements.
_MIN_SENTINEL: Final = 30.0


def _digits(value: float) -> str:
    """Return the significant digits of a number, at most ten."""
    mantissa, _, _ = f"{abs(value):.9e}".partition("e")
    return mantissa.replace(".", "").rstrip("0")


_ALL_ONES: Final = frozenset(_digits(2**bits - 1) for bits in (15, 16, 31, 32, 63, 64))
_ONLY_SIGN: Final = frozenset(_digits(2 ** (bits - 1)) for bits in (16, 32, 64))


def is_sentinel(value: float) -> bool:
    """Return whether a value has the digits of an integer with all bits set.

    These are integers of 15, 16, 31, 32, 63 and 64 bits in any decimal scaling, such as
    32767, 655.35 and 4294967.295, with either sign, and the lowest signed integers,
    such as -2147483648.

    Only the digits are compared, so a measurement can also match: a counter passes
    655.35 and 65535, and a power can be 32.767 kW. The caller decides by the context:
    neighboring readings of a counter, or voltage and current of a power. Numbers below
    30, such as 6.5535 and 3.2767, never match.
    """
    if abs(value) < _MIN_SENTINEL:
        return False
    digits = _digits(value)
    return digits in _ALL_ONES or (value < 0 and digits in _ONLY_SIGN)


# A power with the digits of a sentinel is a measurement if its share of the apparent
# power is in this range.
_MEASURED_SHARE: Final = (0.2, 1.5)
# A power above this multiple of the sustained power and of the apparent power is false
# until it has lasted. Without voltage and current, the limit of the apparent power is
# replaced by a multiple of the capacity, or a power in W if that is higher.
_MAX_MULTIPLE: Final = 10.0
_MAX_MULTIPLE_OF_CAPACITY: Final = 5.0
_MAX_POWER: Final = 50_000.0
# Number of readings.
_LASTING: Final = 3

_PHASES: Final = (METER_PHASE_A, PHASE_A, PHASE_B, PHASE_C)
_AC_POWERS: Final = "active_power"


def _total_apparent_power(items: DataItems) -> float | None:
    """Return the apparent power of all phases in VA; `None` if noise or unknown."""
    total = sum(apparent_power(items, phase) for phase in _PHASES)
    return total if total >= MIN_APPARENT_POWER else None


@dataclass(slots=True)
class PowerFilter:
    """Detects false values of one power."""

    sustained: float = 0.0
    """Highest power in W that has lasted for two readings."""
    last: float = 0.0
    doubted: list[float] = field(default_factory=list)

    def is_false(
        self, raw: float, power: float, apparent: float | None, capacity: float
    ) -> bool:
        """Return whether a reading is false.

        `raw` is the power as reported, `power` its absolute value in W, `apparent` the
        product of voltage and current in VA, and `capacity` that of the plant in W. A
        power far above all limits is false until it has lasted for three readings.
        """
        if is_sentinel(raw):
            low, high = _MEASURED_SHARE
            return apparent is None or not low <= power / apparent <= high
        allowed = max(_MAX_MULTIPLE_OF_CAPACITY * capacity, _MAX_POWER)
        if apparent is not None:
            allowed = _MAX_MULTIPLE * apparent
        if power > max(allowed, _MAX_MULTIPLE * self.sustained):
            self.doubted.append(power)
            if len(self.doubted) < _LASTING:
                return True
            self.last = min(self.doubted)
        self.doubted = []
        self.sustained = max(self.sustained, min(self.last, power))
        self.last = power
        return False


class DevicePowers:
    """Filters of the powers of one device."""

    def __init__(self, watts: Mapping[str, float], last: DataItems) -> None:
        """Initialize from the last reading; `watts` are the units of powers in W."""
        self._watts = watts
        self._filters: dict[str, PowerFilter] = {}
        for key, unit in watts.items():
            power = abs(number(last.get(key)) or 0.0) * unit
            self._filters[key] = PowerFilter(power, power)

    def without_false(self, items: DataItems, capacity: float | None) -> DataItems:
        """Return a reading with false powers set to `None`; the capacity is in kW."""
        apparent = _total_apparent_power(items)
        false = [
            key
            for key, unit in self._watts.items()
            if (raw := number(items.get(key))) is not None
            and self._filters[key].is_false(
                raw,
                abs(raw) * unit,
                apparent if key.startswith(_AC_POWERS) else None,
                (capacity or 0.0) * 1000,
            )
        ]
        return {**items, **dict.fromkeys(false)} if false else items
