"""What a counter may do, and what is a fault of the API.

A counter is a raw value that may only rise and, if it counts a day or a month, starts
over once in its period. The API breaks that in many ways: zeros, yesterday's values,
dips after midnight, absurd jumps. A `Counter` publishes a value that never falls inside
its period, and that rises only by what can be true. It asks of a reading, in this order:

1. Is it the value of the period before, again, after the counter has already started
   over? Then it is held back.
2. Can it follow from the last level, rising no faster than is physically possible? Then
   it is true.
3. Can it follow from the level before the last rise or reset? Then that rise or reset
   was false. What it had added stays published until the truth has caught up with it.
4. Can it have been counted since the period began, and has the period's reset not been
   seen yet? Then this is the reset.
5. Anything else cannot be true and is held back. If it lasts and grows like a counter,
   it is a new level, such as that of a replaced inverter: the published value goes on
   from where it was, by what the new level has counted since it appeared, and by what it
   appeared with if that can have been counted as well.
   A day that was started over is still such a level when it overtakes the old one.

The published value is the level plus an offset, and the offset is 0 unless the API reset
a counter at another moment than the plant's midnight, or a level was replaced.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo
from enum import Enum
from functools import lru_cache
from typing import Any, Final, NamedTuple, Self

# How far the API's copies of one value may differ, in the counter's unit.
JITTER: Final = 0.05
# The server's values are up to one collection older than its clock.
LAG: Final = timedelta(minutes=5)
# A reset can go unseen in a pause between readings that is at least this long.
PAUSE: Final = timedelta(minutes=30)
# What looks impossible has proved itself when it has lasted and grown like this.
PROOF_TIME: Final = timedelta(hours=2)
PROOF_RISE: Final = 4 * JITTER
_HOUR: Final = timedelta(hours=1)
_NOTHING: Final = timedelta()
# The last so many decisions are remembered.
REMEMBERED: Final = 5


class Period(Enum):
    """How often a counter starts over."""

    LIFETIME = "lifetime"
    DAY = "day"
    MONTH = "month"

    def start(self, at: datetime, zone: tzinfo) -> datetime | None:
        """Return when the period of a moment began in the plant's time zone."""
        if self is Period.LIFETIME:
            return None
        midnight = _midnight(at, zone)
        return midnight if self is Period.DAY else midnight.replace(day=1)


class Place(NamedTuple):
    """Where a counter counts."""

    zone: tzinfo
    """The plant's time zone."""
    most_per_hour: float
    """The most that can be counted in an hour, in the counter's unit."""

    def most(self, since: datetime, until: datetime) -> float:
        """Return the most that can be counted between two moments."""
        span = max(until - since, _NOTHING) + LAG
        return self.most_per_hour * (span / _HOUR) + JITTER


class Level(NamedTuple):
    """A raw value, and what has to be added to publish it."""

    raw: float
    offset: float
    rose: datetime
    """When the raw value last rose."""
    confirmed: datetime
    """When the raw value was last known not to be a copy kept by the server."""
    reset_seen: bool
    """Whether the counter has started over in this period."""

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Restore what `as_dict` kept."""
        return cls(
            raw=float(state["raw"]),
            offset=float(state["offset"]),
            rose=datetime.fromisoformat(state["rose"]),
            confirmed=datetime.fromisoformat(state["confirmed"]),
            reset_seen=state["reset_seen"],
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the level as what JSON can hold."""
        return {
            "raw": self.raw,
            "offset": self.offset,
            "rose": self.rose.isoformat(),
            "confirmed": self.confirmed.isoformat(),
            "reset_seen": self.reset_seen,
        }

    @property
    def counted(self) -> float:
        """What the level means for the period."""
        return round(self.raw + self.offset, 6)

    def leads_to(self, raw: float, at: datetime, place: Place) -> bool:
        """Return whether a raw value can follow."""
        return -JITTER <= raw - self.raw <= place.most(self.confirmed, at)

    def risen(self, raw: float, at: datetime, live: bool) -> Self:
        """Return the level after a reading that can follow; jitter does not lower it."""
        if raw > self.raw:
            return type(self)(raw, self.offset, at, at, self.reset_seen)
        return self.confirmed_at(at) if live else self

    def confirmed_at(self, at: datetime) -> Self:
        """Return the level after a reading that is its own."""
        return type(self)(self.raw, self.offset, self.rose, at, self.reset_seen)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A level that cannot be true unless it proves itself."""

    level: Level
    first: float
    since: datetime

    @property
    def has_grown(self) -> bool:
        """Whether it counts, unlike a value that is stuck."""
        return self.level.raw - self.first >= PROOF_RISE

    def proved(self, at: datetime) -> bool:
        """Return whether it has lasted and grown like a counter."""
        return self.has_grown and at - self.since >= PROOF_TIME


class Verdict(Enum):
    """What was decided on a reading that is not published as it is."""

    HELD_BACK = "held back"
    UNDONE = "the last rise or reset was false"
    REPLACED = "new level accepted"


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided on one or more readings in a row."""

    verdict: Verdict
    raw: float
    """The last of the readings."""
    first: datetime
    last: datetime
    readings: int

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Restore what `as_dict` kept."""
        return cls(
            verdict=Verdict[state["verdict"]],
            raw=float(state["raw"]),
            first=datetime.fromisoformat(state["first"]),
            last=datetime.fromisoformat(state["last"]),
            readings=int(state["readings"]),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the decision as what JSON can hold."""
        return {
            "verdict": self.verdict.name,
            "raw": self.raw,
            "first": self.first.isoformat(),
            "last": self.last.isoformat(),
            "readings": self.readings,
        }


@dataclass(slots=True)
class Counter:
    """The guard of one counter."""

    period: Period
    value: float | None = None
    """What is published; `None` as long as nothing can be."""
    start: datetime | None = None
    """When the period began; `None` for lifetime counters."""
    level: Level | None = None
    before: Level | None = None
    """The level before its last rise or reset."""
    candidate: Candidate | None = None
    read: datetime | None = None
    """When the last reading was."""
    stale: float | None = None
    """The last raw value of the period before."""
    decisions: list[Decision] = field(default_factory=list)
    """The last decisions on what could not be published as it was."""

    @classmethod
    def from_dict(cls, period: Period, state: Mapping[str, Any]) -> Self:
        """Restore what `as_dict` kept."""
        candidate = state["candidate"]
        return cls(
            period=period,
            value=_number(state["value"]),
            start=_moment(state["start"]),
            level=_level(state["level"]),
            before=_level(state["before"]),
            candidate=candidate
            and Candidate(
                Level.from_dict(candidate["level"]),
                float(candidate["first"]),
                datetime.fromisoformat(candidate["since"]),
            ),
            read=_moment(state["read"]),
            stale=_number(state["stale"]),
            decisions=[Decision.from_dict(each) for each in state["decisions"]],
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the state as what JSON can hold."""
        return {
            "value": self.value,
            "start": self.start and self.start.isoformat(),
            "level": self.level and self.level.as_dict(),
            "before": self.before and self.before.as_dict(),
            "candidate": self.candidate
            and {
                "level": self.candidate.level.as_dict(),
                "first": self.candidate.first,
                "since": self.candidate.since.isoformat(),
            },
            "read": self.read and self.read.isoformat(),
            "stale": self.stale,
            "decisions": [decision.as_dict() for decision in self.decisions],
        }

    def repeats(self, raw: float, at: datetime, zone: tzinfo, *, live: bool) -> bool:
        """Return whether a reading only confirms what is published.

        That is what most readings do, so it is found out without much ado.
        """
        level = self.level
        if level is None or raw != level.raw or self.candidate is not None:
            return False
        self.pass_time(at, zone)
        if live:
            self.level = (self.level or level).confirmed_at(at)
        self.read = at
        return True

    def update(
        self, raw: float, at: datetime, place: Place, *, live: bool
    ) -> float | None:
        """Take a reading, with the server's time, and return what to publish.

        `live` says that the server does not repeat itself: other values of the same
        device have changed.
        """
        self.pass_time(at, place.zone)
        if self.level is None:
            self._begin(raw, at, place.zone)
        elif raw < 0 or self._is_stale(raw, self.level):
            self._decide(Verdict.HELD_BACK, raw, at)
        else:
            self._follow(raw, at, place, self.level, live)
        self.read = at
        return self.value

    def pass_time(self, at: datetime, zone: tzinfo) -> float | None:
        """Begin a new period at 0, wherever the raw value still is."""
        if self.period is Period.LIFETIME:
            return self.value
        start = self.period.start(at, zone)
        if self.level and start and self.start and start > self.start:
            self.start = start
            self.stale = self.level.raw
            self.level = self.level._replace(offset=-self.level.raw, reset_seen=False)
            self.before = self.candidate = None
            self.value = 0.0
        return self.value

    def _begin(self, raw: float, at: datetime, zone: tzinfo) -> None:
        """Take the first reading; of a lifetime counter, only its second zero."""
        lifetime = self.period is Period.LIFETIME
        if raw < 0 or (raw == 0 and lifetime and self.read is None):
            return
        self.start = self.period.start(at, zone)
        self.level = Level(raw, 0.0, at, at, reset_seen=True)
        self.value = raw

    def _is_stale(self, raw: float, level: Level) -> bool:
        """Return whether the period before is reported after the reset."""
        return (
            self.stale is not None
            and level.reset_seen
            and level.raw <= JITTER < raw
            and abs(raw - self.stale) <= JITTER
        )

    def _follow(
        self, raw: float, at: datetime, place: Place, level: Level, live: bool
    ) -> None:
        before = self.before
        reset = self._is_reset(raw, at, place, level)
        if self._is_overtaking(raw, at, place, level):
            self._hold(raw, at, place, level, live)
        elif level.leads_to(raw, at, place) and not (reset and self._has_paused(at)):
            if raw - level.raw > JITTER:
                self.before = level
            self._publish(level.risen(raw, at, live))
        elif before is not None and before.leads_to(raw, at, place):
            self.before = None
            self._decide(Verdict.UNDONE, raw, at)
            self._publish(before.risen(raw, at, live))
        elif reset:
            self.before = level
            # What the server counted after midnight but before it reset stays, if it
            # is more than a late copy of the day before.
            offset = level.counted if level.counted > JITTER else 0.0
            self._publish(Level(raw, offset, at, at, reset_seen=True))
        else:
            self._hold(raw, at, place, level, live)

    def _is_reset(self, raw: float, at: datetime, place: Place, level: Level) -> bool:
        """Return whether a reading can be the first one after the period's reset."""
        return (
            not level.reset_seen
            and self.start is not None
            and abs(raw - level.raw) > JITTER
            and raw <= place.most(max(self.start, level.rose), at)
        )

    def _has_paused(self, at: datetime) -> bool:
        """Return whether the reset can have gone unseen."""
        read, start = self.read, self.start
        return bool(read and start and read < start and at - read >= PAUSE)

    def _is_overtaking(
        self, raw: float, at: datetime, place: Place, level: Level
    ) -> bool:
        """Return whether a day that was started over gets to where it had been."""
        candidate = self.candidate
        return (
            self.period is Period.DAY
            and candidate is not None
            and candidate.has_grown
            and candidate.first <= place.most(level.confirmed, candidate.since)
            and candidate.level.leads_to(raw, at, place)
        )

    def _hold(
        self, raw: float, at: datetime, place: Place, level: Level, live: bool
    ) -> None:
        """Hold a reading back that cannot be true, until it has proved itself."""
        candidate = self.candidate
        if candidate is not None and candidate.level.leads_to(raw, at, place):
            candidate = replace(candidate, level=candidate.level.risen(raw, at, live))
        else:
            candidate = Candidate(Level(raw, 0.0, at, at, level.reset_seen), raw, at)
        self.candidate = candidate
        if not candidate.proved(at):
            self._decide(Verdict.HELD_BACK, raw, at)
            return
        self._decide(Verdict.REPLACED, raw, at)
        gained = candidate.level.raw - candidate.first
        if candidate.first <= place.most(level.confirmed, candidate.since):
            gained += candidate.first
        self.before = None
        self._publish(
            candidate.level._replace(
                offset=level.counted + gained - candidate.level.raw
            )
        )

    def _decide(self, verdict: Verdict, raw: float, at: datetime) -> None:
        """Remember a decision; the same on the reading before is one with it."""
        decision = Decision(verdict, raw, at, at, 1)
        last = self.decisions[-1] if self.decisions else None
        if last and last.verdict is verdict and last.last == self.read:
            decision = replace(last, raw=raw, last=at, readings=last.readings + 1)
            self.decisions.pop()
        self.decisions = [*self.decisions[1 - REMEMBERED :], decision]

    def _publish(self, level: Level) -> None:
        self.level = level
        self.candidate = None
        self.value = max(self.value or 0.0, level.counted)


@lru_cache(maxsize=128)
def _midnight(at: datetime, zone: tzinfo) -> datetime:
    """Return when a day began; a moment is that of many readings."""
    return at.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)


def _level(state: Mapping[str, Any] | None) -> Level | None:
    return None if state is None else Level.from_dict(state)


def _number(state: float | None) -> float | None:
    return None if state is None else float(state)


def _moment(state: str | None) -> datetime | None:
    return None if state is None else datetime.fromisoformat(state)
