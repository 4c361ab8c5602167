"""Energy of a plant since midnight, for servers that do not report it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar


@dataclass(slots=True)
class EnergyToday:
    """Energy since the plant's midnight or the first reading, in kWh."""

    is_record: ClassVar = True

    start: datetime
    """Midnight; on the first day, the first reading unless the server reports the day."""
    read: datetime
    """Time of the last reading."""
    total: float
    """Accumulated energy at the last reading."""
    value: float = 0.0
    recorded: tuple[datetime, float] | None = field(default=None, init=False)
    """Start of the last recorded day and its energy, if this state may be older."""

    @property
    def shown(self) -> tuple[datetime, float]:
        """Return the start and the energy to show until the next reading."""
        return max((self.start, self.value), self.recorded or (self.start, 0.0))

    def update(self, total: float, midnight: datetime, at: datetime) -> float:
        """Add the rise of the accumulated energy, and return the energy of the day.

        The energy of an interval over midnight is divided by time.
        """
        gained = max(total - self.total, 0.0)
        if self.read < midnight:
            gained *= (at - midnight) / (at - self.read)
        # A damaged state can begin in the future.
        if not midnight <= self.start <= at:
            self.value, self.start = 0.0, midnight
        self.value = round(self.value + gained, 6)
        if self.recorded is not None and self.recorded[0] == self.start:
            # Only a state of the same day has counted this day.
            counted = self.value if self.read >= midnight else 0.0
            self.value = max(counted, self.recorded[1])
        self.recorded = None
        self.total, self.read = total, at
        return self.value
