"""Hourly statistics of counters, from filtered values."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
import math
from typing import Final

from custom_components.smartpvms.counter_evidence import JITTER

from .rows import HOUR, FilteredValue, RecordedSums, SumRow

# Maximum age in seconds of the value that is shown at the end of an hour.
MAX_DELAY: Final = 900.0
# Tolerance for the comparison of sums, in the counter's unit.
TOLERANCE: Final = 0.0005


@dataclass(slots=True)
class FilledHours:
    """Rows to import, and the adjustment of later sums."""

    rows: list[SumRow] = field(default_factory=list)
    """Missing hours, and recorded hours between them with adjusted sums."""
    adjustment: float = 0.0
    """Amount to add to all sums from the row after the hours on."""


def fill_counter(
    values: Sequence[FilteredValue],
    hours: Collection[float],
    sums: RecordedSums,
    *,
    offset: float = 0.0,
    resumed: bool,
) -> FilledHours:
    """Return the rows of the missing hours of a counter.

    `values` begin at the first missing hour or before. `offset` is the present
    difference between the filtered and the raw value. `resumed` is whether the filter
    continued from the row before the hours. Earlier rows keep their sums. Later sums
    are raised if they do not include the missing hours yet.
    """
    if not values or not hours:
        return FilledHours()
    first = min(hours)
    rows = {row.start: row for row in sums.rows if row.start not in hours}
    previous = rows.pop(first - HOUR, None)
    cursor = _Cursor(values, offset)
    if resumed and previous is not None:
        cursor.start_at(previous)
    else:
        cursor.advance(first)
    after = sums.after
    is_far = after.start > max(hours) + HOUR and after.start >= values[-1].at
    blocks = _Blocks(
        cursor=cursor,
        sum=(sums.before or 0.0) if previous is None else previous.sum,
        is_resumed=resumed,
        # Without an earlier row, the sums include no energy from before the block.
        is_adjacent=resumed or (previous is None and sums.before is None),
        row_offset=None if resumed or is_far else cursor.offset_of(after),
    )
    for hour in sorted({*hours, *rows}):
        if hour in rows:
            blocks.add_recorded(rows[hour])
        else:
            blocks.add_missing(hour)
    if is_far:
        blocks.end_before_far(after)
    else:
        blocks.end_before(after)
    return blocks.filled


@dataclass(slots=True, kw_only=True)
class _Blocks:
    """Blocks of missing hours of a counter, between recorded rows."""

    cursor: _Cursor
    sum: float
    """Sum at the end of the last hour."""
    is_resumed: bool
    """Whether the value before the first missing hour is known."""
    is_adjacent: bool
    """Whether the block continues earlier rows, or begins the statistic."""
    row_offset: float | None
    """Offset of the rows, `None` if it is that of the values."""
    filled: FilledHours = field(default_factory=FilledHours)
    block: list[SumRow] = field(default_factory=list)
    """Missing hours with a value since the last recorded row."""
    has_missing: bool = False
    """Whether an hour is missing since the last recorded row."""
    first_sum: float = field(init=False)
    """Sum before the block."""

    def __post_init__(self) -> None:
        """Initialize the first block."""
        self.first_sum = self.sum

    def add_missing(self, hour: float) -> None:
        """Add a missing hour to the block, if it has a value."""
        self.has_missing = True
        self.sum += self.cursor.advance(hour + HOUR)
        if not self.cursor.has_reached(hour):
            return
        last = self.cursor.last
        state = last.value
        if self.row_offset is not None and last.start is None:
            state += self.row_offset - last.offset
        self.block.append(
            SumRow(
                start=hour,
                end=hour + HOUR,
                state=round(state, 6),
                sum=self.sum,
                reset=last.start,
            )
        )

    def add_recorded(self, row: SumRow) -> None:
        """End the block before a recorded row, and start another one after it."""
        self.end_before(row)
        self.sum = row.sum + self.filled.adjustment
        if self.filled.adjustment:
            self.filled.rows.append(replace(row, sum=self.sum))
        self.block = []
        self.has_missing = False
        self.is_adjacent = True
        self.first_sum = self.sum

    def end_before(self, row: SumRow) -> None:
        """Append the block before a row.

        Later sums are raised if the row's sum is too low to continue the missing
        hours. If it is too high and the block is not adjacent to earlier rows, the
        excess was counted before the block and raises it. Without a block, the row
        keeps its change, unless the value before the missing hours is known.
        """
        change = self.cursor.advance_to_row(row)
        if not self.block and not (self.is_resumed and self.has_missing):
            return
        excess = self._excess(row, change)
        if excess < -TOLERANCE:
            adjustment = self.filled.adjustment - excess
            # Rounding errors of floats must not make a sum fall.
            adjustment += 4 * math.ulp(
                max(abs(row.sum), abs(adjustment), abs(self.sum))
            )
            self.filled.adjustment = adjustment
        elif not self.is_adjacent:
            self._raise_block(excess)
        self.filled.rows += self.block

    def end_before_far(self, row: SumRow) -> None:
        """Append the block before a row that is far after it.

        If the row's sum includes the energy in between, it also includes the energy of
        the block. Otherwise later sums are raised by the latter.
        """
        last = self.cursor.last
        is_same = row.reset == last.start
        change = row.state - last.value if is_same else row.state
        excess = self._excess(row, change)
        if change >= 0 and excess >= -TOLERANCE:
            if is_same and not self.is_adjacent:
                self._raise_block(excess)
        else:
            self.filled.adjustment = max(
                self.filled.adjustment + (self.sum - self.first_sum),
                self.sum - row.sum,
            )
        self.filled.rows += self.block

    def _excess(self, row: SumRow, change: float) -> float:
        """Return the energy in a row's sum beyond the block and the change after it."""
        return row.sum + self.filled.adjustment - self.sum - change

    def _raise_block(self, energy: float) -> None:
        self.block = [replace(each, sum=each.sum + energy) for each in self.block]


class _Cursor:
    """Position in the filtered values of a counter."""

    def __init__(self, values: Sequence[FilteredValue], offset: float) -> None:
        """Initialize before the first value.

        `offset` is the present difference between the filtered and the raw value.
        """
        self._values = values
        self._offset = offset
        self._next = 0
        self.last = values[0]

    def start_at(self, row: SumRow) -> None:
        """Start at the state of a recorded row."""
        self.last = replace(self.last, at=-math.inf, value=row.state, start=row.reset)

    def advance(self, end: float) -> float:
        """Advance to a time, and return the energy on the way."""
        energy = 0.0
        while self._next < len(self._values) and self._values[self._next].at <= end:
            energy += self._move(self._values[self._next])
            self._next += 1
        return energy

    def advance_to_row(self, row: SumRow) -> float:
        """Advance to a recorded row, and return the energy on the way."""
        energy = 0.0
        state = row.state
        if row.reset is None:
            earlier = [each for each in self._values if each.at <= row.end]
            state -= self.offset_of(row)
            state += (earlier[-1] if earlier else self.last).offset
        elif row.reset != self.last.start:
            while (
                self._next < len(self._values)
                and self._values[self._next].at <= row.end
                and self._values[self._next].start != row.reset
            ):
                energy += self._move(self._values[self._next])
                self._next += 1
        energy += self._move(replace(self.last, value=state, start=row.reset))
        while self._next < len(self._values) and self._values[self._next].at <= row.end:
            self._next += 1
        return energy

    def has_reached(self, hour: float) -> bool:
        """Return whether a value was passed, and the last one is after the hour."""
        return self._next > 0 and self._values[-1].at > hour

    def offset_of(self, row: SumRow) -> float:
        """Return the difference between a lifetime counter's state and its raw value.

        It is 0 or the present offset if the raw values around the row fit. Otherwise it
        is an earlier offset, computed from the last raw value because it is not stored.
        """
        raws = [
            (each.at, each.value - each.offset)
            for each in self._values
            if each.at <= row.end
        ]
        if not raws or row.reset is not None:
            return 0.0
        at, last = raws[-1]
        earliest = at - MAX_DELAY
        first = next(
            (raw for reported_at, raw in raws if reported_at >= earliest), last
        )
        for candidate in (0.0, self._offset):
            if first - JITTER <= row.state - candidate <= last + JITTER:
                return candidate
        return row.state - last

    def _move(self, value: FilteredValue) -> float:
        """Move to a value, and return the energy since the last one."""
        last, self.last = self.last, value
        if value.start != last.start:
            return value.value
        return max(value.value - last.value, 0.0)
