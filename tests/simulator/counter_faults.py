"""What users saw counters do that counters cannot do.

Every fault is a function from the moment and the value that would be reported without
it to the value that is reported: `simulator.distort(name, key, fault)`. Several faults
of one item act one after the other. None of them remembers anything, so that it does
not matter how often, or whether at all, a client asks.
"""

from datetime import datetime, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from .cloud import Change
from .counters import COLLECTION, Counter, Kind

JITTER = 0.03

# A 16-bit and a 32-bit register that read "no value", the latter in thousandths.
ALL_ONES = (65535.0, 4294967.295)


def during(start: datetime, lasting: timedelta, change: Change) -> Change:
    """Let a fault act for a time only."""

    def limited(at: datetime, value: Any) -> Any:
        return change(at, value) if start <= at < start + lasting else value

    return limited


def reads(wrong: Any, start: datetime, lasting: timedelta = COLLECTION) -> Change:
    """Read something else, such as 0, null or 65535, by default just once (T#138)."""
    return during(start, lasting, lambda at, value: wrong)


def multiplied(
    factor: float, start: datetime, lasting: timedelta = COLLECTION
) -> Change:
    """Jump to a multiple, by default just once (T#159)."""

    def jump(at: datetime, value: Any) -> Any:
        return round(value * factor, 2)

    return during(start, lasting, jump)


def without_yesterday(counter: Counter, start: datetime, lasting: timedelta) -> Change:
    """Lack yesterday's yield for a while, mostly after midnight (T#300)."""
    yesterday = counter.yesterday(start)

    def fall(at: datetime, value: Any) -> Any:
        return round(max(value - yesterday, 0.0), 2)

    return during(start, lasting, fall)


def still_yesterday(
    counter: Counter, midnight: datetime, lasting: timedelta, above: float = 0.0
) -> Change:
    """Keep yesterday's value until sunrise: a sleeping device is not asked (P#93).

    It ends when the time is over or when the true value exceeds a threshold.
    """
    yesterday = counter.yesterday(midnight)

    def keep(at: datetime, value: Any) -> Any:
        return yesterday if value <= above else value

    return during(midnight, lasting, keep)


def flipping(counter: Counter, midnight: datetime, lasting: timedelta) -> Change:
    """Read 0, yesterday's value, 0, yesterday's value, and so on (T#240)."""
    yesterday = counter.yesterday(midnight)

    def flip(at: datetime, value: Any) -> Any:
        return yesterday if (at - midnight) // COLLECTION % 2 else 0.0

    return during(midnight, lasting, flip)


def jittering(seed: object, start: datetime, lasting: timedelta) -> Change:
    """Read a little more or less every time: servers round different sums."""

    def jitter(at: datetime, value: Any) -> Any:
        dice = Random(f"{seed}/{int(at.timestamp() // COLLECTION.total_seconds())}")
        return round(max(value + dice.uniform(-JITTER, JITTER), 0.0), 2)

    return during(start, lasting, jitter)


def offline(counter: Counter, start: datetime, lasting: timedelta) -> Change:
    """Hear nothing of the devices, and all of it at the end."""
    last = counter.true(start)
    today = counter.midnight(start)

    def keep(at: datetime, value: Any) -> Any:
        started_over = counter.kind is Kind.DAILY and counter.midnight(at) > today
        return 0.0 if started_over else last

    return during(start, lasting, keep)


def with_days_of(counter: Counter, time_zone: ZoneInfo) -> Change:
    """Start the day at the midnight of the server instead of the plant's."""

    def shifted(at: datetime, value: Any) -> Any:
        return counter.true_by(at, time_zone)

    return shifted


def replaced(counter: Counter, start: datetime) -> Change:
    """Start again at 0, and count truly from there on: a new device."""
    base = counter.true(start)
    first_day = counter.midnight(start)

    def counted(at: datetime, value: Any) -> Any:
        if at < start:
            return value
        if counter.kind is Kind.DAILY and counter.midnight(at) != first_day:
            return value
        return round(value - base, 2)

    return counted
