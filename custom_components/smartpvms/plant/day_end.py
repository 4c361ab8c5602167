"""Energy of a counter between the last reading of a day and midnight.

Counters of a day miss this energy: the next reading belongs to another day. A
`DayEndEstimate` extends the last rise up to the next reading and subtracts the energy
that the new day has counted. The result is right on average, and wrong by minutes at
most if the flow of energy begins or ends around midnight.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Final, Self

from custom_components.smartpvms.northbound import EpochTime

# Longest time between two readings for which energy is estimated.
MAX_GAP: Final = timedelta(minutes=15)
HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class DayEndEstimate:
    """State of a counter."""

    is_record: ClassVar = True

    value: float
    start: EpochTime | None = None
    """Start of its day; `None` for lifetime counters."""
    read: EpochTime | None = None
    """Time of the last reading; `None` for lifetime counters."""
    reset_seen: bool = True
    """Whether the counter has started over on this day, which may happen late."""
    speed: float = 0.0
    """Rise per hour between the last two readings without a reset."""

    def follow(
        self,
        value: float,
        start: float | None,
        read: float | None,
        reset_seen: bool,
    ) -> tuple[Self, float, float]:
        """Return the new state, the counted energy, and the energy missed before it."""
        passed = left_out = 0.0
        if read is not None and self.read is not None:
            passed = read - self.read
        is_new, speed = start != self.start, self.speed
        counted = value if is_new else value - self.value
        if reset_seen and (is_new or not self.reset_seen):
            if passed <= MAX_GAP.total_seconds():
                # The new day's value may include part of this energy.
                left_out = max(speed * passed / HOUR - counted, 0.0)
        elif passed > 0:
            speed = round(HOUR * counted / passed, 6)
        return type(self)(value, start, read, reset_seen, speed), counted, left_out
