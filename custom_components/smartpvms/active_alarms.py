"""Active alarms of a plant: raised, cleared, and announced once each."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar, Final

from .northbound import Alarm, AlarmLevel, Device

SEVERE: Final = frozenset({AlarmLevel.CRITICAL, AlarmLevel.MAJOR})

# Maximum age of an answer whose alarms are shown.
MAX_AGE: Final = timedelta(hours=1)

# Maximum number of alarms of a plant: each takes 100 to 600 bytes in the stored file.
MAX_ALARMS: Final = 5000

# Number of consecutive complete answers without an alarm that clear it.
ABSENCES: Final = 2


class AlarmEvent(StrEnum):
    """Events of an alarm."""

    RAISED = "raised"
    CLEARED = "cleared"


@dataclass(slots=True)
class ActiveAlarm:
    """An alarm that was not cleared yet."""

    is_record: ClassVar = True

    alarm: Alarm
    announced: datetime | None = None
    absences: int = 0
    """Number of consecutive complete answers without the alarm."""
    is_listed: bool = field(default=False, compare=False, metadata={"stored": False})
    """Whether an answer since the start has the alarm, with the texts to announce."""


@dataclass(slots=True)
class PlantAlarms:
    """Active alarms of a plant."""

    received: datetime | None = None
    """Time of the last complete answer."""
    active: list[ActiveAlarm] = field(default_factory=list)
    cleared: list[Alarm] = field(default_factory=list)
    """Alarms whose clearance was not announced yet."""
    _severe: list[Alarm] = field(default_factory=list, init=False, compare=False)
    """A critical or major alarm of each device that has one."""

    def __post_init__(self) -> None:
        """Find the severe alarms of stored ones."""
        self._find_severe()

    def update(
        self, alarms: Iterable[Alarm], received: datetime, *, is_complete: bool
    ) -> None:
        """Add the alarms of an answer; a complete one clears absent alarms.

        Of too many new alarms, the most severe are added. The others follow when there
        is room for them.
        """
        listed = {alarm.key: alarm for alarm in alarms}
        active: list[ActiveAlarm] = []
        for each in self.active:
            if (alarm := listed.pop(each.alarm.key, None)) is not None:
                each.alarm, each.is_listed = alarm, True
                each.absences = 0
            elif is_complete:
                each.absences += 1
            if each.absences < ABSENCES:
                active.append(each)
            elif each.announced is not None:
                self.cleared.append(each.alarm)
        added = [*listed.values()]
        if len(added) > (room := MAX_ALARMS - len(active)):
            added.sort(key=lambda alarm: [*AlarmLevel].index(alarm.level))
            del added[room:]
        self.active = active + [ActiveAlarm(alarm, is_listed=True) for alarm in added]
        self._find_severe()
        if is_complete:
            self.received = received

    def announce(self, now: datetime) -> Iterator[tuple[AlarmEvent, Alarm]]:
        """Yield the events that were not announced yet, and record them as announced."""
        while self.cleared:
            yield AlarmEvent.CLEARED, self.cleared.pop(0)
        for each in self.active:
            if each.is_listed and each.announced is None:
                each.announced = now
                yield AlarmEvent.RAISED, each.alarm

    def is_current(self, now: datetime) -> bool:
        """Return whether the last complete answer is recent."""
        # A time of the future was set by a wrong clock.
        received = self.received
        return received is not None and abs(now - received) <= MAX_AGE

    @property
    def counts(self) -> Mapping[AlarmLevel, int]:
        """Return the number of alarms of each level."""
        found = Counter(each.alarm.level for each in self.active)
        return {level: found[level] for level in AlarmLevel}

    @property
    def most_severe(self) -> AlarmLevel | None:
        """Return the most severe level, `None` without alarms."""
        return next((level for level, number in self.counts.items() if number), None)

    def has_severe(self, device: Device) -> bool:
        """Return whether a critical or major alarm of a device is active."""
        return any(alarm.is_of(device) for alarm in self._severe)

    def _find_severe(self) -> None:
        severe = {
            (each.alarm.serial_number, each.alarm.device): each.alarm
            for each in self.active
            if each.alarm.level in SEVERE
        }
        self._severe = [*severe.values()]


def alarm_attributes(alarm: Alarm) -> dict[str, int | str | None]:
    """Return an alarm as attributes, less than 4 kB together."""
    return {
        "device": alarm.device,
        "name": alarm.name,
        "level": alarm.level.value,
        "cause": alarm.cause,
        "advice": alarm.advice,
        "alarm_id": alarm.alarm_id,
        "cause_id": alarm.cause_id,
        "raised_at": None if alarm.raised is None else alarm.raised.isoformat(),
    }
