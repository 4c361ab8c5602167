"""Hourly statistics of measurements, from 5-minute history rows."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
import math
from typing import Final

from .rows import HOUR, Mean, Sample

# Longest time in seconds for which a value is valid if no other follows.
HOLDS: Final = 900.0


def fill_measurement(
    samples: Sequence[Sample], hours: Iterable[float], *, angle: bool
) -> list[Mean]:
    """Return the missing hours of a measurement that have a known value."""
    means = []
    spans = list(_spans(samples))
    for hour in hours:
        held = [
            (value, min(end, hour + HOUR) - max(begin, hour))
            for begin, end, value in spans
            if begin < hour + HOUR and end > hour
        ]
        if not held:
            continue
        values = [value for value, _ in held]
        weight: float | None = None
        if angle:
            mean, weight = _mean_angle(held)
        else:
            known_for = math.fsum(span for _, span in held)
            mean = math.fsum(value * span for value, span in held) / known_for
        means.append(Mean(hour, mean, min(values), max(values), weight))
    return means


def _spans(samples: Sequence[Sample]) -> Iterator[tuple[float, float, float]]:
    """Yield the start and end of the time for which a value is valid, and the value."""
    last = [(samples[-1][0] + HOLDS, None)] if samples else []
    for (at, value), (until, _) in pairwise([*samples, *last]):
        if value is not None:
            yield at, min(until, at + HOLDS), value


def _mean_angle(held: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return the time-weighted mean of angles, and its weight."""
    east = north = 0.0
    for angle, span in held:
        east += math.sin(math.radians(angle)) * span
        north += math.cos(math.radians(angle)) * span
    return math.degrees(math.atan2(east, north)) % 360, math.hypot(east, north)
