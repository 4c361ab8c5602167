"""Tests of tallies: what a counter adds up to, over the ends of its days."""

from collections.abc import Iterable
from itertools import accumulate, pairwise
from typing import Final

from hypothesis import given, strategies as st
import pytest

from custom_components.smartpvms.plant.day_end import MAX_GAP, DayEndEstimate

MINUTE: Final = 60.0
DAY: Final = 1440 * MINUTE
GAP: Final = MAX_GAP.total_seconds()

type Reading = tuple[float, float | None, float | None, bool]


def _total(readings: Iterable[Reading]) -> float:
    """Return what readings add up to."""
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
def test_steady(speed: float, steps: list[int], late: int) -> None:
    """What flows steadily is complete, however late days begin, and are read."""
    moments = [*accumulate(steps, initial=DAY - 2 * GAP)]
    value, begun = 0.0, 0.0
    readings: list[Reading] = [(value, begun, moments[0], True)]
    for last, at in pairwise(moments):
        # As a guard shows it: a day begins at midnight, and goes on when it is reset.
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
def test_never_less(rises: list[tuple[float, int, bool, bool]]) -> None:
    """All that was counted is there, and of what was not, no more than minutes of it."""
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
    """A counter that has no days counts on, and may be corrected."""
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
        # What the new day has counted of the time between is not added to it.
        (10 * MINUTE, 0.25, 0.5 + 1.0),
        (5 * MINUTE, 0.75, 0.5 + 0.75),
        # Of a long time nothing is known.
        (GAP, 0.0, 0.5 + 1.5),
        (GAP + 1, 0.0, 0.5),
    ],
)
def test_midnight(gap: float, first: float, expected: float) -> None:
    """A counter goes on as it rose before, until the next day is read."""
    after = (first, DAY, DAY - 2 * MINUTE + gap, True)
    assert _total([*BEFORE, after]) == pytest.approx(expected)


def test_midnight_that_is_late() -> None:
    """Where it starts over late, it is not missing before that."""
    after: list[Reading] = [
        (0.25, DAY, DAY + 3 * MINUTE, False),
        (0.25, DAY, DAY + 8 * MINUTE, True),
        (0.5, DAY, DAY + 13 * MINUTE, True),
    ]
    assert _total([*BEFORE, *after]) == pytest.approx(0.5 + 0.25 + 0.25 + 0.25)


def test_read_once() -> None:
    """The same reading again counts nothing, and takes nothing away."""
    again: Reading = (3.5, 0.0, DAY - 2 * MINUTE, True)
    after: Reading = (0.0, DAY, DAY + 3 * MINUTE, True)
    assert _total([*BEFORE, again, after]) == pytest.approx(1.0)
