"""What a counter adds up to, over the ends of its days.

What flows between the last reading of a day and midnight is in no counter of a day: the
next reading is of another day already. A `Tally` takes the counter to have gone on as it
rose before. That is right on average, and in error by minutes at most, where what is
counted stops or begins just then.
"""

from datetime import timedelta
from typing import Final, NamedTuple, Self

# Readings that are farther apart have nothing known between them.
LONGEST_GAP: Final = timedelta(minutes=15)


class Tally(NamedTuple):
    """How far a counter was followed; moments are epoch seconds."""

    value: float
    start: float | None
    """When its day began; `None` for lifetime counters."""
    read: float | None
    """When it was last read."""
    speed: float = 0.0
    """What it counted a second between the last two readings of one day."""

    def follow(
        self, value: float, start: float | None, read: float | None
    ) -> tuple[Self, float]:
        """Return the tally after the next reading, and what was counted until then."""
        passed = 0.0
        if read is not None and self.read is not None:
            passed = read - self.read
        counted, speed = value - self.value, self.speed
        if start != self.start:
            close = passed <= LONGEST_GAP.total_seconds()
            # The new day may have counted some of it.
            counted = max(value, speed * passed if close else 0.0)
        elif passed > 0:
            speed = counted / passed
        return type(self)(value, start, read, speed), counted
