"""Import of the energies of plants from their hour reports.

One request reads a day of up to 100 plants, the newest day first.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime, time, timedelta, tzinfo
import math
from typing import Final

from custom_components.smartpvms.const import LOGGER
from custom_components.smartpvms.counter_filter import midnight_before
from custom_components.smartpvms.entity_registry import enabled_sensors
from custom_components.smartpvms.inventory_coordinator import InventoryCoordinator
from custom_components.smartpvms.models import Gap, Inventory, zone_of
from custom_components.smartpvms.northbound import (
    BATCH,
    HISTORY_REACH,
    InvalidCredentials,
    MalformedResponse,
    MembersRefused,
    NorthboundClient,
    NorthboundError,
    PermissionDenied,
    Plant,
    ReportItem,
    ReportPeriod,
    RequestRejected,
)
from custom_components.smartpvms.options import options_of
from custom_components.smartpvms.problems import HISTORY, Problems
from homeassistant.config_entries import ConfigEntry
from homeassistant.const import UnitOfEnergy
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.util import dt as dt_util

from .audit import Audit, Difference, agree_without, difference
from .device_history import MAX_RECORDING_DELAY, ImportBatch, has_value
from .jobs import NOT_ALLOWED_RETRY, Activity, Pause, PlannedHistory, full_hour
from .plant_hours import (
    Comparison,
    Energies,
    compare,
    counted_hours,
    divide,
    full_hours,
    has_earlier_rows,
    merged,
    replace_hours,
)
from .plant_spans import DAY, HOUR, PlantSpan, SpanDay, SpanKind, hour_from, midnight_of
from .recorder import Recorded, async_last_hours, async_read, async_settle
from .requests import MAX_RETRY, MIN_WAITING, RETRY

ENERGIES: Final[Mapping[str, ReportItem]] = {
    "pv_energy": ReportItem.PRODUCTION,
    "total_power": ReportItem.PRODUCTION,
    "home_energy": ReportItem.CONSUMPTION,
    "grid_import": ReportItem.IMPORT,
    "grid_export": ReportItem.EXPORT,
    "charged_energy": ReportItem.CHARGE,
    "discharged_energy": ReportItem.DISCHARGE,
}
"""Items of the reports, by key of the plant's energy."""

# Share of an energy that a report can have or lack: the documents do not say on which
# side of the inverters it counts the production.
LOSSES: Final[Mapping[str, float]] = {"pv_energy": 0.05}

# Time until the report of an hour is complete.
SETTLED: Final = timedelta(minutes=70)
# Time until the values of new entities are recorded.
RECORDED: Final = timedelta(minutes=10)
# Maximum wait for a report, and for devices that are not read after a gap.
MAX_DELAY: Final = timedelta(days=1)
MAX_OUTAGE: Final = timedelta(days=7)
# Longest gap before a plant that is added again.
MAX_GAP: Final = timedelta(days=31)
# Time before a lost state in which gaps and differences may not have been decided.
MAX_DECISION: Final = timedelta(days=2)
# Longest time before now that is compared with the reports.
MAX_AUDIT: Final = timedelta(days=31)
# Longest interval between two reports of a gap, and longest wait of a span.
MAX_RETRY_OF_GAP: Final = timedelta(hours=8)
MAX_WAIT: Final = timedelta(days=1)


class PlantImporter:
    """Imports the energies of an account's plants from their hour reports."""

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry,
        client: NorthboundClient,
        inventory: InventoryCoordinator,
        problems: Problems,
        is_complete: Callable[[str], bool],
        write: Callable[[ImportBatch], Awaitable[None]],
        on_request: CALLBACK_TYPE,
    ) -> None:
        """Initialize the importer.

        `is_complete` returns whether all energy of a plant is counted, `write` writes
        rows into the statistics, and `on_request` is called before each request.
        """
        self._hass = hass
        self._entry = entry
        self._client = client
        self._inventory = inventory
        self._problems = problems
        self._is_complete = is_complete
        self._write = write
        self._on_request = on_request
        self.spans: list[PlantSpan] = []
        self.planned: dict[str, PlannedHistory] = {}
        """Planned history, by plant code."""
        self.audit = Audit()
        self._batch_size = BATCH
        """Number of plants of the next request, fewer after a refusal."""
        self._failures = 0
        """Number of consecutive failed requests."""
        self.has_reports = True
        """Whether the account may read reports, as far as that was tried."""
        self._activity = Activity.RUNNING
        """The activity to show while all spans wait."""

    @property
    def days(self) -> float:
        """Return the planned days, added up over the plants."""
        if not self.has_reports:
            return 0.0
        return math.fsum(span.days for span in self.spans if span.is_import)

    @property
    def days_left(self) -> float:
        """Return the remaining days, added up over the plants."""
        if not self.has_reports:
            return 0.0
        return math.fsum(span.days_left for span in self.spans if span.is_import)

    @property
    def done_by(self) -> datetime | None:
        """Return when the past is filled at the calls that are allowed in a day.

        It is rounded up to hours, and `None` if no past is left.
        """
        past = [
            span
            for span in self.spans
            if span.kind is SpanKind.PAST and not span.is_done and self.has_reports
        ]
        days: dict[str, list[float]] = {}
        for span in past:
            days.setdefault(str(self._zone(span)), []).append(span.days_left)
        calls = sum(
            max(of_zone) * math.ceil(len(of_zone) / BATCH) for of_zone in days.values()
        )
        a_day = self._client.reports_a_day(ReportPeriod.HOUR)
        if not calls or a_day is None:
            return None
        return hour_from(dt_util.utcnow() + DAY * calls / a_day)

    @property
    def checked_until(self) -> datetime | None:
        """Return the time up to which the statistics of all plants are compared."""
        return min(self.audit.until.values(), default=None)

    def _zone(self, span: PlantSpan) -> tzinfo:
        return zone_of(self._inventory.data.plants[span.code])

    @callback
    def async_follow(self, gaps: Iterable[Gap]) -> bool:
        """Add spans for unplanned history and for gaps; return whether there are new.

        Follows new codes of plants, and drops plants that are withdrawn.
        """
        inventory, now = self._inventory.data, dt_util.utcnow()
        self._follow_plants(inventory)
        spans: list[PlantSpan] = []
        days = timedelta(days=options_of(self._entry).history)
        for code, plant in inventory.plants.items():
            if code not in self.planned:
                self.planned[code] = PlannedHistory(seen=now, start=full_hour(now))
                if days:
                    hour = full_hour(now)
                    span = PlantSpan.of(
                        code, hour, hour + HOUR, kind=SpanKind.GAP, first=hour
                    )
                    spans.append(span)
            planned = self.planned[code]
            start = _first_hour(plant, planned.seen - days)
            if days and start < planned.start:
                spans.append(PlantSpan.of(code, start, planned.start))
                planned.start = start
            if audit := self._next_audit(code, zone_of(plant), planned.seen):
                spans.append(audit)
        for gap in gaps:
            if (device := inventory.devices.get(gap.device_id)) is None:
                continue
            doubts = self.audit.doubts.setdefault(device.plant_code, [])
            doubts.append((gap.start, gap.end))
            if not gap.is_connected:
                start, end = full_hour(gap.start), hour_from(gap.end)
                spans.append(
                    PlantSpan.of(device.plant_code, start, end, kind=SpanKind.GAP)
                )
        self._add(spans)
        return bool(spans)

    def _follow_plants(self, inventory: Inventory) -> None:
        self.spans = [span for span in self.spans if span.code in inventory.plants]
        self.planned = {
            code: planned
            for code, planned in self.planned.items()
            if code in inventory.plants
        }
        self.audit.keep(inventory.plants)

    def _next_audit(self, code: str, zone: tzinfo, seen: datetime) -> PlantSpan | None:
        """Return the first day of a plant that is over and not compared yet.

        The day of the set-up is not compared.
        """
        latest = midnight_before(dt_util.utcnow() - SETTLED, zone)
        first = midnight_of(seen.astimezone(zone).date() + DAY, zone)
        if self.audit.until.get(code, latest) > latest:
            # The clock was ahead.
            self.audit.until[code] = latest
        start = max(self.audit.until.get(code, first), latest - MAX_AUDIT)
        is_planned = any(
            span.kind is SpanKind.AUDIT and span.code == code for span in self.spans
        )
        if is_planned or start >= latest:
            return None
        day = start.astimezone(zone).date()
        begin, end = midnight_of(day, zone), midnight_of(day + DAY, zone)
        return PlantSpan.of(code, hour_from(begin), hour_from(end), kind=SpanKind.AUDIT)

    @callback
    def async_use_reports(self, code: str) -> None:
        """Add spans for the days of a plant that the user lets the reports decide."""
        zone = zone_of(self._inventory.data.plants[code])
        for audited in self.audit.undecided(code):
            start = audited.start
            end = midnight_of(start.astimezone(zone).date() + DAY, zone)
            self._use_reports(
                code, hour_from(start), hour_from(end), audited.differences
            )

    def _use_reports(
        self, code: str, start: datetime, end: datetime, keys: Collection[str]
    ) -> None:
        """Add a span for the energies of some hours that the report decides."""
        span = PlantSpan.of(code, start, end, kind=SpanKind.REPAIR)
        span.decided = [
            statistic_id
            for statistic_id, key in self._keys(code).items()
            if key not in keys
        ]
        self.spans.append(span)

    @callback
    def async_request(
        self, codes: Iterable[str], start: datetime, end: datetime
    ) -> None:
        """Add spans for the missing hours of a period of some plants."""
        plants = self._inventory.data.plants
        self._add(
            PlantSpan.of(code, _first_hour(plants[code], start), full_hour(end))
            for code in codes
        )

    def _add(self, spans: Iterable[PlantSpan]) -> None:
        """Add spans, and join gaps of a plant."""
        for span in spans:
            if span.start >= span.end:
                continue
            for other in [*self.spans]:
                if (
                    span.kind is other.kind is SpanKind.GAP
                    and other.code == span.code
                    and not other.is_done
                    and other.start <= span.end
                    and span.start <= other.end
                ):
                    self.spans.remove(other)
                    span.join(other)
            self.spans.append(span)

    async def async_fill_next(self) -> Pause | None:
        """Fill the newest day of the spans, or return a pause if all have to wait."""
        now = dt_util.utcnow()
        for span in self.spans:
            # The clock may have been wrong: recorded hours do not end in the future.
            if span.kind is not SpanKind.PAST and span.end > now + MAX_RETRY:
                span.remaining_end = span.start
            span.planned = min(span.planned, now)
            if span.due is not None:
                span.due = min(span.due, now + MAX_WAIT)
        spans = [span for span in self.spans if not span.is_done]
        if not any(span.kind is SpanKind.PAST for span in spans):
            # The progress of the past includes its finished spans.
            self.spans = [*spans]
        if not spans:
            return None
        for span in spans:
            is_new = span.first is not None and span.continued is None
            if is_new and now >= span.planned + RECORDED:
                # The past is filled later, since its rows would count as earlier ones.
                await self._find_earlier_rows(span)
                return None
        refused = self._problems.refused_without(HISTORY)
        spans = [span for span in spans if span.code not in refused]
        wait = min((self._due(span) - now for span in spans), default=MAX_RETRY)
        if wait > timedelta():
            return Pause(min(wait, MAX_RETRY), self._activity)
        return await self._fill_newest(
            [each for each in spans if self._due(each) <= now]
        )

    async def _find_earlier_rows(self, span: PlantSpan) -> None:
        """Begin the gap of a plant that is added again with its last recorded hour.

        The statistics of the days before it are compared again, since the decisions on
        them may be lost.
        """
        assert span.first is not None
        targets = self._targets(span.code)
        ends = await async_last_hours(self._hass, targets, span.first)
        span.continued = [*ends]
        begin = max(ends.values(), default=span.first)
        span.start = min(max(begin, span.first - MAX_GAP), span.first)
        if ends:
            doubtful = midnight_before(span.start - MAX_DECISION, self._zone(span))
            self.audit.until.setdefault(span.code, doubtful)
            doubts = self.audit.doubts.setdefault(span.code, [])
            doubts.append((doubtful, span.first))

    def _due(self, span: PlantSpan) -> datetime:
        """Return the time from which the newest day of a span can be filled."""
        zone = self._zone(span)
        end = min(span.last, midnight_of(span.next_day(zone) + DAY, zone))
        return max(end + SETTLED, span.planned + RECORDED, span.due or end)

    async def _fill_newest(self, spans: Collection[PlantSpan]) -> Pause | None:
        """Fill the newest day of some spans, or return a pause."""
        newest = max(
            (span.next_day(zone := self._zone(span)), str(zone)) for span in spans
        )
        of_day = [
            SpanDay(span, newest[0], zone)
            for span in spans
            if (span.next_day(zone := self._zone(span)), str(zone)) == newest
        ]
        codes = [*dict.fromkeys(each.span.code for each in of_day)][: self._batch_size]
        days = [each for each in of_day if each.span.code in codes]
        days = [each for each in days if await self._is_needed(each)]
        if not days:
            return None
        if wait := timedelta(seconds=self._client.report_wait(ReportPeriod.HOUR)):
            return Pause(
                wait, Activity.RUNNING if wait < MIN_WAITING else Activity.WAITING
            )
        self._on_request()
        codes = [*dict.fromkeys(each.span.code for each in days)]
        at = datetime.combine(newest[0], time(12), days[0].zone)
        try:
            reports = await self._client.plant_reports(ReportPeriod.HOUR, codes, at)
        except NorthboundError as err:
            return self._pause_after(err, [each.span for each in days])
        self._failures, self.has_reports = 0, True
        self._activity = Activity.RUNNING
        self._batch_size = min(2 * self._batch_size, BATCH)
        for day in days:
            is_filled = False
            if day.span.code not in reports.refused:
                with self._problems.isolation:
                    rows = reports.rows.get(day.span.code, ())
                    await self._fill(day, full_hours(rows))
                    is_filled = True
            if not is_filled:
                day.span.due = dt_util.utcnow() + MAX_WAIT
        return None

    async def _is_needed(self, day: SpanDay) -> bool:
        """Return whether the report of a day is needed now."""
        span, now = day.span, dt_util.utcnow()
        recorded = await self._read(day)
        if recorded is None:
            span.due = now + RETRY
            return False
        if span.kind is SpanKind.PAST and day.is_recorded(recorded):
            span.remaining_end = day.midnight
            return False
        return True

    async def _read(self, day: SpanDay) -> dict[str, Recorded] | None:
        """Return the recorded rows around the hours of a day, `None` if some lack."""
        try:
            await async_settle(self._hass)
        except TimeoutError:
            return None
        span = day.span
        targets = self._targets(span.code)
        recorded = await async_read(self._hass, targets, day.start, day.end, day.end)
        recorded = {
            key: each for key, each in recorded.items() if each.sums is not None
        }
        waited = dt_util.utcnow() - span.planned
        missing = targets.keys() - recorded.keys()
        if waited < MAX_RECORDING_DELAY and any(
            has_value(self._hass, each) for each in missing
        ):
            return None
        # Nothing is recorded while the entities are unavailable.
        return None if targets and not recorded and waited < MAX_OUTAGE else recorded

    def _pause_after(
        self, err: NorthboundError, spans: Collection[PlantSpan]
    ) -> Pause | None:
        """Postpone spans after an error, and return the pause if all have to wait."""
        LOGGER.debug("Failed to read the reports of plants: %s", err)
        wait = MAX_RETRY
        match err:
            case MembersRefused():
                count = len({span.code for span in spans})
                self._batch_size = count // 2 or BATCH
                if count > 1:
                    return None
                wait = MAX_WAIT
            case RequestRejected() | MalformedResponse():
                pass
            case PermissionDenied():
                # The reports are optional, so this is no problem of the account.
                self.has_reports, self._activity = False, Activity.IDLE
                spans, wait = self.spans, NOT_ALLOWED_RETRY
            case _:
                self._failures += 1
                is_failed = isinstance(err, InvalidCredentials)
                self._activity = Activity.FAILED if is_failed else Activity.WAITING
                retry = min(RETRY * 2 ** min(self._failures - 1, 8), MAX_RETRY)
                spans = self.spans
                wait = max(retry, timedelta(seconds=err.retry_after or 0.0))
        for span in spans:
            span.due = dt_util.utcnow() + wait
        return None

    async def _fill(self, day: SpanDay, energies: Energies) -> None:
        """Add the energies of a day, and write complete hours."""
        span, hours, now = day.span, day.hours, dt_util.utcnow()
        energies = merged(span.energies, energies)
        if hours:
            recorded, targets = await self._read(day), self._targets(span.code)
            # An entity may be renamed at any time.
            if recorded is None or recorded.keys() - targets.keys():
                span.due = now + RETRY
                return
            is_late = not any(day.proof in each for each in energies.values())
            if is_late and now < day.end + MAX_DELAY:
                span.repeat(span.last, self._next_attempt(span))
                return
            if span.kind is SpanKind.AUDIT:
                self._compare(day, recorded, energies)
                return
            batch, is_undecided = ImportBatch(), False
            for statistic_id, of_statistic in recorded.items():
                known = energies.get(targets[statistic_id], {})
                known = {hour: known[hour] for hour in hours & known.keys()}
                if not span.is_gap:
                    known = _before_first_row(of_statistic, known)
                elif statistic_id in span.decided:
                    continue
                elif (of_gap := self._of_gap(span, of_statistic, hours, known)) is None:
                    is_undecided = True
                    continue
                else:
                    known = of_gap
                    span.decided.append(statistic_id)
                if known and of_statistic.sums is not None:
                    convert = of_statistic.converter(UnitOfEnergy.KILO_WATT_HOUR)
                    filled = replace_hours(
                        of_statistic.sums,
                        {hour: convert(energy) for hour, energy in known.items()},
                    )
                    batch.counters.append((of_statistic, filled))
            if batch.counters:
                await self._write(batch)
            if is_undecided:
                span.repeat(full_hour(now), self._next_attempt(span))
                return
            energies = {
                item: {at: energy for at, energy in of_item.items() if at < min(hours)}
                for item, of_item in energies.items()
            }
        span.energies = {item: of_item for item, of_item in energies.items() if of_item}
        span.remaining_end, span.due = day.midnight, None

    def _compare(
        self, day: SpanDay, recorded: Mapping[str, Recorded], energies: Energies
    ) -> None:
        """Compare what was counted on a day with the report.

        A difference is confirmed by the report of a later time, and after the gaps of
        the plant are filled.
        """
        span, hours, now = day.span, day.hours, dt_util.utcnow()
        next_midnight = midnight_of(day.day + DAY, day.zone)
        doubtful = hours & self.audit.doubtful_hours(span.code)
        differences: dict[str, Difference] = {}
        repaired: list[str] = []
        for statistic_id, key in self._keys(span.code).items():
            of_statistic, item = recorded.get(statistic_id), ENERGIES[key]
            if (
                item not in energies
                or of_statistic is None
                or of_statistic.sums is None
                or not has_earlier_rows(of_statistic.sums, min(hours))
            ):
                continue
            unit = of_statistic.converter(UnitOfEnergy.KILO_WATT_HOUR)(1.0)
            counted = counted_hours(of_statistic.sums, hours, unit)
            reported = {hour: energies[item].get(hour, 0.0) for hour in hours}
            losses = LOSSES.get(key, 0.0)
            if (found := difference(counted, reported, losses)) is None:
                continue
            differences[key] = found
            if found.is_possible and agree_without(doubtful, counted, reported, losses):
                repaired.append(key)
        has_gap = any(
            other.is_gap
            and other.code == span.code
            and not other.is_done
            and other.start < span.end
            and span.start < other.end
            for other in self.spans
        )
        if differences and (has_gap or now < day.end + MAX_DELAY):
            span.repeat(span.end, now + MAX_RETRY_OF_GAP)
            return
        if repaired:
            start = datetime.fromtimestamp(min(doubtful), UTC)
            end = datetime.fromtimestamp(max(doubtful), UTC) + HOUR
            self._use_reports(span.code, start, end, repaired)
            for key in repaired:
                del differences[key]
        self.audit.add(span.code, day.midnight, next_midnight, differences)
        span.remaining_end, span.due = day.midnight, None

    def _next_attempt(self, span: PlantSpan) -> datetime:
        """Return the time of the next attempt, which waits as long as all before."""
        now, decision = dt_util.utcnow(), span.planned + MAX_DELAY
        attempt = now + min(max(now - span.planned, HOUR), MAX_RETRY_OF_GAP)
        return decision if now < decision < attempt else attempt

    def _of_gap(
        self,
        span: PlantSpan,
        recorded: Recorded,
        hours: frozenset[float],
        reported: dict[float, float],
    ) -> dict[float, float] | None:
        """Return the energies to write into a gap, `None` if they are not sure yet.

        The energy that was counted is divided as in the report. If the report has more,
        the rest may be counted later, or is lost. If it has less, it is late or wrong.
        """
        if recorded.sums is None:
            return {}
        if span.kind is SpanKind.REPAIR:
            return {hour: reported.get(hour, 0.0) for hour in hours}
        unit = recorded.converter(UnitOfEnergy.KILO_WATT_HOUR)(1.0)
        lead = 0.0
        if span.first is not None and recorded.metadata["statistic_id"] not in (
            span.continued or ()
        ):
            first = span.first.timestamp()
            hours = frozenset(hour for hour in hours if hour >= first)
            lead = reported.get(first, 0.0)
        reported = {hour: reported.get(hour, 0.0) for hour in hours}
        counted = counted_hours(recorded.sums, hours, unit)
        end = span.end.timestamp()
        # The readings of the last hour may be late.
        later = [hour for hour in hours if end <= hour < max(hours)]
        agrees = bool(later) and (
            compare(_of(counted, later), _of(reported, later)) is Comparison.EQUAL
        )
        if agrees:
            # Nothing of the gap was counted later.
            own = [hour for hour in hours if hour < end]
            counted, reported = _of(counted, own), _of(reported, own)
        waited = dt_util.utcnow() - span.planned
        match compare(counted, reported, lead):
            case Comparison.EQUAL if lead:
                if math.fsum(reported.values()) < math.fsum(counted.values()):
                    return divide(counted, reported)
                return reported
            case Comparison.EQUAL:
                return divide(counted, reported)
            case _ if waited < MAX_DELAY:
                return None
            case Comparison.LESS:
                return {}
        if not self._is_complete(span.code):
            return None if waited < MAX_OUTAGE else {}
        # Otherwise, the report does not fit the hours after the gap, either.
        return reported if agrees else {}

    def _targets(self, code: str) -> dict[str, ReportItem]:
        """Return the items of a plant's energies, by statistic."""
        return {each: ENERGIES[key] for each, key in self._keys(code).items()}

    def _keys(self, code: str) -> dict[str, str]:
        """Return the keys of a plant's energies, by statistic."""
        entities = enabled_sensors(
            self._hass, self._entry.entry_id, self._inventory.data
        )
        return {
            entity.entity_id: key
            for (source_id, key), entity in entities.items()
            if source_id == code and key in ENERGIES
        }


def _before_first_row(
    recorded: Recorded, energies: Mapping[float, float]
) -> dict[float, float]:
    """Return the energies of hours before the first row of a statistic.

    Energy of other missing hours was counted in the hour after them.
    """
    if recorded.sums is None or not energies:
        return {}
    if has_earlier_rows(recorded.sums, min(energies)):
        return {}
    first = min((row.start for row in recorded.sums.rows), default=math.inf)
    return {hour: energy for hour, energy in energies.items() if hour < first}


def _of(energies: Mapping[float, float], hours: Iterable[float]) -> dict[float, float]:
    return {hour: energies[hour] for hour in hours}


def _first_hour(plant: Plant, start: datetime) -> datetime:
    """Return the first full hour from a time and the grid connection on.

    If the time of the grid connection is unknown, the reach of devices applies.
    """
    first = plant.grid_connection or dt_util.utcnow() - HISTORY_REACH
    return full_hour(max(start, first))
