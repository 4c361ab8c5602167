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
from datetime import UTC, datetime, tzinfo
from enum import Enum, StrEnum
from functools import lru_cache
from typing import ClassVar, Final

from .counter_evidence import (
    COLLECTION,
    DAY,
    DIGITS,
    HOUR,
    JITTER,
    LOAD,
    MARGIN,
    OUTAGE,
    CounterContext,
    CounterEvidence,
    Level,
)
from .northbound import EpochTime
from .plausibility import is_sentinel

# Readings, or rises, that confirm a pending level.
CONFIRMATIONS: Final = 3
# Least share of the power that a pending level counts.
SHARE: Final = 0.5
# Least share of one of several counters in the power of all.
MIN_SHARE: Final = 0.1
# Factor by which a revenue does not rise in one reading, from an amount on.
MULTIPLE: Final = 3.0
MIN_MONEY: Final = 100.0
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

    LIFETIME = 0
    DAY = 1
    MONTH = 2

    def start(self, at: datetime, zone: tzinfo) -> datetime | None:
        """Return when the period of a moment began in the plant's time zone."""
        return _period_start(self, at, zone)


@dataclass(slots=True)
class Pending(Level):
    """A level that is a fault, or replaces the current level."""

    since: EpochTime = 0.0
    """Time of the first reading."""
    first_max_energy: float = 0.0
    first_min_energy: float = 0.0
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

    is_record: ClassVar = True

    period: Period
    start: datetime | None = None
    """Start of the period, `None` for lifetime counters."""
    read: datetime | None = None
    """Time of the last row, also if it repeated the reading before it."""
    current: Level | None = None
    evidence: CounterEvidence = field(default_factory=CounterEvidence)
    former: Level | None = None
    former_until: EpochTime = 0.0
    pending: Pending | None = None
    late_energy: float = 0.0
    """Energy of a jump that is counted if its level lasts."""
    late_energy_due: EpochTime = 0.0
    missed_midnight: bool = False
    """Whether the last new reading was long before the first row of the period."""
    lowest: float | None = None
    """Published value that includes a rise that turned out to be false."""
    verdict: Verdict | None = None
    """Decision on the last reading; `None` for a first, repeated, published or reset
    one."""

    @property
    def value(self) -> float | None:
        """Return the published value, `None` before the first usable reading."""
        counted = self.counted
        if counted is None or self.lowest is None:
            return counted
        return max(counted, self.lowest)

    @property
    def counted(self) -> float | None:
        """Return the energy of the period, which may be less than the value."""
        return None if self.current is None else round(self.current.counted, 6)

    @property
    def offset(self) -> float:
        """Return the difference between the counted and the raw value."""
        level = self.current
        return 0.0 if level is None else round(level.offset, 6)

    @property
    def is_incomplete(self) -> bool:
        """Return whether energy may be missing from the value that is published."""
        pending = self.pending
        if pending is None:
            return self._is_late
        # A device that rests does not count, and one that is off reports zeros.
        return pending.raw == 0 or self.evidence.power != 0

    @property
    def _is_late(self) -> bool:
        """Return whether the counter has not begun to count, although energy flows."""
        level, evidence = self.current, self.evidence
        if level is None or not (evidence.rises and evidence.power):
            return False
        has_begun = level.reset_seen and level.raw != 0
        # The power may be that of the other direction of a storage.
        before = self.former if level.reset_seen else level
        has_counted = before is not None and self._began - before.rose < PAUSE
        flowed = evidence.usual_share * (evidence.min_energy - level.min_energy)
        is_early = evidence.last_reading - max(level.rose, self._began) < DOUBT
        return (
            not has_begun
            and has_counted
            and is_early
            and evidence.is_trusted
            and flowed > evidence.step
        )

    @property
    def reset_seen(self) -> bool:
        """Return whether the counter has started over in its period."""
        return self.current is None or self.current.reset_seen

    def update(
        self, raw: float, at: datetime, context: CounterContext, *, live: bool
    ) -> float | None:
        """Take a reading, and return the value to publish.

        `live` is whether the row differs from the one before it.
        """
        self.pass_time(at, context.zone)
        now = int(at.timestamp())
        if self.current is None:
            self._read_first(raw, at, context)
        elif live and now > self.evidence.last_reading:
            self.evidence.add(now, context)
            if now > self.former_until and not context.may_fall:
                self.former, self.former_until = None, 0.0
            self.verdict = self._process(raw, context, self.current)
        else:
            self.evidence.repeat(now)
            pending = self.pending
            if pending and pending.is_plausible and raw == pending.raw:
                # A device that rests repeats its row.
                pending.readings += 1
                lasts = self.evidence.is_trusted or now - pending.since >= DOUBT
                if lasts and pending.readings >= CONFIRMATIONS:
                    self.verdict = self._accept(
                        pending, context, self.current, is_energy=True
                    )
        if self.current and self.late_energy and now > self.late_energy_due:
            self.current.offset = round(self.current.offset + self.late_energy, 6)
            self.late_energy = 0.0
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
                level.max_energy = self.evidence.max_energy
                level.min_energy = self.evidence.min_energy
            level.offset, self.lowest = -level.raw, None
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

    def _read_first(self, raw: float, at: datetime, context: CounterContext) -> None:
        """Take the first reading; of a lifetime counter, not the first zero."""
        is_first_zero = raw == 0 and self.period is Period.LIFETIME and not self.read
        is_negative = raw < 0 and not context.may_fall
        if is_negative or is_sentinel(raw) or is_first_zero:
            return
        now = int(at.timestamp())
        self.start = self.period.start(at, context.zone)
        self.evidence = CounterEvidence(
            last_reading=now, last_row=now, power=context.power
        )
        self.evidence.refine(raw)
        power = context.power or 0.0
        carry = round(MARGIN * power * COLLECTION / HOUR, DIGITS)
        self.current = Level(raw, now, now, 0.0, 0.0, carry)
        max_energy = (
            MARGIN * max(context.capacity, power) * (self._elapsed + COLLECTION) / HOUR
        )
        is_early = self.start is not None and self._elapsed < EARLY
        if is_early and context.power is not None and raw > JITTER + max_energy:
            # The counter has not started over yet.
            self.current.reset_seen = False
            self.current.offset = -raw

    def _process(
        self, raw: float, context: CounterContext, current: Level
    ) -> Verdict | None:
        """Continue the nearest level that can reach a reading."""
        evidence = self.evidence
        if raw < 0 and not context.may_fall:
            return Verdict.HELD_BACK
        levels = (current, self.pending)
        reached = [
            each for each in levels if each and self._can_reach(each, raw, context)
        ]
        level = min(reached, key=lambda each: abs(raw - each.raw), default=None)
        if current in reached and abs(raw - current.raw) <= JITTER:
            level = current
        if isinstance(level, Pending):
            return self._confirm(level, raw, context, current)
        if not current.reset_seen and self._is_reset(raw, context, current, level):
            self._reset(raw, current)
            return None
        rise, possible = raw - current.raw, evidence.possible_jump(current, context)
        is_plausible = 0 < rise <= JITTER + evidence.step + possible
        if level is None:
            former = self.former
            if (
                former
                and (former.raw > current.raw or not is_plausible)
                and self._continues(former, raw, context, current)
            ):
                return self._restore(former, raw, context, current)
            is_outage = evidence.has_outage(current) or self._was_off
            if not (is_outage and JITTER < rise <= evidence.tolerance + possible):
                return self._hold_back(raw, current, is_plausible=is_plausible)
            # A fault may end soon after the outage: `_advance` keeps the level before it.
            level, self.former_until = current, 0.0
        self.pending = None
        if self.missed_midnight and not current.reset_seen:
            if self._is_first:
                # The rise is of the period before.
                counted, level.raw = level.counted, max(raw, level.raw)
                level.offset = round(counted - level.raw, 6)
            if self._is_first or (rise <= JITTER and level.rose < self._began):
                level.at = evidence.last_reading
                return None
        self._advance(level, raw, context)
        return None

    def _restore(
        self, former: Level, raw: float, context: CounterContext, current: Level
    ) -> Verdict:
        """Go on from the former level, and replace the energy counted since."""
        evidence = self.evidence
        evidence.counter_energy -= max(current.counted - former.counted, 0.0)
        self.lowest = self.value
        self.current, self.pending, self.former = former, None, current
        self.former_until = evidence.last_reading + DOUBT
        self.late_energy = 0.0
        self._advance(former, raw, context)
        return Verdict.RESTORED

    def _hold_back(self, raw: float, current: Level, *, is_plausible: bool) -> Verdict:
        """Begin a pending level."""
        evidence = self.evidence
        self.pending = Pending(
            raw=raw,
            offset=-raw,
            at=evidence.last_reading,
            rose=evidence.last_reading,
            max_energy=evidence.max_energy,
            min_energy=evidence.min_energy,
            since=evidence.last_reading,
            first_max_energy=evidence.max_energy,
            first_min_energy=evidence.min_energy,
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

    def _can_reach(self, level: Level, raw: float, context: CounterContext) -> bool:
        """Return whether a level can rise to a raw value by now."""
        evidence, rise = self.evidence, raw - level.raw
        if context.may_fall:
            # Zeros, values of yesterday, sentinels and multiples are faults even of
            # money.
            old = self.former
            is_repeated = old is not None and not old.reset_seen and raw == old.raw
            is_multiple = self.period is Period.LIFETIME and abs(raw) > MULTIPLE * max(
                abs(level.raw), MIN_MONEY
            )
            is_fault = raw == 0 or is_repeated or is_multiple or is_sentinel(raw)
            return rise == 0 or not is_fault
        if rise <= evidence.tolerance:
            return rise >= -JITTER
        energy = evidence.explained(level, context)
        if isinstance(level, Pending) and level.raw and self.current:
            seconds = evidence.interval
            if len(evidence.rises) < CONFIRMATIONS:
                seconds = max(seconds, evidence.last_reading - level.rose)
            span = level.rose - self.current.at
            own = 2 * max(level.raw - self.current.raw, 0.0) / span * seconds
            energy = max(energy, own, evidence.possible(seconds, context))
        return rise <= evidence.tolerance + energy

    def _continues(
        self, former: Level, raw: float, context: CounterContext, current: Level
    ) -> bool:
        """Return whether a reading goes on from the former level."""
        evidence, rise = self.evidence, raw - former.raw
        if context.may_fall or evidence.last_reading > self.former_until:
            return False
        # A value of yesterday may be repeated after the reset.
        if not (former.reset_seen or rise > JITTER):
            return False
        if not self._can_reach(former, raw, context):
            return False
        if former.raw > current.raw:
            return True
        min_energy = (
            SHARE * evidence.usual_share * (evidence.min_energy - former.min_energy)
        )
        is_explained = (
            evidence.covers(former.rose) and min_energy - evidence.step <= rise
        )
        if raw < current.raw - JITTER:
            return is_explained or not evidence.covers(former.rose)
        # The current level can be below the former one, and have counted for longer.
        counted = evidence.usual_share * (current.min_energy - former.min_energy)
        is_below = former.raw + counted > current.raw + JITTER + evidence.step
        return is_explained and is_below

    def _is_reset(
        self, raw: float, context: CounterContext, current: Level, level: Level | None
    ) -> bool:
        """Return whether a reading is the first one after the period's reset."""
        evidence, rise = self.evidence, raw - current.raw
        if context.may_fall:
            # Prices may be negative, but not for most of a day.
            return rise < -JITTER and (self._elapsed > PAUSE or 2 * raw < current.raw)
        has_leapt = current.rose < self._began and (
            (level is None and not self._is_first) or self._is_leap(raw, rise, current)
        )
        possible = evidence.possible(
            self._elapsed, context, outage=self.missed_midnight
        )
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

    def _reset(self, raw: float, current: Level) -> None:
        """Count from 0 on; energy of the new day that is not in the reading stays."""
        evidence = self.evidence
        offset = current.counted
        if current.rose > self._began + 2 * COLLECTION:
            # The counter has started over within the period.
            offset += max(evidence.expected(current) - raw, 0.0)
        self.former, self.former_until = current, evidence.last_reading + DOUBT
        self.pending = None
        now, carry = evidence.last_reading, round(MARGIN * evidence.last, DIGITS)
        self.current = Level(
            raw=raw,
            at=now,
            rose=now,
            max_energy=evidence.max_energy,
            min_energy=evidence.min_energy,
            carry=carry,
            offset=round(offset, 6),
        )

    def _confirm(
        self, level: Pending, raw: float, context: CounterContext, current: Level
    ) -> Verdict:
        """Let a reading confirm the pending level, and accept the level if it can be."""
        evidence = self.evidence
        level.readings += 1
        level.rises += raw > level.raw
        evidence.advance(level, raw, context)
        jump, growth = level.raw - level.counted - current.raw, level.counted
        seconds, span = evidence.last_reading - level.since, level.since - current.at
        interval = max(span, seconds / max(level.rises - 1, 1))
        rate_explains = growth / seconds * interval * MARGIN
        fits = 0 < jump <= evidence.tolerance + rate_explains
        min_energy = max_energy = evidence.fastest * seconds
        if evidence.covers(level.since):
            min_energy = evidence.min_energy - level.first_min_energy
            max_energy = evidence.max_energy - level.first_max_energy
        # How much a counter that has never risen counts of its power is unknown.
        share = evidence.usual_share if evidence.rises else MIN_SHARE
        agrees = growth > 2 * JITTER and (
            SHARE * min_energy * share - evidence.step
            <= growth
            <= MARGIN * max_energy + evidence.tolerance
        )
        lasts = level.rises >= CONFIRMATIONS
        if level.is_plausible and evidence.is_trusted:
            lasts = level.readings >= CONFIRMATIONS
        is_covered = agrees and evidence.covers(current.rose)
        is_energy = level.is_plausible or (fits and not is_covered)
        # Of money, only a level that has started over at 0 is accepted early.
        is_early = not context.may_fall or abs(level.raw - growth) <= JITTER
        if is_early and lasts and (is_energy or agrees):
            return self._accept(level, context, current, is_energy=is_energy)
        if seconds >= DOUBT and ((context.may_fall and level.raw) or lasts):
            return self._accept(level, context, current, is_energy=context.may_fall)
        return Verdict.HELD_BACK

    def _accept(
        self,
        level: Pending,
        context: CounterContext,
        current: Level,
        *,
        is_energy: bool,
    ) -> Verdict:
        """Replace the current level by the pending one."""
        evidence, now = self.evidence, self.evidence.last_reading
        jump, growth = level.raw - level.counted - current.raw, level.counted
        if not is_energy:
            span = level.since - current.at
            context = context._replace(capacity=max(context.capacity, LOAD))
            possible = evidence.possible(span + COLLECTION, context, outage=True)
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
            at=now,
            rose=level.rose,
            max_energy=level.max_energy,
            min_energy=level.min_energy,
            carry=level.carry,
            offset=round(current.counted + jump + growth - level.raw, 6),
            reset_seen=current.reset_seen,
        )
        return Verdict.COUNTED if is_energy else Verdict.REPLACED

    def _advance(self, level: Level, raw: float, context: CounterContext) -> None:
        """Move a level to a raw value, and keep a copy from before the rise."""
        evidence, rise, rose = self.evidence, raw - level.raw, level.rose
        if rise > JITTER and evidence.last_reading > self.former_until:
            # The rise may be a fault, although it is explained.
            self.former = replace(level)
            self.former_until = evidence.last_reading + DOUBT
        if evidence.advance(level, raw, context):
            evidence.add_rise(rise, evidence.last_reading - rose)


@lru_cache(maxsize=128)
def _period_start(period: Period, at: datetime, zone: tzinfo) -> datetime | None:
    if period is Period.LIFETIME:
        return None
    midnight = midnight_before(at, zone)
    start = midnight if period is Period.DAY else midnight.replace(day=1)
    return start.astimezone(UTC)


@lru_cache(maxsize=128)
def midnight_before(at: datetime, zone: tzinfo) -> datetime:
    """Return the midnight before a moment, which many counters share."""
    return at.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
