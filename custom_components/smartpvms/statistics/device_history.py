"""Statistics of devices, from their 5-minute history."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from custom_components.smartpvms.counter_filter import CounterFilter
from custom_components.smartpvms.descriptions import ItemSensorDescription, sensors
from custom_components.smartpvms.entity_registry import enabled_sensors
from custom_components.smartpvms.models import Inventory, Reading, zone_of
from custom_components.smartpvms.northbound import Device, HistoryRow, Plant, number
from custom_components.smartpvms.power_units import MeterPowers
from homeassistant.core import HomeAssistant, callback
from homeassistant.util import dt as dt_util

from .counter_values import first_level, replay, resumed_filter
from .counters import FilledHours, fill_counter
from .measurements import fill_measurement
from .recorder import Recorded, SumAdjustment
from .rows import CounterSample, MeanRow, Sample

# Maximum time until a value is recorded for the first time.
MAX_RECORDING_DELAY: Final = timedelta(hours=1)

type DeviceRows = Mapping[int, Sequence[HistoryRow]]
"""5-minute rows of the history, by device."""


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


def has_value(hass: HomeAssistant, entity_id: str) -> bool:
    """Return whether an entity has a numeric state, which will be recorded."""
    state = hass.states.get(entity_id)
    return state is not None and number(state.state) is not None


type MissingHours = Mapping[ImportTarget, frozenset[float]]
"""Hours to fill of each data item, in epoch seconds."""


@callback
def import_targets(
    hass: HomeAssistant,
    entry_id: str,
    inventory: Inventory,
    devices: Iterable[Device],
) -> list[ImportTarget]:
    """Return the data items of devices with statistics and enabled entities."""
    by_id = {device.id: device for device in devices}
    targets = []
    for (source_id, key), entity in enabled_sensors(hass, entry_id, inventory).items():
        if not isinstance(source_id, int) or source_id not in by_id:
            continue
        device = by_id[source_id]
        description = sensors(device.type_id).get(key)
        if description and description.state_class:
            targets.append(
                ImportTarget(
                    statistic_id=entity.entity_id,
                    unique_id=entity.unique_id,
                    device=device,
                    plant=inventory.plants[device.plant_code],
                    description=description,
                )
            )
    return targets


@dataclass(slots=True)
class ImportBatch:
    """Rows to import into the statistics."""

    counters: list[tuple[Recorded, FilledHours]] = field(default_factory=list)
    measurements: list[tuple[Recorded, list[MeanRow]]] = field(default_factory=list)

    @property
    def adjustments(self) -> list[SumAdjustment]:
        """Return the adjustments of later sums that follow the import."""
        adjustments = [
            recorded.adjustment(filled) for recorded, filled in self.counters
        ]
        return [adjustment for adjustment in adjustments if adjustment is not None]


def fill_devices(
    missing: MissingHours,
    recorded: Mapping[str, Recorded],
    rows: DeviceRows,
    offsets: Mapping[str, float],
    meters: Mapping[int, MeterPowers],
    *,
    can_resume: bool,
) -> ImportBatch:
    """Return the missing hours of devices.

    `offsets` are the present differences between filtered and raw values, by unique id.
    `meters` are the units of powers. `can_resume` is whether counters can continue from
    the row before the hours.
    """
    batch = ImportBatch()
    readings = {
        device_id: list(_readings(device_rows, meters.get(device_id)))
        for device_id, device_rows in _with_live_keys(missing, rows).items()
    }
    for target, hours in missing.items():
        of_target = recorded[target.statistic_id]
        of_device = readings.get(target.device.id, [])
        if not target.is_counter:
            means = _fill_measurement(target.description, of_target, of_device, hours)
            if means:
                batch.measurements.append((of_target, means))
            continue
        filled = _fill_counter(
            target,
            of_target,
            _counter_samples(target, of_device),
            hours,
            offsets[target.unique_id],
            can_resume=can_resume,
        )
        if filled.rows:
            batch.counters.append((of_target, filled))
    return batch


def _with_live_keys(targets: Iterable[ImportTarget], rows: DeviceRows) -> DeviceRows:
    """Return the rows with items also under their keys of live readings."""
    renamed = dict(rows)
    for target in targets:
        device_id = target.device.id
        key, past_key = target.description.key, target.description.past_key
        if past_key is not None and device_id in rows:
            renamed[device_id] = [
                replace(row, items={**row.items, key: row.items.get(past_key)})
                for row in renamed[device_id]
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
        last = Reading(items=items, received=row.at, server_time=row.at, live=live)
        yield last


def _fill_measurement(
    description: ItemSensorDescription,
    recorded: Recorded,
    readings: Iterable[Reading],
    hours: frozenset[float],
) -> list[MeanRow]:
    convert = recorded.converter(description.native_unit_of_measurement)
    samples: list[Sample] = []
    for reading in readings:
        value = description.value(reading)
        converted = convert(value) if isinstance(value, float) else None
        samples.append((reading.received.timestamp(), converted))
    return fill_measurement(samples, sorted(hours), angle=recorded.is_angle)


def _counter_samples(
    target: ImportTarget, readings: Iterable[Reading]
) -> list[CounterSample]:
    description = target.description
    zone = zone_of(target.plant)
    return [
        CounterSample(
            at=reading.received,
            raw=number(reading.items.get(description.key)),
            context=description.context(target.plant, zone, reading.items),
            live=reading.live,
            disconnected=reading.disconnected,
        )
        for reading in readings
    ]


def _fill_counter(
    target: ImportTarget,
    recorded: Recorded,
    samples: Sequence[CounterSample],
    hours: frozenset[float],
    offset: float,
    *,
    can_resume: bool,
) -> FilledHours:
    period, sums = target.description.period, recorded.sums
    if period is None or sums is None:
        return FilledHours()
    convert = recorded.converter(target.description.native_unit_of_measurement)
    first = min(hours)
    previous = None
    if can_resume:
        previous = next((row for row in sums.rows if row.end == first), None)
    if previous is not None:
        begin = dt_util.utc_from_timestamp(first)
        samples = [sample for sample in samples if sample.at >= begin]
    valid = samples[first_level(period, samples) :]
    if previous is not None:
        counter = resumed_filter(period, previous, convert(1.0), offset, valid)
    else:
        counter = CounterFilter(period)
        samples = valid
    values = [
        replace(each, value=convert(each.value), offset=convert(each.offset))
        for each in replay(counter, samples)
    ]
    return fill_counter(
        values, hours, sums, offset=convert(offset), resumed=previous is not None
    )
