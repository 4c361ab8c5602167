"""History: the past of devices, from the server into long-term statistics.

What has to be filled is a `Job`: some devices, and a time. Jobs are done window by
window, the newest first, with as few calls as the server allows and with none that
something more urgent could need. What an answer holds is written once all of it is
there, and hours that are recorded already are left alone.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import batched
import math
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Self

from sqlalchemy.exc import SQLAlchemyError

from homeassistant.components.recorder import DOMAIN as RECORDER_DOMAIN
from homeassistant.const import Platform
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.event import async_call_later
from homeassistant.helpers.storage import Store
from homeassistant.util import dt as dt_util

from .const import CONF_HISTORY, DOMAIN, LOGGER
from .descriptions import sensors
from .northbound import (
    HISTORY_BATCH,
    HISTORY_REACH,
    HISTORY_SPAN,
    HISTORY_TYPES,
    Device,
    HistoryRow,
    InvalidCredentials,
    NorthboundClient,
    NorthboundError,
    PermissionDenied,
    RequestRejected,
)
from .past import Filling, LeftOut, Series, fill, fill_sum
from .recording import (
    Lift,
    Recorded,
    async_complete,
    async_import,
    async_read,
    async_settle,
)
from .snapshot import Inventory
from .sums import sums_of

if TYPE_CHECKING:
    from .coordinator import SmartPvmsConfigEntry

STORE_VERSION: Final = 1
SAVE_DELAY: Final = 1

# What history is called among what is read.
HISTORY: Final = "history"

# A replaced device is believed after two hours in which it counts.
LOOK_AHEAD: Final = timedelta(hours=2)
# At night a sleeping inverter repeats what it counted the day before.
DAYLIGHT: Final = range(10, 17)
# Until the server has collected an hour, and the recorder has compiled it.
SETTLED: Final = timedelta(minutes=10)
# How long a value may take to be recorded for the first time.
FIRST_RECORDED: Final = timedelta(hours=1)
RETRY: Final = timedelta(minutes=5)
LONGEST_RETRY: Final = timedelta(hours=1)
# After how many refusals in a row some devices are left out of a window.
REFUSALS_BELIEVED: Final = 3
_NO_HISTORY_OF_TYPE: Final = 20013
# Waiting for less than this is no news.
SHORT: Final = timedelta(minutes=2)


class Urgency(StrEnum):
    """Why the past is filled; the first goes first."""

    GAP = "gap"
    REQUEST = "request"
    PAST = "past"


class Activity(StrEnum):
    """What the import does."""

    IDLE = "idle"
    RUNNING = "running"
    WAITING = "waiting"
    FAILED = "failed"


@dataclass(slots=True)
class Job:
    """The hours that are to be filled for some devices."""

    urgency: Urgency
    devices: tuple[int, ...]
    start: datetime
    end: datetime
    left: datetime
    """Up to when it is still to be done; the rest is."""
    until: datetime
    """Up to when what is recorded says nothing, within the hour after the end."""
    sums: bool = False
    """Whether what is made of the devices' energies is done, too."""

    @classmethod
    def of(
        cls,
        urgency: Urgency,
        devices: Iterable[int],
        start: datetime,
        end: datetime,
    ) -> Self:
        """Return a job of which nothing is done yet."""
        start, hour = _hour(start), _hour(end)
        return cls(urgency, tuple(dict.fromkeys(devices)), start, hour, hour, end)

    @property
    def done(self) -> bool:
        """Return whether nothing is left."""
        return self.sums and self.left <= self.start

    @property
    def window(self) -> tuple[datetime, datetime]:
        """Return the newest part that is left, as long as one call may be.

        It begins by day, as far as it does not go on from what is recorded.
        """
        return self._window(self.left), self.left

    @property
    def windows(self) -> int:
        """Return in how many parts the rest will be done."""
        end, count = self.left, 0
        while end > self.start:
            end, count = self._window(end), count + 1
        return count

    def _window(self, end: datetime) -> datetime:
        start = end - HISTORY_SPAN + LOOK_AHEAD
        while dt_util.as_local(start).hour not in DAYLIGHT:
            start += timedelta(hours=1)
        return max(start, self.start)

    def days(self, since: datetime) -> float:
        """Return the days from the start on, added up over the devices."""
        return (
            max(since - self.start, timedelta()) / timedelta(days=1) * len(self.devices)
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the job as what JSON can hold."""
        return asdict(self) | {
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
            "left": self.left.isoformat(),
            "until": self.until.isoformat(),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Restore what `as_dict` returned."""
        return cls(
            Urgency(state["urgency"]),
            tuple(state["devices"]),
            datetime.fromisoformat(state["start"]),
            datetime.fromisoformat(state["end"]),
            datetime.fromisoformat(state["left"]),
            datetime.fromisoformat(state["until"]),
            state["sums"],
        )


@dataclass(slots=True)
class Planned:
    """What was planned of the past of a device, when it was first seen and later."""

    seen: datetime
    start: datetime

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as what JSON can hold."""
        return {"seen": self.seen.isoformat(), "start": self.start.isoformat()}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Restore what `as_dict` returned."""
        return cls(
            datetime.fromisoformat(state["seen"]),
            datetime.fromisoformat(state["start"]),
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request takes."""

    devices: int
    start: datetime
    end: datetime
    calls: int
    joined: bool
    """Whether it is done together with what was requested before."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Why nothing can be done for some time."""

    time: timedelta
    activity: Activity = Activity.WAITING


class History:
    """Fills the long-term statistics of an account's devices with their past."""

    def __init__(
        self, hass: HomeAssistant, entry: SmartPvmsConfigEntry, client: NorthboundClient
    ) -> None:
        """Belong to an account."""
        self._hass = hass
        self._entry = entry
        self._client = client
        self._store = history_store(hass, entry.entry_id)
        self._jobs: list[Job] = []
        self._planned: dict[int, Planned] = {}
        self._lifts: Sequence[Lift] = ()
        self._left_out: LeftOut = {}
        """What is to be added to what is made of the counters of days."""
        self._unknown_types: set[int] = set()
        """The device types whose history the server does not know."""
        self._done: set[tuple[Urgency, datetime, int]] = set()
        """What was asked for of windows that are not done yet, by their first device."""
        self._failures = 0
        """Calls that failed, since the last that did not."""
        self._refusals = 0
        self._is_running = False
        self._resume: CALLBACK_TYPE | None = None
        self._listeners: list[CALLBACK_TYPE] = []
        self.activity = Activity.IDLE

    async def async_load(self) -> None:
        """Go on from where the last run was."""
        state = await self._store.async_load() or {}
        try:
            jobs = [Job.from_dict(job) for job in state["jobs"]]
            planned = {
                int(device_id): Planned.from_dict(each)
                for device_id, each in state["planned"].items()
            }
            lifts = [Lift.from_dict(lift) for lift in state["lifts"]]
            left_out = {
                statistic_id: {float(hour): each for hour, each in by_hour.items()}
                for statistic_id, by_hour in state["left_out"].items()
            }
        except AttributeError, KeyError, TypeError, ValueError:
            return
        self._jobs, self._planned = jobs, planned
        self._lifts, self._left_out = lifts, left_out

    @callback
    def async_start(self) -> None:
        """Fill what is to be filled, as long as the account is loaded."""
        self._entry.async_on_unload(self._stop)
        self.async_follow()
        self._go_on()

    @callback
    def _stop(self) -> None:
        if self._resume is not None:
            self._resume()
            self._resume = None

    @callback
    def _go_on(self, _: datetime | None = None) -> None:
        """Do what can be done now, unless that is being done."""
        self._stop()
        if self._jobs and not self._is_running:
            self._is_running = True
            self._entry.async_create_background_task(
                self._hass, self._run(), "import history"
            )

    @callback
    def async_add_listener(self, listener: CALLBACK_TYPE) -> CALLBACK_TYPE:
        """Call a listener whenever something has changed."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    @property
    def progress(self) -> float:
        """Return how much is done, in percent."""
        planned = math.fsum(job.days(job.end) for job in self._jobs)
        return 100 * (1 - self.days_left / planned) if planned else 100.0

    @property
    def days_left(self) -> float:
        """Return the days that are left, added up over the devices."""
        return math.fsum(job.days(job.left) for job in self._jobs)

    @callback
    def async_follow(self) -> None:
        """Plan the past of devices that are new, and what was not heard of others."""
        data = self._entry.runtime_data
        gaps = data.real_time.take_gaps()
        if RECORDER_DOMAIN not in self._hass.config.components:
            return
        now = dt_util.utcnow()
        days = timedelta(days=self._entry.options.get(CONF_HISTORY, 0))
        spans: dict[tuple[Urgency, datetime, datetime], list[int]] = {}
        for device in data.inventory.data.devices.values():
            if device.type_id not in HISTORY_TYPES:
                continue
            if device.id not in self._planned:
                self._planned[device.id] = Planned(now, now)
                self._store.async_delay_save(self._state, SAVE_DELAY)
            planned = self._planned[device.id]
            start = max(planned.seen - days, now - HISTORY_REACH)
            if start < planned.start:
                span = Urgency.PAST, start, planned.start
                spans.setdefault(span, []).append(device.id)
                planned.start = start
        for gap in gaps:
            span = Urgency.GAP, gap.heard, gap.heard_again
            spans.setdefault(span, []).append(gap.device_id)
        for (urgency, start, end), devices in spans.items():
            job = Job.of(urgency, devices, start, end)
            if job.start < job.end:
                self._add(job)

    @callback
    def async_request(
        self, devices: Iterable[int], start: datetime, end: datetime
    ) -> Plan:
        """Fill a time of some devices, together with what was requested before."""
        job = Job.of(Urgency.REQUEST, devices, start, min(end, dt_util.utcnow()))
        others = [
            other
            for other in self._jobs
            if other.urgency is Urgency.REQUEST and not other.done
        ]
        for other in others:
            self._jobs.remove(other)
            job = Job.of(
                Urgency.REQUEST,
                (*job.devices, *other.devices),
                min(job.start, other.start),
                max(job.until, other.until),
            )
        self._add(job)
        return Plan(
            devices=len(job.devices),
            start=job.start,
            end=job.end,
            calls=job.windows * len(self._batches(job.devices)),
            joined=bool(others),
        )

    def _add(self, job: Job) -> None:
        if not self.days_left:
            LOGGER.info("Importing the history of devices")
        self._jobs.append(job)
        self._store.async_delay_save(self._state, SAVE_DELAY)
        self._go_on()

    async def _run(self) -> None:
        """Fill window after window, until there is nothing left or it has to wait."""
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
            self._tell(Activity.IDLE)
            return
        self._tell(pause.activity)
        self._resume = async_call_later(self._hass, pause.time, self._go_on)

    async def _advance(self) -> Pause | None:
        await async_complete(self._hass, self._lifts)
        self._lifts = ()
        while self._jobs:
            while job := self._next():
                if pause := await self._fill(job):
                    return pause
                await self.async_save()
            LOGGER.info("The history is imported")
            # What is planned while this is kept goes on at once.
            self._jobs, self._left_out = [], {}
            await self.async_save()
        return None

    def _next(self) -> Job | None:
        """Return the most urgent job that is not done."""
        jobs = [job for job in self._jobs if not job.done]
        order = list(Urgency)
        return min(jobs, key=lambda job: order.index(job.urgency), default=None)

    async def _fill(self, job: Job) -> Pause | None:
        """Fill the newest window of a job; return why that has to wait."""
        now = dt_util.utcnow()
        if job.left <= job.start:
            return await self._fill_sums(job)
        if (early := job.until + SETTLED - now) > timedelta():
            return Pause(early, Activity.RUNNING)
        start, end = job.window
        # The job may have waited for long.
        start = max(start, _hour(now - HISTORY_REACH) + timedelta(hours=1))
        for batch in self._batches(job.devices) if start < end else ():
            window = job.urgency, start, batch[0].id
            if window in self._done:
                continue
            if pause := await self._fill_batch(job, batch, start, end):
                return pause
            self._done.add(window)
        self._done.clear()
        job.left = start if start < end else job.start
        self._tell(Activity.RUNNING)
        return None

    async def _fill_batch(
        self, job: Job, batch: Collection[Device], start: datetime, end: datetime
    ) -> Pause | None:
        try:
            await async_settle(self._hass)
        except TimeoutError:
            return Pause(RETRY)
        series = self._series(batch)
        until = job.until if end == job.end else end
        recorded = await async_read(
            self._hass, [each.statistic_id for each in series], start, end, until
        )
        ready = [each for each in series if _is_recorded(each, recorded)]
        late = [
            each for each in series if each not in ready and each.has_value(self._hass)
        ]
        if late and dt_util.utcnow() < job.until + FIRST_RECORDED:
            return Pause(RETRY, Activity.RUNNING)
        hours = frozenset(_hours(start, end))
        wanted: dict[Series, frozenset[float]] = {}
        for each in ready:
            there = recorded[each.statistic_id].hours
            if missing := hours if job.urgency is Urgency.GAP else hours - there:
                wanted[each] = missing
        if not wanted:
            return None
        rows = await self._ask(
            job, batch, start, min(end + LOOK_AHEAD, dt_util.utcnow())
        )
        if isinstance(rows, Pause):
            return rows
        real_time = self._entry.runtime_data.real_time
        offsets = {each.unique_id: real_time.offset(each.unique_id) for each in wanted}
        meters = {
            device.id: meter
            for device in batch
            if (meter := real_time.past_meter(device))
        }
        filling = await self._hass.async_add_executor_job(
            fill, wanted, recorded, rows, offsets, meters
        )
        await self._write(filling)
        return None

    async def _write(self, filling: Filling) -> None:
        self._lifts = filling.lifts
        for statistic_id, by_hour in filling.left_out.items():
            self._left_out.setdefault(statistic_id, {}).update(by_hour)
        if self._lifts:
            # Home Assistant may end between the import and what has to follow.
            await self.async_save()
        async_import(self._hass, filling.counters, filling.measurements, self._lifts)
        await async_settle(self._hass, patience=None)
        self._lifts = ()

    async def _fill_sums(self, job: Job) -> Pause | None:
        """Fill what is made of the energies of the job's devices.

        What began later than these has to wait for a full hour.
        """
        now = due = dt_util.utcnow()
        full = timedelta(hours=1) + SETTLED
        hours = frozenset(_hours(job.start, job.end))
        data = self._entry.runtime_data
        devices = data.inventory.data.devices
        codes = {devices[each].plant_code for each in job.devices if each in devices}
        for made in sums_of(self._hass, self._entry, codes):
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
            missing = hours if job.urgency is Urgency.GAP else hours - there
            filled = await self._hass.async_add_executor_job(
                fill_sum, made, recorded, missing, self._left_out
            )
            if filled is None:
                going_on = any(each.goes_on for each in recorded.values())
                due = max(due, (_hour(now) if going_on else job.end) + full)
            elif filled.rows:
                await self._write(
                    Filling(counters=[(recorded[made.statistic_id], filled)])
                )
        if due > now:
            return Pause(due - now, Activity.RUNNING)
        job.sums = True
        return None

    async def _ask(
        self, job: Job, batch: Collection[Device], start: datetime, end: datetime
    ) -> Mapping[int, Sequence[HistoryRow]] | Pause:
        """Ask the server, if that is possible now."""
        # What is urgent can always have a window of everything.
        reserve = 0
        if job.urgency is Urgency.PAST:
            reserve = len(
                self._batches(self._entry.runtime_data.inventory.data.devices)
            )
        if wait := timedelta(seconds=self._client.history_wait(reserve)):
            return Pause(wait, Activity.RUNNING if wait < SHORT else Activity.WAITING)
        self._tell(Activity.RUNNING)
        type_id = next(iter(batch)).type_id
        try:
            rows = await self._client.device_history(
                type_id, [device.id for device in batch], start, end
            )
        except NorthboundError as err:
            return self._failed(type_id, err)
        self._entry.runtime_data.hindrances.overcome(HISTORY, ())
        self._failures = self._refusals = 0
        return rows

    def _failed(self, type_id: int, err: NorthboundError) -> Pause | dict[int, Any]:
        """Return how long to wait after an error, or nothing where waiting is useless."""
        self._failures += 1
        activity = Activity.WAITING
        match err:
            case RequestRejected():
                self._refusals += 1
                unknown = err.code == _NO_HISTORY_OF_TYPE
                if unknown:
                    self._unknown_types.add(type_id)
                if unknown or self._refusals == REFUSALS_BELIEVED:
                    self._refusals = 0
                    LOGGER.warning("No history of devices of type %s: %s", type_id, err)
                    return {}
            case PermissionDenied(unauthorized=True):
                return {}
            case PermissionDenied():
                self._entry.runtime_data.hindrances.meet(HISTORY, err, ())
                activity = Activity.FAILED
            case InvalidCredentials():
                activity = Activity.FAILED
        LOGGER.debug(
            "Reading the history of devices of type %s failed: %s", type_id, err
        )
        patience = min(RETRY * 2 ** min(self._failures - 1, 8), LONGEST_RETRY)
        return Pause(max(patience, timedelta(seconds=err.retry_after or 0.0)), activity)

    def _series(self, batch: Collection[Device]) -> list[Series]:
        """Return the data items of devices whose values are recorded."""
        inventory: Inventory = self._entry.runtime_data.inventory.data
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
                    Series(
                        registered.entity_id,
                        registered.unique_id,
                        device,
                        plant,
                        description,
                    )
                )
        return series

    def _batches(self, device_ids: Iterable[int]) -> list[tuple[Device, ...]]:
        """Return devices as they are asked for together: of one type, by plant."""
        inventory: Inventory = self._entry.runtime_data.inventory.data
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
    def _tell(self, activity: Activity) -> None:
        self.activity = activity
        for listener in self._listeners:
            listener()

    async def async_save(self) -> None:
        """Keep what has to survive a restart."""
        await self._store.async_save(self._state())

    @callback
    def _state(self) -> dict[str, Any]:
        """Return what has to survive a restart as what JSON can hold."""
        return {
            "jobs": [job.as_dict() for job in self._jobs],
            "planned": {
                str(device_id): each.as_dict()
                for device_id, each in self._planned.items()
            },
            "lifts": [asdict(lift) for lift in self._lifts],
            "left_out": self._left_out,
        }


def history_store(hass: HomeAssistant, entry_id: str) -> Store[dict[str, Any]]:
    """Return where an account's history import keeps what has to survive a restart."""
    return Store(hass, STORE_VERSION, f"{DOMAIN}.{entry_id}.history")


def _hour(moment: datetime) -> datetime:
    return dt_util.as_utc(moment).replace(minute=0, second=0, microsecond=0)


def _hours(start: datetime, end: datetime) -> Iterable[float]:
    hour = start
    while hour < end:
        yield hour.timestamp()
        hour += timedelta(hours=1)


def _is_recorded(series: Series, recorded: Mapping[str, Recorded]) -> bool:
    """Return whether there is something that the past can lead to."""
    known = recorded.get(series.statistic_id)
    return known is not None and (known.after is not None or not series.is_counter)
