"""Moments that survive a restart: monotonic seconds in memory, epochs in a file.

The computer's clock may be set at any time; what was a minute ago stays a minute ago.
"""

import time


def epoch(moment: float) -> float:
    """Return the epoch of a monotonic moment."""
    return time.time() - (time.monotonic() - moment)


def lag(saved: object) -> float:
    """Return by how many seconds the clock is behind the moment of a file.

    A computer without a battery starts with an old time. Raises `TypeError` if the
    moment is no epoch.
    """
    return max(_number(saved) - time.time(), 0.0)


def past(stored: object, behind: float = 0.0) -> float:
    """Return the monotonic moment of an epoch, at the latest now.

    Raises `TypeError` for what is no epoch.
    """
    return min(coming(stored, behind), time.monotonic())


def coming(stored: object, behind: float = 0.0) -> float:
    """Return the monotonic moment of an epoch, by a clock that is `behind`.

    Raises `TypeError` for what is no epoch.
    """
    return time.monotonic() + (_number(stored) - time.time() - behind)


def _number(stored: object) -> float:
    if isinstance(stored, bool) or not isinstance(stored, int | float):
        raise TypeError
    return stored
