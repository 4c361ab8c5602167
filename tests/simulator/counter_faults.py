"""Observed faults of counters.

A fault is a function of the time and the value without the fault, and returns the
reported value: `simulator.distort(name, key, fault)`. Several faults of one item apply
one after the other. Faults have no state, so the number of requests has no influence.
"""

from datetime import datetime, timedelta
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from .cloud import Change
from .counters import COLLECTION, Counter, Kind

JITTER = 0.03

# A 16-bit and a 32-bit register that mean "no value", the latter in thousandths.
ALL_ONES = (65535.0, 4294967.295)


def during(start: datetime, lasting: timedelta, change: Change) -> Change:
    """Limit a fault to a period."""

    def limited(at: datetime, value: Any) -> Any:
        return change(at, value) if start <= at < start + lasting else value

    return limited


def reads(wrong: Any, start: datetime, lasting: timedelta = COLLECTION) -> Change:
    """Report another value, such as 0, null or 65535, by default once (T#138)."""
    return during(start, lasting, lambda at, value: wrong)


def multiplied(
    factor: float, start: datetime, lasting: timedelta = COLLECTION
) -> Change:
    """Report a multiple, by default once (T#159)."""

    def jump(at: datetime, value: Any) -> Any:
        return round(value * factor, 2)

    return during(start, lasting, jump)


def without_yesterday(counter: Counter, start: datetime, lasting: timedelta) -> Change:
    """Subtract yesterday's yield for a while, mostly after midnight (T#300)."""
    yesterday = counter.yesterday(start)

    def fall(at: datetime, value: Any) -> Any:
        return round(max(value - yesterday, 0.0), 2)

    return during(start, lasting, fall)


def still_yesterday(
    counter: Counter, midnight: datetime, lasting: timedelta, above: float = 0.0
) -> Change:
    """Keep yesterday's value until sunrise, like a device that is asleep (P#93).

    The fault ends after a time, or when the true value exceeds a threshold.
    """
    yesterday = counter.yesterday(midnight)

    def keep(at: datetime, value: Any) -> Any:
        return yesterday if value <= above else value

    return during(midnight, lasting, keep)


def flipping(counter: Counter, midnight: datetime, lasting: timedelta) -> Change:
    """Alternate between 0 and yesterday's value (T#240)."""
    yesterday = counter.yesterday(midnight)

    def flip(at: datetime, value: Any) -> Any:
        return yesterday if (at - midnight) // COLLECTION % 2 else 0.0

    return during(midnight, lasting, flip)


def jittering(seed: object, start: datetime, lasting: timedelta) -> Change:
    """Vary each value slightly, like servers that round different sums."""

    def jitter(at: datetime, value: Any) -> Any:
        dice = Random(f"{seed}/{int(at.timestamp() // COLLECTION.total_seconds())}")
        return round(max(value + dice.uniform(-JITTER, JITTER), 0.0), 2)

    return during(start, lasting, jitter)


def offline(counter: Counter, start: datetime, lasting: timedelta) -> Change:
    """Keep the last value of the devices, and return to the true value at the end."""
    last = counter.true(start)
    today = counter.midnight(start)

    def keep(at: datetime, value: Any) -> Any:
        started_over = counter.kind is Kind.DAILY and counter.midnight(at) > today
        return 0.0 if started_over else last

    return during(start, lasting, keep)


def with_days_of(counter: Counter, time_zone: ZoneInfo) -> Change:
    """Start the day at the server's midnight instead of the plant's."""

    def shifted(at: datetime, value: Any) -> Any:
        return counter.true_by(at, time_zone)

    return shifted


def replaced(counter: Counter, start: datetime) -> Change:
    """Start at 0 and count the true energy from there on, like a new device."""
    base = counter.true(start)
    first_day = counter.midnight(start)

    def counted(at: datetime, value: Any) -> Any:
        if at < start:
            return value
        if counter.kind is Kind.DAILY and counter.midnight(at) != first_day:
            return value
        return round(value - base, 2)

    return counted
