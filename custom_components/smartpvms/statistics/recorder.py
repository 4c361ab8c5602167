"""Long-term statistics of the recorder: reading and importing rows."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from custom_components.smartpvms.const import LOGGER
from custom_components.smartpvms.northbound import number
from homeassistant.components.recorder import DOMAIN, get_instance
from homeassistant.components.recorder.history import get_last_state_changes
from homeassistant.components.recorder.models import (
    StatisticData,
    StatisticMeanType,
    StatisticMetaData,
)
from homeassistant.components.recorder.statistics import (
    UNIT_CLASS_TO_UNIT_CONVERTER,
    StatisticsRow,
    async_import_statistics,
    get_last_short_term_statistics,
    get_last_statistics,
    get_metadata,
    statistics_during_period,
)
from homeassistant.components.sensor import ATTR_LAST_RESET
from homeassistant.const import ATTR_UNIT_OF_MEASUREMENT
from homeassistant.core import HomeAssistant, callback
from homeassistant.util import dt as dt_util
from homeassistant.util.unit_conversion import EnergyConverter

from .counters import FilledHours
from .rows import MeanRow, RecordedSums, SumRow

# Maximum wait in seconds for the recorder to finish its queue.
MAX_WAIT: Final = 20.0

_HOUR: Final = timedelta(hours=1)
_SHORT: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Recorded:
    """Recorded rows of a statistic around some hours, in the recorded unit."""

    metadata: StatisticMetaData
    hours: frozenset[float]
    """Hours that are recorded, in epoch seconds."""
    sums: RecordedSums | None
    """Rows of a counter, `None` unless there is a row after the hours."""

    @property
    def is_angle(self) -> bool:
        """Return whether its means are means of angles."""
        return self.metadata["mean_type"] is StatisticMeanType.CIRCULAR

    @property
    def has_unfinished_hour(self) -> bool:
        """Return whether the row after the hours is of an hour that is not over yet."""
        return self.sums is not None and _is_short(self.sums.after)

    def adjustment(self, filled: FilledHours) -> SumAdjustment | None:
        """Return the adjustment of later sums that follows an import."""
        if self.sums is None or not filled.adjustment:
            return None
        after, last = self.sums.after, filled.rows[-1]
        return SumAdjustment(
            statistic_id=self.metadata["statistic_id"],
            start=after.start,
            short=_is_short(after),
            sum=after.sum,
            by=filled.adjustment,
            unit=self.metadata["unit_of_measurement"] or "",
            imported=last.start,
            imported_sum=last.sum,
        )

    def converter(self, unit: str | None) -> Callable[[float], float]:
        """Return the conversion of values from a unit to the recorded unit."""
        recorded = self.metadata["unit_of_measurement"]
        converter = UNIT_CLASS_TO_UNIT_CONVERTER.get(self.metadata["unit_class"])
        if converter is None or unit == recorded:
            return lambda value: value
        return converter.converter_factory(unit, recorded)


def _is_short(row: SumRow) -> bool:
    """Return whether a row is a 5-minute row."""
    return row.end - row.start < _HOUR.total_seconds()


@dataclass(frozen=True, slots=True)
class SumAdjustment:
    """Adjustment of all sums from a row on, which follows an import.

    It is stored until it is made, since Home Assistant may stop between the two.
    """

    statistic_id: str
    start: float
    short: bool
    """Whether the row is a 5-minute row."""
    sum: float
    """Sum of the row before the adjustment."""
    by: float
    unit: str
    imported: float
    """Last hour that was imported before the adjustment."""
    imported_sum: float


async def async_settle(hass: HomeAssistant, max_wait: float | None = MAX_WAIT) -> None:
    """Wait until the recorder has finished its queue.

    Raises `TimeoutError` if the recorder is busy, such as with a purge, or has stopped.
    """
    recorder = get_instance(hass)
    if not recorder.is_alive():
        raise TimeoutError
    async with asyncio.timeout(max_wait):
        await recorder.async_block_till_done()


@dataclass(frozen=True, slots=True)
class LastValue:
    """A recorded value of an energy."""

    value: float
    start: datetime | None
    """Start of its period; `None` for a total."""


async def async_last_values(
    hass: HomeAssistant, entity_id: str, unit: str | None
) -> list[LastValue]:
    """Return the values of an energy in its last state and its last statistics."""
    if DOMAIN not in hass.config.components:
        return []
    try:
        return await get_instance(hass).async_add_executor_job(
            _last_values, hass, entity_id, unit
        )
    except (RuntimeError, SQLAlchemyError) as err:
        # The recorder has stopped, or its database fails.
        LOGGER.warning(
            "Failed to read the last recorded energies: %s", type(err).__name__
        )
        return []


def _last_values(
    hass: HomeAssistant, entity_id: str, unit: str | None
) -> list[LastValue]:
    recorded: list[tuple[str | None, float | None, datetime | None]] = [
        (
            state.attributes.get(ATTR_UNIT_OF_MEASUREMENT),
            number(state.state),
            dt_util.parse_datetime(str(state.attributes.get(ATTR_LAST_RESET))),
        )
        for state in get_last_state_changes(hass, 1, entity_id).get(entity_id, ())
    ]
    found = get_metadata(hass, statistic_ids={entity_id})
    types: set[Any] = {"state", "last_reset"}
    for last in (get_last_statistics, get_last_short_term_statistics):
        recorded += [
            (
                found[entity_id][1]["unit_of_measurement"],
                row.get("state"),
                dt_util.utc_from_timestamp(reset)
                if (reset := row.get("last_reset"))
                else None,
            )
            for row in last(hass, 1, entity_id, False, types).get(entity_id, ())
        ]
    return [
        LastValue(EnergyConverter.convert(value, recorded_unit, unit), start)
        for recorded_unit, value, start in recorded
        if value is not None and recorded_unit in EnergyConverter.VALID_UNITS
    ]


async def async_last_hours(
    hass: HomeAssistant, statistic_ids: Collection[str], before: datetime
) -> dict[str, datetime]:
    """Return the end of the last hour before a time, by statistic that has one."""
    return await get_instance(hass).async_add_executor_job(
        _last_hours, hass, statistic_ids, before
    )


def _last_hours(
    hass: HomeAssistant, statistic_ids: Collection[str], before: datetime
) -> dict[str, datetime]:
    later = max(dt_util.utcnow() - before, timedelta()) // _HOUR + 2
    hours: dict[str, datetime] = {}
    for statistic_id in statistic_ids:
        rows = get_last_statistics(hass, later, statistic_id, False, {"sum"})
        starts = [row["start"] for row in rows.get(statistic_id, ())]
        if earlier := [each for each in starts if each < before.timestamp()]:
            hours[statistic_id] = dt_util.utc_from_timestamp(max(earlier)) + _HOUR
    return hours


async def async_read(
    hass: HomeAssistant,
    statistic_ids: Collection[str],
    start: datetime,
    end: datetime,
    exact_end: datetime,
) -> dict[str, Recorded]:
    """Return the recorded rows around some hours, by statistic that exists.

    Of 5-minute rows after the hours, only those from `exact_end` on are valid.
    """
    return await get_instance(hass).async_add_executor_job(
        _read, hass, set(statistic_ids), start, end, exact_end
    )


def _read(
    hass: HomeAssistant,
    statistic_ids: set[str],
    start: datetime,
    end: datetime,
    exact_end: datetime,
) -> dict[str, Recorded]:
    metadata = _metadata(hass, statistic_ids)
    hourly = _rows(hass, metadata, start - _HOUR, end + _HOUR)
    last = end.timestamp()

    def without_later_rows() -> dict[str, StatisticMetaData]:
        return {
            statistic_id: each
            for statistic_id, each in metadata.items()
            if each["has_sum"]
            and not any(row["start"] >= last for row in hourly.get(statistic_id, ()))
        }

    later = _rows(hass, without_later_rows(), end + _HOUR, None)
    for statistic_id, rows in later.items():
        hourly.setdefault(statistic_id, []).append(rows[0])
    short = _rows(hass, without_later_rows(), exact_end, None, _SHORT)
    recorded: dict[str, Recorded] = {}
    for statistic_id, each in metadata.items():
        rows = hourly.get(statistic_id, [])
        recorded[statistic_id] = Recorded(
            metadata=each,
            hours=frozenset(
                row["start"]
                for row in rows
                if row.get("sum") is not None or row.get("mean") is not None
            ),
            sums=_sums(hass, each, rows, short.get(statistic_id, []), last),
        )
    return recorded | _with_sums_of_zero(hass, recorded, start)


def _with_sums_of_zero(
    hass: HomeAssistant, recorded: Mapping[str, Recorded], start: datetime
) -> dict[str, Recorded]:
    """Return the statistics whose sum was 0 in all rows before a time."""
    unknown = {
        statistic_id
        for statistic_id, each in recorded.items()
        if each.sums is not None
        and each.sums.before is None
        and not any(row.start < start.timestamp() for row in each.sums.rows)
    }
    begin = dt_util.utc_from_timestamp(0)
    earlier = statistics_during_period(
        hass, begin, start, unknown, "hour", None, {"sum"}
    )
    return {
        statistic_id: replace(each, sums=replace(each.sums, before=0.0))
        for statistic_id, each in recorded.items()
        if statistic_id in earlier and each.sums is not None
    }


def _sums(
    hass: HomeAssistant,
    metadata: StatisticMetaData,
    hourly: Iterable[StatisticsRow],
    short: Iterable[StatisticsRow],
    end: float,
) -> RecordedSums | None:
    """Return the recorded sums, unless there is no row after the hours."""
    sums = [row for row in hourly if row.get("sum") is not None]
    rows = [_row(row, _HOUR) for row in sums]
    after = next((row for row in rows if row.start >= end), None)
    if after is None:
        after = next((_row(row, _SHORT) for row in short), None)
    if after is None:
        return None
    before: float | None = None
    if sums:
        before = (sums[0]["sum"] or 0.0) - (sums[0].get("change") or 0.0)
    elif metadata["has_sum"]:
        statistic_id = metadata["statistic_id"]
        last = get_last_statistics(hass, 1, statistic_id, False, {"sum"})
        before = next((row.get("sum") for row in last.get(statistic_id, ())), None)
    return RecordedSums(
        rows=[row for row in rows if row.start < end],
        before=before or None,
        after=after,
    )


def _metadata(
    hass: HomeAssistant, statistic_ids: set[str]
) -> dict[str, StatisticMetaData]:
    found = get_metadata(hass, statistic_ids=statistic_ids)
    return {statistic_id: metadata for statistic_id, (_, metadata) in found.items()}


def _rows(
    hass: HomeAssistant,
    metadata: Mapping[str, StatisticMetaData],
    start: datetime,
    end: datetime | None,
    period: timedelta = _HOUR,
) -> dict[str, list[StatisticsRow]]:
    """Return rows in their recorded units."""
    by_unit: defaultdict[tuple[str | None, str | None], set[str]] = defaultdict(set)
    for statistic_id, each in metadata.items():
        unit = each["unit_of_measurement"]
        by_unit[each["unit_class"], unit].add(statistic_id)
    rows: dict[str, list[StatisticsRow]] = {}
    for (unit_class, unit), statistic_ids in by_unit.items():
        rows |= statistics_during_period(
            hass,
            start,
            end,
            statistic_ids,
            "5minute" if period == _SHORT else "hour",
            {unit_class: unit} if unit_class and unit else None,
            {"change", "last_reset", "mean", "state", "sum"},
        )
    return rows


def _row(row: StatisticsRow, length: timedelta) -> SumRow:
    return SumRow(
        start=row["start"],
        end=row["start"] + length.total_seconds(),
        state=row.get("state") or 0.0,
        sum=row.get("sum") or 0.0,
        reset=row.get("last_reset"),
    )


@callback
def async_import(
    hass: HomeAssistant,
    counters: Iterable[tuple[Recorded, FilledHours]],
    measurements: Iterable[tuple[Recorded, Iterable[MeanRow]]],
    adjustments: Iterable[SumAdjustment],
) -> None:
    """Import missing hours, and then adjust later sums."""
    for recorded, filled in counters:
        sums = [_sum_data(row) for row in filled.rows]
        async_import_statistics(hass, recorded.metadata, sums)
    for recorded, rows in measurements:
        means = [_mean_data(row) for row in rows]
        async_import_statistics(hass, recorded.metadata, means)
    for adjustment in adjustments:
        _adjust(hass, adjustment)


def _sum_data(row: SumRow) -> StatisticData:
    reset = None if row.reset is None else dt_util.utc_from_timestamp(row.reset)
    return StatisticData(
        start=dt_util.utc_from_timestamp(row.start),
        state=row.state,
        sum=row.sum,
        last_reset=reset,
    )


def _mean_data(row: MeanRow) -> StatisticData:
    start = dt_util.utc_from_timestamp(row.start)
    if row.weight is not None:
        # Angles have no minimum and no maximum.
        return StatisticData(start=start, mean=row.mean, mean_weight=row.weight)
    return StatisticData(start=start, mean=row.mean, min=row.min, max=row.max)


def _adjust(hass: HomeAssistant, adjustment: SumAdjustment) -> None:
    get_instance(hass).async_adjust_statistics(
        adjustment.statistic_id,
        dt_util.utc_from_timestamp(adjustment.start),
        adjustment.by,
        adjustment.unit,
    )


async def async_complete(
    hass: HomeAssistant, adjustments: Collection[SumAdjustment]
) -> None:
    """Make the stored adjustments that did not follow their import yet."""
    for adjustment in adjustments:
        await async_settle(hass, max_wait=None)
        if await get_instance(hass).async_add_executor_job(_is_due, hass, adjustment):
            _adjust(hass, adjustment)


def _is_due(hass: HomeAssistant, adjustment: SumAdjustment) -> bool:
    """Return whether the hours are imported, and later sums are not adjusted yet."""
    metadata = _metadata(hass, {adjustment.statistic_id})
    length = _SHORT if adjustment.short else _HOUR
    for epoch, period, sum_ in (
        (adjustment.start, length, adjustment.sum),
        (adjustment.imported, _HOUR, adjustment.imported_sum),
    ):
        at = dt_util.utc_from_timestamp(epoch)
        rows = _rows(hass, metadata, at, at + period, period)
        if [row["sum"] for row in rows.get(adjustment.statistic_id, ())] != [sum_]:
            return False
    return True
