"""Moments in monotonic seconds, and their epoch seconds in a file.

The system's clock may be set at any time; monotonic time never jumps.
"""

import time

type Moment = float
"""Monotonic seconds."""
type PastMoment = float
"""Monotonic seconds of a moment that is never later than now."""


def to_epoch(moment: Moment) -> float:
    """Return the epoch seconds of a monotonic moment."""
    return time.time() - (time.monotonic() - moment)


def to_monotonic(stored: object, behind: float = 0.0) -> Moment:
    """Return the monotonic moment of epoch seconds, by a clock that is `behind`.

    Raises `TypeError` if `stored` is not a number.
    """
    return time.monotonic() + (_number(stored) - time.time() - behind)


def to_past(stored: object, behind: float = 0.0) -> PastMoment:
    """Return the monotonic moment of epoch seconds, now at the latest.

    Raises `TypeError` if `stored` is not a number.
    """
    return min(to_monotonic(stored, behind), time.monotonic())


def seconds_behind(saved: object) -> float:
    """Return the seconds by which the clock is behind the moment of a file.

    A computer without a battery starts with an old time. Raises `TypeError` if `saved`
    is not a number.
    """
    return max(_number(saved) - time.time(), 0.0)


def _number(stored: object) -> float:
    if isinstance(stored, bool) or not isinstance(stored, int | float):
        raise TypeError
    return stored
