"""Loads of a house, a farm or a radio site over the day."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from .sun import MINUTES, Array

# Hour of the day and relative power, interpolated linearly.
_SHAPES: dict[str, tuple[tuple[float, float], ...]] = {
    "house": (
        (0.0, 0.85),
        (1.0, 0.7),
        (5.0, 0.65),
        (7.0, 1.3),
        (9.0, 0.9),
        (12.0, 1.1),
        (15.0, 0.8),
        (18.0, 1.6),
        (20.0, 1.7),
        (22.0, 1.4),
        (24.0, 0.85),
    ),
    "farm": (
        (0.0, 0.8),
        (5.0, 0.9),
        (6.5, 1.5),
        (9.0, 1.1),
        (16.0, 1.0),
        (18.0, 1.5),
        (21.0, 0.9),
        (24.0, 0.8),
    ),
    "business": (
        (0.0, 0.12),
        (5.0, 0.15),
        (6.5, 1.5),
        (9.0, 1.9),
        (11.5, 1.95),
        (12.5, 1.3),
        (14.0, 1.9),
        (16.5, 1.6),
        (18.0, 0.4),
        (20.0, 0.15),
        (24.0, 0.12),
    ),
    "site": ((0.0, 0.92), (6.0, 0.94), (12.0, 1.05), (20.0, 1.1), (24.0, 0.92)),
}
# Kettle, oven, washing machine, or furnaces: minutes and multiple of the mean power.
_APPLIANCES: dict[str, tuple[tuple[int, float], ...]] = {
    "house": ((6, 3.0), (35, 2.2), (90, 1.2)),
    "business": ((7, 0.55), (25, 0.45), (50, 0.3)),
}


@dataclass(frozen=True, slots=True)
class Load:
    """A load with a daily profile and a mean power in W."""

    mean_w: float
    shape: str = "house"


def load_power(
    load: Load, time_zone: ZoneInfo, starts: Array, seed: tuple[int, ...]
) -> Array:
    """Return the power in W, [day, minute], for days that start at `starts`."""
    hours, levels = zip(*_SHAPES[load.shape], strict=True)
    shape = np.interp(np.arange(MINUTES) / 60, hours, levels)
    result = np.empty((len(starts), MINUTES))
    for row, start in enumerate(starts):
        noon = datetime.fromtimestamp(start, UTC) + timedelta(hours=9)
        offset = noon.astimezone(time_zone).utcoffset() or timedelta()
        first = int((start + offset.total_seconds()) % 86400 // 60)
        random = np.random.default_rng((*seed, int(start // 86400)))
        flicker = np.repeat(random.uniform(0.94, 1.06, MINUTES // 3), 3)
        result[row] = np.roll(shape, -first) * random.uniform(0.9, 1.15) * flicker
        for minutes, extra in _APPLIANCES.get(load.shape, ()):
            begin = int(random.integers(180, 1100))
            result[row, begin : begin + minutes] += extra
    return np.round(result * load.mean_w, 1)
