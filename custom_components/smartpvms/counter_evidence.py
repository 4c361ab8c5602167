"""Evidence for the energy of a counter: the power behind it, and its own rates.

Energy follows power. Between two readings, a counter rises by at most the energy of the
larger of the two powers, with a margin. Where the power is unknown, dead or wrong by a
factor, the rates of the last rises are the evidence. Times are epoch seconds.
"""

from dataclasses import dataclass, field
from datetime import tzinfo
import math
from typing import ClassVar, Final, NamedTuple

from .northbound import EpochTime

# Difference between two copies of one value, in the counter's unit. The second part
# covers the error of binary fractions.
JITTER: Final = 0.05 + 1e-6
# Margin of a power or a rate.
MARGIN: Final = 1.25
# Margin of the rate of a counter without a power.
RATE_MARGIN: Final = 2.0
# Factor by which a counter exceeds a power that is not its own.
DISTRUST: Final = 1.2
# Energy in kWh that decides nothing about a power.
MIN_ENERGY: Final = 0.5
# Mean power in kW of a load that any home may have in two collections.
LOAD: Final = 11.0
# Factor by which a power exceeds capacity and highest power if it is a fault.
ABSURD: Final = 10.0
# Number of rises that make a rate.
RISES: Final = 3
# Decimal places of energies and rates, which are rounded because they are stored.
DIGITS: Final = 4
# Range of the steps of a counter's resolution.
MAX_STEP: Final = 100.0
MIN_STEP: Final = 0.01

HOUR: Final = 3600.0
DAY: Final = 24 * HOUR
# Time between two collections of the server.
COLLECTION: Final = 300.0
# Time without a reading that makes an outage.
OUTAGE: Final = 1200.0
# Time in which the first rise of a counter can have happened.
FIRST_RISE: Final = 4 * HOUR


class CounterContext(NamedTuple):
    """Plant and power of a counter at a reading."""

    zone: tzinfo
    """The plant's time zone."""
    capacity: float
    """The plant's capacity in kW, which explains outages and first rises."""
    power: float | None = None
    """The power in kW whose energy the counter counts, `None` if unknown."""
    max_per_hour: float | None = None
    """Fixed maximum of a counter of something else than energy."""
    may_fall: bool = False
    """Whether falls are true, as those of money with negative prices."""


@dataclass(slots=True)
class Level:
    """A raw value that readings go on from."""

    is_record: ClassVar = True

    raw: float
    at: EpochTime
    """Time of the last reading of this level."""
    rose: EpochTime
    """Time of the last rise."""
    max_energy: float
    min_energy: float
    """Energies of the power up to the last rise."""
    carry: float = 0.0
    """Energy that the power explains beyond the last rise."""
    offset: float = 0.0
    """Difference between the counted energy and the raw value."""
    reset_seen: bool = True
    """Whether the counter has started over in its period."""

    @property
    def counted(self) -> float:
        """Return the energy of the period; of a pending level, since its first reading."""
        return self.raw + self.offset


@dataclass(slots=True)
class CounterEvidence:
    """Evidence of one counter up to its last reading."""

    is_record: ClassVar = True

    last_reading: EpochTime = 0.0
    """Time of the last row that differed from the one before it."""
    last_row: EpochTime = 0.0
    """Time of the last row, which may have repeated the reading before it."""
    step: float = MAX_STEP
    """Largest step that all raw values are multiples of."""
    reading_gap: float = field(default=0.0, compare=False, metadata={"stored": False})
    """Time between the last two readings."""
    row_gap: float = field(default=0.0, compare=False, metadata={"stored": False})
    """Time between the last reading and the row before it."""
    power: float | None = None
    max_energy: float = 0.0
    """Energy of the larger powers at the ends of all intervals."""
    min_energy: float = 0.0
    """Energy of the smaller ones."""
    last: float = field(default=0.0, compare=False, metadata={"stored": False})
    """Larger energy of the last interval."""
    power_energy: float = 0.0
    """Energy of the power during the compared rises, halved every day."""
    counter_energy: float = 0.0
    """Energy of the compared rises, halved every day. Not compared are the first rise,
    rises soon after another or after an outage, and those with an unknown power."""
    highest_power: float = 0.0
    highest_rate: float = 0.0
    """Highest rate of three rises in a row, per hour."""
    rises: list[tuple[float, float]] = field(default_factory=list)
    """The last rises, with the time since the rise before."""
    since_rise: float = 0.0
    """Energy of the power since the last rise."""
    last_unpowered: EpochTime = 0.0
    """Time of the last interval without a usable power."""

    def repeat(self, now: float) -> None:
        """Let the power go on through a row that repeats the last reading."""
        if self.power is not None:
            energy = self.power * max(now - self.last_row, 0.0) / HOUR
            self._add_energy(energy, energy)
        self.last_row = max(self.last_row, now)

    def add(self, now: float, context: CounterContext) -> None:
        """Add the energy of the power since the last reading."""
        self.reading_gap, self.row_gap = now - self.last_reading, now - self.last_row
        self.last_reading = self.last_row = now
        halved = 0.5 ** (self.reading_gap / DAY)
        self.power_energy = round(self.power_energy * halved, DIGITS)
        self.counter_energy = round(self.counter_energy * halved, DIGITS)
        powers = [each for each in (self.power, context.power) if each is not None]
        self.power, self.last = context.power, 0.0
        if not powers:
            self.last_unpowered = now
            return
        smaller, larger = min(powers), max(powers)
        if larger > ABSURD * max(self.highest_power, context.capacity):
            # Such a power is taken once both ends have it.
            self.last_unpowered = now
            if len(powers) == 1:
                return
            larger = smaller
        else:
            self.last = larger * self.row_gap / HOUR
        self._add_energy(self.last, smaller * self.row_gap / HOUR)
        self.highest_power = max(self.highest_power, larger)

    def _add_energy(self, larger: float, smaller: float) -> None:
        """Add the energies of an interval."""
        self.max_energy = round(self.max_energy + larger, DIGITS)
        self.min_energy = round(self.min_energy + smaller, DIGITS)
        self.since_rise = round(self.since_rise + (larger + smaller) / 2, DIGITS)

    def add_rise(self, rise: float, seconds: float) -> None:
        """Add a rise that was counted as energy."""
        self.rises = [*self.rises[1 - RISES :], (round(rise, DIGITS), seconds)]
        if len(self.rises) == RISES:
            total, time = map(math.fsum, zip(*self.rises, strict=True))
            self.highest_rate = max(
                self.highest_rate, round(HOUR * total / time, DIGITS)
            )

    def refine(self, raw: float) -> None:
        """Narrow the step to one that a raw value is a multiple of."""
        while self.step > MIN_STEP and abs(math.remainder(raw, self.step)) > 1e-6:
            self.step = round(self.step / 10, 2)

    @property
    def is_trusted(self) -> bool:
        """Return whether the power is that of the counter."""
        known = self.power is not None
        return (
            known and self.counter_energy <= DISTRUST * self.power_energy + MIN_ENERGY
        )

    @property
    def usual_share(self) -> float:
        """Return the counted share of the power's energy, such as that of one string."""
        if self.power_energy <= MIN_ENERGY:
            return 1.0
        return min(self.counter_energy / self.power_energy, 1.0)

    def covers(self, since: float) -> bool:
        """Return whether the power has been known and trusted since a time."""
        return self.is_trusted and self.last_unpowered <= since

    @property
    def fastest(self) -> float:
        """Return the highest rate of one of the last rises per second."""
        return max((rise / seconds for rise, seconds in self.rises), default=0.0)

    @property
    def collected(self) -> float:
        """Return the shortest time between the last rises."""
        return min((seconds for _, seconds in self.rises), default=0.0)

    @property
    def interval(self) -> float:
        """Return the time in which the rise of one reading can have happened."""
        if self.is_trusted:
            return self.reading_gap
        return max(self.reading_gap + COLLECTION, self.collected)

    @property
    def tolerance(self) -> float:
        """Return the rise that needs no evidence: jitter per collection, and a step."""
        collections = min(max(self.row_gap, COLLECTION), OUTAGE) / COLLECTION
        return JITTER * collections + (self.step if self.rises else MIN_STEP)

    @property
    def one_reading(self) -> float:
        """Return the largest energy of one reading."""
        if self.is_trusted:
            return MARGIN * self.last
        return RATE_MARGIN * self.fastest * self.interval

    def explained(self, level: Level, context: CounterContext) -> float:
        """Return the most that a level can have counted since its last rise.

        With a fixed maximum, or without a trusted power, it is since its last reading.
        """
        if context.max_per_hour is not None:
            return (
                context.max_per_hour
                * (self.last_reading - level.at + COLLECTION)
                / HOUR
            )
        energy = 0.0
        if self.last_unpowered <= level.rose:
            energy = MARGIN * (self.max_energy - level.max_energy) + level.carry
        if self.covers(level.rose):
            return max(energy, self.fastest * min(self.reading_gap, 2 * COLLECTION))
        seconds = self.last_reading - level.at
        return max(energy, RATE_MARGIN * self.fastest * max(seconds, self.collected))

    def has_outage(self, level: Level) -> bool:
        """Return whether an outage is between a level's last reading and this one."""
        return (
            self.row_gap > OUTAGE and self.last_reading - level.at <= self.reading_gap
        )

    def possible(
        self, seconds: float, context: CounterContext, *, outage: bool = False
    ) -> float:
        """Return the most energy of a time: at the highest rate and a trusted power.

        In an outage, the plant's capacity is one of the rates.
        """
        if context.max_per_hour is not None:
            return context.max_per_hour * max(seconds, COLLECTION) / HOUR
        highest = self.highest_rate
        if self.is_trusted:
            highest = max(highest, self.highest_power)
        elif len(self.rises) < RISES:
            outage = True
        if outage:
            highest = max(highest, context.capacity)
        return MARGIN * highest * max(seconds, COLLECTION) / HOUR

    def possible_jump(self, level: Level, context: CounterContext) -> float:
        """Return the most that the counter can have counted since a level's reading."""
        if context.max_per_hour is not None:
            return self.explained(level, context)
        outage = self.has_outage(level)
        if not self.is_trusted:
            seconds = self.interval if self.rises else self.last_reading - level.rose
            known = RATE_MARGIN * self.fastest * (self.last_reading - level.rose)
            return max(self.possible(seconds, context, outage=outage), known)
        # The interval of the first rise has begun before the first reading.
        seconds = max(self.reading_gap, self.collected if self.rises else FIRST_RISE)
        earlier = (
            MARGIN * (self.max_energy - level.max_energy - self.last) + level.carry
        )
        return self.possible(seconds, context, outage=outage) + earlier

    def expected(self, level: Level) -> float:
        """Return the expected energy since a level's last rise, by the power."""
        if not self.is_trusted:
            return 0.0
        if not self.rises:
            return self.last
        energy = (
            self.max_energy - level.max_energy + self.min_energy - level.min_energy
        ) / 2
        # A counter that stood still for longer has not counted.
        longest = max(
            self.last_reading - level.at, *(seconds for _, seconds in self.rises)
        )
        seconds = self.last_reading - level.rose
        return energy * self.usual_share * min(longest / seconds, 1.0)

    def advance(self, level: Level, raw: float, context: CounterContext) -> bool:
        """Move a level to a raw value, and return whether it changed."""
        rise, level.at = raw - level.raw, self.last_reading
        if rise <= 0 and not context.may_fall:
            return False
        left = MARGIN * (self.max_energy - level.max_energy) + level.carry - rise
        level.carry = round(min(max(left, 0.0), MARGIN * self.last), DIGITS)
        # The energy of the first rise has begun before the first reading, and that of
        # a rise soon after an outage within the outage.
        is_whole = self.collected / 2 <= self.last_reading - level.rose
        is_powered = self.last_unpowered <= level.rose
        if self.rises and is_whole and is_powered and self.row_gap <= OUTAGE:
            self.counter_energy = round(self.counter_energy + rise, DIGITS)
            self.power_energy = round(self.power_energy + self.since_rise, DIGITS)
        self.since_rise = 0.0
        level.max_energy, level.min_energy = self.max_energy, self.min_energy
        level.raw, level.rose = raw, self.last_reading
        self.refine(raw)
        return True
