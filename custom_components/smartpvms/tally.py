"""What a counter adds up to, over the ends of its days.

What flows between the last reading of a day and its end is in no counter of a day: the
next reading is of another day already. A `Tally` takes the counter to have gone on as it
rose before. That is right on average, and in error by minutes at most, where what is
counted stops or begins just then.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Self

# Readings that are farther apart have nothing known between them.
LONGEST_GAP: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Tally:
    """How far a counter was followed; moments are epoch seconds."""

    value: float
    start: float | None
    """When its day began; `None` for lifetime counters."""
    read: float | None
    """When a counter of a day was last read."""
    reset_seen: bool
    """Whether it has started over on this day, which may be late."""
    speed: float = 0.0
    """What it counted a second between the last two readings without a reset."""

    def follow(
        self,
        value: float,
        start: float | None,
        read: float | None,
        reset_seen: bool,
    ) -> tuple[Self, float, float]:
        """Return the tally after the next reading, what was counted, and left out."""
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
