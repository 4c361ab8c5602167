"""Long-term statistics of the recorder: reading and importing rows."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

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
from homeassistant.const import ATTR_UNIT_OF_MEASUREMENT
from homeassistant.core import HomeAssistant, callback
from homeassistant.util.unit_conversion import EnergyConverter

from .counters import FilledHours
from .rows import Mean, Row

# Longest wait in seconds for the recorder to finish its queue.
PATIENCE: Final = 20.0

_HOUR: Final = timedelta(hours=1)
_SHORT: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Recorded:
    """Recorded rows of a statistic around some hours, in the recorded unit."""

    metadata: StatisticMetaData
    hours: frozenset[float]
    """Hours that are recorded, in epoch seconds."""
    means: Mapping[float, float]
    """Means of these hours, for measurements."""
    rows: list[Row]
    before: float | None
    after: Row | None

    @property
    def is_angle(self) -> bool:
        """Return whether its means are means of angles."""
        return self.metadata["mean_type"] is StatisticMeanType.CIRCULAR

    @property
    def goes_on(self) -> bool:
        """Return whether the row after the hours is of an hour that is not over yet."""
        after = self.after
        return after is not None and after.end - after.start < _HOUR.total_seconds()

    def adjustment(self, filled: FilledHours) -> SumAdjustment | None:
        """Return the adjustment of later sums that follows an import."""
        if self.after is None or not filled.adjustment:
            return None
        last = filled.rows[-1]
        return SumAdjustment(
            statistic_id=self.metadata["statistic_id"],
            start=self.after.start,
            short=self.goes_on,
            sum=self.after.sum,
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


async def async_settle(hass: HomeAssistant, patience: float | None = PATIENCE) -> None:
    """Wait until the recorder has finished its queue.

    Raises `TimeoutError` if the recorder is busy, such as with a purge, or has stopped.
    """
    recorder = get_instance(hass)
    if not recorder.is_alive():
        raise TimeoutError
    async with asyncio.timeout(patience):
        await recorder.async_block_till_done()


async def async_last_value(
    hass: HomeAssistant, entity_id: str, unit: str | None
) -> float | None:
    """Return the highest of a counter's last state and last statistics."""
    if DOMAIN not in hass.config.components:
        return None
    try:
        return await get_instance(hass).async_add_executor_job(
            _last_value, hass, entity_id, unit
        )
    except (RuntimeError, SQLAlchemyError) as err:
        # The recorder has stopped, or its database fails.
        LOGGER.warning("Reading recorded energies failed: %s", type(err).__name__)
        return None


def _last_value(hass: HomeAssistant, entity_id: str, unit: str | None) -> float | None:
    recorded: list[tuple[str | None, float | None]] = [
        (state.attributes.get(ATTR_UNIT_OF_MEASUREMENT), number(state.state))
        for state in get_last_state_changes(hass, 1, entity_id).get(entity_id, ())
    ]
    found = get_metadata(hass, statistic_ids={entity_id})
    for last in (get_last_statistics, get_last_short_term_statistics):
        recorded += [
            (found[entity_id][1]["unit_of_measurement"], row.get("state"))
            for row in last(hass, 1, entity_id, False, {"state"}).get(entity_id, ())
        ]
    return max(
        (
            EnergyConverter.convert(value, recorded_unit, unit)
            for recorded_unit, value in recorded
            if value is not None and recorded_unit in EnergyConverter.VALID_UNITS
        ),
        default=None,
    )


async def async_read(
    hass: HomeAssistant,
    statistic_ids: Collection[str],
    start: datetime,
    end: datetime,
    until: datetime,
) -> dict[str, Recorded]:
    """Return the recorded rows around some hours, by statistic that exists.

    Of 5-minute rows after the hours, only those from `until` on are valid.
    """
    return await get_instance(hass).async_add_executor_job(
        _read, hass, set(statistic_ids), start, end, until
    )


def _read(
    hass: HomeAssistant,
    statistic_ids: set[str],
    start: datetime,
    end: datetime,
    until: datetime,
) -> dict[str, Recorded]:
    metadata = {
        statistic_id: metadata
        for statistic_id, (_, metadata) in get_metadata(
            hass, statistic_ids=statistic_ids
        ).items()
    }
    rows = _rows(hass, metadata, start - _HOUR, end + _HOUR)
    last = end.timestamp()
    counters = {
        statistic_id: each
        for statistic_id, each in metadata.items()
        if each["has_sum"]
        and not any(row["start"] >= last for row in rows.get(statistic_id, ()))
    }
    later = _rows(hass, counters, end + _HOUR, None)
    missing = {key: each for key, each in counters.items() if key not in later}
    short = _rows(hass, missing, until, None, _SHORT)
    recorded: dict[str, Recorded] = {}
    for statistic_id, each in metadata.items():
        hourly = [*rows.get(statistic_id, ()), *later.get(statistic_id, ())[:1]]
        sums = [row for row in hourly if row.get("sum") is not None]
        after = next((row for row in sums if row["start"] >= last), None)
        before: float | None = None
        if sums:
            before = (sums[0]["sum"] or 0.0) - (sums[0].get("change") or 0.0)
        elif each["has_sum"]:
            kept = get_last_statistics(hass, 1, statistic_id, False, {"sum"})
            before = next((row.get("sum") for row in kept.get(statistic_id, ())), None)
        recorded[statistic_id] = Recorded(
            metadata=each,
            hours=frozenset(
                row["start"]
                for row in hourly
                if row.get("sum") is not None or row.get("mean") is not None
            ),
            means={
                row["start"]: mean
                for row in hourly
                if (mean := row.get("mean")) is not None
            },
            rows=[_row(row, _HOUR) for row in sums if row["start"] < last],
            before=before or None,
            after=_row(after, _HOUR)
            if after
            else next((_row(row, _SHORT) for row in short.get(statistic_id, ())), None),
        )
    return recorded


def _rows(
    hass: HomeAssistant,
    metadata: Mapping[str, StatisticMetaData],
    start: datetime,
    end: datetime | None,
    period: timedelta = _HOUR,
) -> dict[str, list[StatisticsRow]]:
    """Return rows in their recorded units."""
    alike: defaultdict[tuple[str | None, str | None], set[str]] = defaultdict(set)
    for statistic_id, each in metadata.items():
        unit = each["unit_of_measurement"]
        alike[each["unit_class"], unit].add(statistic_id)
    rows: dict[str, list[StatisticsRow]] = {}
    for (unit_class, unit), statistic_ids in alike.items():
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


def _row(row: StatisticsRow, length: timedelta) -> Row:
    return Row(
        row["start"],
        row["start"] + length.total_seconds(),
        row.get("state") or 0.0,
        row.get("sum") or 0.0,
        row.get("last_reset"),
    )


@callback
def async_import(
    hass: HomeAssistant,
    counters: Iterable[tuple[Recorded, FilledHours]],
    measurements: Iterable[tuple[Recorded, Iterable[Mean]]],
    adjustments: Iterable[SumAdjustment],
) -> None:
    """Import missing hours, and then adjust later sums."""
    for recorded, filled in counters:
        rows = [
            StatisticData(
                start=_moment(row.start),
                state=row.state,
                sum=row.sum,
                last_reset=None if row.reset is None else _moment(row.reset),
            )
            for row in filled.rows
        ]
        async_import_statistics(hass, recorded.metadata, rows)
    for recorded, means in measurements:
        async_import_statistics(
            hass, recorded.metadata, [_mean(each) for each in means]
        )
    for adjustment in adjustments:
        _adjust(hass, adjustment)


def _mean(mean: Mean) -> StatisticData:
    at = _moment(mean.start)
    if mean.weight is not None:
        # Angles have no minimum and no maximum.
        return StatisticData(start=at, mean=mean.mean, mean_weight=mean.weight)
    return StatisticData(start=at, mean=mean.mean, min=mean.min, max=mean.max)


def _adjust(hass: HomeAssistant, adjustment: SumAdjustment) -> None:
    get_instance(hass).async_adjust_statistics(
        adjustment.statistic_id,
        _moment(adjustment.start),
        adjustment.by,
        adjustment.unit,
    )


async def async_complete(
    hass: HomeAssistant, adjustments: Collection[SumAdjustment]
) -> None:
    """Make the stored adjustments that did not follow their import yet."""
    for adjustment in adjustments:
        await async_settle(hass, patience=None)
        if await get_instance(hass).async_add_executor_job(_is_due, hass, adjustment):
            _adjust(hass, adjustment)


def _is_due(hass: HomeAssistant, adjustment: SumAdjustment) -> bool:
    """Return whether the hours are imported, and later sums are not adjusted yet."""
    found = get_metadata(hass, statistic_ids={adjustment.statistic_id})
    metadata = {statistic_id: each for statistic_id, (_, each) in found.items()}
    length = _SHORT if adjustment.short else _HOUR
    for epoch, period, sum_ in (
        (adjustment.start, length, adjustment.sum),
        (adjustment.imported, _HOUR, adjustment.imported_sum),
    ):
        at = _moment(epoch)
        rows = _rows(hass, metadata, at, at + period, period)
        if [row["sum"] for row in rows.get(adjustment.statistic_id, ())] != [sum_]:
            return False
    return True


def _moment(epoch: float) -> datetime:
    return datetime.fromtimestamp(epoch, UTC)
