"""Tests of the counter filter: named faults, and properties of honest counters."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from itertools import accumulate
import math
from random import Random
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from custom_components.smartpvms.counter_filter import (
    JITTER,
    MARGIN,
    CounterFilter,
    Period,
    Place,
)

BERLIN: Final = ZoneInfo("Europe/Berlin")
HOUR: Final = 3600.0
COLLECTION: Final = 300.0
OUTAGE: Final = 1200.0

# Honest counters.


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

    def power(self, at: float) -> float:
        """Return the power at a moment."""
        return self.powers[min(bisect_right(self.ends, at), len(self.powers) - 1)]

    def energy(self, at: float) -> float:
        """Return the energy up to a moment."""
        n = min(bisect_right(self.ends, at), len(self.powers) - 1)
        start = self.ends[n - 1] if n else 0.0
        return self.energies[n] + max(at - start, 0.0) * self.powers[n] / HOUR


@dataclass(frozen=True)
class Device:
    """A device whose counter is honest; times are seconds since `start`."""

    curve: Curve
    start: datetime
    zone: tzinfo
    period: Period = Period.LIFETIME
    base: float = 5000.0
    resolution: float = 0.01
    every: float = COLLECTION
    """Seconds between two collections of the counter."""
    power_every: float = COLLECTION
    power: str = "mean"
    """Whether the power is the mean of a collection, a sample or not reported."""
    capacity: float = 11.0

    def at(self, seconds: float) -> datetime:
        """Return a moment."""
        return self.start + timedelta(seconds=seconds)

    def since(self, seconds: float) -> float:
        """Return when the period of a moment began."""
        return _since(self.period, self.start, self.zone, seconds)

    def raw(self, collected: float) -> float:
        """Return the value that is collected at a moment."""
        energy = self.curve.energy(collected)
        if self.period is Period.LIFETIME:
            energy += self.base
        else:
            energy -= self.curve.energy(max(self.since(collected), 0.0))
        return round(math.floor(energy / self.resolution + 1e-6) * self.resolution, 2)

    def collected_power(self, collected: float) -> float | None:
        """Return the power that is collected at a moment."""
        if self.power == "none":
            return None
        if self.power == "sample":
            return round(self.curve.power(collected), 3)
        span = self.power_every
        energy = self.curve.energy(collected) - self.curve.energy(collected - span)
        return round(energy * HOUR / span, 3)

    def read(self, polls: list[float], lag: float) -> Iterator[Reading]:
        """Return what is read, poll by poll."""
        before = None
        for poll in polls:
            counter_at = (poll - lag) // self.every * self.every
            power_at = (poll - lag) // self.power_every * self.power_every
            if counter_at < 0 or power_at < COLLECTION:
                continue
            since = self.since(counter_at)
            raw, power = self.raw(counter_at), self.collected_power(power_at)
            yield Reading(poll, raw, power, (counter_at, power_at) != before, since)
            before = counter_at, power_at


class Reading(NamedTuple):
    """A row of a device, as the server answers a poll."""

    seconds: float
    raw: float
    power: float | None
    live: bool
    since: float
    """When the period of the counter began."""


@lru_cache(maxsize=4096)
def _since(period: Period, start: datetime, zone: tzinfo, seconds: float) -> float:
    began = period.start(start + timedelta(seconds=seconds), zone)
    return -math.inf if began is None else (began - start).total_seconds()


class Statistics:
    """Sum of a published value, as Home Assistant's statistics add it up."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.sum = 0.0
        self.days = 0
        self._last: tuple[float, datetime | float | None] | None = None

    def add(self, value: float, start: datetime | float | None) -> float:
        """Add the difference to the last value, which may be of another period."""
        if self._last is not None:
            last, last_start = self._last
            self.days += start != last_start
            self.sum += value - (last if start == last_start else 0.0)
        self._last = value, start
        return self.sum


STARTS: Final = [
    (BERLIN, (2026, 6, 20)),
    (BERLIN, (2026, 3, 28)),
    (BERLIN, (2026, 10, 24)),
    (ZoneInfo("America/Santiago"), (2026, 9, 5)),
    (ZoneInfo("America/Santiago"), (2026, 4, 3)),
    (ZoneInfo("Australia/Lord_Howe"), (2026, 4, 4)),
    (ZoneInfo("Asia/Kathmandu"), (2026, 1, 30)),
    (ZoneInfo("America/New_York"), (2026, 10, 31)),
]


def _steady(random: Random, hours: float, kw: float) -> Iterator[tuple[float, float]]:
    yield hours * HOUR, kw


def _pause(random: Random, hours: float, kw: float) -> Iterator[tuple[float, float]]:
    yield hours * HOUR, 0.0


def _clouds(random: Random, hours: float, kw: float) -> Iterator[tuple[float, float]]:
    """Change the power every few minutes."""
    left = hours * HOUR
    while left > 0:
        seconds = min(random.choice([60.0, 180.0, 420.0, 900.0]), left)
        yield seconds, kw * random.choice([0.1, 0.3, 0.6, 0.9, 1.0])
        left -= seconds


def _kettles(random: Random, hours: float, kw: float) -> Iterator[tuple[float, float]]:
    """Rest most of the time, and take full power for a few minutes."""
    left = hours * HOUR
    while left > 0:
        seconds = min(random.choice([300.0, 900.0, 2700.0]), left)
        yield seconds, 0.1 * kw
        yield random.choice([60.0, 120.0, 240.0]), kw
        left -= seconds


def _ramp(random: Random, hours: float, kw: float) -> Iterator[tuple[float, float]]:
    """Rise from 0, as at dawn."""
    steps = max(int(hours * 6), 1)
    for n in range(steps):
        yield hours * HOUR / steps, kw * n / steps


SHAPES: Final = [_steady, _pause, _clouds, _kettles, _ramp]
RESOLUTIONS: Final = [0.01, 0.1, 1.0, 10.0]


@dataclass(frozen=True)
class Trace:
    """A device and when it is read."""

    device: Device
    first: float
    gap: float
    outages: list[tuple[float, float]]
    """From when to when the server cannot be reached."""
    lag: float
    steady: float
    """When the last hours begin, which are steady."""

    def readings(self) -> list[Reading]:
        """Return what is read."""
        polls = []
        at = self.first
        while at < self.device.curve.ends[-1]:
            if not any(start <= at < end for start, end in self.outages):
                polls.append(at)
            at += self.gap
        return [*self.device.read(polls, self.lag)]


@st.composite
def traces(
    draw: st.DrawFn,
    power: Sequence[str] = ("mean", "sample", "none"),
    gaps: Sequence[float] = (302.0, 304.0, 600.0, 200.0),
    outages: int = 2,
) -> Trace:
    """Draw a device with an honest counter, and when it is read."""
    kw = draw(st.sampled_from([2.0, 0.05, 0.4, 9.0, 40.0, 250.0, 1000.0]))
    zone, day = draw(st.sampled_from(STARTS))
    start = datetime(*day, tzinfo=zone).astimezone(UTC)
    start += timedelta(hours=draw(st.integers(0, 23)))
    shapes = st.tuples(
        st.sampled_from(SHAPES),
        st.sampled_from([0.5, 2.0, 5.0, 9.0]),
        st.sampled_from([1.0, 0.05, 0.3, 0.7]),
        st.integers(0, 1000),
    )
    pieces: list[tuple[float, float]] = [(2 * COLLECTION, 0.0)]
    for shape, hours, share, seed in draw(st.lists(shapes, min_size=1, max_size=8)):
        pieces += shape(Random(seed), hours, kw * share)
    steady = sum(seconds for seconds, _ in pieces)
    resolution = draw(st.sampled_from([r for r in RESOLUTIONS if r <= 10 * kw]))
    every = draw(st.sampled_from([300.0, 900.0, 3600.0]))
    last = kw * draw(st.sampled_from([0.4, 0.8]))
    pieces.append((max(4 * HOUR, 8 * resolution / last * HOUR, 6 * every), last))
    starts = st.floats(0.0, steady)
    lengths = st.sampled_from([0.4, 1.0, 3.0, 13.0])
    pauses = draw(st.lists(st.tuples(starts, lengths), max_size=outages))
    capacity = max(1.1 * kw * draw(st.sampled_from([1.0, 0.1, 10.0])), 5.5)
    device = Device(
        Curve.of(pieces),
        start,
        zone,
        period=draw(st.sampled_from(Period)),
        base=draw(st.sampled_from([5000.0, 20.0, 812345.0])),
        resolution=resolution,
        every=every,
        power_every=draw(st.sampled_from([300.0, every])),
        power=draw(st.sampled_from(power)),
        # As descriptions have it, where no capacity is known.
        capacity=draw(st.sampled_from([capacity, 1100.0])),
    )
    return Trace(
        device,
        first=draw(st.sampled_from([660.0, 700.0, 899.0, 4000.0])),
        gap=draw(st.sampled_from(gaps)),
        outages=[(start, start + hours * HOUR) for start, hours in pauses],
        lag=draw(st.sampled_from([60.0, 0.0, 250.0])),
        steady=steady,
    )


def check_covered(trace: Trace) -> None:
    """Check when the energy of an honest counter is published."""
    device = trace.device
    counter = CounterFilter(device.period)
    place = Place(device.zone, device.capacity)
    published, honest = Statistics(), Statistics()
    energy = highest = 0.0
    last = rose = None
    # The first step is unknown until the counter rises.
    step = 0.01
    n = due = until = 0
    for reading in trace.readings():
        had_reset = counter.reset_seen
        value = counter.update(
            reading.raw,
            device.at(reading.seconds),
            place._replace(power=reading.power),
            live=reading.live,
        )
        difference = published.add(value, counter.start)
        difference -= honest.add(reading.raw, reading.since)
        if not reading.live:
            continue
        n += 1
        highest = max(highest, reading.power)
        if last is None:
            if reading.since != device.since(reading.seconds):
                # A value of yesterday counts as today's.
                return
            last, rose = reading, reading.seconds
        span = reading.seconds - last.seconds
        energy += max(reading.power, last.power) * span / HOUR
        is_new = reading.since != last.since
        rise = reading.raw - (0.0 if is_new else last.raw)
        if rise and device.every > COLLECTION:
            # Collected at another time than the power.
            due = max(due, n + 3)
        if rise > energy + step:
            since = max(reading.seconds - rose, COLLECTION)
            if rise <= highest * since / HOUR + step:
                due = max(due, n + (6 if span > OUTAGE else 3))
            elif device.period is not Period.LIFETIME:
                # What is in dispute at midnight is left out.
                return
            else:
                until = reading.seconds + 4 * HOUR + 5 * max(trace.gap, device.every)
        if is_new and span > OUTAGE and abs(reading.raw - last.raw) <= JITTER + step:
            # Yesterday's value, until it rises.
            due = math.inf
        if rise > 0:
            step = device.resolution
        if rise or is_new or (counter.reset_seen and not had_reset):
            rose, energy = reading.seconds, 0.0
        last = reading
        if abs(difference) <= JITTER * (1 + honest.days) + 1e-6:
            due = until = 0
        else:
            assert n < due or reading.seconds < until, (
                "late" if due or until else "covered",
                reading,
                difference,
            )


def _most(trace: Trace) -> float:
    """Return the energy of one reading at the highest power, and one step."""
    kw = max(trace.device.curve.powers)
    seconds = trace.gap + COLLECTION
    return MARGIN * kw * seconds / HOUR + trace.device.resolution + 2 * JITTER


def _follow(
    trace: Trace, readings: list[Reading], counter: CounterFilter
) -> Iterator[Reading]:
    """Let a filter follow readings; one without a value passes the time."""
    device = trace.device
    place = Place(device.zone, device.capacity)
    for reading in readings:
        at = device.at(reading.seconds)
        if reading.raw is None:
            counter.pass_time(at, device.zone)
        else:
            place = place._replace(power=reading.power)
            counter.update(reading.raw, at, place, live=reading.live)
        yield reading


def check_nothing_lost(trace: Trace) -> None:
    """Check that all energy of an honest counter is published in the end."""
    readings = trace.readings()
    counter = CounterFilter(trace.device.period)
    published, honest = Statistics(), Statistics()
    difference = 0.0
    for reading in _follow(trace, readings, counter):
        difference = published.add(counter.value, counter.start)
        difference -= honest.add(reading.raw, reading.since)
    margin = JITTER * (1 + honest.days)
    assert abs(difference) <= margin + 1e-6, ("lost", reading, difference)


type Fault = Callable[[Trace, Reading, int], float | None]


def _zero(trace: Trace, reading: Reading, n: int) -> float | None:
    return 0.0


def _null(trace: Trace, reading: Reading, n: int) -> float | None:
    return None


def _negative(trace: Trace, reading: Reading, n: int) -> float | None:
    return -reading.raw - 1.0


def _sentinel(trace: Trace, reading: Reading, n: int) -> float | None:
    return 21474836.47


def _small_sentinel(trace: Trace, reading: Reading, n: int) -> float | None:
    return 655.35


def _moved(by: float) -> Fault:
    def play(trace: Trace, reading: Reading, n: int) -> float | None:
        return max(round(reading.raw + by, 2), 0.0)

    return play


def _frozen_or_old(hours: float) -> Fault:
    """Return a fault that repeats the value of some hours before."""

    def play(trace: Trace, reading: Reading, n: int) -> float | None:
        return trace.device.raw(max(reading.seconds - hours * HOUR, 0.0))

    return play


def _of_yesterday(trace: Trace, reading: Reading, n: int) -> float | None:
    since = trace.device.since(reading.seconds)
    before = since if since > 0 else reading.seconds - 24 * HOUR
    return trace.device.raw(max(before - 30.0, 0.0))


def _flapping(fault: Fault) -> Fault:
    def play(trace: Trace, reading: Reading, n: int) -> float | None:
        return reading.raw if n % 2 else fault(trace, reading, n)

    return play


def _other(base: float) -> Fault:
    """Return a fault that reports another device's counter, which counts half."""

    def play(trace: Trace, reading: Reading, n: int) -> float | None:
        return round(base + trace.device.curve.energy(reading.seconds) / 2, 2)

    return play


FAULTS: Final[dict[str, Fault]] = {
    "zero": _zero,
    "null": _null,
    "negative": _negative,
    "sentinel": _sentinel,
    "small sentinel": _small_sentinel,
    "dip": _moved(-30.0),
    "small dip": _moved(-0.4),
    "jump": _moved(300.0),
    "small jump": _moved(1.5),
    "old": _frozen_or_old(24.0),
    "yesterday": _of_yesterday,
    "flapping zero": _flapping(_zero),
    "flapping yesterday": _flapping(_of_yesterday),
    "flapping jump": _flapping(_moved(40.0)),
    "far counter": _other(8000.0),
    "near counter": _other(2.0),
}


def check_fault(trace: Trace, name: str, start: float, hours: float) -> None:
    """Check that a fault adds nothing once the truth is back."""
    readings = trace.readings()
    first = readings[0].seconds + 2 * HOUR
    begin = first + start * max(trace.steady - first, 0.0)
    end = begin + hours * HOUR
    told = []
    n = 0
    for reading in readings:
        if begin <= reading.seconds < end:
            raw = FAULTS[name](trace, reading, n)
            told.append(reading._replace(raw=raw, live=True))
            n += 1
        else:
            told.append(reading)
    counter = CounterFilter(trace.device.period)
    counted, honest = Statistics(), Statistics()
    difference = 0.0
    for reading, true in zip(_follow(trace, told, counter), readings, strict=True):
        difference = counted.add(counter.counted, counter.start)
        difference -= honest.add(true.raw, true.since)
    most = _most(trace) + JITTER * honest.days
    if "counter" in name:
        # It counts as its own while it lasts.
        most += max(trace.device.curve.powers) * hours
    assert abs(difference) <= most, (
        "fault",
        reading._replace(seconds=end + HOUR),
        difference,
        most,
    )
