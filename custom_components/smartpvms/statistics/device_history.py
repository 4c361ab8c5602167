"""Statistics of devices, from their 5-minute history."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from custom_components.smartpvms.counter_filter import CounterFilter, Period
from custom_components.smartpvms.descriptions import ItemSensorDescription
from custom_components.smartpvms.models import Reading, zone_of
from custom_components.smartpvms.northbound import Device, HistoryRow, Plant, number
from custom_components.smartpvms.power_units import MeterPowers
from homeassistant.core import HomeAssistant

from .counters import (
    FilledHours,
    ends_of_days,
    fill_counter,
    first_level,
    replay,
    resumed_filter,
)
from .measurements import fill_measurement
from .recorder import Recorded, SumAdjustment
from .rows import CounterSample, Known, Mean, Sample


@dataclass(frozen=True, slots=True, eq=False)
class ImportTarget:
    """Data item of a device, and the statistic that records its values."""

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
        """Return whether the entity has a numeric state, which will be recorded."""
        state = hass.states.get(self.statistic_id)
        return state is not None and number(state.state) is not None


type Wanted = Mapping[ImportTarget, frozenset[float]]
"""Hours to fill of each data item, in epoch seconds."""


type LeftOut = dict[str, dict[float, float]]
"""Energy that counters of a day lack at its end, by statistic and by hour."""


@dataclass(slots=True)
class ImportBatch:
    """Rows to import into the statistics."""

    counters: list[tuple[Recorded, FilledHours]] = field(default_factory=list)
    measurements: list[tuple[Recorded, list[Mean]]] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=dict)

    @property
    def adjustments(self) -> list[SumAdjustment]:
        """Return the adjustments of later sums that follow the import."""
        adjustments = [
            recorded.adjustment(filled) for recorded, filled in self.counters
        ]
        return [adjustment for adjustment in adjustments if adjustment is not None]


def fill(
    wanted: Wanted,
    recorded: Mapping[str, Recorded],
    rows: Mapping[int, Sequence[HistoryRow]],
    offsets: Mapping[str, float],
    meters: Mapping[int, MeterPowers],
    *,
    resumes: bool,
) -> ImportBatch:
    """Return the missing hours of devices.

    `offsets` are the present differences between filtered and raw values, `meters` the
    units of powers. `resumes` is whether counters continue from the row before the
    hours.
    """
    filling = ImportBatch()
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
    """Return the rows with items also under their keys of live readings."""
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
    """Yield rows as readings at the times of their collection.

    All rows are evaluated first, since the unit of a power may follow from later ones.
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
    series: ImportTarget,
    period: Period,
    recorded: Recorded,
    readings: Sequence[Reading],
    hours: frozenset[float],
    offset: float,
    *,
    resumes: bool,
) -> tuple[FilledHours, dict[float, float]]:
    """Return the missing hours of a counter, and the energy it lacks in them."""
    description = series.description
    convert = recorded.converter(description.native_unit_of_measurement)
    one = convert(1.0)
    zone = zone_of(series.plant)
    samples = [
        CounterSample(
            at=reading.received,
            raw=number(reading.items.get(description.key)),
            context=description.context(series.plant, zone, reading.items),
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
        counter = resumed_filter(
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
