"""Values that cannot be measurements.

If a device has no value, servers may send a number whose bits are all ones: 65535,
21474836.47, 4294967.295. Powers may also be far above the limit of the device.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from .northbound import DataItems, number

# Smaller numbers with these digits are more often measurements.
_LEAST_SENTINEL: Final = 30.0


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

    Only the digits are compared, and a measurement can have them as well: a counter
    passes 655.35 or 65535, and a power is 32.767 kW now and then. The caller decides by
    the context: neighboring readings of a counter, voltage and current of a power.
    Numbers below 30 are never sentinels here, so that neither 6.5535 nor 3.2767 is one.
    """
    if abs(value) < _LEAST_SENTINEL:
        return False
    digits = _digits(value)
    return digits in _ALL_ONES or (value < 0 and digits in _ONLY_SIGN)


# Apparent powers below this, in VA, are noise.
_LEAST_APPARENT: Final = 100.0
# A power with the digits of a sentinel is a measurement if its share of the apparent
# power is in this range.
_CARRIED: Final = (0.2, 1.5)
# A power beyond this multiple of both the sustained and the apparent power is accepted
# only if it lasts. Without voltage and current, the greater of a multiple of the
# capacity and a power in W replaces the limit of the apparent power.
_BEYOND: Final = 10.0
_BEYOND_CAPACITY: Final = 5.0
_ANY_POWER: Final = 50_000.0
_LASTING: Final = 3

_PHASES: Final = (
    ("meter_u", "meter_i"),
    ("a_u", "a_i"),
    ("b_u", "b_i"),
    ("c_u", "c_i"),
)
_AC_POWERS: Final = "active_power"


def apparent_power(items: DataItems) -> float | None:
    """Return the apparent power of all phases in VA; `None` if noise or unknown."""
    total = sum(
        abs((number(items.get(voltage)) or 0.0) * (number(items.get(current)) or 0.0))
        for voltage, current in _PHASES
    )
    return total if total >= _LEAST_APPARENT else None


@dataclass(slots=True)
class PowerFilter:
    """Recognizes false values of one power."""

    sustained: float = 0.0
    """Highest power in W that has lasted for two readings."""
    last: float = 0.0
    doubted: list[float] = field(default_factory=list)

    def is_false(
        self, raw: float, power: float, apparent: float | None, capacity: float
    ) -> bool:
        """Return whether a reading is false.

        `raw` is the power as reported, `power` its absolute value in W, `apparent` the
        product of voltage and current in VA, and `capacity` the plant's in W. A power
        far beyond all limits is false until it has lasted for three readings.
        """
        if is_sentinel(raw):
            low, high = _CARRIED
            return apparent is None or not low <= power / apparent <= high
        allowed = max(_BEYOND_CAPACITY * capacity, _ANY_POWER)
        if apparent is not None:
            allowed = _BEYOND * apparent
        if power > max(allowed, _BEYOND * self.sustained):
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
        """Start from the last reading; `watts` holds the unit of each power in W."""
        self._watts = watts
        self._filters: dict[str, PowerFilter] = {}
        for key, unit in watts.items():
            power = abs(number(last.get(key)) or 0.0) * unit
            self._filters[key] = PowerFilter(power, power)

    def without_false(self, items: DataItems, capacity: float | None) -> DataItems:
        """Return a reading with false powers set to `None`; the capacity is in kW."""
        apparent = apparent_power(items)
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
