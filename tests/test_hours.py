"""Tests of hours: five-minute values become rows of the statistics."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
import math
from typing import Final
from zoneinfo import ZoneInfo

from hypothesis import given, settings, strategies as st
import pytest

from custom_components.smartpvms.counter_evidence import CounterContext
from custom_components.smartpvms.counter_filter import CounterFilter, Period
from custom_components.smartpvms.statistics.counter_values import first_level, replay
from custom_components.smartpvms.statistics.counters import fill_counter
from custom_components.smartpvms.statistics.measurements import fill_measurement
from custom_components.smartpvms.statistics.rows import (
    CounterSample,
    FilteredValue,
    RecordedSums,
    Sample,
    SumRow,
)

pytestmark = pytest.mark.fast

HOUR: Final = 3600.0
STEP: Final = 300.0
MINUTE: Final = 60.0
STEPS: Final = 12
"""Collections in an hour."""
LOOK_AHEAD: Final = 2
"""Number of known hours after the hours to fill."""

MORNING: Final = datetime(2026, 6, 21, 6, tzinfo=UTC)
BEGIN: Final = MORNING.timestamp()
INTERVAL: Final = 0.2
"""The energy of the power between two collections."""
CONTEXT: Final = CounterContext(ZoneInfo("Europe/Berlin"), capacity=11.0, power=2.4)


@dataclass
class World:
    """A counter with its true values at every collection."""

    rates: list[int]
    """Energy of each hour, roughly, in tenths."""
    midnight: int | None
    """The hour in which a day starts, for a daily counter."""
    lags: list[int]
    """Delays of the value at the end of each hour, in collections."""
    sums: list[float] = field(init=False)
    """Energy up to each collection."""

    def __post_init__(self) -> None:
        """Calculate the sums."""
        counts = [0.0]
        for hour, rate in enumerate(self.rates):
            for n in range(1, STEPS + 1):
                begins = n == STEPS and self._begins_day(hour + 1)
                # Energy at the very end of a day is never reported.
                counts.append(0.0 if begins else rate * (n * 7 % 5) / 10)
        self.sums = [round(each, 6) for each in accumulate(counts)]

    def _begins_day(self, hour: int) -> bool:
        return self.midnight is not None and (hour - self.midnight) % 24 == 0

    def point(self, n: int) -> FilteredValue:
        """Return the counter's value at a collection."""
        at = BEGIN + n * STEP
        if self.midnight is None:
            return FilteredValue(at, round(1000.0 + self.sums[n], 6), None, 0.0)
        hours = (n // STEPS - self.midnight) % 24
        first = n // STEPS * STEPS - hours * STEPS
        before = self.sums[first] if first >= 0 else -2.0
        return FilteredValue(
            at, round(self.sums[n] - before, 6), BEGIN + first * STEP, 0.0
        )

    def points(self, first: int, end: int) -> list[FilteredValue]:
        """Return the values of hours, and of some hours after them."""
        last = min(end + LOOK_AHEAD, len(self.rates)) * STEPS
        return [self.point(n) for n in range(first * STEPS, last + 1)]

    def last_reported(self, hour: int) -> int:
        """Return the last reported collection of an hour.

        The energy of a day is not reported after its end.
        """
        lag = 0 if self._begins_day(hour + 1) else self.lags[hour]
        return (hour + 1) * STEPS - lag

    def row(self, hour: int, sum_: float) -> SumRow:
        """Return the row of an hour, as written by the recorder."""
        start = BEGIN + hour * HOUR
        shown = self.point(self.last_reported(hour))
        return SumRow(start, start + HOUR, shown.value, sum_, shown.start)


@dataclass
class Database:
    """The existing rows by hour."""

    rows: dict[float, SumRow]

    def known(self, start: float, end: float) -> RecordedSums:
        """Return the known rows around some hours."""
        rows = [self.rows[each] for each in sorted(self.rows)]
        before = [row for row in rows if row.start < start - HOUR]
        return RecordedSums(
            rows=[row for row in rows if start - HOUR <= row.start < end],
            before=before[-1].sum if before else None,
            after=next(row for row in rows if row.start >= end),
        )

    def fill(
        self, world: World, first: int, end: int, *, again: bool = False
    ) -> set[float]:
        """Fill the missing hours of a period, or all again; return the hours."""
        start, last = BEGIN + first * HOUR, BEGIN + end * HOUR
        hours = {BEGIN + hour * HOUR for hour in range(first, end)}
        if not again:
            hours -= self.rows.keys()
        if not hours:
            return hours
        start = min(hours)
        known = self.known(start, last)
        resumed = any(row.end == start for row in known.rows)
        points = world.points(first, end)
        if resumed:
            points = [point for point in points if point.at >= start]
        filled = fill_counter(points, hours, known, resumed=resumed)
        assert all(row.end - row.start == HOUR for row in filled.rows)
        for row in filled.rows:
            self.rows[row.start] = row
        for at, row in self.rows.items():
            if at >= known.after.start:
                self.rows[at] = replace(row, sum=row.sum + filled.adjustment)
        return hours

    @property
    def changes(self) -> dict[float, float]:
        """Return the rise of the sum in each hour after the first."""
        hours = sorted(self.rows)
        return {
            after: self.rows[after].sum - self.rows[before].sum
            for before, after in pairwise(hours)
        }


@dataclass
class Story:
    """A counter, and the hours in which Home Assistant was running."""

    world: World
    there: list[bool]
    again: list[bool]
    """Whether the recorder restarted its sum at 0 after an absence, by hour."""

    def database(self) -> Database:
        """Return the rows that the recorder wrote in these hours."""
        rows: dict[float, SumRow] = {}
        last: SumRow | None = None
        for hour, there in enumerate(self.there):
            if not there:
                continue
            row, last_reported = (
                self.world.row(hour, 0.0),
                self.world.last_reported(hour),
            )
            first = hour * STEPS
            seen = self.world.point(first)
            if last is not None and last.end == row.start:
                before = self.world.last_reported(hour - 1)
                sum_ = last.sum + self._counted(before, last_reported)
            elif last is None or self.again[hour]:
                # Only the energy that was read.
                sum_ = self._counted(last_reported - 2, last_reported)
            else:
                missed = last.state if last.reset == seen.start else 0.0
                sum_ = (
                    last.sum + seen.value - missed + self._counted(first, last_reported)
                )
            last = rows[row.start] = replace(row, sum=round(sum_, 6))
        return Database(rows)

    def _counted(self, first: int, last: int) -> float:
        return self.world.sums[last] - self.world.sums[first]

    def true_changes(self) -> Iterator[tuple[float, float]]:
        """Return the true change of each hour after the first.

        Energy that was reported late belongs to the next hour.
        """
        ends = [
            self.world.last_reported(hour) if there else (hour + 1) * STEPS
            for hour, there in enumerate(self.there)
        ]
        for hour, (before, end) in enumerate(pairwise(ends), start=1):
            yield BEGIN + hour * HOUR, self._counted(before, end)


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Return stories whose last hour is recorded."""
    hours = draw(st.integers(3, 40))

    def each[T](values: st.SearchStrategy[T]) -> list[T]:
        return draw(st.lists(values, min_size=hours, max_size=hours))

    world = World(
        rates=each(st.integers(0, 3)),
        midnight=draw(st.none() | st.integers(0, 23)),
        lags=each(st.integers(0, 2)),
    )
    there = each(st.booleans())
    return Story(world, [*there[:-1], True], each(st.booleans()))


def windows(hours: int, length: int) -> Iterator[tuple[int, int]]:
    """Return periods of hours, the latest first."""
    for end in range(hours, 0, -length):
        yield max(end - length, 0), end


def assert_true(story: Story, database: Database) -> None:
    """Check that every hour exists with its true energy."""
    hours = len(story.there)
    assert sorted(database.rows) == [BEGIN + hour * HOUR for hour in range(hours)]
    changes = database.changes
    for hour, true in story.true_changes():
        assert changes[hour] == pytest.approx(true, abs=0.001), (hour - BEGIN) / HOUR


@given(stories(), st.integers(1, 40))
@settings(deadline=None)
def test_filled_hours_have_true_energies(story: Story, length: int) -> None:
    """With any existing hours, the changes are the true energies."""
    database = story.database()
    for first, end in windows(len(story.there) - 1, length):
        database.fill(story.world, first, end)
    assert_true(story, database)


@given(stories(), st.integers(1, 40))
@settings(deadline=None)
def test_sums_never_fall(story: Story, length: int) -> None:
    """Sums do not fall during the import either."""
    story.again = [False] * len(story.again)
    database = story.database()
    for first, end in windows(len(story.there) - 1, length):
        database.fill(story.world, first, end)
        assert min(database.changes.values(), default=0.0) >= -0.001


@given(stories(), st.integers(1, 40), st.integers(1, 40))
@settings(deadline=None)
def test_hours_that_exist_keep_their_change(
    story: Story, first: int, length: int
) -> None:
    """Only the first hour after a gap changes."""
    database = story.database()
    before = dict(database.rows)
    changes = database.changes
    end = min(first + length, len(story.there) - 1)
    database.fill(story.world, min(first, end), end)
    for hour, row in before.items():
        now = database.rows[hour]
        assert (now.state, now.reset) == (row.state, row.reset)
    for hour in before.keys() & {each + HOUR for each in before}:
        assert database.changes[hour] == pytest.approx(changes[hour], abs=0.001)


@given(stories(), st.integers(0, 40), st.integers(1, 40), st.integers(1, 40))
@settings(deadline=None)
def test_any_hours_may_be_filled_first(
    story: Story, first: int, early: int, length: int
) -> None:
    """Hours can be filled in any order."""
    database = story.database()
    hours = len(story.there) - 1
    first = min(first, hours - 1)
    database.fill(story.world, first, min(first + early, hours))
    for window in windows(hours, length):
        database.fill(story.world, *window)
    assert_true(story, database)


@given(stories(), st.integers(1, 20), st.integers(1, 20))
@settings(deadline=None)
def test_far_hours_keep_their_change(story: Story, length: int, gap: int) -> None:
    """Hours long before the first existing row do not change it."""
    hours = len(story.there)
    there = min(length + LOOK_AHEAD + gap, hours - 1)
    story.there = [hour >= there for hour in range(hours)]
    database = story.database()
    first = database.rows[BEGIN + there * HOUR]
    end = min(length, there - LOOK_AHEAD)
    database.fill(story.world, 0, end)
    now = [database.rows[each] for each in sorted(database.rows)]
    rows = [row for row in now if row.start < first.start]
    assert len(rows) == max(end, 0)
    last = rows[-1].sum if rows else 0.0
    assert database.rows[first.start].sum - last == pytest.approx(first.sum)


@given(stories(), st.integers(1, 40), st.integers(0, 40), st.integers(1, 40))
@settings(deadline=None)
def test_filling_again_changes_nothing(
    story: Story, length: int, first: int, again: int
) -> None:
    """Filling hours again changes nothing."""
    story.world.lags = [0] * len(story.there)
    database = story.database()
    for window in windows(len(story.there) - 1, length):
        database.fill(story.world, *window)
    before = dict(database.rows)
    end = min(first + again, len(story.there) - 1)
    database.fill(story.world, min(first, end - 1), end, again=True)
    assert database.rows.keys() == before.keys()
    lowest = min(before)
    for hour, row in before.items():
        now = database.rows[hour]
        assert now.state == pytest.approx(row.state)
        assert now.reset == row.reset
        assert now.sum - database.rows[lowest].sum == pytest.approx(
            row.sum - before[lowest].sum, abs=0.001
        )


@given(stories(), st.integers(1, 24))
@settings(deadline=None)
def test_states_are_shown_values(story: Story, length: int) -> None:
    """The state of an hour is that of its end, for any windows."""
    database = story.database()
    for window in windows(len(story.there) - 1, length):
        database.fill(story.world, *window)
    for hour, there in enumerate(story.there):
        row = database.rows[BEGIN + hour * HOUR]
        end = story.world.last_reported(hour) if there else (hour + 1) * STEPS
        assert row.state == pytest.approx(story.world.point(end).value)


class TestRows:
    """Single cases with example figures."""

    world = World([1, 2, 3, 1, 2, 3], None, [0] * 6)
    """Energies of 2.6, 5.2, 7.8, 2.6, 5.2 and 7.8."""

    def test_new_series(self) -> None:
        """Before the first row, sums start at 0, and the row is raised."""
        database = Database({BEGIN + 5 * HOUR: self.world.row(5, 0.6)})
        database.fill(self.world, 2, 5)
        sums = [round(row.sum, 6) for _, row in sorted(database.rows.items())]
        assert sums == [7.8, 10.4, 15.6, 23.4]

    def test_absence(self) -> None:
        """Energy in the first hour after an absence is moved to its own hours."""
        database = Database(
            {
                BEGIN: self.world.row(0, 100.0),
                BEGIN + 3 * HOUR: self.world.row(3, 115.6),
            }
        )
        database.fill(self.world, 1, 3)
        sums = [round(row.sum, 6) for _, row in sorted(database.rows.items())]
        assert sums == [100.0, 105.2, 113.0, 115.6]

    def test_far_before(self) -> None:
        """Energy since the last row before is not lost."""
        database = Database(
            {
                BEGIN: self.world.row(0, 100.0),
                BEGIN + 5 * HOUR: self.world.row(5, 128.6),
            }
        )
        database.fill(self.world, 3, 5)
        sums = [round(row.sum, 6) for _, row in sorted(database.rows.items())]
        assert sums == [100.0, 115.6, 120.8, 128.6]

    def test_far_after(self) -> None:
        """A non-adjacent hour keeps its energy."""
        database = Database(
            {
                BEGIN + 4 * HOUR: self.world.row(4, 0.5),
                BEGIN + 5 * HOUR: self.world.row(5, 8.3),
            }
        )
        database.fill(self.world, 0, 1)
        rows = [row for _, row in sorted(database.rows.items())]
        assert rows[0].state == pytest.approx(1002.6)
        changes = list(database.changes.values())
        assert changes == [pytest.approx(0.5), pytest.approx(7.8)]

    @pytest.mark.parametrize(("sum_", "lifted"), [(160.0, 160.0), (0.5, 113.0)])
    def test_far_from_both(self, sum_: float, lifted: float) -> None:
        """Sums rise, whether the later row includes the energy or restarts."""
        world = World([1, 2, 3, 1, 2, 3, 1, 2, 3, 1], None, [0] * 10)
        database = Database(
            {BEGIN: world.row(0, 100.0), BEGIN + 9 * HOUR: world.row(9, sum_)}
        )
        database.fill(world, 4, 6)
        changes = database.changes.values()
        assert min(changes) >= 0
        assert database.rows[BEGIN + 9 * HOUR].sum == pytest.approx(lifted)

    def test_day_that_ends_with_a_distant_row(self) -> None:
        """A row whose value is of the next day includes the energy before it."""
        world = World([0, 1, 0, 0, 0], 5, [0] * 5)
        database = Database(
            {BEGIN: world.row(0, 0.0), BEGIN + 4 * HOUR: world.row(4, 2.6)}
        )
        database.fill(world, 1, 2)
        assert database.rows[BEGIN + 4 * HOUR].sum == pytest.approx(2.6)
        assert database.rows[BEGIN + HOUR].sum == pytest.approx(2.6)

    def test_energy_before_a_distant_row(self) -> None:
        """A row long after the hours determines their energy."""
        world = World([1, 2, 3, 1, 2, 3, 1, 2, 3, 1], None, [0] * 10)
        # The counter continued during the gap.
        whole = 100.0 + world.sums[-1] - world.sums[STEPS]
        database = Database(
            {BEGIN: world.row(0, 100.0), BEGIN + 9 * HOUR: world.row(9, whole)}
        )
        database.fill(world, 4, 6)
        assert list(database.changes.values()) == [
            pytest.approx(5.2 + 7.8 + 2.6 + 5.2),
            pytest.approx(7.8),
            pytest.approx(2.6 + 5.2 + 7.8 + 2.6),
        ]

    def test_more_than_was_counted(self) -> None:
        """Energy that only the recorder has seen stays in its hour."""
        database = Database(
            {
                BEGIN: self.world.row(0, 100.0),
                BEGIN + 3 * HOUR: self.world.row(3, 120.0),
            }
        )
        database.fill(self.world, 1, 3)
        sums = [round(row.sum, 6) for _, row in sorted(database.rows.items())]
        assert sums == [100.0, 105.2, 113.0, 120.0]

    def test_a_day_start_without_points(self) -> None:
        """The energy of a new day up to its first point belongs to that hour."""
        points = [
            FilteredValue(BEGIN, 5.0, BEGIN - 86400, 0.0),
            FilteredValue(BEGIN + HOUR / 2, 5.5, BEGIN - 86400, 0.0),
            FilteredValue(BEGIN + 1.5 * HOUR, 0.8, BEGIN + HOUR, 0.0),
            FilteredValue(BEGIN + 3 * HOUR, 1.0, BEGIN + HOUR, 0.0),
        ]
        after = SumRow(BEGIN + 2 * HOUR, BEGIN + 3 * HOUR, 1.0, 0.1, BEGIN + HOUR)
        filled = fill_counter(
            points, {BEGIN, BEGIN + HOUR}, RecordedSums([], None, after), resumed=False
        )
        assert [(row.state, row.sum, row.reset) for row in filled.rows] == [
            (5.5, 0.5, BEGIN - 86400),
            (0.8, 1.3, BEGIN + HOUR),
        ]
        assert filled.adjustment == pytest.approx(1.4)

    def test_no_points(self) -> None:
        """Without points, there are no rows, and nothing changes."""
        known = RecordedSums([], None, self.world.row(5, 1.0))
        for hours in ({BEGIN}, set[float]()):
            filled = fill_counter([], hours, known, resumed=False)
            assert (filled.rows, filled.adjustment) == ([], 0.0)

    def test_the_end_is_not_known_yet(self) -> None:
        """An hour becomes a row once there is a point after its start."""
        points = [self.world.point(n) for n in range(2 * STEPS + 1)]
        known = RecordedSums([], None, self.world.row(5, 1.0))
        hours = {BEGIN + hour * HOUR for hour in range(4)}
        filled = fill_counter(points, hours, known, resumed=False)
        assert [row.start for row in filled.rows] == [BEGIN, BEGIN + HOUR]

    def test_an_hour_without_points(self) -> None:
        """The energy of an hour without points is in the next hour."""
        points = [
            self.world.point(n)
            for n in range(4 * STEPS + 1)
            if not STEPS < n <= 2 * STEPS
        ]
        database = Database({BEGIN + 4 * HOUR: self.world.row(4, 4.8)})
        known = database.known(BEGIN, BEGIN + 4 * HOUR)
        hours = {BEGIN + hour * HOUR for hour in range(4)}
        filled = fill_counter(points, hours, known, resumed=False)
        sums = [round(row.sum, 6) for row in filled.rows]
        assert sums == [2.6, 2.6, 15.6, 18.2]


def test_an_offset_of_the_past() -> None:
    """Hours before a row have the offset of that row, not of the filter."""
    points = [
        FilteredValue(BEGIN + n * STEP, round(1000.0 + 0.1 * n, 6), None, 0.0)
        for n in range(3 * STEPS + 1)
    ]
    after = SumRow(
        BEGIN + 2 * HOUR, BEGIN + 3 * HOUR, points[-1].value + 7.0, 50.0, None
    )
    known = RecordedSums(rows=[], before=None, after=after)
    hours = {BEGIN, BEGIN + HOUR}
    filled = fill_counter(points, hours, known, offset=3.0, resumed=False)
    assert [row.state for row in filled.rows] == [1008.2, 1009.4]


def samples(
    raws: Iterable[float | None], begin: datetime = MORNING, *, gone: bool = False
) -> list[CounterSample]:
    """Return the samples of a counter every five minutes."""
    return [
        CounterSample(begin + n * timedelta(seconds=STEP), raw, CONTEXT, True, gone)
        for n, raw in enumerate(raws)
    ]


def values(points: Iterable[FilteredValue]) -> list[float]:
    """Return the shown values."""
    return [round(point.value, 6) for point in points]


class TestReplay:
    """Counter filters replay history, with knowledge of later readings."""

    def test_a_faultless_counter(self) -> None:
        """Faultless values are unchanged; a missing raw value is no point."""
        points = replay(
            CounterFilter(Period.LIFETIME), samples([100.0, 100.2, None, 100.2, 100.9])
        )
        assert values(points) == [100.0, 100.2, 100.2, 100.9]
        assert [(point.at - BEGIN) / STEP for point in points] == [0, 1, 3, 4]
        assert {point.start for point in points} == {None}

    def test_a_false_value(self) -> None:
        """A value that was held back and never confirmed is left out."""
        raws = [100.0, 100.2, 0.0, 0.0, 50_000.0, 100.4, 100.6]
        points = replay(CounterFilter(Period.LIFETIME), samples(raws))
        assert values(points) == [100.0, 100.2, 100.2, 100.2, 100.2, 100.4, 100.6]

    def test_false_rises_hours_apart(self) -> None:
        """Each false rise is removed separately; the hours between are kept."""
        true = [round(100.0 + 0.2 * n, 6) for n in range(80)]
        raws = [*true]
        for fault in (10, 65):
            raws[fault] = round(raws[fault] + 0.3, 6)
        points = replay(CounterFilter(Period.LIFETIME), samples(raws))
        for fault in (10, 65):
            true[fault] = true[fault - 1]
        assert values(points) == true

    def test_late_energy_at_the_end(self) -> None:
        """A plausible jump that is pending at the end of a window is counted."""
        fast = [100.0 + 0.75 * n for n in range(8)]
        slow = [round(fast[-1] + 0.01 * n, 6) for n in range(1, 9)]
        # A load between two readings, which no power shows.
        late = slow[-1] + 0.7
        powers = [9.0] * 8 + [0.12] * 10
        points = replay(
            CounterFilter(Period.LIFETIME),
            [
                replace(report, context=CONTEXT._replace(power=power))
                for report, power in zip(
                    samples([*fast, *slow, late, late]), powers, strict=True
                )
            ],
        )
        assert values(points) == [*fast, *slow, late, late]

    def test_a_replaced_device(self) -> None:
        """A level that is accepted later counts from its first reading on.

        The power determines the energy between the last reading of the old device and
        the first reading of the new device.
        """
        new = [round(0.1 * n, 6) for n in range(40)]
        points = replay(CounterFilter(Period.LIFETIME), samples([100.0, 100.2, *new]))
        # The energy between both readings follows from the power.
        level = 100.2 + INTERVAL
        assert values(points) == [100.0, 100.2, *(round(level + raw, 6) for raw in new)]
        assert {round(point.offset, 6) for point in points[2:]} == {level}

    def test_a_false_value_before_a_replaced_device(self) -> None:
        """Only readings that lead to the accepted level belong to it."""
        new = [round(1.0 + 0.1 * n, 6) for n in range(40)]
        raws = [100.0, 100.2, 7000.0, 7000.0, *new]
        points = values(replay(CounterFilter(Period.LIFETIME), samples(raws)))
        assert points[:4] == [100.0, 100.2, 100.2, 100.2]
        assert points[-1] - points[4] == pytest.approx(new[-1] - new[0])
        assert all(before <= after for before, after in pairwise(points))

    def test_a_replaced_device_with_falling_values(self) -> None:
        """Shown values do not fall, even if the new level does."""
        new = [round(0.1 * n - 0.04 * (n % 2), 6) for n in range(40)]
        new[3:5] = new[2], new[2] - 0.04
        shown = values(replay(CounterFilter(Period.LIFETIME), samples([100.0, *new])))
        assert all(before <= after for before, after in pairwise(shown))
        assert shown[-1] == pytest.approx(100.0 + INTERVAL + max(new))

    def test_midnight(self) -> None:
        """A day starts at the plant's midnight, for any time zone of the server."""
        evening = datetime(2026, 6, 20, 21, 50, tzinfo=UTC)
        points = replay(
            CounterFilter(Period.DAY),
            samples([30.0, 30.1, 30.1, 30.1, 0.0, 0.2], evening),
        )
        midnight = datetime(2026, 6, 20, 22, tzinfo=UTC).timestamp()
        assert values(points) == [30.0, 30.1, 0.0, 0.0, 0.0, 0.2]
        assert [point.start for point in points[2:]] == [midnight] * 4
        assert points[1].start == midnight - 86400

    def test_a_device_that_is_gone_over_midnight(self) -> None:
        """The day of a missing device starts at 0, and has no value."""
        evening = datetime(2026, 6, 20, 21, 50, tzinfo=UTC)
        counter = CounterFilter(Period.DAY)
        replay(counter, samples([30.0], evening - timedelta(minutes=5)))
        points = replay(counter, samples([30.5, 31.0, 31.0], evening, gone=True))
        assert values(points) == [30.0, 30.0, 0.0]

    @given(st.lists(st.integers(0, 40), min_size=2, max_size=80), st.integers(1, 70))
    @settings(deadline=None)
    def test_replayed_values_never_fall(self, counts: list[int], replaced: int) -> None:
        """Points never fall, and never rise by more than the energy."""
        raws = [round(500 + each / 100, 2) for each in accumulate(counts)]
        replaced = min(replaced, len(raws))
        base = raws[replaced - 1]
        reported = raws[:replaced] + [round(raw - base, 2) for raw in raws[replaced:]]
        shown = values(replay(CounterFilter(Period.LIFETIME), samples(reported)))
        assert all(before <= after for before, after in pairwise(shown))
        assert shown[-1] <= raws[-1] + INTERVAL + 1e-6

    def test_a_level_that_was_false(self) -> None:
        """The energy of a false level is removed once the true level returns."""
        new = [round(40.0 + 0.1 * n, 6) for n in range(12)]
        raws = [100.0, 100.2, 100.4, *new, 102.8, 103.0]
        points = replay(CounterFilter(Period.LIFETIME), samples(raws))
        assert values(points)[:3] == [100.0, 100.2, 100.4]
        assert set(values(points)[3:15]) == {100.4}
        assert values(points)[15:] == [102.8, 103.0]
        assert {point.offset for point in points} == {0.0}

    def test_pending_energy_at_the_end(self) -> None:
        """Energy that is pending at the end is counted if nothing contradicts it."""
        raws = [100.0, 100.2, 100.4, 100.6]
        outage = MORNING + timedelta(hours=6)
        later = samples([106.0, 106.0], outage)
        points = replay(CounterFilter(Period.LIFETIME), [*samples(raws), *later])
        assert values(points) == [*raws, 106.0, 106.0]


TRUE: Final = [round(6000.0 + 0.2 * n, 6) for n in range(40)]


class TestFirstLevel:
    """A history that starts during a fault."""

    @pytest.mark.parametrize(
        "fault",
        [
            [0.0] * 13,
            [5990.0] * 13,
            [round(300.0 + 0.1 * n, 6) for n in range(13)],
            [0.0, *[5990.0] * 12],
            [21474836.47] * 13,
            [9000.0],
            [0.0, 9000.0, 0.0, 0.0, 5990.0],
        ],
    )
    def test_faults(self, fault: list[float]) -> None:
        """The samples start with the level that lasts."""
        reported = samples([*fault, *TRUE])
        first = first_level(Period.LIFETIME, reported)
        points = replay(CounterFilter(Period.LIFETIME), reported[first:])
        assert values(points) == TRUE

    def test_a_level_that_does_not_rise_yet(self) -> None:
        """The longer of two levels is the true one."""
        reported = samples([0.0] * 12 + [6000.0] * 30)
        reported = [replace(each, live=n % 5 == 0) for n, each in enumerate(reported)]
        assert reported[first_level(Period.LIFETIME, reported)].raw == 6000.0
        reported = samples([6000.0] * 30 + [0.0] * 12)
        assert first_level(Period.LIFETIME, reported) == 0

    def test_a_small_value_of_a_day(self) -> None:
        """A jump that power may explain is far larger than later rises."""
        raws = [0.0] * 12 + [round(2.5 + 0.01 * n, 6) for n in range(30)]
        reported = samples(raws, MORNING + timedelta(hours=2))
        assert first_level(Period.DAY, reported) == 12

    def test_a_value_of_yesterday(self) -> None:
        """The day that starts over afterwards is not a new one."""
        raws = [40.0] * 8 + [round(3.0 + 0.2 * n, 6) for n in range(30)]
        assert first_level(Period.DAY, samples(raws)) == 8

    @pytest.mark.parametrize("raws", [[], [None], [0.0] * 30, [6000.0] * 30, TRUE])
    def test_no_fault(self, raws: list[float | None]) -> None:
        """Zeros are true if nothing else follows."""
        assert first_level(Period.LIFETIME, samples(raws)) == 0

    def test_a_device_that_is_replaced_later(self) -> None:
        """Both levels are true."""
        day = [round(6000.0 + 0.2 * n, 6) for n in range(100)]
        assert first_level(Period.LIFETIME, samples([*day, *TRUE])) == 0


FIFTEEN: Final = 15


def held_by_minute(samples: list[Sample]) -> dict[int, float]:
    """Return the known value of each minute."""
    held: dict[int, float] = {}
    for at, value in sorted(samples):
        begin = round((at - BEGIN) / MINUTE)
        for minute in range(begin, begin + FIFTEEN):
            held.pop(minute, None)
            if value is not None:
                held[minute] = value
        for minute in [later for later in held if later >= begin + FIFTEEN]:
            del held[minute]
    return held


def by_hour(samples: list[Sample]) -> dict[float, list[float]]:
    """Return the known values of each hour, one per minute."""
    hours: dict[float, list[float]] = defaultdict(list)
    for minute, value in held_by_minute(samples).items():
        hours[BEGIN + minute // 60 * HOUR].append(value)
    return hours


SAMPLES: Final = st.lists(
    st.tuples(st.integers(-30, 300), st.none() | st.floats(-400, 800)),
    unique_by=lambda sample: sample[0],
    max_size=40,
).map(
    lambda drawn: [(BEGIN + minute * MINUTE, value) for minute, value in sorted(drawn)]
)
HOURS: Final = [BEGIN + hour * HOUR for hour in range(6)]


@given(SAMPLES)
def test_means_by_minute(samples: list[Sample]) -> None:
    """Mean, minimum and maximum are by minute, without unknown minutes."""
    expected = by_hour(samples)
    means = fill_measurement(samples, HOURS, angle=False)
    assert [mean.start for mean in means] == [
        hour for hour in HOURS if hour in expected
    ]
    for mean in means:
        known = expected[mean.start]
        assert mean.mean == pytest.approx(math.fsum(known) / len(known), abs=1e-6)
        assert (mean.min, mean.max) == (min(known), max(known))
        assert mean.weight is None


@given(SAMPLES)
def test_angles_are_added_as_directions(samples: list[Sample]) -> None:
    """The mean of angles is the direction of their vector sum."""
    for mean in fill_measurement(samples, HOURS, angle=True):
        known = by_hour(samples)[mean.start]
        east = math.fsum(math.sin(math.radians(each)) for each in known)
        north = math.fsum(math.cos(math.radians(each)) for each in known)
        assert mean.weight == pytest.approx(MINUTE * math.hypot(east, north), abs=1e-6)
        # Opposite directions have no mean.
        away = math.radians(mean.mean) - math.atan2(east, north)
        assert math.hypot(east, north) * abs(math.sin(away / 2)) < 1e-6
        assert 0 <= mean.mean <= 360


class TestMeans:
    """Single cases with example figures."""

    @pytest.mark.parametrize(
        ("one", "other", "mean"),
        [(350, 10, 0), (90, 180, 135), (10, 350, 0), (270, 280, 275), (-90, 270, 270)],
    )
    def test_angles(self, one: float, other: float, mean: float) -> None:
        """North is between northwest and northeast."""
        minutes = range(0, 60, 5)
        samples: list[Sample] = [
            (BEGIN + minute * MINUTE, one if minute < 30 else other)
            for minute in minutes
        ]
        [row] = fill_measurement(samples, [BEGIN], angle=True)
        assert (row.mean + 180) % 360 - 180 == pytest.approx((mean + 180) % 360 - 180)
        assert (row.min, row.max) == (min(one, other), max(one, other))

    def test_a_value_holds_for_a_quarter_of_an_hour(self) -> None:
        """After that, a value that is not repeated is unknown."""
        samples: list[Sample] = [(BEGIN, 10.0), (BEGIN + 45 * MINUTE, 40.0)]
        [row] = fill_measurement(samples, [BEGIN, BEGIN + HOUR], angle=False)
        assert row.mean == pytest.approx(25.0)
        assert (row.min, row.max) == (10.0, 40.0)

    def test_a_value_from_the_hour_before(self) -> None:
        """A value of the hour before is used while it is valid."""
        samples: list[Sample] = [(BEGIN - 5 * MINUTE, 10.0), (BEGIN + 5 * MINUTE, 40.0)]
        [row] = fill_measurement(samples, [BEGIN], angle=False)
        assert row.mean == pytest.approx((5 * 10 + 15 * 40) / 20)

    def test_unknown_value_ends_a_value(self) -> None:
        """An unknown value ends the value before it."""
        samples: list[Sample] = [(BEGIN, 10.0), (BEGIN + 5 * MINUTE, None)]
        samples += [(BEGIN + 10 * MINUTE, 40.0), (BEGIN + 15 * MINUTE, None)]
        [row] = fill_measurement(samples, [BEGIN], angle=False)
        assert row.mean == pytest.approx(25.0)

    def test_no_known_values(self) -> None:
        """An hour without known values is no row."""
        assert fill_measurement([], HOURS, angle=False) == []
        assert fill_measurement([(BEGIN, None)], HOURS, angle=True) == []
