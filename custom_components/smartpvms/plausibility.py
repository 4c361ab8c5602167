"""Values that cannot be measurements.

Where a device has no value, servers may send a number whose bits are all ones: 65535,
21474836.47, 4294967.295.
"""

from typing import Final

# Small numbers with these digits are more often measurements.
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

    The digits are all that is compared, and a measurement can have them as well: a
    counter passes 655.35 or 65535, and a power is 32.767 kW now and then. The context
    decides: neighboring readings of a counter, voltage and current of a power. Numbers
    below 30 are never sentinels here, so that neither 6.5535 nor 3.2767 is one.
    """
    if abs(value) < _LEAST_SENTINEL:
        return False
    digits = _digits(value)
    return digits in _ALL_ONES or (value < 0 and digits in _ONLY_SIGN)
