"""Jobs of the import: the hours to fill for some devices."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Self

from custom_components.smartpvms.northbound import HISTORY_SPAN
from homeassistant.util import dt as dt_util

# Time after a window in which a replaced device is confirmed.
LOOK_AHEAD: Final = timedelta(hours=2)
# Hours of the day at which a window begins: a sleeping inverter repeats yesterday's row.
DAYLIGHT: Final = range(10, 17)


class Priority(StrEnum):
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


@dataclass(slots=True, eq=False)
class Job:
    """The hours that are to be filled for some devices."""

    priority: Priority
    devices: tuple[int, ...]
    start: datetime
    end: datetime
    left: datetime
    """Up to when it is still to be done; the rest is."""
    until: datetime
    """Up to when what is recorded says nothing, within the hour after the end."""
    sums: bool = False
    """Whether what is made of the devices' energies is done, too."""
    filled: list[int] = field(default_factory=list)
    """The devices whose newest window is filled."""
    refusals: int = 0
    """The calls for one batch that failed in a row."""
    due: datetime | None = None
    """The time of the next call for a history that is not allowed yet."""
    doubted: bool = False
    """Whether a counter was in doubt when the gap was over."""
    behind: dict[str, float] = field(default_factory=dict)
    """The first filled hour of counters whose first filled window begins later."""

    @classmethod
    def of(
        cls,
        priority: Priority,
        devices: Iterable[int],
        start: datetime,
        end: datetime,
    ) -> Self:
        """Return a job of which nothing is done yet."""
        start, hour = full_hour(start), full_hour(end)
        return cls(priority, tuple(dict.fromkeys(devices)), start, hour, hour, end)

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


@dataclass(slots=True)
class Planned:
    """What was planned of the past of a device, when it was first seen and later."""

    seen: datetime
    start: datetime


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


def full_hour(moment: datetime) -> datetime:
    """Return the start of the hour of a moment."""
    return dt_util.as_utc(moment).replace(minute=0, second=0, microsecond=0)
