"""Clocks of the simulated cloud."""

from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
import time
from typing import override


class Clock(ABC):
    """A clock."""

    @abstractmethod
    def now(self) -> datetime:
        """Return the current time with a time zone."""


class RealClock(Clock):
    """The computer's clock, which may be frozen by freezegun."""

    @override
    def now(self) -> datetime:
        """Return the computer's time."""
        return datetime.fromtimestamp(time.time(), UTC)


class SpedClock(Clock):
    """A clock that is faster or slower than the computer's."""

    def __init__(self, factor: float, start: datetime | None = None) -> None:
        """Start at a time, by default the real time."""
        self._factor = factor
        self._origin = time.time()
        self._start = start or datetime.fromtimestamp(self._origin, UTC)

    @override
    def now(self) -> datetime:
        """Return the start plus the scaled time since then."""
        elapsed = (time.time() - self._origin) * self._factor
        return self._start + timedelta(seconds=elapsed)


class SetClock(Clock):
    """A clock that only a test moves."""

    def __init__(self, start: datetime) -> None:
        """Start at a time."""
        self._now = start

    @override
    def now(self) -> datetime:
        """Return the time of the clock."""
        return self._now

    def set(self, moment: datetime) -> None:
        """Set the time."""
        self._now = moment

    def tick(self, step: timedelta) -> None:
        """Advance the time."""
        self._now += step
