"""Tests of implausible values."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from hypothesis import given, strategies as st
import pytest

from custom_components.smartpvms.plausibility import DevicePowers, is_sentinel

pytestmark = pytest.mark.fast


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


def test_sentinels_among_counter_values() -> None:
    """In a counter from 0 to 10,000 kWh, fewer than ten readings are sentinels."""
    assert sum(is_sentinel(raw / 100) for raw in range(1_000_000)) < 10


WATTS: Final = {"active_power": 1.0, "mppt_power": 1000.0}
LOADED: Final = {"a_u": 230.0, "a_i": 15.0, "b_u": 231.0, "b_i": 14.0}


def _shown(
    readings: Iterable[Mapping[str, object]],
    key: str = "active_power",
    capacity: float | None = 10.0,
    last: Mapping[str, object] | None = None,
) -> list[object]:
    """Return the shown power of each reading."""
    powers = DevicePowers(WATTS, last or {})
    return [powers.without_false(each, capacity)[key] for each in readings]


def _powers(*values: float, **more: float) -> list[dict[str, object]]:
    return [{"active_power": value, **more} for value in values]


@pytest.mark.parametrize("more", [{}, LOADED, {**LOADED, "c_u": None, "c_i": "N/A"}])
@pytest.mark.parametrize("capacity", [None, 0.0, 0.2, 200.0])
@pytest.mark.parametrize(
    "false",
    [-65_230_000.0, -65_230_000_000.0, 65_535_000.0, 2_147_483.647, 4_294_967_295],
)
def test_false_power(false: float, capacity: float, more: dict[str, Any]) -> None:
    """An implausible power is unknown, the others are not."""
    readings = _powers(-6000, -6500, false, -6400, **more)
    assert _shown(readings, capacity=capacity) == [-6000, -6500, None, -6400]
    assert _shown(_powers(false, -6400, **more), capacity=capacity) == [None, -6400]


def test_sentinel_that_lasts() -> None:
    """A sentinel is a power only if voltage and current match it."""
    assert _shown(_powers(*[65535.0] * 20)) == [None] * 20
    assert _shown(_powers(32767.0, a_u=400.0, a_i=90.0)) == [32767.0]
    assert _shown(_powers(32767.0, a_u=400.0, a_i=900.0)) == [None]
    assert _shown(_powers(-655.35, **LOADED)) == [None]


@pytest.mark.parametrize("capacity", [None, 0.0, 30.0])
def test_true_power_beyond_capacity(capacity: float | None) -> None:
    """Lasting powers beyond the capacity are true."""
    high = [-300_100.0, -300_900.0, -301_000.0, -299_000.0, -305_000.0]
    assert _shown(_powers(*high), capacity=capacity)[2:] == high[2:]
    assert _shown(_powers(*high, a_u=400.0, a_i=750.0), capacity=capacity) == high
    # After a restart as well.
    last = {"active_power": -300_000.0}
    assert _shown(_powers(*high), capacity=capacity, last=last) == high


@pytest.mark.parametrize("power", [-25_000.0, 22_000.0, 0.0, 49_999.0])
def test_power_of_a_home(power: float) -> None:
    """A starting load is shown at once."""
    assert _shown(_powers(100.0, power, 100.0)) == [100.0, power, 100.0]


def test_currents_that_are_wrong() -> None:
    """Currents that are too low by a constant factor do not hide a power."""
    readings = _powers(*[40_000.0 + number for number in range(9)], a_u=230.0, a_i=1.0)
    shown = _shown(readings)
    assert shown[:2] == [None, None]
    assert shown[2:] == [each["active_power"] for each in readings[2:]]


def test_dc_power_is_not_ac_power() -> None:
    """The power of panels that charge a battery is not limited by the AC side."""
    readings = [{"mppt_power": 9.5, "active_power": 0.1, "a_u": 230.0, "a_i": 0.5}]
    assert _shown(readings, "mppt_power") == [9.5]
    assert _shown([{"mppt_power": 2_147_483.647}], "mppt_power") == [None]


@given(st.lists(st.floats(-50_000, 50_000), min_size=1))
def test_any_power_of_a_home(values: list[float]) -> None:
    """No power of a home without a sentinel's digits is hidden."""
    shown = _shown(_powers(*values))
    assert shown == [None if is_sentinel(value) else value for value in values]
