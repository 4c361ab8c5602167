"""Import of the history of devices from the server into long-term statistics.

A `Job` is a period to fill for some devices. Jobs are done window by window, the newest
first. Each call reads as many devices and as long a span as the server allows, and
less urgent jobs leave a reserve of calls for urgent ones. A window is written once its
answers are complete. Recorded hours are not imported again, except within gaps.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import batched, groupby
from operator import attrgetter
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from custom_components.smartpvms.const import DOMAIN, LOGGER
from custom_components.smartpvms.coordinator import RealTimeCoordinator
from custom_components.smartpvms.descriptions import sensors
from custom_components.smartpvms.inventory_coordinator import InventoryCoordinator
from custom_components.smartpvms.models import Inventory
from custom_components.smartpvms.northbound import (
    HISTORY_BATCH,
    HISTORY_REACH,
    HISTORY_SPAN,
    HISTORY_TYPES,
    UNKNOWN_DEVICE,
    Device,
    FailCode,
    HistoryRow,
    InvalidCredentials,
    MalformedResponse,
    NorthboundClient,
    NorthboundError,
    PermissionDenied,
    RequestRejected,
)
from custom_components.smartpvms.options import options_of
from custom_components.smartpvms.problems import HISTORY, Problems
from custom_components.smartpvms.storage import decode_parts, encode
from homeassistant.components.recorder import DOMAIN as RECORDER_DOMAIN
from homeassistant.config_entries import ConfigEntry
from homeassistant.const import Platform
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.event import async_call_later
from homeassistant.helpers.storage import Store
from homeassistant.util import dt as dt_util

from .derived import derived_statistics, fill_derived
from .device_history import ImportBatch, ImportTarget, LeftOut, Wanted, fill
from .jobs import (
    LOOK_AHEAD,
    Activity,
    Job,
    JobQueue,
    Pause,
    Plan,
    Planned,
    Priority,
    full_hour,
)
from .recorder import (
    Recorded,
    SumAdjustment,
    async_complete,
    async_import,
    async_read,
    async_settle,
)
from .rows import HOUR as _HOUR

STORE_VERSION: Final = 1
SAVE_DELAY: Final = 1

# Time for the server to collect an hour, and for the recorder to compile it.
SETTLED: Final = timedelta(minutes=10)
# Longest time until a value is recorded for the first time.
FIRST_RECORDED: Final = timedelta(hours=1)
RETRY: Final = timedelta(minutes=5)
LONGEST_RETRY: Final = timedelta(hours=1)
# Interval between two calls for a history that is not allowed yet.
NOT_ALLOWED_RETRY: Final = timedelta(hours=4)
# Longest wait for pending levels of counters after a gap.
LONGEST_DOUBT: Final = timedelta(days=1)
# Number of consecutive refusals after which a batch is set aside.
REFUSALS_BELIEVED: Final = 3
# Shorter waits do not change the activity to waiting.
SHORT: Final = timedelta(minutes=2)


@dataclass(slots=True)
class StoredHistory:
    """The state of the import that survives a restart."""

    jobs: list[Job] = field(default_factory=list)
    planned: dict[int, Planned] = field(default_factory=dict)
    adjustments: list[SumAdjustment] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=dict)
    answered: set[int] = field(default_factory=set)


class HistoryImporter:
    """Imports the history of an account's devices into long-term statistics."""

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry,
        client: NorthboundClient,
        inventory: InventoryCoordinator,
        real_time: RealTimeCoordinator,
        problems: Problems,
    ) -> None:
        """Initialize the importer of an account."""
        self._hass = hass
        self._entry = entry
        self._client = client
        self._inventory = inventory
        self._real_time = real_time
        self._problems = problems
        self._store = history_store(hass, entry.entry_id)
        self.queue = JobQueue()
        self._planned: dict[int, Planned] = {}
        self._adjustments: Sequence[SumAdjustment] = ()
        self._left_out: LeftOut = {}
        """Energy that counters of a day lack; derived statistics add it."""
        self._answered: set[int] = set()
        """Device types whose history the server has returned."""
        self._unknown_types: set[int] = set()
        """Device types for which the server has no history."""
        self._given_up: set[int] = set()
        """Device types with a logged warning about a missing history."""
        self._closed: set[str] = set()
        """Plants that were not authorized at the last update."""
        self._begun = dt_util.utcnow()
        self._answers: dict[
            tuple[tuple[int, ...], datetime, datetime],
            Mapping[int, Sequence[HistoryRow]],
        ] = {}
        """Answers for a window that takes more than one call."""
        self._failures = 0
        """Number of consecutive failed calls."""
        self._is_running = False
        self._resume: CALLBACK_TYPE | None = None
        self._listeners: list[CALLBACK_TYPE] = []
        self.activity = Activity.IDLE

    async def async_load(self) -> None:
        """Load the stored state of the last run."""
        stored = decode_parts(StoredHistory, await self._store.async_load() or {})
        self.queue, self._planned = JobQueue(stored.jobs), stored.planned
        self._adjustments, self._left_out = stored.adjustments, stored.left_out
        self._answered = stored.answered

    @callback
    def async_start(self) -> None:
        """Start the import, which stops when the config entry is unloaded."""
        self._entry.async_on_unload(self._stop)
        for coordinator in (self._inventory, self._real_time):
            self._entry.async_on_unload(
                coordinator.async_add_listener(self.async_follow)
            )
        self.async_follow()
        self._go_on()

    @callback
    def _stop(self) -> None:
        if self._resume is not None:
            self._resume()
            self._resume = None

    @callback
    def _go_on(self, _: datetime | None = None) -> None:
        """Run the jobs, unless they are running already."""
        self._stop()
        if self.queue.jobs and not self._is_running:
            self._is_running = True
            self._entry.async_create_background_task(
                self._hass, self._run(), "import history"
            )

    @callback
    def async_add_listener(self, listener: CALLBACK_TYPE) -> CALLBACK_TYPE:
        """Add a listener for activity and progress, and return its removal."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    @callback
    def async_follow(self) -> None:
        """Add jobs for history that is not planned yet and gaps in live readings."""
        gaps = self._real_time.rows.take_gaps()
        if RECORDER_DOMAIN not in self._hass.config.components:
            return
        self._follow_authorizations()
        now = dt_util.utcnow()
        days = timedelta(days=options_of(self._entry).history)
        spans: dict[tuple[Priority, datetime, datetime], list[int]] = {}
        for device in self._inventory.data.devices.values():
            if device.type_id not in HISTORY_TYPES:
                continue
            if device.id not in self._planned:
                self._planned[device.id] = Planned(now, now)
                self._store.async_delay_save(self._state, SAVE_DELAY)
            planned = self._planned[device.id]
            start = max(planned.seen - days, now - HISTORY_REACH)
            if start < planned.start:
                span = Priority.PAST, start, planned.start
                spans.setdefault(span, []).append(device.id)
                planned.start = start
        for gap in gaps:
            span = Priority.GAP, gap.start, gap.end
            spans.setdefault(span, []).append(gap.device_id)
        for (priority, start, end), devices in spans.items():
            job = Job.of(priority, devices, start, end)
            if job.start < job.end:
                self._add(job)

    def _follow_authorizations(self) -> None:
        """Resume postponed jobs of plants authorized since the last update."""
        closed, self._closed = self._closed, {*self._problems.unauthorized}
        if not (opened := closed - self._closed):
            return
        devices = self._inventory.data.devices
        for job in self.queue.jobs:
            codes = {
                devices[each].plant_code for each in job.devices if each in devices
            }
            if job.due is not None and not opened.isdisjoint(codes):
                job.due = dt_util.utcnow()
        self._go_on()

    @callback
    def async_request(
        self, devices: Iterable[int], start: datetime, end: datetime
    ) -> Plan:
        """Add a job for a period of some devices, joined with unfinished requests."""
        job = Job.of(Priority.REQUEST, devices, start, min(end, dt_util.utcnow()))
        job, is_joined = self.queue.join_requests(job)
        self._add(job)
        return Plan(
            devices=len(job.devices),
            start=job.start,
            end=job.end,
            calls=job.windows * len(self._batches(job.devices)),
            joined=is_joined,
        )

    def _add(self, job: Job) -> None:
        if not self.queue.days_left:
            LOGGER.info("Importing the history of devices")
        self.queue.jobs.append(job)
        self._store.async_delay_save(self._state, SAVE_DELAY)
        self._go_on()

    async def _run(self) -> None:
        """Fill windows until all jobs are done or have to wait."""
        try:
            pause = await self._advance()
        except SQLAlchemyError as err:
            LOGGER.warning("The database is out of order: %s", type(err).__name__)
            pause = Pause(LONGEST_RETRY)
        except Exception:
            LOGGER.exception("Unexpected error importing the history")
            pause = Pause(LONGEST_RETRY)
        finally:
            self._is_running = False
        if pause is None:
            self._set_activity(Activity.IDLE)
            return
        self._set_activity(pause.activity)
        self._resume = async_call_later(self._hass, pause.time, self._go_on)

    async def _advance(self) -> Pause | None:
        await async_complete(self._hass, self._adjustments)
        self._adjustments = ()
        while self.queue.jobs:
            while job := self.queue.next(dt_util.utcnow()):
                if pause := await self._fill(job):
                    return pause
                await self.async_save()
            self.queue.remove_done()
            if not self.queue.jobs:
                LOGGER.info("The history is imported")
                self._left_out = {}
            await self.async_save()
            # Jobs that were added during the save start at once.
            jobs = self.queue.jobs
            if jobs and not self.queue.next(dt_util.utcnow()):
                due = min(job.due for job in jobs if job.due is not None)
                return Pause(due - dt_util.utcnow())
        return None

    async def _fill(self, job: Job) -> Pause | None:
        """Fill the newest window of a job, or return a pause."""
        now = dt_util.utcnow()
        if job.left <= job.start:
            return await self._fill_sums(job)
        if (early := job.until + SETTLED - now) > timedelta():
            return Pause(early, Activity.RUNNING)
        start, end = job.window
        # During a long wait, the start may have left the reach of the history.
        start = max(start, full_hour(now - HISTORY_REACH) + timedelta(hours=1))
        if start >= end:
            job.left = job.start
            return None
        if job.due is None and (closed := self._unauthorized(job)):
            self._postpone(job, closed)
        if job.due is not None and job.due > now:
            return None
        while batches := self._batches(
            each for each in job.devices if each not in job.filled
        ):
            if pause := await self._fill_batch(job, batches[0], start, end):
                return pause
            # The job may have been postponed, given up or joined to another.
            if job is not self.queue.next(dt_util.utcnow()) or job.left <= job.start:
                return None
        job.left = start
        job.filled.clear()
        self._set_activity(Activity.RUNNING)
        return None

    def _unauthorized(self, job: Job) -> list[Device]:
        """Return the devices of a job whose plant is not authorized."""
        devices = map(self._inventory.data.devices.get, job.devices)
        return [
            device
            for device in devices
            if device and device.plant_code in self._problems.unauthorized
        ]

    def _split(self, job: Job, devices: Iterable[Device]) -> Job:
        return self.queue.split(job, {device.id for device in devices})

    def _postpone(self, job: Job, devices: Iterable[Device]) -> None:
        """Postpone devices by `NOT_ALLOWED_RETRY`, with one job per plant."""
        plant_of = attrgetter("plant_code")
        for _, of_plant in groupby(sorted(devices, key=plant_of), plant_of):
            part = self._split(job, of_plant)
            part.due = dt_util.utcnow() + NOT_ALLOWED_RETRY
            part.refusals = 0

    async def _fill_batch(
        self, job: Job, batch: Collection[Device], start: datetime, end: datetime
    ) -> Pause | None:
        try:
            await async_settle(self._hass)
        except TimeoutError:
            return Pause(RETRY)
        series = self._series(batch)
        ends = {
            each.statistic_id: job.behind.get(each.statistic_id, end.timestamp())
            for each in series
        }
        recorded: dict[str, Recorded] = {}
        for last in {*ends.values()}:
            until = dt_util.utc_from_timestamp(last)
            recorded |= await async_read(
                self._hass,
                [statistic_id for statistic_id in ends if ends[statistic_id] == last],
                start,
                until,
                job.until if until == job.end else until,
            )
        ready = [each for each in series if _is_recorded(each, recorded)]
        late = [
            each for each in series if each not in ready and each.has_value(self._hass)
        ]
        # The entities of a plant appear only after its authorization.
        begun = max(job.until, job.due or job.until)
        if late and dt_util.utcnow() < begun + FIRST_RECORDED:
            return Pause(RETRY, Activity.RUNNING)
        if job.priority is Priority.GAP and end == job.end and self._wait(job, batch):
            return None
        wanted: dict[ImportTarget, frozenset[float]] = {}
        for each in ready:
            hours = frozenset(_hours(start, ends[each.statistic_id]))
            there = recorded[each.statistic_id].hours
            if missing := hours if job.priority is Priority.GAP else hours - there:
                wanted[each] = missing
        if wanted:
            rows = await self._ask_around(job, batch, start, end, wanted, ends)
            if not isinstance(rows, Mapping):
                return rows
            filling = await self._filling(job, wanted, recorded, rows, start)
            self._note_beginnings(job, wanted, recorded, filling, start)
            await self._write(filling)
        job.filled += [device.id for device in batch]
        if wanted:
            await self.async_save()
        return None

    def _wait(self, job: Job, batch: Collection[Device]) -> bool:
        """Postpone a gap while counters have pending levels; return whether it waits.

        A filter may hold back the energy of the gap and count it later. The gap then
        extends to the hour in which no level is pending, or `LONGEST_DOUBT` is over.
        """
        now = dt_util.utcnow()
        counters = self._real_time.rows.counters
        if now < job.until + LONGEST_DOUBT and any(
            counter.pending is not None
            for device in batch
            for counter in counters.of(device.id).values()
        ):
            part = self._split(job, batch)
            part.doubted, part.due = True, now + RETRY
            return True
        if job.doubted:
            job.end = job.left = full_hour(now)
            job.until, job.doubted, job.due = now, False, None
            return True
        return False

    async def _ask_around(
        self,
        job: Job,
        batch: Collection[Device],
        start: datetime,
        end: datetime,
        wanted: Wanted,
        ends: Mapping[str, float],
    ) -> Mapping[int, Sequence[HistoryRow]] | Pause | None:
        """Request a window, and the first readings after an outage at its end."""
        look_ahead = end + LOOK_AHEAD
        answer = await self._ask(job, batch, start, min(look_ahead, dt_util.utcnow()))
        if not isinstance(answer, Mapping):
            return answer
        rows = {device_id: [*of_device] for device_id, of_device in answer.items()}
        outages: dict[float, set[int]] = {}
        for each in wanted:
            last = ends[each.statistic_id]
            goes_on = rows.get(each.device.id) or start == job.start
            if last >= look_ahead.timestamp() and goes_on:
                outages.setdefault(last, set()).add(each.device.id)
        for last, device_ids in outages.items():
            # One call covers at most `HISTORY_SPAN` of the outage.
            begin = dt_util.utc_from_timestamp(last) + LOOK_AHEAD - HISTORY_SPAN
            begin = max(begin, look_ahead)
            answer = await self._ask(
                job,
                [device for device in batch if device.id in device_ids],
                begin,
                min(begin + HISTORY_SPAN, dt_util.utcnow()),
            )
            if not isinstance(answer, Mapping):
                return answer
            for device_id, of_device in answer.items():
                rows.setdefault(device_id, []).extend(of_device)
        self._answers.clear()
        return rows

    async def _filling(
        self,
        job: Job,
        wanted: Wanted,
        recorded: Mapping[str, Recorded],
        rows: Mapping[int, Sequence[HistoryRow]],
        start: datetime,
    ) -> ImportBatch:
        """Return the missing hours of a window."""
        real_time = self._real_time
        devices = {each.device.id: each.device for each in wanted}
        return await self._hass.async_add_executor_job(
            partial(
                fill,
                wanted,
                recorded,
                rows,
                {each.unique_id: real_time.offset(each.unique_id) for each in wanted},
                {
                    device.id: meter
                    for device in devices.values()
                    if (meter := real_time.rows.copy_of_meter(device))
                },
                # Rows within a gap only repeat values: counters cannot continue them.
                resumes=job.priority is not Priority.GAP or start == job.start,
            )
        )

    def _note_beginnings(
        self,
        job: Job,
        wanted: Wanted,
        recorded: Mapping[str, Recorded],
        filling: ImportBatch,
        start: datetime,
    ) -> None:
        """Store the first hour of counters that lack rows at the start of a window."""
        written = {
            known.metadata["statistic_id"]: min(row.start for row in filled.rows)
            for known, filled in filling.counters
        }
        for each, hours in wanted.items():
            if not each.is_counter:
                continue
            statistic_id = each.statistic_id
            there = recorded[statistic_id].hours - hours
            firsts = {hour for hour in there if hour >= start.timestamp()}
            if statistic_id in written:
                firsts.add(written[statistic_id])
            first = min(firsts, default=max(hours) + _HOUR)
            if first > start.timestamp():
                job.behind[statistic_id] = first
            else:
                job.behind.pop(statistic_id, None)

    async def _write(self, filling: ImportBatch) -> None:
        self._adjustments = filling.adjustments
        for statistic_id, by_hour in filling.left_out.items():
            self._left_out.setdefault(statistic_id, {}).update(by_hour)
        if self._adjustments:
            # Home Assistant may stop between the import and the adjustments.
            await self.async_save()
        async_import(
            self._hass, filling.counters, filling.measurements, self._adjustments
        )
        await async_settle(self._hass, patience=None)
        self._adjustments = ()

    async def _fill_sums(self, job: Job) -> Pause | None:
        """Fill the statistics that are derived from those of the job's devices.

        A derived statistic that began later than its parts has to wait for a full hour.
        """
        now = due = dt_util.utcnow()
        full = timedelta(hours=1) + SETTLED
        hours = frozenset(_hours(job.start, job.end.timestamp()))
        devices = self._inventory.data.devices
        codes = {devices[each].plant_code for each in job.devices if each in devices}
        if not self._is_followed(codes) and now < self._begun + FIRST_RECORDED:
            return Pause(RETRY, Activity.RUNNING)
        sums = list(
            derived_statistics(
                self._hass,
                self._entry.entry_id,
                self._inventory.data,
                self._real_time,
                codes,
            )
        )
        if job.priority is Priority.GAP:
            # The hours of other derived statistics are complete.
            parts = {
                series.statistic_id
                for batch in self._batches(job.devices)
                for series in self._series(batch)
            }
            sums = [made for made in sums if not parts.isdisjoint(made.parts)]
        for made in sums:
            recorded = await async_read(
                self._hass,
                [made.statistic_id, *made.parts],
                job.start,
                job.end,
                job.end,
            )
            if len(recorded) <= len(made.parts):
                due = max(due, job.end + full)
                continue
            there = recorded[made.statistic_id].hours
            missing = hours if job.priority is Priority.GAP else hours - there
            filled = await self._hass.async_add_executor_job(
                fill_derived, made, recorded, missing, self._left_out
            )
            if filled is None:
                going_on = any(each.goes_on for each in recorded.values())
                due = max(due, (full_hour(now) if going_on else job.end) + full)
            elif filled.rows:
                await self._write(
                    ImportBatch(counters=[(recorded[made.statistic_id], filled)])
                )
        if due > now:
            return Pause(due - now, Activity.RUNNING)
        job.sums = True
        return None

    def _is_followed(self, plant_codes: Collection[str]) -> bool:
        """Return whether the flows of plants are based on readings since the start."""
        flows = self._real_time.flows.readings
        return all(
            flows[code].received >= self._begun for code in plant_codes if code in flows
        )

    async def _ask(
        self, job: Job, batch: Collection[Device], start: datetime, end: datetime
    ) -> Mapping[int, Sequence[HistoryRow]] | Pause | None:
        """Return the history of a batch, a pause, or `None` if it is set aside."""
        ids = tuple(device.id for device in batch)
        question = ids, start, end
        if question in self._answers:
            return self._answers[question]
        # Urgent jobs need calls for one window of all devices.
        reserve = 0
        if job.priority is Priority.PAST or job.due is not None:
            reserve = len(self._batches(self._inventory.data.devices))
        if wait := timedelta(seconds=self._client.history_wait(reserve)):
            return Pause(wait, Activity.RUNNING if wait < SHORT else Activity.WAITING)
        self._set_activity(Activity.RUNNING)
        type_id = next(iter(batch)).type_id
        try:
            rows = await self._client.device_history(type_id, ids, start, end)
        except NorthboundError as err:
            LOGGER.debug(
                "Reading the history of devices of type %s failed: %s", type_id, err
            )
            if job in self.queue.jobs and self._is_set_aside(job, batch, err):
                self._failures = 0
                self._answers.clear()
                return None
            return self._failed(err)
        self._problems.clear(
            HISTORY, {device.plant_code for device in batch if rows.get(device.id)}
        )
        self._answered.add(type_id)
        self._failures = job.refusals = 0
        job.due = None
        self._answers[question] = rows
        return rows

    def _is_set_aside(
        self, job: Job, batch: Collection[Device], err: NorthboundError
    ) -> bool:
        """Return whether a batch is set aside after an error, and others continue.

        A history that is not allowed yet is requested again later. A batch that is
        rejected repeatedly is split or given up.
        """
        type_id = next(iter(batch)).type_id
        plants = {device.plant_code for device in batch}
        match err:
            case PermissionDenied(code=FailCode.NO_PERMISSION):
                return False
            case PermissionDenied() if len(plants) > 1:
                # One plant without permission makes the server refuse all of them.
                self._halve(job, batch)
                return True
            case PermissionDenied():
                self._postpone(job, batch)
                return True
            case RequestRejected(code=FailCode.DEVICE_TYPE_UNSUPPORTED):
                # Without the permission, some servers reject every type.
                if type_id in self._answered or not self._answered:
                    self._postpone(job, batch)
                else:
                    self._unknown_types.add(type_id)
                    self._warn(type_id, err)
                return True
            case RequestRejected() | MalformedResponse():
                job.refusals += 1
                if job.refusals < REFUSALS_BELIEVED:
                    return False
            case _:
                return False
        if isinstance(err, MalformedResponse):
            self._postpone(job, batch)
        elif err.code in UNKNOWN_DEVICE and len(batch) > 1:
            # One unknown device makes the server reject the whole batch.
            self._halve(job, batch)
        else:
            part = self._split(job, batch)
            part.left = part.start
            self._warn(type_id, err)
        return True

    def _halve(self, job: Job, batch: Collection[Device]) -> None:
        """Split a batch into two jobs, which are set aside at the next refusal."""
        for half in batched(batch, (len(batch) + 1) // 2, strict=False):
            self._split(job, half).refusals = REFUSALS_BELIEVED - 1

    def _warn(self, type_id: int, err: NorthboundError) -> None:
        """Log once per device type that devices have no history."""
        if type_id not in self._given_up:
            self._given_up.add(type_id)
            LOGGER.warning("No history of devices of type %s: %s", type_id, err)

    def _failed(self, err: NorthboundError) -> Pause:
        """Return the pause after an error that affects all batches."""
        self._failures += 1
        activity = Activity.WAITING
        match err:
            case PermissionDenied():
                self._problems.add(HISTORY, err)
            case InvalidCredentials():
                activity = Activity.FAILED
        patience = min(RETRY * 2 ** min(self._failures - 1, 8), LONGEST_RETRY)
        return Pause(max(patience, timedelta(seconds=err.retry_after or 0.0)), activity)

    def _series(self, batch: Collection[Device]) -> list[ImportTarget]:
        """Return the data items of devices with statistics and enabled entities."""
        inventory: Inventory = self._inventory.data
        devices = {device.id: device for device in batch}
        series = []
        for registered in er.async_entries_for_config_entry(
            er.async_get(self._hass), self._entry.entry_id
        ):
            if registered.domain != Platform.SENSOR or registered.disabled:
                continue
            source_id, key = inventory.source_of(registered.unique_id) or (None, "")
            if not isinstance(source_id, int) or source_id not in devices:
                continue
            device = devices[source_id]
            description = sensors(device.type_id).get(key)
            if description and description.state_class:
                plant = inventory.plants[device.plant_code]
                series.append(
                    ImportTarget(
                        registered.entity_id,
                        registered.unique_id,
                        device,
                        plant,
                        description,
                    )
                )
        return series

    def _batches(self, device_ids: Iterable[int]) -> list[tuple[Device, ...]]:
        """Return the batches of devices: of one type, sorted by plant."""
        inventory: Inventory = self._inventory.data
        types: dict[int, list[Device]] = {}
        for device_id in device_ids:
            device = inventory.devices.get(device_id)
            if device and device.type_id in HISTORY_TYPES - self._unknown_types:
                types.setdefault(device.type_id, []).append(device)
        return [
            batch
            for devices in types.values()
            for batch in batched(
                sorted(devices, key=attrgetter("plant_code")),
                HISTORY_BATCH,
                strict=False,
            )
        ]

    @callback
    def _set_activity(self, activity: Activity) -> None:
        self.activity = activity
        for listener in self._listeners:
            listener()

    async def async_save(self) -> None:
        """Save the state that survives a restart."""
        await self._store.async_save(self._state())

    @callback
    def _state(self) -> dict[str, Any]:
        """Return the state that survives a restart, in JSON types."""
        state: dict[str, Any] = encode(
            StoredHistory(
                self.queue.jobs,
                self._planned,
                [*self._adjustments],
                self._left_out,
                self._answered,
            )
        )
        return state


def history_store(hass: HomeAssistant, entry_id: str) -> Store[dict[str, Any]]:
    """Return the store of an account's history import."""
    return Store(hass, STORE_VERSION, f"{DOMAIN}.{entry_id}.history")


def _hours(start: datetime, end: float) -> Iterable[float]:
    hour = start.timestamp()
    while hour < end:
        yield hour
        hour += _HOUR


def _is_recorded(series: ImportTarget, recorded: Mapping[str, Recorded]) -> bool:
    """Return whether a statistic exists and, for a counter, a row after the hours."""
    known = recorded.get(series.statistic_id)
    return known is not None and (known.after is not None or not series.is_counter)
