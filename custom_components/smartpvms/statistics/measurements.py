"""Hourly statistics of measurements, from 5-minute history rows."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
import math
from typing import Final

from .rows import HOUR, MeanRow, Sample

# Maximum time in seconds for which a value is valid if no other follows.
MAX_VALIDITY: Final = 900.0


def fill_measurement(
    samples: Sequence[Sample], hours: Iterable[float], *, angle: bool
) -> list[MeanRow]:
    """Return the missing hours of a measurement that have a known value."""
    rows = []
    spans = list(_spans(samples))
    for hour in hours:
        valid = [
            (value, min(end, hour + HOUR) - max(begin, hour))
            for begin, end, value in spans
            if begin < hour + HOUR and end > hour
        ]
        if not valid:
            continue
        values = [value for value, _ in valid]
        weight: float | None = None
        if angle:
            mean, weight = _mean_angle(valid)
        else:
            duration = math.fsum(span for _, span in valid)
            mean = math.fsum(value * span for value, span in valid) / duration
        rows.append(
            MeanRow(
                start=hour,
                mean=mean,
                min=min(values),
                max=max(values),
                weight=weight,
            )
        )
    return rows


def _spans(samples: Sequence[Sample]) -> Iterator[tuple[float, float, float]]:
    """Yield the start and end of the time for which a value is valid, and the value."""
    last = [(samples[-1][0] + MAX_VALIDITY, None)] if samples else []
    for (at, value), (until, _) in pairwise([*samples, *last]):
        if value is not None:
            yield at, min(until, at + MAX_VALIDITY), value


def _mean_angle(values: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Return the time-weighted mean of angles, and its weight."""
    east = north = 0.0
    for angle, span in values:
        east += math.sin(math.radians(angle)) * span
        north += math.cos(math.radians(angle)) * span
    return math.degrees(math.atan2(east, north)) % 360, math.hypot(east, north)
