"""Import of the history of devices and plants into long-term statistics.

A `Job` is a period to fill for some devices. Jobs are done window by window, the newest
first. Each request reads as many devices and as long a span as the server allows, and
less urgent jobs leave a reserve of calls for urgent ones. A window is written once all
its requests are answered. Recorded hours are not imported again, except within gaps.
The energies of plants follow, from their reports.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, cast

from sqlalchemy.exc import SQLAlchemyError

from custom_components.smartpvms.const import LOGGER
from custom_components.smartpvms.coordinator import RealTimeCoordinator
from custom_components.smartpvms.inventory_coordinator import InventoryCoordinator
from custom_components.smartpvms.northbound import (
    HISTORY_REACH,
    HISTORY_TYPES,
    Device,
    NorthboundClient,
)
from custom_components.smartpvms.options import options_of
from custom_components.smartpvms.problems import HISTORY, Problems
from custom_components.smartpvms.storage import (
    async_load_state,
    decode_parts,
    encode,
    renamed,
)
from homeassistant.components.recorder import DOMAIN as RECORDER_DOMAIN
from homeassistant.config_entries import ConfigEntry, ConfigEntryState
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later
from homeassistant.util import dt as dt_util

from .device_history import (
    MAX_RECORDING_DELAY,
    DeviceRows,
    ImportBatch,
    ImportTarget,
    MissingHours,
    fill_devices,
    has_value,
    import_targets,
)
from .jobs import (
    NOT_ALLOWED_RETRY,
    Activity,
    Job,
    JobQueue,
    Pause,
    PlannedHistory,
    Priority,
    RequestSummary,
    full_hour,
)
from .plant_importer import PlantImporter
from .recorder import (
    Recorded,
    SumAdjustment,
    async_complete,
    async_import,
    async_settle,
)
from .requests import MAX_RETRY, RETRY, HistoryRequests
from .store import StoredHistory, history_store
from .windows import Window, recorded_ends

SAVE_DELAY: Final = 1

# Time for the server to collect an hour, and for the recorder to compile it.
SETTLED: Final = timedelta(minutes=10)
# Maximum wait for pending levels of counters after a gap.
MAX_PENDING: Final = timedelta(days=1)


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
        self._inventory = inventory
        self._real_time = real_time
        self._problems = problems
        self._store = history_store(hass, entry.entry_id)
        self.queue = JobQueue()
        self._requests = HistoryRequests(
            client,
            inventory,
            problems,
            self.queue,
            partial(self._set_activity, Activity.RUNNING),
        )
        self.plants = PlantImporter(
            hass,
            entry,
            client,
            inventory,
            problems,
            self._is_complete,
            self._write,
            partial(self._set_activity, Activity.RUNNING),
        )
        self._planned: dict[int, PlannedHistory] = {}
        self._adjustments: Sequence[SumAdjustment] = ()
        self._were_refused: set[str] = set()
        """Refused plants at the last update."""
        self._is_running = False
        self._is_outdated = False
        """Whether jobs were added or are due since the run began."""
        self._cancel_resume: CALLBACK_TYPE | None = None
        self._listeners: list[CALLBACK_TYPE] = []
        self.activity = Activity.IDLE

    async def async_load(self) -> None:
        """Load the stored state of the last run."""
        stored = decode_parts(StoredHistory, await async_load_state(self._store))
        self.queue.jobs, self._planned = stored.jobs, stored.planned
        self._adjustments = stored.adjustments
        self.plants.spans, self.plants.planned = stored.spans, stored.planned_plants
        self.plants.audit = stored.audit
        self._requests.types_with_history = stored.types_with_history
        self._requests.single_since = stored.single_since

    @callback
    def async_start(self) -> None:
        """Start the import, which stops when the config entry is unloaded."""
        self._entry.async_on_unload(self._stop)
        for coordinator in (self._inventory, self._real_time):
            self._entry.async_on_unload(
                coordinator.async_add_listener(self.async_follow)
            )
        self.async_follow()
        self._start_jobs()

    @callback
    def _stop(self) -> None:
        if self._cancel_resume is not None:
            self._cancel_resume()
            self._cancel_resume = None

    @callback
    def _start_jobs(self, _: datetime | None = None) -> None:
        """Start to run the jobs, unless they are running already."""
        self._stop()
        self._is_outdated = True
        if (self.queue.jobs or self.plants.spans) and not self._is_running:
            self._is_running = True
            self._entry.async_create_background_task(
                self._hass, self._run(), "import history"
            )

    @property
    def days_left(self) -> float:
        """Return the remaining days, added up over the plants and devices."""
        return self.queue.days_left + self.plants.days_left

    @property
    def progress(self) -> float:
        """Return the progress in percent."""
        days = self.queue.days + self.plants.days
        return 100 * (1 - self.days_left / days) if days else 100.0

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
                self._planned[device.id] = PlannedHistory(seen=now, start=now)
                self._save_soon()
            planned = self._planned[device.id]
            start = max(planned.seen - days, now - HISTORY_REACH)
            if start < planned.start:
                span = Priority.PAST, start, planned.start
                spans.setdefault(span, []).append(device.id)
                planned.start = start
        for gap in gaps:
            if gap.is_connected:
                continue
            start = max(gap.start, now - HISTORY_REACH)
            span = Priority.GAP, start, gap.end
            spans.setdefault(span, []).append(gap.device_id)
        for (priority, start, end), devices in spans.items():
            job = Job.of(priority, devices, start, end)
            if job.start < job.end:
                self._add(job)
        if self.plants.async_follow(gaps):
            self._save_soon()
            self._start_jobs()

    def _follow_authorizations(self) -> None:
        """Resume postponed jobs of plants authorized since the last update."""
        before, self._were_refused = self._were_refused, self._refused_plants
        allowed = before - self._were_refused
        if not allowed:
            return
        self._problems.allow(HISTORY, allowed)
        devices = self._inventory.data.devices
        for job in self.queue.jobs:
            codes = {
                devices[each].plant_code for each in job.devices if each in devices
            }
            if job.due is not None and not allowed.isdisjoint(codes):
                job.due = dt_util.utcnow()
        self._start_jobs()

    @property
    def _refused_plants(self) -> set[str]:
        """Return the plants that the server refuses in more than their history.

        The history alone can be refused for some of a plant's devices.
        """
        return self._problems.refused_without(HISTORY)

    @callback
    def async_request(
        self, devices: Iterable[int], start: datetime, end: datetime
    ) -> RequestSummary:
        """Add a job for a period of some devices, joined with unfinished requests.

        The missing hours of their plants follow.
        """
        job = Job.of(Priority.REQUEST, devices, start, min(end, dt_util.utcnow()))
        job, is_joined = self.queue.join_requests(job)
        known = self._inventory.data.devices
        self.plants.async_request(
            {known[each].plant_code for each in job.devices}, job.start, job.end
        )
        self._add(job)
        return RequestSummary(
            devices=len(job.devices),
            start=job.start,
            end=job.end,
            calls=self._requests.calls(job),
            joined=is_joined,
        )

    @callback
    def async_decide(self, code: str, *, use_reports: bool) -> None:
        """Use the reports of a plant on days that differ from them, or keep these."""
        if use_reports:
            self.plants.async_use_reports(code)
            self._start_jobs()
        self.plants.audit.decide(code)
        self._save_soon()
        self._set_activity(self.activity)

    def _add(self, job: Job) -> None:
        if not self.queue.days_left:
            LOGGER.info("Starting the import of device history")
        self.queue.jobs.append(job)
        self._save_soon()
        self._start_jobs()

    async def _run(self) -> None:
        """Fill hours until all jobs and spans are done or have to wait."""
        pauses: tuple[Pause | None, ...]
        self._is_outdated = False
        try:
            pause = await self._advance()
            if pause is not None:
                self._set_activity(pause.activity)
            pauses = pause, await self._advance_plants()
        except SQLAlchemyError as err:
            LOGGER.warning(
                "Database error while importing history: %s", type(err).__name__
            )
            pauses = (Pause(MAX_RETRY),)
        except Exception:
            LOGGER.exception("Unexpected error while importing history")
            pauses = (Pause(MAX_RETRY),)
        finally:
            self._is_running = False
        if self._is_outdated and (self.queue.jobs or self.plants.spans):
            self._start_jobs()
            return
        next_pauses = [pause for pause in pauses if pause is not None]
        activities = [Activity.IDLE, *(pause.activity for pause in next_pauses)]
        self._set_activity(max(activities, key=[*Activity].index))
        if next_pauses:
            wait = min(pause.time for pause in next_pauses)
            self._cancel_resume = async_call_later(self._hass, wait, self._start_jobs)

    async def _advance(self) -> Pause | None:
        await async_complete(self._hass, self._adjustments)
        self._adjustments = ()
        # A wrong clock may have set a time that is far ahead.
        latest = dt_util.utcnow() + NOT_ALLOWED_RETRY
        for postponed in self.queue.jobs:
            if postponed.due is not None:
                postponed.due = min(postponed.due, latest)
        while self.queue.jobs:
            while job := self.queue.next(dt_util.utcnow()):
                if pause := await self._fill(job):
                    return pause
                await self.async_save()
            self.queue.remove_done()
            if not self.queue.jobs:
                LOGGER.info("Import of device history finished")
            await self.async_save()
            # Jobs that were added during the save start at once.
            jobs = self.queue.jobs
            if jobs and not self.queue.next(dt_util.utcnow()):
                due = min(job.due for job in jobs if job.due is not None)
                return Pause(due - dt_util.utcnow())
        return None

    def _is_complete(self, code: str) -> bool:
        """Return whether all devices of a plant are read, and no level is pending."""
        real_time = self._real_time
        return all(
            device.id in real_time.available
            and not any(
                counter.pending is not None
                for counter in real_time.rows.counters.of(device.id).values()
            )
            for device in self._inventory.data.devices_of(code)
            if device.id in real_time.data
        )

    async def _advance_plants(self) -> Pause | None:
        while self.plants.spans:
            if pause := await self.plants.async_fill_next():
                return pause
            self._set_activity(self.activity)
            await self.async_save()
        return None

    async def _fill(self, job: Job) -> Pause | None:
        """Fill the newest window of a job, or return a pause."""
        now = dt_util.utcnow()
        if (early := job.exact_end + SETTLED - now) > MAX_RETRY:
            # The clock is wrong, or was; other jobs go on. The energy of a gap is
            # counted, even if it is not divided.
            if job.priority is Priority.GAP:
                job.remaining_end = job.start
            job.due = now + RETRY
            return None
        if early > timedelta():
            return Pause(early, Activity.RUNNING)
        start, end = job.window
        # During a long wait, the start may have left the reach of the history.
        start = max(start, full_hour(now - HISTORY_REACH) + timedelta(hours=1))
        if start >= end:
            job.remaining_end = job.start
            return None
        if job.due is None and (refused := self._refused(job)):
            self.queue.postpone(job, refused)
        if job.due is not None and job.due > now:
            return None
        while batches := self._requests.batches(
            each for each in job.devices if each not in job.filled_devices
        ):
            window = Window(job=job, devices=batches[0], start=start, end=end)
            if pause := await self._fill_window(window):
                return pause
            # The job may have been postponed, given up, extended or joined to another.
            is_next = job is self.queue.next(dt_util.utcnow())
            if not is_next or job.remaining_end != end:
                return None
        job.remaining_end = start
        job.filled_devices.clear()
        self._set_activity(Activity.RUNNING)
        return None

    def _refused(self, job: Job) -> list[Device]:
        """Return the devices of a job whose plant the server refuses."""
        devices = map(self._inventory.data.devices.get, job.devices)
        plants = self._refused_plants
        return [device for device in devices if device and device.plant_code in plants]

    async def _fill_window(self, window: Window) -> Pause | None:
        """Fill the hours of a batch, unless it is postponed or set aside."""
        try:
            await async_settle(self._hass)
        except TimeoutError:
            return Pause(RETRY)
        job = window.job
        ends = window.ends(self._targets(window.devices))
        recorded = await window.async_read_recorded(self._hass, ends)
        ready = recorded_ends(ends, recorded)
        # The entities of a plant appear only after its authorization.
        begin = max(job.exact_end, job.due or job.exact_end)
        if dt_util.utcnow() < begin + MAX_RECORDING_DELAY and any(
            each not in ready and has_value(self._hass, each.statistic_id)
            for each in ends
        ):
            return Pause(RETRY, Activity.RUNNING)
        if window.is_gap_end and self._postpone_pending_gap(job, window.devices):
            return None
        missing = window.missing_hours(ready, recorded)
        if missing:
            rows = await self._requests.async_window_rows(
                window, {each: ends[each] for each in missing}
            )
            if not isinstance(rows, Mapping):
                return rows
            batch = await self._compute(window, missing, recorded, rows)
            window.store_first_filled_hours(missing, recorded, batch)
            await self._write(batch)
        job.filled_devices += [device.id for device in window.devices]
        if missing:
            await self.async_save()
        return None

    def _targets(self, devices: Iterable[Device]) -> list[ImportTarget]:
        return import_targets(
            self._hass, self._entry.entry_id, self._inventory.data, devices
        )

    def _postpone_pending_gap(self, job: Job, batch: Collection[Device]) -> bool:
        """Postpone a gap while counters have pending levels; return whether it waits.

        A filter may hold back the energy of the gap and count it later. The gap then
        extends to the hour in which no level is pending, or `MAX_PENDING` is over.
        """
        now = dt_util.utcnow()
        counters = self._real_time.rows.counters
        if now < job.exact_end + MAX_PENDING and any(
            counter.pending is not None
            for device in batch
            for counter in counters.of(device.id).values()
        ):
            part = self.queue.split(job, batch)
            part.had_pending_level, part.due = True, now + RETRY
            return True
        if job.had_pending_level:
            job.end = job.remaining_end = full_hour(now)
            job.exact_end, job.had_pending_level, job.due = now, False, None
            return True
        return False

    async def _compute(
        self,
        window: Window,
        missing: MissingHours,
        recorded: Mapping[str, Recorded],
        rows: DeviceRows,
    ) -> ImportBatch:
        """Return the missing hours of a window."""
        real_time = self._real_time
        offsets = {each.unique_id: real_time.offset(each.unique_id) for each in missing}
        devices = {each.device.id: each.device for each in missing}
        meters = {
            device.id: meter
            for device in devices.values()
            if (meter := real_time.rows.copy_of_meter(device))
        }
        return await self._hass.async_add_executor_job(
            partial(
                fill_devices,
                missing,
                recorded,
                rows,
                offsets,
                meters,
                can_resume=window.can_resume,
            )
        )

    async def _write(self, batch: ImportBatch) -> None:
        self._adjustments = batch.adjustments
        if self._adjustments:
            # Home Assistant may stop between the import and the adjustments.
            await self.async_save()
        async_import(self._hass, batch.counters, batch.measurements, self._adjustments)
        await async_settle(self._hass, max_wait=None)
        self._adjustments = ()

    @callback
    def _set_activity(self, activity: Activity) -> None:
        self.activity = activity
        for listener in self._listeners:
            listener()

    def _save_soon(self) -> None:
        # A save after the last one would restore the file of a removed entry.
        if self._entry.state is not ConfigEntryState.UNLOAD_IN_PROGRESS:
            self._store.async_delay_save(self._state, SAVE_DELAY)

    async def async_save(self) -> None:
        """Save the state that survives a restart."""
        await self._store.async_save(self._state())

    @callback
    def _state(self) -> dict[str, Any]:
        """Return the state that survives a restart, in JSON types."""
        state: Any = encode(
            StoredHistory(
                jobs=self.queue.jobs,
                planned=self._planned,
                adjustments=[*self._adjustments],
                spans=self.plants.spans,
                planned_plants=self.plants.planned,
                audit=self.plants.audit,
                types_with_history=self._requests.types_with_history,
                single_since=self._requests.single_since,
            )
        )
        return cast("dict[str, Any]", renamed(state, self._inventory.renamed))
