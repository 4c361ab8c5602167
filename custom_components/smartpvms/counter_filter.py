"""Filter of a counter: publishes the energy that was counted, and no fault of the API.

A counter is a raw value that rises and, if it counts a day or a month, starts over once
in its period. The API breaks that with zeros, values of yesterday, dips, jumps and
values of other devices. The filter follows up to three levels of the counter:

- the current level, whose energy is published,
- a pending level, which begins with a reading that the current level cannot reach,
- the former level, which was current before the last change of level or reset, or
  before a rise: a copy is taken every two hours, since the rise may be false.

A reading belongs to the nearest level that can reach it: the rise is small, or the
evidence explains it. The time that a level waits is no evidence. A pending level
replaces the current one after some readings. If its jump can have been energy, the jump
is counted, otherwise only its growth. Readings that go on from the former level
restore it, and replace the energy that was counted since.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, tzinfo
from enum import Enum, StrEnum
from functools import lru_cache
import math
from typing import Final

from .counter_evidence import (
    COLLECTION,
    DAY,
    HOUR,
    JITTER,
    LOAD,
    MARGIN,
    OUTAGE,
    CounterEvidence,
    Level,
    Place,
)
from .plausibility import is_sentinel

# Readings, or rises, that confirm a pending level.
CONFIRMATIONS: Final = 3
# Least share of the power that a pending level counts.
SHARE: Final = 0.5
# Least share of one of several counters in the power of all.
LEAST_SHARE: Final = 0.1
# Factor by which a revenue does not rise in one reading, from an amount on.
MULTIPLE: Final = 3.0
LEAST_MONEY: Final = 100.0
# Seconds of a day in which a counter may still have the value of the day before: in
# winter, inverters wake late.
EARLY: Final = 9.5 * HOUR
# Seconds without a reading in which a reset can go unseen.
PAUSE: Final = 1800.0
# Seconds that decide a doubtful level or jump, and in which a level from before a rise
# or a reset can return.
DOUBT: Final = 2 * HOUR
# Seconds in which a level that was replaced can return.
RETURN: Final = DAY


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


@dataclass(slots=True)
class Pending(Level):
    """A level that is a fault, or replaces the current level."""

    since: float = 0.0
    """Time of the first reading."""
    first_most: float = 0.0
    first_least: float = 0.0
    """Energies of the power up to the first reading."""
    is_plausible: bool = False
    """Whether the jump from the current level can be energy."""
    expected: float = 0.0
    """Expected energy of the jump, by the power."""
    readings: int = 0
    """Number of readings after the first."""
    rises: int = 0
    """Number of rises, a jump upwards included."""


class Verdict(StrEnum):
    """Decision on a reading that is not published as it is."""

    HELD_BACK = "held back"
    RESTORED = "the last rise or reset was false"
    COUNTED = "late energy counted"
    REPLACED = "new level accepted"


@dataclass(slots=True)
class CounterFilter:
    """Filter of one counter, whose fields are its stored state."""

    period: Period
    value: float | None = None
    """Published value, `None` before the first usable reading."""
    start: datetime | None = None
    """Start of the period, `None` for lifetime counters."""
    read: datetime | None = None
    """Time of the last row, also if it repeated the reading before it."""
    current: Level | None = None
    pending: Pending | None = None
    former: Level | None = None
    former_until: float = 0.0
    late_energy: float = 0.0
    """Energy of a jump that is counted if its level lasts."""
    late_energy_due: float = 0.0
    missed_midnight: bool = False
    """Whether the last new reading was long before the first row of the period."""
    evidence: CounterEvidence = field(default_factory=CounterEvidence)
    verdict: Verdict | None = None
    """Decision on the last reading; `None` for a first, repeated, published or reset
    one."""

    @property
    def counted(self) -> float | None:
        """Return the energy of the period, which may be less than the value."""
        return None if self.current is None else round(self.current.counted, 6)

    @property
    def offset(self) -> float:
        """Return the difference between the counted and the raw value."""
        level = self.current
        return 0.0 if level is None else round(level.counted - level.raw, 6)

    @property
    def is_incomplete(self) -> bool:
        """Return whether energy may be missing from the value that is published."""
        # A device that rests does not count, and one that is off reports zeros.
        pending = self.pending
        return pending is not None and (pending.raw == 0 or self.evidence.power != 0)

    @property
    def reset_seen(self) -> bool:
        """Return whether the counter has started over in its period."""
        return self.current is None or self.current.reset_seen

    def update(
        self, raw: float, at: datetime, place: Place, *, live: bool
    ) -> float | None:
        """Take a reading, and return the value to publish.

        `live` is whether the row differs from the one before it.
        """
        self.pass_time(at, place.zone)
        now = at.timestamp()
        if self.current is None:
            self._begin(raw, at, place)
        elif live and now > self.evidence.last_reading:
            self.evidence.add(now, place)
            self.verdict = self._take(raw, place, self.current)
        else:
            self.evidence.repeat(now)
            pending = self.pending
            if pending and pending.is_plausible and raw == pending.raw:
                # A device that rests repeats its row.
                pending.readings += 1
                lasts = self.evidence.is_trusted or now - pending.since >= DOUBT
                if lasts and pending.readings >= CONFIRMATIONS:
                    self.verdict = self._accept(
                        pending, place, self.current, is_energy=True
                    )
        if self.current and self.late_energy and now > self.late_energy_due:
            self.current.counted += self.late_energy
            self.late_energy = 0.0
            self._publish(self.current, place)
        self.read = at
        return self.value

    def pass_time(self, at: datetime, zone: tzinfo) -> float | None:
        """Start a new period at 0 once it has begun, and return the value."""
        self.verdict = None
        start = self.period.start(at, zone)
        level = self.current
        if start and level and self.start and start > self.start:
            if self.pending is not None:
                # The energy during a fault explains no later rise.
                level.most, level.least = self.evidence.most, self.evidence.least
            level.counted = self.value = 0.0
            self.pending = self.former = None
            self.former_until = 0.0
            self.start, level.reset_seen = start, level.raw <= JITTER
            self.missed_midnight = at.timestamp() - self.evidence.last_reading >= PAUSE
        return self.value

    @property
    def _elapsed(self) -> float:
        """Return the seconds from the start of the period to the last reading."""
        return self.evidence.last_reading - self._began

    @property
    def _is_first(self) -> bool:
        """Return whether a reading is the first one after a missed midnight, and early."""
        is_first = self.evidence.last_reading - self.evidence.reading_gap < self._began
        return self.missed_midnight and is_first and self._elapsed < EARLY

    @property
    def _began(self) -> float:
        return self.start.timestamp() if self.start else 0.0

    def _begin(self, raw: float, at: datetime, place: Place) -> None:
        """Take the first reading; of a lifetime counter, not the first zero."""
        is_first_zero = raw == 0 and self.period is Period.LIFETIME and not self.read
        is_negative = raw < 0 and not place.falls
        if is_negative or is_sentinel(raw) or is_first_zero:
            return
        now = at.timestamp()
        self.start = self.period.start(at, place.zone)
        self.evidence = CounterEvidence(
            last_reading=now, last_row=now, power=place.power
        )
        self.evidence.refine(raw)
        power = place.power or 0.0
        carry = MARGIN * power * COLLECTION / HOUR
        self.current = Level(raw, raw, now, now, 0.0, 0.0, carry)
        most = MARGIN * max(place.capacity, power) * (self._elapsed + COLLECTION) / HOUR
        is_early = self.start is not None and self._elapsed < EARLY
        if is_early and place.power is not None and raw > JITTER + most:
            # The counter has not started over yet.
            self.current.reset_seen = False
            self.current.counted = 0.0
        self.value = self.current.counted

    def _take(self, raw: float, place: Place, current: Level) -> Verdict | None:
        """Let a reading go on from the nearest level that can reach it."""
        evidence = self.evidence
        if raw < 0 and not place.falls:
            return Verdict.HELD_BACK
        levels = (current, self.pending)
        reached = [each for each in levels if each and self._reaches(each, raw, place)]
        level = min(reached, key=lambda each: abs(raw - each.raw), default=None)
        if current in reached and abs(raw - current.raw) <= JITTER:
            level = current
        if isinstance(level, Pending):
            return self._confirm(level, raw, place, current)
        if not current.reset_seen and self._is_reset(raw, place, current, level):
            self._reset(raw, place, current)
            return None
        possible = evidence.possible_jump(current, place)
        rise, former = raw - current.raw, self.former
        is_plausible = 0 < rise <= JITTER + evidence.step + possible
        if (
            level is None
            and former
            and not place.falls
            and (former.raw > current.raw or not is_plausible)
            and self._returns(former, raw, place, current)
        ):
            evidence.counter_energy -= max(current.counted - former.counted, 0.0)
            self.current, self.pending, self.former = former, None, current
            self.former_until = evidence.last_reading + DOUBT
            self.late_energy = 0.0
            self._follow(former, raw, place)
            return Verdict.RESTORED
        if (
            level is None
            and (evidence.has_outage(current) or self._was_off)
            and JITTER < rise <= evidence.tolerance + possible
        ):
            # A fault may end soon after the outage: `_follow` keeps the level before it.
            level, self.former_until = current, 0.0
        if level is not None:
            self.pending = None
            if self.missed_midnight and not current.reset_seen:
                if self._is_first:
                    # The rise is of the period before.
                    level.raw = max(raw, level.raw)
                if self._is_first or (rise <= JITTER and level.rose < self._began):
                    level.at = evidence.last_reading
                    return None
            self._follow(level, raw, place)
            return None
        now, most, least = evidence.last_reading, evidence.most, evidence.least
        self.pending = Pending(
            raw=raw,
            counted=0.0,
            at=now,
            rose=now,
            most=most,
            least=least,
            since=now,
            first_most=most,
            first_least=least,
            is_plausible=is_plausible,
            expected=evidence.expected(current),
            rises=int(raw > current.raw),
        )
        return Verdict.HELD_BACK

    @property
    def _was_off(self) -> bool:
        """Return whether the device has reported zeros for as long as an outage."""
        pending, now = self.pending, self.evidence.last_reading
        return pending is not None and pending.raw == 0 and now - pending.since > OUTAGE

    def _reaches(self, level: Level, raw: float, place: Place) -> bool:
        """Return whether a level can rise to a raw value by now."""
        evidence, rise = self.evidence, raw - level.raw
        if place.falls:
            # Zeros, values of yesterday, sentinels and multiples are faults even of
            # money.
            old = self.former
            is_repeated = old is not None and not old.reset_seen and raw == old.raw
            is_multiple = self.period is Period.LIFETIME and abs(raw) > MULTIPLE * max(
                abs(level.raw), LEAST_MONEY
            )
            is_fault = raw == 0 or is_repeated or is_multiple or is_sentinel(raw)
            return rise == 0 or not is_fault
        if rise <= evidence.tolerance:
            return rise >= -JITTER
        energy = evidence.explained(level, place)
        if isinstance(level, Pending) and level.raw and self.current:
            seconds = evidence.interval
            if len(evidence.rises) < CONFIRMATIONS:
                seconds = max(seconds, evidence.last_reading - level.rose)
            span = level.rose - self.current.at
            own = 2 * max(level.raw - self.current.raw, 0.0) / span * seconds
            energy = max(energy, own, evidence.possible(seconds, place))
        return rise <= evidence.tolerance + energy

    def _returns(self, former: Level, raw: float, place: Place, current: Level) -> bool:
        """Return whether a reading goes on from the former level."""
        evidence, rise = self.evidence, raw - former.raw
        if evidence.last_reading > self.former_until:
            return False
        # A value of yesterday may be repeated after the reset.
        if not (former.reset_seen or rise > JITTER):
            return False
        if not self._reaches(former, raw, place):
            return False
        if former.raw > current.raw:
            return True
        least = SHARE * evidence.usual_share * (evidence.least - former.least)
        is_explained = evidence.covers(former.rose) and least - evidence.step <= rise
        if raw < current.raw - JITTER:
            return is_explained or not evidence.covers(former.rose)
        # The current level can be below the former one, and have counted for longer.
        counted = evidence.usual_share * (current.least - former.least)
        is_below = former.raw + counted > current.raw + JITTER + evidence.step
        return is_explained and is_below

    def _is_reset(
        self, raw: float, place: Place, current: Level, level: Level | None
    ) -> bool:
        """Return whether a reading is the first one after the period's reset."""
        evidence, rise = self.evidence, raw - current.raw
        if place.falls:
            # Prices may be negative, but not for most of a day.
            return rise < -JITTER and (self._elapsed > PAUSE or 2 * raw < current.raw)
        has_leapt = current.rose < self._began and (
            (level is None and not self._is_first) or self._is_leap(raw, rise, current)
        )
        possible = evidence.possible(self._elapsed, place, outage=self.missed_midnight)
        largest = evidence.tolerance + max(possible, evidence.one_reading)
        return (rise < -JITTER or has_leapt) and raw <= largest

    def _is_leap(self, raw: float, rise: float, current: Level) -> bool:
        """Return whether a counter has more likely started over than risen."""
        if self.missed_midnight:
            # A rise up to the first reading of the period can be of the one before, and
            # a device that is awake does not repeat a value of yesterday all day.
            has_risen = rise > JITTER and not self._is_first
            return has_risen or self._elapsed >= DAY / 2
        energy = self.evidence.expected(current)
        nearer = abs(raw - energy) < abs(rise - energy)
        return self.evidence.is_trusted and rise > JITTER and nearer

    def _reset(self, raw: float, place: Place, current: Level) -> None:
        """Count from 0 on; energy of the new day that is not in the reading stays."""
        evidence = self.evidence
        counted = current.counted + raw
        if current.rose > self._began + 2 * COLLECTION:
            # The counter has started over within the period.
            counted += max(evidence.expected(current) - raw, 0.0)
        self.former, self.former_until = current, evidence.last_reading + DOUBT
        self.pending = None
        now, carry = evidence.last_reading, MARGIN * evidence.last
        self.current = Level(
            raw, counted, now, now, evidence.most, evidence.least, carry
        )
        self._publish(self.current, place)

    def _confirm(
        self, level: Pending, raw: float, place: Place, current: Level
    ) -> Verdict:
        """Let a reading confirm the pending level, and accept the level if it can be."""
        evidence = self.evidence
        level.readings += 1
        level.rises += raw > level.raw
        evidence.follow(level, raw, place)
        jump, growth = level.raw - level.counted - current.raw, level.counted
        seconds, span = evidence.last_reading - level.since, level.since - current.at
        interval = max(span, seconds / max(level.rises - 1, 1))
        rate_explains = growth / seconds * interval * MARGIN
        fits = 0 < jump <= evidence.tolerance + rate_explains
        least = most = evidence.fastest * seconds
        if evidence.covers(level.since):
            least = evidence.least - level.first_least
            most = evidence.most - level.first_most
        # How much a counter that has never risen counts of its power is unknown.
        share = evidence.usual_share if evidence.rises else LEAST_SHARE
        agrees = growth > 2 * JITTER and (
            SHARE * least * share - evidence.step
            <= growth
            <= MARGIN * most + evidence.tolerance
        )
        lasts = level.rises >= CONFIRMATIONS
        if level.is_plausible and evidence.is_trusted:
            lasts = level.readings >= CONFIRMATIONS
        is_covered = agrees and evidence.covers(current.rose)
        is_energy = level.is_plausible or (fits and not is_covered)
        if lasts and (is_energy or agrees):
            return self._accept(level, place, current, is_energy=is_energy)
        # Money that has started over at 0 differs from 0 soon.
        if seconds >= DOUBT and ((place.falls and level.raw) or lasts):
            return self._accept(level, place, current, is_energy=place.falls)
        return Verdict.HELD_BACK

    def _accept(
        self, level: Pending, place: Place, current: Level, *, is_energy: bool
    ) -> Verdict:
        """Replace the current level by the pending one."""
        evidence, now = self.evidence, self.evidence.last_reading
        jump, growth = level.raw - level.counted - current.raw, level.counted
        if not is_energy:
            span = level.since - current.at
            place = place._replace(capacity=max(place.capacity, LOAD))
            possible = evidence.possible(span + COLLECTION, place, outage=True)
            if evidence.is_trusted and jump <= JITTER + possible:
                # A load that no power has shown yet.
                self.late_energy += max(jump - level.expected, 0.0)
                self.late_energy_due = now + DOUBT
            jump = level.expected
        if not is_energy or now > self.former_until:
            self.former = current
            self.former_until = now + (DOUBT if is_energy else RETURN)
        if jump + growth > 0:
            evidence.add_rise(jump + growth, now - current.rose)
            evidence.refine(level.raw)
        self.pending = None
        self.current = Level(
            raw=level.raw,
            counted=current.counted + jump + growth,
            at=now,
            rose=level.rose,
            most=level.most,
            least=level.least,
            carry=level.carry,
            reset_seen=current.reset_seen,
        )
        self._publish(self.current, place)
        return Verdict.COUNTED if is_energy else Verdict.REPLACED

    def _follow(self, level: Level, raw: float, place: Place) -> None:
        """Move a level to a raw value, keep a copy from before the rise, and publish."""
        evidence, rise, rose = self.evidence, raw - level.raw, level.rose
        if rise > JITTER and evidence.last_reading > self.former_until:
            # The rise may be a fault, although it is explained.
            self.former = replace(level)
            self.former_until = evidence.last_reading + DOUBT
        if evidence.follow(level, raw, place):
            evidence.add_rise(rise, evidence.last_reading - rose)
        self._publish(level, place)

    def _publish(self, level: Level, place: Place) -> None:
        least = -math.inf if place.falls else self.value or 0.0
        self.value = max(least, round(level.counted, 6))


@lru_cache(maxsize=128)
def _midnight(at: datetime, zone: tzinfo) -> datetime:
    """Return the midnight before a moment, which many counters share."""
    return at.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
