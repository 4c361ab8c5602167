"""Tests of the estimated energy between the last reading of a day and midnight."""

from collections.abc import Iterable
from itertools import accumulate, pairwise
from typing import Final

from hypothesis import given, strategies as st
import pytest

from custom_components.smartpvms.plant.day_end import MAX_GAP, DayEndEstimate

pytestmark = pytest.mark.fast

MINUTE: Final = 60.0
DAY: Final = 1440 * MINUTE
GAP: Final = MAX_GAP.total_seconds()

type Reading = tuple[float, float | None, float | None, bool]


def _total(readings: Iterable[Reading]) -> float:
    """Return the sum of the readings' energies."""
    first, *others = readings
    tally, total = DayEndEstimate(*first), 0.0
    for reading in others:
        tally, counted, left_out = tally.follow(*reading)
        total += counted + left_out
    return total


@given(
    st.floats(0.0, 1e-2),
    st.lists(st.integers(60, 900), min_size=4, max_size=300),
    st.integers(0, 1800),
)
def test_steady_power(speed: float, steps: list[int], late: int) -> None:
    """A steady power is complete, even if days begin or are read late."""
    moments = [*accumulate(steps, initial=DAY - 2 * GAP)]
    value, begun = 0.0, 0.0
    readings: list[Reading] = [(value, begun, moments[0], True)]
    for last, at in pairwise(moments):
        # As filtered: a day begins at midnight, and continues when it is reset.
        start = at // DAY * DAY
        if start != last // DAY * DAY:
            value = 0.0
        if (at - late) // DAY == (last - late) // DAY:
            value += speed * (at - last)
        else:
            begun = start
            value += speed * ((at - late) % DAY)
        readings.append((value, start, at, begun == start))
    expected = speed * (moments[-1] - moments[0])
    assert _total(readings) == pytest.approx(expected, abs=1e-6)


@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 5.0), st.integers(0, 86_400), st.booleans(), st.booleans()
        )
    )
)
def test_energy_is_complete(rises: list[tuple[float, int, bool, bool]]) -> None:
    """All counted energy is included, plus at most minutes of estimated energy."""
    readings: list[Reading] = [(0.0, 0.0, 0.0, True)]
    value = start = at = counted = fastest = 0.0
    resets = 0
    for rise, passed, is_midnight, reset_seen in rises:
        at += passed
        if is_midnight:
            value, start = 0.0, start + 1
        if passed:
            fastest = max(fastest, rise / passed)
        counted += rise
        value += rise
        resets += reset_seen
        readings.append((value, start, at, reset_seen))
    total = _total(readings)
    assert counted - 1e-6 <= total <= counted + resets * fastest * GAP + 1e-6


def test_lifetime() -> None:
    """A lifetime counter has no days, and may be corrected."""
    readings: list[Reading] = [
        (100.0, None, None, True),
        (101.5, None, None, True),
        (101.0, None, 0.0, True),
    ]
    assert _total(readings) == 1.0


BEFORE: Final[list[Reading]] = [
    (3.0, 0.0, DAY - 7 * MINUTE, True),
    (3.5, 0.0, DAY - 2 * MINUTE, True),
]


@pytest.mark.parametrize(
    ("gap", "first", "expected"),
    [
        (5 * MINUTE, 0.0, 0.5 + 0.5),
        # The energy of the new day up to its first reading is not added to the
        # estimate.
        (10 * MINUTE, 0.25, 0.5 + 1.0),
        (5 * MINUTE, 0.75, 0.5 + 0.75),
        # A long gap has no estimate.
        (GAP, 0.0, 0.5 + 1.5),
        (GAP + 1, 0.0, 0.5),
    ],
)
def test_midnight(gap: float, first: float, expected: float) -> None:
    """A counter continues at its last rate until the next day is read."""
    after = (first, DAY, DAY - 2 * MINUTE + gap, True)
    assert _total([*BEFORE, after]) == pytest.approx(expected)


def test_late_midnight() -> None:
    """A counter that starts over late is not estimated before its reset."""
    after: list[Reading] = [
        (0.25, DAY, DAY + 3 * MINUTE, False),
        (0.25, DAY, DAY + 8 * MINUTE, True),
        (0.5, DAY, DAY + 13 * MINUTE, True),
    ]
    assert _total([*BEFORE, *after]) == pytest.approx(0.5 + 0.25 + 0.25 + 0.25)


def test_read_once() -> None:
    """Repeating a reading adds and removes nothing."""
    again: Reading = (3.5, 0.0, DAY - 2 * MINUTE, True)
    after: Reading = (0.0, DAY, DAY + 3 * MINUTE, True)
    assert _total([*BEFORE, again, after]) == pytest.approx(1.0)
