"""Jobs of the import: the hours to fill for some devices."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from itertools import groupby
import math
from operator import attrgetter
from typing import Final, Self

from custom_components.smartpvms.northbound import HISTORY_SPAN, Device, DeviceId
from homeassistant.util import dt as dt_util

# Time after a window whose readings confirm that a device was replaced.
LOOK_AHEAD: Final = timedelta(hours=2)
# Hours at which a window may begin: a sleeping inverter repeats yesterday's row.
DAYLIGHT: Final = range(10, 17)

# Interval between two requests for a history that is not allowed yet.
NOT_ALLOWED_RETRY: Final = timedelta(hours=4)


class Priority(IntEnum):
    """Priorities of jobs, the highest first."""

    GAP = 1
    REQUEST = 2
    PAST = 3


class Activity(StrEnum):
    """State of the import; the later ones take precedence."""

    IDLE = "idle"
    RUNNING = "running"
    WAITING = "waiting"
    FAILED = "failed"


@dataclass(slots=True, eq=False)
class Job:
    """Hours to fill for some devices."""

    priority: Priority
    devices: tuple[DeviceId, ...]
    start: datetime
    end: datetime
    remaining_end: datetime
    """End of the hours that are not filled yet; later ones are filled."""
    exact_end: datetime
    """Exact end, within the hour after `end`; only later 5-minute rows are valid."""
    filled_devices: list[DeviceId] = field(default_factory=list)
    """Devices whose newest window is filled."""
    refusals: int = 0
    """Number of consecutive refusals of one batch."""
    due: datetime | None = None
    """Time of the next attempt of a postponed job."""
    had_pending_level: bool = False
    """Whether a counter had a pending level when the gap ended."""
    first_filled_hours: dict[str, float] = field(default_factory=dict)
    """First filled hour of counters, by statistic, that lack the hours before it."""

    @classmethod
    def of(
        cls,
        priority: Priority,
        devices: Iterable[int],
        start: datetime,
        end: datetime,
    ) -> Self:
        """Return a new job for the full hours of a period."""
        start, hour = full_hour(start), full_hour(end)
        return cls(
            priority=priority,
            devices=tuple(dict.fromkeys(devices)),
            start=start,
            end=hour,
            remaining_end=hour,
            exact_end=end,
        )

    @property
    def done(self) -> bool:
        """Return whether all hours are filled."""
        return self.remaining_end <= self.start

    @property
    def window(self) -> tuple[datetime, datetime]:
        """Return the newest window that is not filled, of the span of one request.

        It begins in daylight or at the start of the job.
        """
        return self._window_start(self.remaining_end), self.remaining_end

    @property
    def windows(self) -> Iterator[tuple[datetime, datetime]]:
        """Yield the windows that are not filled, the newest first."""
        end = self.remaining_end
        while end > self.start:
            start = self._window_start(end)
            yield start, end
            end = start

    def _window_start(self, end: datetime) -> datetime:
        start = end - HISTORY_SPAN + LOOK_AHEAD
        while dt_util.as_local(start).hour not in DAYLIGHT:
            start += timedelta(hours=1)
        return max(start, self.start)

    def days(self, end: datetime) -> float:
        """Return the days from the start to a time, added up over the devices."""
        days = max(end - self.start, timedelta()) / timedelta(days=1)
        return days * len(self.devices)


@dataclass(slots=True)
class JobQueue:
    """Jobs of an account, the most urgent first."""

    jobs: list[Job] = field(default_factory=list)

    @property
    def days(self) -> float:
        """Return the planned days, added up over the devices."""
        return math.fsum(job.days(job.end) for job in self.jobs)

    @property
    def days_left(self) -> float:
        """Return the remaining days, added up over the devices."""
        return math.fsum(job.days(job.remaining_end) for job in self.jobs)

    def next(self, now: datetime) -> Job | None:
        """Return the most urgent job that is not done and not postponed."""
        jobs = [
            job
            for job in self.jobs
            if not job.done and (job.due is None or job.due <= now)
        ]
        return min(
            jobs, key=lambda job: (job.due is not None, job.priority), default=None
        )

    def join_requests(self, job: Job) -> tuple[Job, bool]:
        """Join a request with unfinished ones, and return whether there were any."""
        others = [
            other
            for other in self.jobs
            if other.priority is Priority.REQUEST and not other.done
        ]
        for other in others:
            self.jobs.remove(other)
            job = Job.of(
                Priority.REQUEST,
                (*job.devices, *other.devices),
                min(job.start, other.start),
                max(job.exact_end, other.exact_end),
            )
        return job, bool(others)

    def split(self, job: Job, devices: Iterable[Device]) -> Job:
        """Move some devices of a job to a separate job, and return it."""
        ids = {device.id for device in devices}
        if ids.issuperset(job.devices):
            return job
        part = replace(
            job,
            devices=tuple(each for each in job.devices if each in ids),
            filled_devices=[each for each in job.filled_devices if each in ids],
            first_filled_hours=dict(job.first_filled_hours),
            refusals=0,
        )
        job.devices = tuple(each for each in job.devices if each not in ids)
        self.jobs.append(part)
        return part

    def postpone(self, job: Job, devices: Iterable[Device]) -> None:
        """Postpone devices by `NOT_ALLOWED_RETRY`, with one job per plant."""
        plant_of = attrgetter("plant_code")
        for _, of_plant in groupby(sorted(devices, key=plant_of), plant_of):
            part = self.split(job, of_plant)
            part.due = dt_util.utcnow() + NOT_ALLOWED_RETRY
            part.refusals = 0

    def remove_done(self) -> None:
        """Remove the jobs that are done."""
        self.jobs = [job for job in self.jobs if not job.done]


@dataclass(slots=True)
class PlannedHistory:
    """Time at which a device was first seen, and start of its planned history."""

    seen: datetime
    start: datetime


@dataclass(frozen=True, slots=True)
class RequestSummary:
    """Scope of a request for history, and number of its calls."""

    devices: int
    start: datetime
    end: datetime
    calls: int
    joined: bool
    """Whether it is joined with earlier requests."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Time until the next attempt, and the activity to show until then."""

    time: timedelta
    activity: Activity = Activity.WAITING


def full_hour(moment: datetime) -> datetime:
    """Return the start of the hour of a time in UTC."""
    return dt_util.as_utc(moment).replace(minute=0, second=0, microsecond=0)
