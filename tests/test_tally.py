"""Tests of tallies: what a counter adds up to, over the ends of its days."""

from collections.abc import Iterable
from typing import Final

from hypothesis import given, strategies as st
import pytest

from custom_components.smartpvms.tally import LONGEST_GAP, Tally

MINUTE: Final = 60.0
DAY: Final = 1440 * MINUTE
GAP: Final = LONGEST_GAP.total_seconds()

type Reading = tuple[float, float | None, float | None]


def _total(readings: Iterable[Reading]) -> float:
    """Return what readings add up to."""
    first, *others = readings
    tally, total = Tally(*first), 0.0
    for reading in others:
        tally, counted = tally.follow(*reading)
        total += counted
    return total


@given(st.floats(0.0, 1e-2), st.lists(st.floats(0.0, GAP), max_size=300))
def test_steady(speed: float, steps: list[float]) -> None:
    """What flows steadily is complete, whenever it is read."""
    moments = [0.0, MINUTE]
    for step in steps:
        moments.append(moments[-1] + step)
    days = [(at, at // DAY * DAY) for at in moments]
    total = _total((speed * (at - start), start, at) for at, start in days)
    assert total == pytest.approx(speed * moments[-1], abs=1e-6)


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.0, DAY), st.booleans())))
def test_never_less(rises: list[tuple[float, float, bool]]) -> None:
    """All that was counted is there, and of what was not, no more than minutes of it."""
    readings = [(0.0, 0.0, 0.0)]
    counted = fastest = 0.0
    midnights = 0
    for rise, passed, is_midnight in rises:
        value, start, at = readings[-1]
        at += passed
        if is_midnight:
            value, start = 0.0, start + 1
            midnights += 1
        elif passed:
            fastest = max(fastest, rise / passed)
        counted += rise
        readings.append((value + rise, start, at))
    total = _total(readings)
    assert counted - 1e-6 <= total <= counted + midnights * fastest * GAP + 1e-6


def test_lifetime() -> None:
    """A counter that has no days counts on, and may be corrected."""
    assert _total([(100.0, None, None), (101.5, None, None), (101.0, None, 0.0)]) == 1.0


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
    before = [(3.0, 0.0, DAY - 7 * MINUTE), (3.5, 0.0, DAY - 2 * MINUTE)]
    after = (first, DAY, DAY - 2 * MINUTE + gap)
    assert _total([*before, after]) == pytest.approx(expected)


def test_read_once() -> None:
    """The same reading again counts nothing, and takes nothing away."""
    before = [(3.0, 0.0, 0.0), (3.5, 0.0, 5 * MINUTE), (3.5, 0.0, 5 * MINUTE)]
    assert _total([*before, (0.0, DAY, 10 * MINUTE)]) == pytest.approx(1.0)
