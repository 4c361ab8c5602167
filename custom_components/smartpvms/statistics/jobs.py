"""Jobs of the import: the hours to fill for some devices."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
import math
from typing import Final, Self

from custom_components.smartpvms.northbound import HISTORY_SPAN
from homeassistant.util import dt as dt_util

# Time after a window whose readings confirm that a device was replaced.
LOOK_AHEAD: Final = timedelta(hours=2)
# Hours at which a window may begin: a sleeping inverter repeats yesterday's row.
DAYLIGHT: Final = range(10, 17)


class Priority(StrEnum):
    """Priorities of jobs, the highest first."""

    GAP = "gap"
    REQUEST = "request"
    PAST = "past"


class Activity(StrEnum):
    """State of the import."""

    IDLE = "idle"
    RUNNING = "running"
    WAITING = "waiting"
    FAILED = "failed"


@dataclass(slots=True, eq=False)
class Job:
    """Hours to fill for some devices."""

    priority: Priority
    devices: tuple[int, ...]
    start: datetime
    end: datetime
    left: datetime
    """End of the hours that are not filled yet; later ones are filled."""
    until: datetime
    """Exact end, within the hour after `end`; only later 5-minute rows are valid."""
    sums: bool = False
    """Whether the derived statistics are filled, too."""
    filled: list[int] = field(default_factory=list)
    """Devices whose newest window is filled."""
    refusals: int = 0
    """Number of consecutive refusals of one batch."""
    due: datetime | None = None
    """Time of the next attempt of a postponed job."""
    doubted: bool = False
    """Whether a counter had a pending level when the gap ended."""
    behind: dict[str, float] = field(default_factory=dict)
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
        return cls(priority, tuple(dict.fromkeys(devices)), start, hour, hour, end)

    @property
    def done(self) -> bool:
        """Return whether all hours and derived statistics are filled."""
        return self.sums and self.left <= self.start

    @property
    def window(self) -> tuple[datetime, datetime]:
        """Return the newest window that is left, of the span of one call.

        It begins in daylight or at the start of the job.
        """
        return self._window(self.left), self.left

    @property
    def windows(self) -> int:
        """Return the number of windows that are left."""
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
        """Return the days from the start to a time, added up over the devices."""
        return (
            max(since - self.start, timedelta()) / timedelta(days=1) * len(self.devices)
        )


@dataclass(slots=True)
class JobQueue:
    """Jobs of an account, the most urgent first."""

    jobs: list[Job] = field(default_factory=list)

    @property
    def progress(self) -> float:
        """Return the progress in percent."""
        planned = math.fsum(job.days(job.end) for job in self.jobs)
        return 100 * (1 - self.days_left / planned) if planned else 100.0

    @property
    def days_left(self) -> float:
        """Return the remaining days, added up over the devices."""
        return math.fsum(job.days(job.left) for job in self.jobs)

    def next(self, now: datetime) -> Job | None:
        """Return the most urgent job that is not done and not postponed."""
        jobs = [
            job
            for job in self.jobs
            if not job.done and (job.due is None or job.due <= now)
        ]
        order = list(Priority)
        return min(
            jobs,
            key=lambda job: (job.due is not None, order.index(job.priority)),
            default=None,
        )

    def join_requests(self, job: Job) -> tuple[Job, bool]:
        """Join a request with unfinished ones; return whether there was any."""
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
                max(job.until, other.until),
            )
        return job, bool(others)

    def split(self, job: Job, device_ids: Collection[int]) -> Job:
        """Move some devices of a job to a separate job, and return it."""
        ids = {*device_ids}
        if ids.issuperset(job.devices):
            return job
        part = replace(
            job,
            devices=tuple(each for each in job.devices if each in ids),
            filled=[each for each in job.filled if each in ids],
            refusals=0,
        )
        job.devices = tuple(each for each in job.devices if each not in ids)
        self.jobs.append(part)
        return part

    def remove_done(self) -> None:
        """Remove the jobs that are done."""
        self.jobs = [job for job in self.jobs if not job.done]


@dataclass(slots=True)
class Planned:
    """Time at which a device was first seen, and start of its planned history."""

    seen: datetime
    start: datetime


@dataclass(frozen=True, slots=True)
class Plan:
    """Scope of a request, and number of its calls."""

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
