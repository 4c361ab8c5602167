"""The past of devices: 5-minute rows become what live readings would have left."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
import math

from homeassistant.core import HomeAssistant

from .counter_evidence import JITTER, CounterEvidence, Level
from .counter_filter import CounterFilter, Period
from .descriptions import ItemSensorDescription
from .hours import (
    CounterSample,
    Filled,
    Known,
    Mean,
    Point,
    Row,
    Sample,
    ends_of_days,
    fill_counter,
    fill_measurement,
    first_level,
    replay,
)
from .models import Reading, zone_of
from .northbound import Device, HistoryRow, Plant, number
from .power_units import MeterPowers
from .recording import Lift, Recorded


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """A data item of a device, and the statistic that its values are recorded in."""

    statistic_id: str
    unique_id: str
    device: Device
    plant: Plant
    description: ItemSensorDescription

    @property
    def is_counter(self) -> bool:
        """Return whether the statistic is a sum."""
        return self.description.period is not None

    def has_value(self, hass: HomeAssistant) -> bool:
        """Return whether there is a value now, which will be recorded."""
        state = hass.states.get(self.statistic_id)
        return state is not None and number(state.state) is not None


type Wanted = Mapping[Series, frozenset[float]]
"""The hours that are missing of what is recorded, in epoch seconds."""


type LeftOut = dict[str, dict[float, float]]
"""What the counters of a day leave out at its end, by statistic and by hour."""


@dataclass(slots=True)
class Filling:
    """What to write into the statistics."""

    counters: list[tuple[Recorded, Filled]] = field(default_factory=list)
    measurements: list[tuple[Recorded, list[Mean]]] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=dict)

    @property
    def lifts(self) -> list[Lift]:
        """Return the changes of later sums that have to follow."""
        lifts = [recorded.lift(filled) for recorded, filled in self.counters]
        return [lift for lift in lifts if lift is not None]


@dataclass(frozen=True, slots=True)
class Sum:
    """A statistic that is made of others, hour by hour."""

    statistic_id: str
    period: Period
    zone: tzinfo
    gains: tuple[str, ...]
    losses: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    """The powers of inverters, in kW, whose negative part is lost as well."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the statistics that it is made of."""
        return self.gains + self.losses + self.taken


def fill_sum(
    made: Sum,
    recorded: Mapping[str, Recorded],
    hours: frozenset[float],
    left_out: LeftOut,
) -> Filled | None:
    """Return the missing hours of a sum that all of its parts have.

    `left_out` is to be added to what the parts have counted. `None` as long as the hour
    after the hours, or what is there of it, is not recorded of all.
    """
    whole = recorded[made.statistic_id]
    parts = [recorded[part] for part in made.gains + made.losses]
    rows = [
        {row.start: row for row in (*part.rows, part.after) if row is not None}
        for part in parts
    ]
    after = whole.after
    if after is None or not all(after.start in of_part for of_part in rows):
        return None
    common = sorted(set.intersection(*map(set, rows)))
    gains = rows[: len(made.gains)]
    signs = [1.0] * len(gains) + [-1.0] * len(made.losses)

    def total(sums: Iterable[float]) -> float:
        return math.fsum(sign * sum_ for sign, sum_ in zip(signs, sums, strict=True))

    def uncounted(hour: float) -> float:
        means = (recorded[power].means.get(hour, 0.0) for power in made.taken)
        taken = math.fsum(max(-mean, 0.0) for mean in means)
        if made.period is Period.DAY:
            # It leaves out what they do.
            return -taken
        ends = (left_out.get(part, {}) for part in made.gains + made.losses)
        return total(of_part.get(hour, 0.0) for of_part in ends) - taken

    points: list[Point] = []
    more = 0.0
    for start in common:
        more += uncounted(start)
        sum_ = total(of_part[start].sum for of_part in rows) + more
        # What a balance lacks for a moment is there again later.
        sum_ = max([sum_, *(point.value for point in points[-1:])])
        points.append(Point(rows[0][start].end, sum_, None, 0.0))
    last = points[common.index(after.start)]
    # What was shown last is what the parts have come to.
    points = [
        replace(point, value=after.state + point.value - last.value) for point in points
    ]
    if made.period is Period.DAY:
        points = [
            replace(
                point,
                value=math.fsum(of_part[start].state for of_part in gains),
                start=gains[0][start].reset,
            )
            for point, start in zip(points, common, strict=True)
        ]
    elif made.period is Period.MONTH:
        points = list(_by_month(points, common, after, made.zone))
    # Where the first of these hours began.
    earlier = [
        max((row for row in of_part.values() if row.start < common[0]), key=_start).sum
        if min(of_part) < common[0]
        else part.before or 0.0
        for part, of_part in zip(parts, rows, strict=True)
    ]
    counted = total(of_part[common[0]].sum for of_part in rows) - total(earlier)
    counted += uncounted(common[0])
    begun = replace(points[0], at=common[0], value=points[0].value - counted)
    points.insert(0, begun)
    return fill_counter(
        points,
        hours & frozenset(common),
        Known(whole.rows, whole.before, after, 0.0),
        resumed=False,
    )


def _start(row: Row) -> float:
    return row.start


def _by_month(
    points: Sequence[Point], starts: Sequence[float], after: Row, zone: tzinfo
) -> Iterator[Point]:
    """Return what was counted since the month began, or since the first hour of it."""
    begun: float | None = None
    base = 0.0
    last = points[0]
    for point, hour in zip(points, starts, strict=True):
        at = datetime.fromtimestamp(hour, UTC)
        start = (Period.MONTH.start(at, zone) or at).timestamp()
        if start != begun:
            base = 0.0 if start == after.reset else last.value
            begun = start
        yield replace(point, value=max(point.value - base, 0.0), start=start)
        last = point


def fill(
    wanted: Wanted,
    recorded: Mapping[str, Recorded],
    rows: Mapping[int, Sequence[HistoryRow]],
    offsets: Mapping[str, float],
    meters: Mapping[int, MeterPowers],
    *,
    resumes: bool,
) -> Filling:
    """Return the missing hours of devices.

    `offsets` are the present differences between filtered and raw values, `meters` the
    units of powers. `resumes` is whether the row before the hours
    is one that counters go on from.
    """
    filling = Filling()
    readings = {
        device_id: list(_readings(device_rows, meters.get(device_id)))
        for device_id, device_rows in _renamed(wanted, rows).items()
    }
    for series, hours in wanted.items():
        known = recorded[series.statistic_id]
        of_device = readings.get(series.device.id, [])
        period = series.description.period
        if period is None:
            means = _means(series.description, known, of_device, hours)
            if means:
                filling.measurements.append((known, means))
        elif known.after is not None:
            filled, left_out = _counted(
                series,
                period,
                known,
                of_device,
                hours,
                offsets[series.unique_id],
                resumes=resumes,
            )
            if filled.rows:
                filling.counters.append((known, filled))
            if left_out:
                filling.left_out[series.statistic_id] = left_out
    return filling


def _renamed(
    wanted: Wanted, rows: Mapping[int, Sequence[HistoryRow]]
) -> Mapping[int, Sequence[HistoryRow]]:
    """Return the rows with the keys that their items have in live readings."""
    renamed = dict(rows)
    for series in wanted:
        key, past_key = series.description.key, series.description.past_key
        if past_key is not None and series.device.id in rows:
            renamed[series.device.id] = [
                replace(row, items={**row.items, key: row.items.get(past_key)})
                for row in renamed[series.device.id]
            ]
    return renamed


def _readings(
    rows: Sequence[HistoryRow], meter: MeterPowers | None
) -> Iterator[Reading]:
    """Return rows as if they had been read when they were collected.

    What the first do not tell of their units, later ones do.
    """
    for row in rows:
        if meter is not None and meter.unsure:
            meter.in_watts(row.items)
    last: Reading | None = None
    for row in rows:
        items = row.items if meter is None else meter.in_watts(row.items)
        live = last is not None and items != last.items
        last = Reading(items, row.at, row.at, live)
        yield last


def _means(
    description: ItemSensorDescription,
    recorded: Recorded,
    readings: Sequence[Reading],
    hours: frozenset[float],
) -> list[Mean]:
    convert = recorded.converter(description.native_unit_of_measurement)
    samples: list[Sample] = []
    for reading in readings:
        value = description.value(reading)
        known = convert(value) if isinstance(value, float) else None
        samples.append((reading.received.timestamp(), known))
    return fill_measurement(samples, sorted(hours), angle=recorded.is_angle)


def _counted(
    series: Series,
    period: Period,
    recorded: Recorded,
    readings: Sequence[Reading],
    hours: frozenset[float],
    offset: float,
    *,
    resumes: bool,
) -> tuple[Filled, dict[float, float]]:
    """Return the missing hours of a counter, and what it leaves out of them."""
    description = series.description
    convert = recorded.converter(description.native_unit_of_measurement)
    one = convert(1.0)
    zone = zone_of(series.plant)
    samples = [
        CounterSample(
            at=reading.received,
            raw=number(reading.items.get(description.key)),
            place=description.place(series.plant, zone, reading.items),
            live=reading.live,
            disconnected=reading.disconnected,
        )
        for reading in readings
    ]
    first = min(hours)
    before = next((row for row in recorded.rows if row.end == first), None)
    counter = CounterFilter(period)
    if before is not None and resumes:
        begin = datetime.fromtimestamp(first, UTC)
        samples = [sample for sample in samples if sample.at >= begin]
        counter = _resumed(
            period, before, one, offset, samples[first_level(period, samples) :]
        )
    else:
        before = None
        samples = samples[first_level(period, samples) :]
    points = [
        replace(point, value=convert(point.value), offset=convert(point.offset))
        for point in replay(counter, samples)
    ]
    assert recorded.after is not None
    filled = fill_counter(
        points,
        hours,
        Known(recorded.rows, recorded.before, recorded.after, convert(offset)),
        resumed=before is not None,
    )
    left_out = {hour: energy for hour, energy in ends_of_days(points) if hour in hours}
    return filled, left_out


def _resumed(
    period: Period,
    row: Row,
    unit: float,
    offset: float,
    samples: Sequence[CounterSample],
) -> CounterFilter:
    """Return a filter that goes on from a row of the statistics."""
    value = row.state / unit
    at = datetime.fromtimestamp(row.start, UTC)
    first = next((each for each in samples if each.raw), None)
    added = 0.0
    if period is Period.LIFETIME and first is not None and first.raw is not None:
        # The row has the offset of its time, which may be the present one.
        rises = [
            (first.raw - value + candidate, candidate) for candidate in (0.0, offset)
        ]
        fitting = min((each for each in rises if each[0] >= -JITTER), default=None)
        added = fitting[1] if fitting else value - first.raw
    now = at.timestamp()
    power = first.place.power if first else None
    return CounterFilter(
        period=period,
        value=value,
        start=None if row.reset is None else datetime.fromtimestamp(row.reset, UTC),
        current=Level(value - added, value, now, now, 0.0, 0.0),
        read=at,
        evidence=CounterEvidence(seen=now, heard=now, power=power),
    )
