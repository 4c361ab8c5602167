"""What time it is for the simulated cloud."""

from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
import time
from typing import override


class Clock(ABC):
    """Tell the time of the simulated world."""

    @abstractmethod
    def now(self) -> datetime:
        """Return the current moment, with a time zone."""


class RealClock(Clock):
    """Follow the computer's clock, and freezegun where a test froze it."""

    @override
    def now(self) -> datetime:
        """Return the computer's time."""
        return datetime.fromtimestamp(time.time(), UTC)


class SpedClock(Clock):
    """Run faster or slower than the computer's clock."""

    def __init__(self, factor: float, start: datetime | None = None) -> None:
        """Start at a moment, by default the real one."""
        self._factor = factor
        self._origin = time.time()
        self._start = start or datetime.fromtimestamp(self._origin, UTC)

    @override
    def now(self) -> datetime:
        """Return the start plus the stretched time since then."""
        elapsed = (time.time() - self._origin) * self._factor
        return self._start + timedelta(seconds=elapsed)


class SetClock(Clock):
    """Stand still until a test moves it."""

    def __init__(self, start: datetime) -> None:
        """Stand at the given moment."""
        self._now = start

    @override
    def now(self) -> datetime:
        """Return the moment the clock was set to."""
        return self._now

    def set(self, moment: datetime) -> None:
        """Jump to a moment."""
        self._now = moment

    def tick(self, step: timedelta) -> None:
        """Move on by a step."""
        self._now += step
