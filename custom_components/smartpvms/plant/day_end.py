"""Energy of a counter between the last reading of a day and midnight.

Counters of a day do not have it: the next reading is of another day. A `DayEndEstimate`
continues the last rise up to midnight. That is right on average, and wrong by minutes
at most, where the energy begins or ends just then.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Self

# Longest time between two readings that is filled.
LONGEST_GAP: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class DayEndEstimate:
    """State of a counter; moments are epoch seconds."""

    value: float
    start: float | None
    """Start of its day; `None` for lifetime counters."""
    read: float | None
    """Time at which a counter of a day was last read."""
    reset_seen: bool
    """Whether it has started over on this day, which may be late."""
    speed: float = 0.0
    """Rise per second between the last two readings without a reset."""

    def follow(
        self,
        value: float,
        start: float | None,
        read: float | None,
        reset_seen: bool,
    ) -> tuple[Self, float, float]:
        """Return the state after a reading, its energy, and the energy left out before."""
        passed = left_out = 0.0
        if read is not None and self.read is not None:
            passed = read - self.read
        is_new, speed = start != self.start, self.speed
        counted = value if is_new else value - self.value
        if reset_seen and (is_new or not self.reset_seen):
            if passed <= LONGEST_GAP.total_seconds():
                # The new day may have counted some of it.
                left_out = max(speed * passed - counted, 0.0)
        elif passed > 0:
            speed = counted / passed
        return type(self)(value, start, read, reset_seen, speed), counted, left_out
