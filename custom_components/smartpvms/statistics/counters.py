"""Hourly statistics of counters, from 5-minute history rows."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
import math
from typing import Final

from custom_components.smartpvms.counter_evidence import JITTER, CounterEvidence, Level
from custom_components.smartpvms.counter_filter import CounterFilter, Period, Verdict
from custom_components.smartpvms.plant.day_end import DayEndEstimate

from .rows import HOUR, CounterSample, Known, Point, Row

# Maximum age in seconds of the value that is shown at the end of an hour.
TOLD_LATE: Final = 900.0

# Tolerance for the comparison of sums, in the counter's unit.
AGREES: Final = 0.0005

# Longest false level at the start of a window whose values rise, such as those of
# another device.
LONGEST_FAULT: Final = timedelta(hours=6)
# Ratio of a jump to the largest rise after it above which the jump is no energy.
LARGEST_JUMP: Final = 3.0

_ACCEPTED: Final = (Verdict.COUNTED, Verdict.REPLACED)


@dataclass(slots=True)
class FilledHours:
    """Rows to import, and the adjustment of later sums."""

    rows: list[Row] = field(default_factory=list)
    """Missing hours, and recorded hours between them with adjusted sums."""
    adjustment: float = 0.0
    """Amount to add to all sums from the row after the hours on."""

    def append_near(
        self,
        block: Sequence[Row],
        row: Row,
        sum_: float,
        walk: _Walk,
        offset: float,
        *,
        adjacent: bool,
        known: bool = False,
    ) -> float:
        """Append the missing hours before a row, and return the row's adjusted sum.

        Later sums are raised if the row's sum is too low to continue the missing
        hours. If it is too high and the missing hours do not continue earlier rows
        (`adjacent` is false), the excess was counted before them and raises them.
        Without any of these hours, the row keeps its change, unless the value before
        them is `known`.
        """
        change = walk.to_row(row, offset)
        if not block and not known:
            return row.sum + self.adjustment
        excess = row.sum + self.adjustment - sum_ - change
        if excess < -AGREES:
            self.adjustment -= excess
            # Rounding errors of floats must not make a sum fall.
            self.adjustment += 4 * math.ulp(
                max(abs(row.sum), abs(self.adjustment), abs(sum_))
            )
        elif not adjacent:
            block = [replace(each, sum=each.sum + excess) for each in block]
        self.rows += block
        return row.sum + self.adjustment

    def append_far(
        self,
        block: Sequence[Row],
        row: Row,
        sum_: float,
        counted: float,
        at: Point,
        adjacent: bool,
    ) -> None:
        """Append the missing hours before a row that is far after them.

        If the row's sum includes the energy in between, it also includes the energy of
        the missing hours. Otherwise later sums are raised by the latter (`counted`).
        """
        change = row.state - at.value
        excess = row.sum + self.adjustment - sum_ - change
        if row.reset == at.start and change >= 0 and excess >= -AGREES:
            if not adjacent:
                block = [replace(each, sum=each.sum + excess) for each in block]
        else:
            self.adjustment = max(self.adjustment + counted, sum_ - row.sum)
        self.rows += block


def first_level(period: Period, samples: Sequence[CounterSample]) -> int:
    """Return the index of the first sample that is not a fault.

    The history may begin with zeros or with values of another day or device, which a
    new filter accepts. The first level is a fault if another one soon replaces it, or
    if its first rise is a jump. The energy between an earlier reading and the level
    after the fault is not in the samples.
    """
    counter = CounterFilter(period)
    begun: int | None = None
    last = since = 0
    pending: Level | None = None
    has_risen = False
    for index, sample in enumerate(samples):
        start, counted, reset_seen = counter.start, counter.counted, counter.reset_seen
        _take(counter, sample)
        if counter.counted is None or sample.raw is None:
            continue
        if begun is None or counted is None:
            begun = last = index
            continue
        if counter.start != start:
            break
        before, pending = pending, counter.pending
        if pending is not None:
            since = since if pending is before else index
            last = index
            continue
        since = since if before else index
        is_soon = samples[since].at - samples[begun].at <= LONGEST_FAULT
        if counter.reset_seen is not reset_seen:
            return 0 if has_risen else index
        is_replaced = counter.verdict == Verdict.REPLACED
        if is_replaced and (is_soon or not has_risen):
            return since
        if not has_risen and counter.counted > counted:
            if _is_jump(samples, since):
                return since
            has_risen = True
        if has_risen and not is_soon:
            return 0
        last = index
    if (
        pending
        and begun is not None
        and not has_risen
        and last - since >= since - begun
    ):
        # The level after the fault has not risen yet.
        return since
    return 0


def _is_jump(samples: Sequence[CounterSample], index: int) -> bool:
    """Return whether the rise to a sample is far larger than those in the next hour."""
    earlier = [each.raw for each in samples[:index] if each.raw is not None]
    hour = timedelta(hours=1)
    raws = [
        each.raw
        for each in samples[index:]
        if each.raw is not None and each.at <= samples[index].at + hour
    ]
    rises = [after - before for before, after in pairwise(raws)]
    return raws[0] - earlier[-1] > JITTER + LARGEST_JUMP * max(rises, default=0.0)


def _take(counter: CounterFilter, sample: CounterSample) -> None:
    if sample.disconnected:
        counter.pass_time(sample.at, sample.context.zone)
    elif sample.raw is not None:
        counter.update(sample.raw, sample.at, sample.context, live=sample.live)


def replay(counter: CounterFilter, samples: Iterable[CounterSample]) -> list[Point]:
    """Pass samples to a filter, and return its values.

    Energy that the filter holds back and counts later is added at the sample that
    reported it.
    """
    points: list[Point] = []
    held: list[tuple[int, float]] = []
    lowered: list[Point] = []
    for sample in samples:
        pending = counter.pending
        _take(counter, sample)
        if counter.value is None or (sample.raw is None and not sample.disconnected):
            continue
        point = Point(
            sample.at.timestamp(),
            counter.counted or 0.0,
            None if counter.start is None else counter.start.timestamp(),
            counter.offset,
            counter.reset_seen,
        )
        if counter.pending is not None and sample.raw is not None:
            if counter.pending is not pending:
                held = []
            held.append((len(points), sample.raw))
        elif counter.pending is None:
            verdict = counter.verdict
            if verdict == Verdict.RESTORED:
                lowered = _restore(points, point, lowered)
            elif lowered and point.value >= lowered[-1].value:
                # The level has risen beyond the lowered points: they stay lowered.
                lowered = []
            if verdict in _ACCEPTED:
                _correct(points, held, point)
            held = []
        points.append(point)
    pending = counter.pending
    if pending and pending.is_plausible:
        # No later sample contradicts the jump, so it counts as energy.
        last = points[-1]
        offset = counter.offset
        to = replace(last, value=round(pending.raw + offset, 6), offset=offset)
        _correct(points, held, to)
    return points


def _correct(points: list[Point], held: list[tuple[int, float]], to: Point) -> None:
    """Set held-back points to their raw values on the level that was accepted."""
    for index, raw in held:
        least = points[index - 1].value if index else 0.0
        value = min(max(raw + to.offset, least), to.value)
        if points[index].start == to.start:
            points[index] = replace(points[index], value=value, offset=to.offset)


def _restore(points: list[Point], to: Point, lowered: list[Point]) -> list[Point]:
    """Set the points of a false level to the value before it, and return the old ones.

    `lowered` are the old points of an earlier call. They are restored if their level
    follows again, which confirms it.
    """
    if lowered and to.start == lowered[-1].start and to.value >= lowered[-1].value:
        at = [point.at for point in points].index(lowered[0].at)
        last = lowered[-1]
        later = [
            replace(point, value=last.value, offset=last.offset)
            for point in points[at + len(lowered) :]
        ]
        points[at:] = [*lowered, *later]
        return []
    index = len(points)
    while index and points[index - 1].start == to.start:
        point = points[index - 1]
        if point.offset == to.offset and point.value <= to.value:
            break
        index -= 1
    before = points[index - 1] if index else to
    value = before.value if before.start == to.start else 0.0
    changed = points[index:]
    points[index:] = [
        replace(point, value=min(value, to.value), offset=to.offset)
        for point in changed
    ]
    return changed


def ends_of_days(points: Iterable[Point]) -> Iterator[tuple[float, float]]:
    """Yield the hour of the last reading of a day, and the energy up to midnight."""
    estimate: DayEndEstimate | None = None
    for point in points:
        reading = point.value, point.start, point.at, point.reset_seen
        if estimate is None:
            estimate = DayEndEstimate(*reading)
            continue
        last, (estimate, _, energy) = estimate, estimate.follow(*reading)
        if energy and last.read is not None:
            yield last.read // HOUR * HOUR, energy


def fill_counter(
    points: Sequence[Point],
    hours: Collection[float],
    known: Known,
    *,
    resumed: bool,
) -> FilledHours:
    """Return the rows of the missing hours of a counter.

    `points` begin at the first missing hour or before. `resumed` is whether the filter
    continued from the row before it. Earlier rows keep their sums. Later sums are
    lifted if they do not include the missing hours yet.
    """
    filled = FilledHours()
    if not points or not hours:
        return filled
    walk = _Walk(points)
    first = min(hours)
    rows = {row.start: row for row in known.rows if row.start not in hours}
    previous = rows.pop(first - HOUR, None)
    sum_ = known.before or 0.0
    if previous is not None:
        sum_ = previous.sum
    if resumed and previous is not None:
        walk.begin(previous.state, previous.reset)
    else:
        walk.to(first)
    # Without an earlier row, the sums include no energy from before the block.
    adjacent = resumed or (previous is None and known.before is None)
    after = known.after
    far = after.start > max(hours) + HOUR and after.start >= points[-1].at
    base = None if resumed or far else _offset_of(points, after, known.offset)
    block: list[Row] = []
    is_missing = False
    begin = sum_
    for hour in sorted({*hours, *rows}):
        if hour in rows:
            sum_ = filled.append_near(
                block,
                rows[hour],
                sum_,
                walk,
                known.offset,
                adjacent=adjacent,
                known=resumed and is_missing,
            )
            if filled.adjustment:
                filled.rows.append(replace(rows[hour], sum=sum_))
            block = []
            is_missing = False
            adjacent = True
            begin = sum_
        else:
            is_missing = True
            sum_ += walk.to(hour + HOUR)
            if walk.reached(hour):
                block.append(_row(hour, walk.at, sum_, base))
    if far:
        filled.append_far(block, after, sum_, sum_ - begin, walk.at, adjacent)
    else:
        filled.append_near(
            block,
            after,
            sum_,
            walk,
            known.offset,
            adjacent=adjacent,
            known=resumed and is_missing,
        )
    return filled


def _row(hour: float, at: Point, sum_: float, base: float | None) -> Row:
    state = at.value
    if base is not None and at.start is None:
        state += base - at.offset
    return Row(hour, hour + HOUR, round(state, 6), sum_, at.start)


def _offset_of(points: Sequence[Point], row: Row, offset: float) -> float:
    """Return the difference between a lifetime counter's state and its raw value.

    It is 0 or the present offset if the raw values around the row fit. Otherwise it is
    an earlier offset, computed from the last raw value because it is not stored.
    """
    raws = [
        (point.at, point.value - point.offset)
        for point in points
        if point.at <= row.end
    ]
    if not raws or row.reset is not None:
        return 0.0
    at, last = raws[-1]
    told = next((raw for when, raw in raws if when >= at - TOLD_LATE), last)
    for candidate in (0.0, offset):
        if told - JITTER <= row.state - candidate <= last + JITTER:
            return candidate
    return row.state - last


class _Walk:
    """Iterates over the points of a counter and adds up its energy."""

    def __init__(self, points: Sequence[Point]) -> None:
        self._points = points
        self._next = 0
        self.at = points[0]

    def begin(self, value: float, start: float | None) -> None:
        """Start at the state of a recorded row."""
        self.at = replace(self.at, at=-math.inf, value=value, start=start)

    def to(self, end: float) -> float:
        """Advance to a time, and return the energy on the way."""
        counted = 0.0
        while self._next < len(self._points) and self._points[self._next].at <= end:
            counted += self._step(self._points[self._next])
            self._next += 1
        return counted

    def to_row(self, row: Row, offset: float) -> float:
        """Advance to a recorded row, and return the energy on the way.

        `offset` is the present difference between the filtered and the raw value.
        """
        counted = 0.0
        state = row.state
        if row.reset is None:
            ahead = [point for point in self._points if point.at <= row.end]
            state -= _offset_of(self._points, row, offset)
            state += (ahead[-1] if ahead else self.at).offset
        elif row.reset != self.at.start:
            while (
                self._next < len(self._points)
                and self._points[self._next].at <= row.end
                and self._points[self._next].start != row.reset
            ):
                counted += self._step(self._points[self._next])
                self._next += 1
        counted += self._step(replace(self.at, value=state, start=row.reset))
        while self._next < len(self._points) and self._points[self._next].at <= row.end:
            self._next += 1
        return counted

    def reached(self, hour: float) -> bool:
        """Return whether a point was passed, and the last is after the hour's start."""
        last = self._points[-1].at
        return self._next > 0 and last > hour

    def _step(self, point: Point) -> float:
        was, self.at = self.at, point
        if point.start != was.start:
            return point.value
        return max(point.value - was.value, 0.0)


def resumed_filter(
    period: Period,
    row: Row,
    unit: float,
    offset: float,
    samples: Sequence[CounterSample],
) -> CounterFilter:
    """Return a filter that continues from a row of the statistics."""
    value = row.state / unit
    at = datetime.fromtimestamp(row.start, UTC)
    first = next((each for each in samples if each.raw), None)
    added = 0.0
    if period is Period.LIFETIME and first is not None and first.raw is not None:
        # The offset of the row is 0, the present one or an earlier one.
        rises = [
            (first.raw - value + candidate, candidate) for candidate in (0.0, offset)
        ]
        fitting = min((each for each in rises if each[0] >= -JITTER), default=None)
        added = fitting[1] if fitting else value - first.raw
    now = at.timestamp()
    power = first.context.power if first else None
    return CounterFilter(
        period=period,
        value=value,
        start=None if row.reset is None else datetime.fromtimestamp(row.reset, UTC),
        current=Level(value - added, value, now, now, 0.0, 0.0),
        read=at,
        evidence=CounterEvidence(last_reading=now, last_row=now, power=power),
    )
