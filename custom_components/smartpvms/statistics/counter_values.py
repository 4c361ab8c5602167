"""Filtered values of counters, from 5-minute history rows."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from custom_components.smartpvms.counter_evidence import JITTER, CounterEvidence, Level
from custom_components.smartpvms.counter_filter import CounterFilter, Period, Verdict

from .rows import CounterSample, FilteredValue, SumRow

# Maximum time of a false level at the start of a window whose values rise, such as
# those of another device.
MAX_FAULT: Final = timedelta(hours=6)
# Maximum ratio of a jump to the largest rise after it; larger jumps are no energy.
MAX_JUMP_RATIO: Final = 3.0

_ACCEPTED: Final = (Verdict.COUNTED, Verdict.REPLACED)


@dataclass(frozen=True, slots=True)
class _Step:
    """Effect of a sample on the filter of its counter."""

    index: int
    pending: Level | None
    is_reset: bool
    is_rise: bool
    is_replaced: bool
    """Whether a pending level replaced the current one."""


def first_level(period: Period, samples: Sequence[CounterSample]) -> int:
    """Return the index of the first sample that is not a fault.

    The history may begin with zeros or with values of another day or device, which a
    new filter accepts. The first level is a fault if another one soon replaces it, or
    if its first rise is a jump. The energy between an earlier reading and the level
    after the fault is not in the samples.
    """
    steps = _first_period(period, samples)
    if (first := next(steps, None)) is None:
        return 0
    last = since = first.index
    pending: Level | None = None
    has_risen = False
    for step in steps:
        before, pending = pending, step.pending
        last = step.index
        if pending is None:
            since = since if before else last
        else:
            since = since if pending is before else last
            continue
        is_soon = samples[since].at - samples[first.index].at <= MAX_FAULT
        if step.is_reset:
            return 0 if has_risen else last
        if step.is_replaced and (is_soon or not has_risen):
            return since
        if not has_risen and step.is_rise:
            if _is_jump(samples, since):
                return since
            has_risen = True
        if has_risen and not is_soon:
            return 0
    if pending and not has_risen and last - since >= since - first.index:
        # The level after the fault has not risen yet.
        return since
    return 0


def _first_period(period: Period, samples: Iterable[CounterSample]) -> Iterator[_Step]:
    """Yield the effects of the samples from the first value on, up to a new period."""
    counter = CounterFilter(period)
    for index, sample in enumerate(samples):
        start, counted, reset_seen = counter.start, counter.counted, counter.reset_seen
        _update(counter, sample)
        if counter.counted is None or sample.raw is None:
            continue
        if counted is not None and counter.start != start:
            break
        yield _Step(
            index=index,
            pending=counter.pending,
            is_reset=counter.reset_seen is not reset_seen,
            is_rise=counted is not None and counter.counted > counted,
            is_replaced=counter.verdict == Verdict.REPLACED,
        )


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
    return raws[0] - earlier[-1] > JITTER + MAX_JUMP_RATIO * max(rises, default=0.0)


def _update(counter: CounterFilter, sample: CounterSample) -> None:
    if sample.disconnected:
        counter.pass_time(sample.at, sample.context.zone)
    elif sample.raw is not None:
        counter.update(sample.raw, sample.at, sample.context, live=sample.live)


def resumed_filter(
    period: Period,
    row: SumRow,
    unit: float,
    offset: float,
    samples: Sequence[CounterSample],
) -> CounterFilter:
    """Return a filter that continues from a row of the statistics.

    `unit` is one unit of the counter in the unit of the row. `offset` is the present
    difference between the filtered and the raw value.
    """
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
        start=None if row.reset is None else datetime.fromtimestamp(row.reset, UTC),
        current=Level(value - added, now, now, 0.0, 0.0, offset=added),
        read=at,
        evidence=CounterEvidence(last_reading=now, last_row=now, power=power),
    )


def replay(
    counter: CounterFilter, samples: Iterable[CounterSample]
) -> list[FilteredValue]:
    """Pass samples to a filter, and return its values.

    Energy that the filter holds back and counts later is added at the sample that
    reported it.
    """
    values: list[FilteredValue] = []
    held_back: list[tuple[int, float]] = []
    lowered: list[FilteredValue] = []
    for sample in samples:
        pending = counter.pending
        _update(counter, sample)
        if counter.value is None or (sample.raw is None and not sample.disconnected):
            continue
        value = _filtered_value(counter, sample)
        if counter.pending is not None and sample.raw is not None:
            if counter.pending is not pending:
                held_back = []
            held_back.append((len(values), sample.raw))
        elif counter.pending is None:
            if counter.verdict == Verdict.RESTORED:
                lowered = _restore(values, value, lowered)
            elif lowered and value.value >= lowered[-1].value:
                # The level has risen beyond the lowered values: they stay lowered.
                lowered = []
            if counter.verdict in _ACCEPTED:
                _correct(values, held_back, value)
            held_back = []
        values.append(value)
    pending = counter.pending
    if pending and pending.is_plausible:
        # No later sample contradicts the jump, so it counts as energy.
        last = values[-1]
        offset = counter.offset
        to = replace(last, value=round(pending.raw + offset, 6), offset=offset)
        _correct(values, held_back, to)
    return values


def _filtered_value(counter: CounterFilter, sample: CounterSample) -> FilteredValue:
    return FilteredValue(
        at=sample.at.timestamp(),
        value=counter.counted or 0.0,
        start=None if counter.start is None else counter.start.timestamp(),
        offset=counter.offset,
    )


def _correct(
    values: list[FilteredValue], held_back: list[tuple[int, float]], to: FilteredValue
) -> None:
    """Set held-back values to their raw values on the level that was accepted.

    `held_back` are the indices of the values, and the raw values.
    """
    for index, raw in held_back:
        least = values[index - 1].value if index else 0.0
        value = min(max(raw + to.offset, least), to.value)
        if values[index].start == to.start:
            values[index] = replace(values[index], value=value, offset=to.offset)


def _restore(
    values: list[FilteredValue], to: FilteredValue, lowered: list[FilteredValue]
) -> list[FilteredValue]:
    """Set the values of a false level to the value before it, and return the old ones.

    `lowered` are the old values of an earlier call. They are restored if their level
    follows again, which confirms it.
    """
    if lowered and to.start == lowered[-1].start and to.value >= lowered[-1].value:
        at = [each.at for each in values].index(lowered[0].at)
        last = lowered[-1]
        later = [
            replace(each, value=last.value, offset=last.offset)
            for each in values[at + len(lowered) :]
        ]
        values[at:] = [*lowered, *later]
        return []
    index = len(values)
    while index and values[index - 1].start == to.start:
        previous = values[index - 1]
        if previous.offset == to.offset and previous.value <= to.value:
            break
        index -= 1
    before = values[index - 1] if index else to
    value = before.value if before.start == to.start else 0.0
    changed = values[index:]
    values[index:] = [
        replace(each, value=min(value, to.value), offset=to.offset) for each in changed
    ]
    return changed
