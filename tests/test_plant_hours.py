"""Tests of the hours of a plant's energies, which are computed from reports."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
import math
from typing import Final

from hypothesis import given, strategies as st
import pytest

from custom_components.smartpvms.northbound import PlantReport, ReportItem
from custom_components.smartpvms.statistics.plant_hours import (
    Comparison,
    compare,
    counted_hours,
    divide,
    full_hours,
    merged,
    replace_hours,
)
from custom_components.smartpvms.statistics.rows import HOUR, RecordedSums, SumRow

pytestmark = pytest.mark.fast

BEGIN: Final = datetime(2026, 6, 21, 6, tzinfo=UTC).timestamp()
HOURS: Final = 12

energies_of_hours = st.lists(
    st.none() | st.floats(0.0, 50.0), min_size=HOURS, max_size=HOURS
)


def at(hour: int) -> float:
    """Return the start of an hour."""
    return BEGIN + hour * HOUR


def recorded_sums(energies: list[float | None], before: float) -> RecordedSums:
    """Return the rows of a counter of which some hours are missing.

    The hour after missing ones has their energy.
    """
    rows, total, counted = [], before, 0.0
    for hour, energy in enumerate([*energies, 1.0]):
        counted += energy or 0.0
        if energy is not None:
            total, counted = total + counted, 0.0
            rows.append(SumRow(at(hour), at(hour + 1), 100.0 + total, total, None))
    return RecordedSums(rows=rows[:-1], before=before or None, after=rows[-1])


def changes(
    sums: RecordedSums, before: float, rows: list[SumRow], adjustment: float
) -> dict[float, float]:
    """Return the energies of the hours after an import."""
    after = {row.start: row.sum for row in (*sums.rows, sums.after)}
    after |= {row.start: row.sum for row in rows}
    after[sums.after.start] = sums.after.sum + adjustment
    by_hour = sorted(after.items())
    earlier = [(0.0, before), *by_hour]
    return {
        hour: total - last for (_, last), (hour, total) in pairwise(earlier) if hour
    }


@given(
    energies_of_hours, energies_of_hours.filter(any), st.sampled_from([0.0, 7000.25])
)
def test_hours_are_replaced(
    recorded: list[float | None], reported: list[float | None], before: float
) -> None:
    """Replaced hours have the reported energies, and all others keep theirs."""
    sums = recorded_sums(recorded, before)
    energies = {
        at(hour): each for hour, each in enumerate(reported) if each is not None
    }
    filled = replace_hours(sums, energies)
    old = changes(sums, before, [], 0.0)
    new = changes(sums, before, filled.rows, filled.adjustment)
    assert new.keys() == old.keys() | energies.keys()
    for hour, energy in new.items():
        assert energy == pytest.approx(energies.get(hour, old.get(hour)), abs=1e-6)
        assert energy >= 0
    states = [row.state for row in filled.rows]
    assert states == sorted(states)
    assert states[-1] <= sums.after.state


@given(energies_of_hours, st.sampled_from([0.0, 7000.25]))
def test_counted_hours(recorded: list[float | None], before: float) -> None:
    """The energies of hours are those of their rows, and 0 without a row."""
    sums = recorded_sums(recorded, before)
    hours = [at(hour) for hour in range(3, 9)]
    old = changes(sums, before, [], 0.0)
    counted = counted_hours(sums, hours, 1.0)
    assert counted == pytest.approx({hour: old.get(hour, 0.0) for hour in hours})
    in_megawatt_hours = counted_hours(sums, hours, 0.001)
    assert in_megawatt_hours == pytest.approx(
        {hour: 1000 * energy for hour, energy in counted.items()}
    )


@given(st.lists(st.floats(0.0, 50.0), min_size=2, max_size=30), st.integers(0, 29))
def test_divided_energy(energies: list[float], leap: int) -> None:
    """The energy of a gap is kept, and has the hours of the report."""
    reported = {at(hour): energy for hour, energy in enumerate(energies)}
    total = 0.97 * math.fsum(energies)
    counted = dict.fromkeys(reported, 0.0) | {at(leap % len(energies)): total}
    divided = divide(counted, reported) or counted
    assert math.fsum(divided.values()) == pytest.approx(total)
    assert all(
        abs(energy - reported[hour]) <= 0.1 + energies[0] + 0.2 * reported[hour]
        or divided is counted
        for hour, energy in divided.items()
    )


@pytest.mark.parametrize(
    ("counted", "lead", "expected"),
    [
        (10.0, 0.0, Comparison.EQUAL),
        (10.9, 0.0, Comparison.EQUAL),
        (14.0, 0.0, Comparison.LESS),
        (5.0, 0.0, Comparison.MORE),
        (5.0, 5.0, Comparison.EQUAL),
        (4.0, 1.0, Comparison.MORE),
    ],
)
def test_comparison(counted: float, lead: float, expected: Comparison) -> None:
    """A report is compared with a tolerance; a part can be missing at first."""
    reported = dict(zip([at(0), at(1), at(2)], [2.0, 6.0, 2.0], strict=True))
    total = {at(0): 0.0, at(1): 0.0, at(2): counted}
    assert compare(total, reported, lead) is expected


@given(
    st.lists(st.floats(0.0, 9.0), min_size=1, max_size=30),
    st.sampled_from([0, 30, 45]),
    st.integers(0, 30),
)
def test_half_hours(energies: list[float], minutes: int, split: int) -> None:
    """The energies of full hours add up to those of the plant's hours.

    They are the same if the days of the report are read one by one.
    """
    begin = datetime(2026, 6, 21, 18, minutes, tzinfo=UTC)
    reports = [
        PlantReport(begin + timedelta(hours=hour), {ReportItem.IMPORT: energy})
        for hour, energy in enumerate(energies)
    ]
    hours = full_hours(reports)[ReportItem.IMPORT]
    assert math.fsum(hours.values()) == pytest.approx(math.fsum(energies))
    assert all(hour % HOUR == 0 for hour in hours)
    parts = merged(full_hours(reports[:split]), full_hours(reports[split:]))
    assert parts[ReportItem.IMPORT] == pytest.approx(hours)
    first = 1 - minutes / 60
    assert hours[at(12)] == pytest.approx(first * energies[0])


def test_energy_below_zero() -> None:
    """An energy below 0 is 0."""
    report = PlantReport(datetime(2026, 6, 21, tzinfo=UTC), {ReportItem.IMPORT: -0.5})
    assert [*full_hours([report])[ReportItem.IMPORT].values()] == [0.0]
