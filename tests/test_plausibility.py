"""Tests of values that cannot be measurements."""

import pytest

from custom_components.smartpvms.plausibility import is_sentinel


@pytest.mark.parametrize(
    "value",
    [
        65535,
        6553.5,
        655.35,
        65.535,
        32767,
        327.67,
        2147483647,
        21474836.47,
        2147483.647,
        4294967295,
        42949672.95,
        4294967.295,
        21474836470,
        # In W, where the server meant kW
        4294967.295 * 1000,
        2147483.647 * 1000,
        65535000,
        2**63 - 1,
        2**64 - 1,
        -32768,
        -3276.8,
        -2147483648,
        -65535,
    ],
)
def test_all_ones_are_sentinels(value: float) -> None:
    """Numbers with all bits set are sentinels in any decimal scaling."""
    assert is_sentinel(value)
    assert is_sentinel(float(value))


@pytest.mark.parametrize(
    "value",
    [
        0,
        -0.0,
        -1,
        0.65535,
        6.5535,
        3.2767,
        65534,
        655.34,
        655.36,
        6553.51,
        21474836.46,
        21474836.48,
        32768,
        2147483648,
        -65230000,
        1e300,
        float("inf"),
    ],
)
def test_others_are_no_sentinels(value: float) -> None:
    """Numbers with other digits and small numbers are no sentinels."""
    assert not is_sentinel(value)


def test_few_numbers_of_a_counter_are_sentinels() -> None:
    """Of a counter from 0 to 10,000 kWh, not even ten readings look like one."""
    assert sum(is_sentinel(raw / 100) for raw in range(1_000_000)) < 10
