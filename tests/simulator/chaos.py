"""All faults of counters at realistic rates."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from random import Random
from typing import Any

from .alarms import KINDS, Alarm
from .cloud import Change
from .counter_faults import (
    ALL_ONES,
    flipping,
    jittering,
    multiplied,
    reads,
    replaced,
    still_yesterday,
    without_yesterday,
)
from .counters import Counter, Kind, counters_of
from .plants import Device, Plant, Silence
from .server import Simulator

_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)

# A fault starts in the first hour of a slot and ends two hours before the next one:
# consecutive faults without a true reading in between are not distinguishable.
_SLOTS = (8, 12, 16)
_FIRST_SLOT_OF_OUTAGES = 12

# A jump that a home could have counted cannot be recognized as a fault.
_ABSURD_HOURS = 3.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Probabilities of faults."""

    at_midnight: float = 0.25
    """Per counter and midnight: yesterday's value, flips, or a dip."""
    by_day: float = 0.04
    """Per counter and slot of the day: zeros, nulls, jitter, or a jump."""
    disconnected: float = 0.05
    """Per device and day: all zeros for some hours."""
    missing: float = 0.01
    """Per device and day: no row until the next day."""
    replaced: float = 0.01
    """Per inverter and day, at most once: a new inverter that counts from 0."""
    alarm: float = 0.05
    """Per device and day: an alarm, which may be raised again after its clearance."""


@dataclass(frozen=True, slots=True)
class Outage:
    """A period in which a device is unreachable."""

    start: datetime
    end: datetime
    outage_at: Silence


class Chaos:
    """Applies faults to all counters of a home, depending on a seed."""

    def __init__(
        self, simulator: Simulator, seed: int = 1, rates: Rates | None = None
    ) -> None:
        """Add all faults from now on."""
        self._seed = seed
        self._rates = rates or Rates()
        self._begin = simulator.clock.now()
        self._faults = cache(self._plan)
        self._outages = cache(self._plan_outage)
        self._replaced = cache(self._plan_replacement)
        for counter in counters_of(simulator.home, self._begin):
            simulator.distort(counter.name, counter.key, self._change(counter))
        for plant, device in simulator.home.devices():
            simulator.interrupt(device.id, self._interruption(plant, device))
        simulator.alarms.play(cache(self._plan_alarms))

    def replacement(self, counter: Counter) -> datetime | None:
        """Return the time at which the device of a counter is replaced, if any."""
        if counter.device is None or not counter.device.mppts:
            return None
        return self._replaced(counter.plant, counter.device)

    def _dice(self, *names: object) -> Random:
        return Random("/".join(str(name) for name in (self._seed, *names)))

    def _change(self, counter: Counter) -> Change:
        def change(at: datetime, value: Any) -> Any:
            day = at.astimezone(counter.plant.time_zone).date()
            if (moment := self.replacement(counter)) and at >= moment:
                value = replaced(counter, moment)(at, value)
            for fault in self._faults(counter, day):
                value = fault(at, value)
            return value

        return change

    def _interruption(
        self, plant: Plant, device: Device
    ) -> Callable[[datetime], Silence | None]:
        def outage_at(at: datetime) -> Silence | None:
            today = at.astimezone(plant.time_zone).date()
            for day in (today, today - timedelta(days=1)):
                outage = self._outages(plant, device, day)
                if outage and outage.start <= at < outage.end:
                    return outage.outage_at
            return None

        return outage_at

    def _plan_outage(self, plant: Plant, device: Device, day: date) -> Outage | None:
        start = _at(plant, day, _FIRST_SLOT_OF_OUTAGES)
        if start < self._begin:
            return None
        dice = self._dice(device.id, day, "outage")
        luck = dice.random()
        start += dice.randrange(120) * _MINUTE
        if luck < self._rates.missing:
            return Outage(start, start + 24 * _HOUR, "missing")
        if luck < self._rates.missing + self._rates.disconnected:
            return Outage(start, start + dice.randrange(30, 180) * _MINUTE, "zeros")
        return None

    def _plan_replacement(self, plant: Plant, device: Device) -> datetime | None:
        """Return the replacement of an inverter, on a random day without an outage."""
        dice = self._dice(device.id, "replacement")
        first = self._begin.astimezone(plant.time_zone).date()
        for number in range(2, 365):
            day = first + timedelta(days=number)
            if dice.random() < self._rates.replaced and not self._is_out(
                plant, device, day
            ):
                # Late enough for the daily counter to differ from its value at the
                # replacement.
                return _at(plant, day, 15) + 20 * _MINUTE
        return None

    def _is_out(self, plant: Plant, device: Device, day: date) -> bool:
        return any(
            self._outages(plant, device, near)
            for near in (day, day - timedelta(days=1))
        )

    def _plan(self, counter: Counter, day: date) -> list[Change]:
        """Return the fault of a counter on a day, unless the day has an outage."""
        plant, device = counter.plant, counter.device
        if device and self._is_out(plant, device, day):
            return []
        moment = self.replacement(counter)
        if moment and abs(moment.astimezone(plant.time_zone).date() - day).days < 2:
            return []
        return [
            fault
            for fault in (
                self._at_midnight(counter, day),
                *(self._by_day(counter, day, hour) for hour in _SLOTS),
            )
            if fault
        ]

    def _plan_alarms(self, plant: Plant, day: date) -> list[Alarm]:
        alarms = []
        for device in plant.devices:
            dice = self._dice(device.id, day, "alarm")
            if dice.random() > self._rates.alarm:
                continue
            kind = dice.choice(KINDS)
            start = _at(plant, day, 0) + dice.randrange(24 * 60) * _MINUTE
            for _ in range(dice.randint(1, 2)):
                end = start + dice.randrange(10, 600) * _MINUTE
                if start >= self._begin:
                    alarms.append(Alarm(plant, device, kind, start, end))
                start = end + dice.randrange(60, 300) * _MINUTE
        return alarms

    def _at_midnight(self, counter: Counter, day: date) -> Change | None:
        dice = self._dice(counter.name, counter.key, day, "midnight")
        midnight = _at(counter.plant, day, 0)
        if midnight < self._begin or dice.random() > self._rates.at_midnight:
            return None
        lasting = dice.randrange(20, 61) * _MINUTE
        if counter.kind is not Kind.DAILY:
            if counter.is_money:
                # Revenue falls with negative prices, so a dip is not recognizable.
                return None
            start = midnight + dice.randrange(80) * _MINUTE
            return without_yesterday(counter, start, lasting)
        if dice.random() < 0.5:
            return flipping(counter, midnight, lasting)
        return still_yesterday(counter, midnight, 6 * _HOUR, 0.5)

    def _by_day(self, counter: Counter, day: date, hour: int) -> Change | None:
        dice = self._dice(counter.name, counter.key, day, hour)
        start = _at(counter.plant, day, hour) + dice.randrange(60) * _MINUTE
        if start < self._begin or dice.random() > self._rates.by_day:
            return None
        faults: Iterable[Change] = (
            reads(0.0, start),
            reads(None, start),
            reads(0.0, start, _HOUR),
            reads(None, start, _HOUR),
            jittering(dice.random(), start, _HOUR),
            *self._jumps(counter, start),
        )
        return dice.choice(list(faults))

    def _jumps(self, counter: Counter, start: datetime) -> Iterable[Change]:
        if counter.true(start) * 9 > _ABSURD_HOURS * counter.plant.capacity_kwp:
            yield multiplied(10, start)
        for register in ALL_ONES:
            yield reads(register, start)


def _at(plant: Plant, day: date, hour: int) -> datetime:
    local = datetime.combine(day, time(hour), tzinfo=plant.time_zone)
    return local.astimezone(UTC)
