"""Tests of the counter filter: named faults, and properties of honest counters."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property
from itertools import accumulate, pairwise
import json
import math
from random import Random
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from hypothesis import assume, given, settings, strategies as st
import pytest

from custom_components.smartpvms.counter_evidence import JITTER, MARGIN, Place
from custom_components.smartpvms.counter_filter import (
    REMEMBERED,
    CounterFilter,
    Period,
    Verdict,
)

BERLIN: Final = ZoneInfo("Europe/Berlin")
HOUR: Final = 3600.0
POLL: Final = timedelta(minutes=5)
# A roof of 10 kWp.
PLACE: Final = Place(BERLIN, capacity=11.0)
# The capacity of a plant where none is known.
ANY_CAPACITY: Final = 1100.0
MIDNIGHT: Final = datetime(2026, 6, 21, tzinfo=BERLIN).astimezone(UTC)
MORNING: Final = MIDNIGHT + timedelta(hours=9)


class Feed:
    """Feeds a counter reading by reading."""

    def __init__(
        self, period: Period, at: datetime = MORNING, place: Place = PLACE
    ) -> None:
        """Start at a moment."""
        self.counter = CounterFilter(period)
        self.at = at
        self.place = place

    def __call__(
        self, *raws: float, power: float | None = None, live: bool = True
    ) -> list[float | None]:
        """Take readings, each five minutes after the one before."""
        return [self._take(raw, power, live) for raw in raws]

    def _take(self, raw: float, power: float | None, live: bool) -> float | None:
        place = self.place._replace(power=power)
        value = self.counter.update(raw, self.at, place, live=live)
        self.at += POLL
        return value

    def wait(self, **span: float) -> None:
        """Let time pass without a reading."""
        self.at += timedelta(**span)


def rising(raw: float, kw: float, readings: int) -> list[float]:
    """Return the readings of a counter that counts a power from a raw value on."""
    return [round(raw + n * kw / 12, 2) for n in range(readings)]


def decisions(feed: Feed) -> list[tuple[str, float, int]]:
    """Return the decisions on the readings."""
    return [(each.verdict, each.raw, each.readings) for each in feed.counter.decisions]


# Single faults.


def test_honest_counter_is_published_as_it_is() -> None:
    """Readings that the power explains are published at once, to the last digit."""
    feed = Feed(Period.LIFETIME)
    readings = [5000.0, 5000.1, 5000.1, 5000.73, 5001.53]
    assert feed(*readings, power=11.0) == readings
    assert not feed.counter.decisions


def test_honest_counter_without_a_power() -> None:
    """Without a power, the third rise in a row is published with all of them."""
    feed = Feed(Period.LIFETIME)
    readings = rising(5000.0, 6.0, 10)
    values = feed(*readings)
    assert values[3:] == readings[3:]
    assert set(values[:3]) <= {5000.0, *readings[:3]}


@pytest.mark.parametrize("power", [None, 6.0])
@pytest.mark.parametrize(
    "fault", [0.0, 4970.0, 5040.0, 50_000.0, 655.35, 65_535.0, 4_294_967.295, -1.0]
)
def test_one_faulty_reading(fault: float, power: float | None) -> None:
    """A zero, a jump and back, a sentinel or a negative value is held back."""
    feed = Feed(Period.LIFETIME)
    readings = rising(5000.0, 6.0, 6)
    assert feed(*readings, power=power)[-1] == 5002.5
    assert feed(fault, 5003.5, power=power) == [5002.5, 5003.5]
    assert feed.counter.offset == 0


@pytest.mark.parametrize("power", [None, 1.5])
def test_zero_for_hours(power: float | None) -> None:
    """Zeros do not replace the counter, however long they last."""
    feed = Feed(Period.LIFETIME)
    feed(*rising(5000.0, 1.5, 5), power=power)
    assert set(feed(*[0.0] * 100, power=power)) == {5000.5}
    assert feed(5012.5, power=power) == [5012.5]


def test_first_zero_of_a_lifetime_counter() -> None:
    """A lifetime counter that begins with a zero waits for the next reading."""
    assert Feed(Period.LIFETIME)(0.0, 5000.0, 5000.05) == [None, 5000.0, 5000.05]
    assert Feed(Period.LIFETIME)(0.0, 0.0, 0.05) == [None, 0.0, 0.05]
    assert Feed(Period.LIFETIME)(-5.0, 7.0) == [None, 7.0]
    assert Feed(Period.LIFETIME)(65_535.0, 7.0) == [None, 7.0]
    assert Feed(Period.DAY)(0.0, 0.05) == [0.0, 0.05]


@pytest.mark.parametrize("period", [Period.LIFETIME, Period.MONTH])
@pytest.mark.parametrize("readings", [1, 4, 24])
@pytest.mark.parametrize("power", [None, 0.0])
def test_dip_by_the_yield_of_yesterday(
    period: Period, readings: int, power: float | None
) -> None:
    """A dip after midnight by the yield of yesterday is held back."""
    feed = Feed(period, MIDNIGHT - 2 * POLL)
    feed(700.0, 700.0, power=power)
    assert set(feed(*[670.0] * readings, power=power)) == {700.0}
    assert feed(700.0, 700.02, power=power) == [700.0, 700.02]


@pytest.mark.parametrize("power", [None, 3.6])
def test_dip_that_goes_on_counting(power: float | None) -> None:
    """A dip of an hour in which the counter goes on counting is undone at its end."""
    feed = Feed(Period.LIFETIME)
    feed(*rising(700.0, 3.6, 6), power=power)
    values = feed(*rising(671.8, 3.6, 12), power=power)
    assert max(value or 0.0 for value in values) <= 701.5 + 12 * 0.3
    assert feed(*rising(705.4, 3.6, 3), power=power)[-1] == 706.0
    assert feed.counter.offset == 0


def test_jitter() -> None:
    """Copies that differ by 0.03 make a counter neither fall nor rise."""
    feed = Feed(Period.LIFETIME)
    values = feed(*(5000.0 + (-1) ** n * 0.03 for n in range(200)), power=0.0)
    assert set(values) == {5000.03}
    assert feed(5000.5, power=6.0) == [5000.5]


# Resets.


def test_day_starts_at_midnight() -> None:
    """A new day starts at 0, in the plant's time zone."""
    feed = Feed(Period.DAY, MIDNIGHT - POLL)
    assert feed(30.0, 0.0, 0.1, power=1.2) == [30.0, 0.0, 0.1]
    assert feed.counter.start == MIDNIGHT


def test_day_starts_without_a_reading() -> None:
    """A device that is off at midnight has counted nothing in the new day."""
    feed = Feed(Period.DAY, MIDNIGHT - timedelta(hours=4))
    feed(20.0)
    assert feed.counter.pass_time(MIDNIGHT - POLL, BERLIN) == 20.0
    assert feed.counter.pass_time(MIDNIGHT + POLL, BERLIN) == 0.0
    feed.at = MIDNIGHT + timedelta(hours=13)
    assert feed(23.0, 23.4, power=5.0) == [23.0, 23.4]


def test_month_starts_on_the_first() -> None:
    """A new month starts on its first day; other midnights change nothing."""
    feed = Feed(Period.MONTH, MIDNIGHT - POLL)
    assert feed(620.0, 620.0) == [620.0, 620.0]
    feed.at = datetime(2026, 7, 1, tzinfo=BERLIN).astimezone(UTC)
    assert feed(0.0, 0.4, power=5.0) == [0.0, 0.4]


@pytest.mark.parametrize(("day", "hours"), [((2026, 3, 29), 23), ((2026, 10, 25), 25)])
def test_clock_change(day: tuple[int, int, int], hours: int) -> None:
    """The days of the clock change have 23 and 25 hours."""
    midnight = datetime(*day, tzinfo=BERLIN).astimezone(UTC)
    feed = Feed(Period.DAY, midnight)
    feed(0.0)
    feed.at = midnight + timedelta(hours=12)
    assert feed(9.5) == [9.5]
    feed.at = midnight + timedelta(hours=hours) - POLL
    assert feed(12.0, 0.0) == [12.0, 0.0]


@pytest.mark.parametrize("zone", [ZoneInfo("Asia/Kolkata"), ZoneInfo("America/Lima")])
def test_zone_of_the_plant(zone: tzinfo) -> None:
    """The day starts at midnight in the plant's time zone."""
    midnight = datetime(2026, 6, 21, tzinfo=zone)
    feed = Feed(Period.DAY, midnight.astimezone(UTC) - POLL, Place(zone, 11.0))
    assert feed(8.0, 0.0) == [8.0, 0.0]
    assert feed.counter.start == midnight


@pytest.mark.parametrize("power", [None, 0.0])
def test_yesterday_until_sunrise(power: float | None) -> None:
    """The value of yesterday after midnight is not published as that of today."""
    feed = Feed(Period.DAY, MIDNIGHT - POLL)
    feed(30.0, power=power)
    assert set(feed(*[30.0] * 60, power=power)) == {0.0}
    assert feed(0.05, 0.1, power=0.6) == [0.05, 0.1]


@pytest.mark.parametrize("power", [None, 0.0])
@pytest.mark.parametrize("yesterday", [0.5, 30.0])
def test_yesterday_flips(yesterday: float, power: float | None) -> None:
    """The value of yesterday in turn with 0 after midnight adds nothing."""
    feed = Feed(Period.DAY, MIDNIGHT - POLL)
    feed(yesterday, power=power)
    readings = [0.0, yesterday, 0.0, yesterday, yesterday, 0.0]
    assert set(feed(*readings, power=power)) == {0.0}
    feed.at = MORNING
    assert feed(0.3, 0.9, power=7.0) == [0.3, 0.9]


def test_reset_at_another_midnight() -> None:
    """A counter that starts over at 18:00 is published as the plant's own days."""
    feed = Feed(Period.DAY, MIDNIGHT - POLL)
    feed(11.83, 12.0, power=2.0)
    values = feed(*rising(12.17, 2.0, 215), power=2.0)
    assert values[-1] == pytest.approx(36.0, abs=0.02)
    values = feed(*rising(0.0, 2.0, 72), power=2.0)
    # The energy up to the reset is that of the power.
    assert values[-1] == pytest.approx(48.0, abs=0.02)
    # As on the day before, the reading at midnight belongs to the new day.
    assert feed(12.0, 12.17, power=2.0) == pytest.approx([0.17, 0.34])


def test_false_reset() -> None:
    """A zero that can be a reset is not one if the counter goes on."""
    feed = Feed(Period.DAY, MIDNIGHT - POLL)
    feed(3.83, 4.0, power=2.0)
    assert feed(*rising(4.17, 2.0, 108), power=2.0)[-1] == pytest.approx(18.17)
    assert feed(0.0, power=2.0)[0] == pytest.approx(18.17, abs=0.2)
    assert feed(22.33, power=2.0) == pytest.approx([18.5])
    assert decisions(feed) == [(Verdict.RESTORED, 22.33, 1)]


# Outages.


@pytest.mark.parametrize("power", [None, 0.0, 1.2])
def test_day_missed_over_midnight(power: float | None) -> None:
    """A higher value after an outage over midnight is that of the new day."""
    feed = Feed(Period.DAY, MIDNIGHT - timedelta(hours=5))
    feed(*rising(19.1, 1.2, 10), power=power)
    feed.wait(hours=17)
    assert feed(23.0, 23.4, power=4.8) == [23.0, 23.4]


@pytest.mark.parametrize("power", [None, 3.0])
def test_outage_within_a_day(power: float | None) -> None:
    """The energy of an outage of two hours is published at once."""
    feed = Feed(Period.DAY)
    feed(*rising(3.0, 3.0, 5), power=power)
    feed.wait(hours=2)
    assert feed(22.0, 22.25, power=power) == [22.0, 22.25]


@pytest.mark.parametrize("power", [None, 0.0])
def test_three_days_offline(power: float | None) -> None:
    """The energy of an outage of three days is published at once."""
    feed = Feed(Period.LIFETIME)
    feed(*rising(5000.0, 3.0, 5), power=power and 3.0)
    feed.wait(days=3)
    assert feed(5150.0, power=power) == [5150.0]


@pytest.mark.parametrize("power", [0.5, 2.0])
def test_offline_behind_repeated_rows(power: float) -> None:
    """The energy of an outage is counted if the server repeated the row."""
    feed = Feed(Period.LIFETIME)
    feed(*rising(5000.0, 2.0, 12), power=2.0)
    feed(5001.87, power=power)
    assert set(feed(*[5001.87] * 287, power=power, live=False)) == {5001.87}
    values = feed(*rising(5045.0, 2.0, 4), power=2.0)
    assert values[-1] == 5045.5


def test_week_without_sun() -> None:
    """A counter that rests for a week goes on afterwards."""
    feed = Feed(Period.LIFETIME)
    assert set(feed(*[5000.0] * 2016, power=0.0)) == {5000.0}
    assert feed(5000.02, power=0.2) == [5000.02]


@pytest.mark.parametrize("hours", [-1, 1])
def test_clock_jump_of_the_server(hours: int) -> None:
    """A clock that is wrong by an hour for one reading changes nothing."""
    feed = Feed(Period.LIFETIME)
    feed(5000.0, 5000.5, power=6.0)
    feed.wait(hours=hours)
    feed(5000.9, power=6.0)
    feed.wait(hours=-hours)
    feed(5001.3, power=6.0)
    feed.wait(hours=2)
    assert feed(5001.7, 5002.1, power=6.0) == [5001.7, 5002.1]


# Devices and loads.


@pytest.mark.parametrize("fault", [19.0, 2.9])
def test_jump_of_a_battery_that_rests(fault: float) -> None:
    """A jump of a battery that rested for hours adds nothing."""
    feed = Feed(Period.DAY)
    feed(*rising(0.0, 2.4, 12), power=2.4)
    feed(2.2, power=0.0)
    feed(*[2.2] * 60, power=0.0, live=False)
    assert feed(fault, 2.2, 2.2, power=0.0) == [2.2, 2.2, 2.2]


@pytest.mark.parametrize("first", [0.0, 8200.0])
def test_replaced_inverter(first: float) -> None:
    """Of another device with a lower or higher counter, only the growth counts."""
    feed = Feed(Period.LIFETIME)
    feed(*rising(5000.0, 6.0, 11), power=6.0)
    values = feed(*rising(first, 6.0, 30), power=6.0)
    assert values[0] == 5005.0
    # The energy up to the first reading is that of the power.
    assert values[4] == pytest.approx(5007.5, abs=0.02)
    assert values[-1] == pytest.approx(5020.0, abs=0.02)
    assert Verdict.REPLACED in [verdict for verdict, _, _ in decisions(feed)]


def test_replaced_inverter_without_a_power() -> None:
    """Without a power, a new device counts after a few of its rises."""
    feed = Feed(Period.LIFETIME)
    feed(*rising(5000.0, 6.0, 11))
    values = feed(*rising(0.0, 6.0, 30))
    assert values[8] == pytest.approx(5009.0, abs=0.5)
    assert values[-1] == pytest.approx(5019.5, abs=0.5)


def test_load_that_no_power_shows() -> None:
    """Energy of a load between two samples is counted after two hours."""
    feed = Feed(Period.LIFETIME)
    feed(*rising(5000.0, 0.6, 12), power=0.6)
    readings = rising(5001.0, 0.6, 30)
    values = feed(*readings, power=0.6)
    assert all(v and v <= raw for v, raw in zip(values, readings, strict=True))
    # The first readings confirm that the counter goes on from there.
    assert values[28:] == readings[28:]


def test_capacity_too_low_by_ten() -> None:
    """A load of 300 kW at a plant of 30 kWp is published at once."""
    feed = Feed(Period.LIFETIME, place=Place(BERLIN, 33.0))
    readings = rising(5000.0, 300.0, 10)
    assert feed(*readings, power=300.0) == readings


@pytest.mark.parametrize("kw", [0.6, 6.0, 600.0])
@pytest.mark.parametrize("is_power_known", [True, False])
def test_capacity_missing(kw: float, is_power_known: bool) -> None:
    """Without a capacity, an honest counter is published, and a false rise is not."""
    feed = Feed(Period.LIFETIME, place=Place(BERLIN, ANY_CAPACITY))
    power = kw if is_power_known else None
    readings = rising(5000.0, kw, 6)
    assert feed(*readings, power=power)[3:] == readings[3:]
    fault = round(5000 + kw * 1.5, 2)
    assert feed(fault, power=power) == readings[-1:]
    assert feed(*rising(5000 + kw / 2, kw, 3), power=power) == rising(
        5000 + kw / 2, kw, 3
    )


@pytest.mark.parametrize("power", [None, 6.0])
def test_set_up_during_a_dip(power: float | None) -> None:
    """The end of a dip in which a counter was set up adds no energy."""
    feed = Feed(Period.LIFETIME)
    feed(*rising(670.0, 6.0, 5), power=power)
    values = feed(*rising(702.5, 6.0, 12), power=power)
    assert values[-1] == pytest.approx(678.0, abs=0.5)


# Money, and other counters.

MONEY: Final = PLACE._replace(falls=True)


def test_negative_prices() -> None:
    """Money falls with negative prices."""
    feed = Feed(Period.DAY, place=MONEY)
    readings = [1.0, 1.2, 1.1, 0.7, -0.4, 0.3]
    assert feed(*readings, power=5.0) == readings


def test_zero_of_money() -> None:
    """A zero of money after other values is not published."""
    feed = Feed(Period.LIFETIME, place=MONEY)
    assert feed(810.0, 0.0, 0.0, 810.5) == [810.0, 810.0, 810.0, 810.5]


def test_money_of_a_day() -> None:
    """The income of a day starts over at sunrise, not with yesterday's value."""
    feed = Feed(Period.DAY, MIDNIGHT - POLL, MONEY)
    assert feed(4.2, power=0.0) == [4.2]
    assert set(feed(*[4.2] * 60, power=0.0)) == {0.0}
    assert feed(0.02, 0.05, 0.08, power=0.3) == [0.02, 0.05, 0.08]
    # Soon after the reset, yesterday's value is published as 0.
    values = feed(4.2, 0.1, power=0.3)
    assert values[0] in {0.0, 0.08}
    assert values[1] == 0.1
    feed(*[0.1] * 24, power=0.0)
    assert feed(4.2, 0.1, 0.2, power=0.3) == [0.1, 0.1, 0.2]


def test_fixed_bound() -> None:
    """A counter of hours rises by 1.1 per hour at most."""
    feed = Feed(Period.LIFETIME, place=PLACE._replace(bound=1.1))
    readings = rising(9000.0, 1.0, 6)
    assert feed(*readings) == readings
    assert feed(9002.0, 9000.5) == [9000.42, 9000.5]
    feed.wait(hours=10)
    assert feed(9010.5) == [9010.5]


# Decisions.


def test_decisions() -> None:
    """Readings that were held back in a row are one decision."""
    feed = Feed(Period.LIFETIME)
    feed(5000.0, 5000.1, 0.0, 0.0, -1.0, 5000.3, 0.0, 5000.4, power=1.2)
    assert decisions(feed) == [
        (Verdict.HELD_BACK, -1.0, 3),
        (Verdict.HELD_BACK, 0.0, 1),
    ]
    first, second = feed.counter.decisions
    assert first.first == (MORNING + 2 * POLL).timestamp()
    assert first.last == (MORNING + 4 * POLL).timestamp()
    assert second.first == second.last == (MORNING + 6 * POLL).timestamp()
    assert feed.counter.verdict(MORNING + 6 * POLL) == Verdict.HELD_BACK
    assert feed.counter.verdict(MORNING + 7 * POLL) is None


def test_only_the_last_decisions() -> None:
    """However often the API fails, few decisions are kept."""
    feed = Feed(Period.LIFETIME)
    feed(*(5000.0, 0.0) * 50)
    assert len(feed.counter.decisions) == REMEMBERED
    assert feed.counter.decisions[-1].last == (feed.at - POLL).timestamp()


# Honest counters.

# Seconds before the first reading.
FIRST: Final = 600.0


@dataclass(frozen=True)
class Curve:
    """Power of a device: pieces of constant power, in kW."""

    ends: list[float]
    """Seconds since the start at which the pieces end."""
    powers: list[float]
    energies: list[float]
    """Energy up to the start of each piece, in kWh."""

    @classmethod
    def of(cls, pieces: list[tuple[float, float]]) -> Curve:
        """Return the curve of pieces of seconds and kW."""
        energies = accumulate((s * kw / HOUR for s, kw in pieces), initial=0.0)
        ends = accumulate(seconds for seconds, _ in pieces)
        return cls([*ends], [kw for _, kw in pieces], [*energies])

    def energy(self, at: float) -> float:
        """Return the energy up to a moment."""
        n = min(bisect_right(self.ends, at), len(self.powers) - 1)
        start = self.ends[n - 1] if n else 0.0
        return self.energies[n] + max(at - start, 0.0) * self.powers[n] / HOUR


class Reading(NamedTuple):
    """A reading of an honest counter."""

    at: datetime
    seconds: float
    raw: float
    power: float
    """Mean power up to the reading."""
    start: datetime | None
    """When the period began."""


@dataclass(frozen=True)
class Trace:
    """A device, and how it is read."""

    kw: float
    """The highest power."""
    parts: list[tuple[str, float, float, int]]
    """Parts of the curve: shape, hours, share of the power and seed."""
    start: datetime
    zone: ZoneInfo
    period: Period
    resolution: float
    capacity: float
    gap: float
    """Seconds between two readings."""
    window: float
    """Seconds of which a power is the mean."""

    @cached_property
    def steady(self) -> float:
        """Return the seconds of the last hours, in which the power is steady."""
        return max(4 * HOUR, 8 * self.resolution / self.kw * HOUR)

    @cached_property
    def curve(self) -> Curve:
        """Return the power."""
        pieces = [(FIRST, 0.0)]
        for name, hours, share, seed in self.parts:
            pieces += shape(name, hours, self.kw * share, seed)
        return Curve.of([*pieces, (self.steady, self.kw)])

    @property
    def place(self) -> Place:
        """Return the surroundings of the counter."""
        return Place(self.zone, self.capacity)

    def raw(self, seconds: float) -> float:
        """Return what the counter shows at a moment."""
        at = self.start + timedelta(seconds=seconds)
        energy = self.curve.energy(seconds)
        if start := self.period.start(at, self.zone):
            energy -= self.curve.energy((start - self.start).total_seconds())
        else:
            energy += 5000.0
        return round(math.floor(energy / self.resolution + 1e-6) * self.resolution, 2)

    def readings(self) -> Iterator[Reading]:
        """Return the readings."""
        seconds = FIRST
        while seconds < self.curve.ends[-1]:
            at = self.start + timedelta(seconds=seconds)
            energy = self.curve.energy(seconds)
            energy -= self.curve.energy(seconds - self.window)
            power = round(energy * HOUR / self.window, 3)
            start = self.period.start(at, self.zone)
            yield Reading(at, seconds, self.raw(seconds), power, start)
            seconds += self.gap


class Statistics:
    """Sum of a value that starts over, as Home Assistant's statistics add it up."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.sum = 0.0
        self._last: tuple[float, datetime | None] | None = None

    def add(self, value: float | None, start: datetime | None) -> float:
        """Add the difference to the last value, which may be of another period."""
        assert value is not None
        if self._last is not None:
            last, last_start = self._last
            self.sum += value - (last if start == last_start else 0.0)
        self._last = value, start
        return self.sum


def shape(
    name: str, hours: float, kw: float, seed: int
) -> Iterator[tuple[float, float]]:
    """Return pieces of seconds and kW."""
    random = Random(seed)
    left = hours * HOUR
    while left > 0:
        match name:
            case "steady":
                seconds, share = left, 1.0
            case "rest":
                seconds, share = left, 0.0
            case "clouds":
                seconds = random.choice([60.0, 180.0, 420.0, 900.0])
                share = random.choice([0.1, 0.3, 0.6, 0.9, 1.0])
            case "kettles":
                rest = random.choice([300.0, 900.0, 2700.0])
                yield rest, 0.1 * kw
                left -= rest
                seconds, share = random.choice([60.0, 120.0, 240.0]), 1.0
            case _:
                seconds, share = 600.0, 1 - left / (hours * HOUR)
        yield seconds, kw * share
        left -= seconds


STARTS: Final = [
    (BERLIN, (2026, 6, 20)),
    (BERLIN, (2026, 3, 28)),
    (BERLIN, (2026, 10, 24)),
    (ZoneInfo("America/Santiago"), (2026, 9, 5)),
    (ZoneInfo("Asia/Kathmandu"), (2026, 1, 30)),
]
# Factors by which the capacity of a plant is wrong; none is known with 0.
CAPACITIES: Final = [1.0, 0.0, 0.1, 10.0]


@st.composite
def traces(draw: st.DrawFn, longest_gap: int = 30, *, is_full: bool = False) -> Trace:
    """Draw a device with an honest counter, and how it is read."""
    kw = draw(st.sampled_from([2.0, 0.01, 0.05, 0.4, 9.0, 40.0, 250.0, 1000.0]))
    zone, day = draw(st.sampled_from(STARTS))
    start = datetime(*day, draw(st.integers(0, 23)), tzinfo=zone).astimezone(UTC)
    parts = st.tuples(
        st.sampled_from(["steady", "rest", "clouds", "kettles", "ramp"]),
        st.sampled_from([0.5, 2.0, 5.0, 9.0]),
        st.sampled_from([1.0, 0.05, 0.3, 0.7]),
        st.integers(0, 1000),
    )
    # The counter rises at least once in ten hours.
    resolution = draw(st.sampled_from([r for r in (0.01, 0.1, 1, 10) if r <= 10 * kw]))
    gap = 60.0 * draw(st.integers(5, longest_gap))
    capacity = kw * draw(st.sampled_from(CAPACITIES))
    return Trace(
        kw,
        draw(st.lists(parts, min_size=1, max_size=6)),
        start,
        zone,
        draw(st.sampled_from([Period.LIFETIME, Period.DAY])),
        resolution,
        # As descriptions have it.
        capacity=1.1 * max(capacity, 5.0) if capacity >= 1 else ANY_CAPACITY,
        gap=gap,
        window=gap if is_full else draw(st.sampled_from([300.0, gap])),
    )


def check_powered(trace: Trace) -> None:
    """Check when the energy of an honest counter with a power is published."""
    counter = CounterFilter(trace.period)
    last: Reading | None = None
    highest = due = until = 0.0
    has_risen = False
    for n, reading in enumerate(trace.readings()):
        live = last is None or (reading.raw, reading.power) != (last.raw, last.power)
        place = trace.place._replace(power=reading.power)
        value = counter.update(reading.raw, reading.at, place, live=live)
        highest = max(highest, reading.power)
        if last is not None:
            is_new = reading.start != last.start
            if is_new and (n < due or reading.seconds <= until):
                # What is undecided at midnight is left out, or counted in the new day.
                return
            if is_new and last.raw > JITTER and reading.raw >= last.raw - JITTER:
                # No fall shows that the counter has started over.
                return
            if reading.start and is_new:
                since = (reading.at - reading.start).total_seconds() / HOUR
                if reading.raw > highest * since + JITTER:
                    # The mean power up to the reading is too low for a reset.
                    return
                # While the counter counts, its reset may have to be confirmed.
                due = n + 4 if reading.raw > 0 else due
            rise = reading.raw - (0.0 if is_new else last.raw)
            if rise > 0 and not has_risen:
                # The step of the counter is unknown before its first rise.
                has_risen, due = True, n + 4
            rise -= trace.resolution + JITTER
            hours = trace.gap / HOUR
            if rise > highest * hours:
                if reading.seconds <= until:
                    # Of two such loads within two hours, one is lost.
                    return
                until = reading.seconds + 2 * HOUR + 4 * trace.gap
            elif rise > max(reading.power, last.power) * hours:
                due = max(due, n + 4)
        last = reading
        is_late = n < due or reading.seconds <= until
        assert is_late or value == pytest.approx(reading.raw, abs=JITTER + 1e-6)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(traces())
def test_power_explains_honest_counters(trace: Trace) -> None:
    """What the power explains is published at once, the rest within two hours."""
    check_powered(trace)


def check_unpowered(trace: Trace) -> None:
    """Check when the energy of an honest counter without a power is published."""
    counter = CounterFilter(trace.period)
    published, honest = Statistics(), Statistics()
    settled = difference = least = 0.0
    rises: list[float] = []
    start = trace.period.start(trace.start, trace.zone)
    for reading in trace.readings():
        value = counter.update(reading.raw, reading.at, trace.place, live=True)
        difference = published.add(value, counter.start)
        difference -= honest.add(reading.raw, reading.start)
        # A fall of less than the jitter is no reset.
        least -= JITTER if reading.start != start else 0.0
        if reading.start != start and reading.raw > JITTER:
            # A reset of a counter that counts fast can be lost.
            return
        if reading.seconds <= trace.curve.ends[-2] or reading.start != start:
            # Rises are confirmed within one period.
            start, rises = reading.start, [reading.raw]
        elif reading.raw > rises[-1]:
            rises.append(reading.raw)
        # After a rest, the rate of the first three rises is too low for the next, and
        # again for those that follow.
        if len(rises) <= 10:
            settled = difference
        assert difference == pytest.approx(settled, abs=JITTER)
    # The first rises may have begun before the first reading.
    least -= 3 * (trace.resolution + trace.kw * trace.gap / HOUR)
    assert least <= difference <= JITTER


@settings(max_examples=300, derandomize=True, deadline=None)
@given(traces())
def test_rates_explain_honest_counters(trace: Trace) -> None:
    """Without a power, steady counting is published after three rises."""
    check_unpowered(trace)


# Faults.

type Fault = Callable[[Trace, Reading, float], float]


def yesterday(trace: Trace, reading: Reading, by: float) -> float:
    """Return the last reading before midnight, also of a lifetime counter."""
    midnight = Period.DAY.start(reading.at, trace.zone)
    assert midnight is not None
    seconds = (midnight - trace.start).total_seconds() - FIRST
    return trace.raw(FIRST + max(math.ceil(seconds / trace.gap) - 1, 0) * trace.gap)


def moved(trace: Trace, reading: Reading, by: float) -> float:
    """Return a value that goes on counting below or above the honest one."""
    return round(max(reading.raw + by, 0.0), 2)


FAULTS: Final[dict[str, Fault]] = {
    "zero": lambda trace, reading, by: 0.0,
    "negative": lambda trace, reading, by: -reading.raw - 1.0,
    "sentinel": lambda trace, reading, by: 21474836.47,
    "small sentinel": lambda trace, reading, by: 655.35,
    "constant": lambda trace, reading, by: round(abs(by) * 20, 2),
    "moved": moved,
    "yesterday": yesterday,
}


def check_fault(
    trace: Trace, fault: Fault, by: float, begin: float, length: int
) -> None:
    """Check that a fault adds nothing once it has ended."""
    readings = [*trace.readings()]
    length = min(length, int(2 * HOUR / trace.gap))
    # The rate and the step of the counter are known after its first rises.
    pairs = [*pairwise(readings)]
    rises = [n for n, (last, each) in enumerate(pairs, 1) if each.raw > last.raw]
    first, last = rises[3] + 1, len(readings) - length - 5
    assume(first <= last)
    # A counter that is 0 before and after midnight takes any fall for its reset.
    assume(
        all(
            last.start == each.start or each.raw < last.raw - JITTER
            for last, each in pairs
        )
    )
    begin_at = first + round(begin * (last - first))
    counter = CounterFilter(trace.period)
    highest = 0.0
    # A coarse counter can have counted since the rise before.
    last_rises = [n for n in rises if n < begin_at][-4:]
    spans = [after - before for before, after in pairwise(last_rises)]
    hours = max(min(spans), 1) * trace.gap / HOUR
    # Energy of this and the last reading, and drift, that needs no other evidence.
    drift = JITTER * trace.gap / 300 + trace.resolution
    most = 2 * MARGIN * max(trace.curve.powers) * hours + drift
    # So can be the difference to the last reading of yesterday.
    is_of_day = fault is yesterday and trace.period is Period.DAY
    is_explained = is_of_day
    for n, reading in enumerate(readings):
        highest = max(highest, reading.power)
        raw = reading.raw
        if 0 <= n - begin_at < length:
            raw = fault(trace, reading, by)
            # A lower value of yesterday undoes the reset.
            assume(not is_of_day or raw > reading.raw + 2 * most)
            # A fault over midnight can be energy of yesterday.
            assume(is_of_day or raw <= 0 or reading.start == readings[n - 1].start)
            is_explained |= abs(raw - reading.raw) <= 2 * most
        place = trace.place._replace(power=reading.power)
        value = counter.update(raw, reading.at, place, live=True)
        assert value is not None and counter.counted is not None
        allowance = 2 * MARGIN * highest * hours + drift
        assert value - reading.raw <= allowance + 1e-6
        if n >= begin_at + length + 4:
            bound = 3 * most if is_explained else JITTER
            assert counter.counted == pytest.approx(reading.raw, abs=bound + 1e-6)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    traces(longest_gap=20, is_full=True),
    st.sampled_from(sorted(FAULTS)),
    st.sampled_from([-0.5, 0.5, -0.04, 0.04, 3.0, -3.0, -30.0, 30.0, 4000.0]),
    st.floats(0.0, 1.0),
    st.integers(1, 20),
)
def test_faults_add_nothing(
    trace: Trace, name: str, by: float, begin: float, length: int
) -> None:
    """A fault of up to two hours is held back, and adds nothing once it has ended."""
    check_fault(trace, FAULTS[name], by, begin, length)


# Anything.

ANY_READING: Final = st.tuples(
    st.one_of(
        st.sampled_from([0.0, 5.0, 30.0, 5000.0, 655.35, -1.0]),
        st.floats(0.0, 60.0).map(lambda raw: round(raw, 2)),
        st.floats(4990.0, 5060.0).map(lambda raw: round(raw, 1)),
    ),
    st.none() | st.sampled_from([0.0, 0.4, 5.0, 40.0, 9000.0, -3.0]),
    st.sampled_from([5, 5, 5, 5, 20, 45, 300, 1500]),
    st.sampled_from([True, True, True, False]),
)


def restarted(counter: CounterFilter) -> CounterFilter:
    """Return a filter from the stored state of another."""
    state = json.loads(json.dumps(counter.as_dict()))
    return CounterFilter.from_dict(counter.period, state)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    st.sampled_from(Period),
    st.lists(ANY_READING, max_size=60),
    st.sampled_from([PLACE, PLACE._replace(bound=1.1), Place(BERLIN, ANY_CAPACITY)]),
    st.booleans(),
)
def test_value_never_falls(
    period: Period,
    readings: list[tuple[float, float | None, int, bool]],
    place: Place,
    is_money: bool,
) -> None:
    """Values never fall in a period, money excepted, and restarts change nothing."""
    place = place._replace(falls=is_money)
    counter, other = CounterFilter(period), CounterFilter(period)
    at = MORNING
    last = None
    for raw, power, minutes, live in readings:
        at += timedelta(minutes=minutes)
        place = place._replace(power=power)
        value = counter.update(raw, at, place, live=live)
        assert other.update(raw, at, place, live=live) == value
        other = restarted(other)
        assert other == counter == restarted(counter)
        assert len(counter.decisions) <= REMEMBERED
        start = period.start(at, BERLIN)
        if last is not None and last[1] == start:
            assert value is not None
            assert is_money or value >= last[0]
        if value is not None:
            last = value, start
