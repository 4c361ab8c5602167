"""Moments that survive a restart: monotonic seconds in memory, epochs in a file.

The computer's clock may be set at any time; what was a minute ago stays a minute ago.
"""

import time


def epoch(moment: float) -> float:
    """Return the epoch of a monotonic moment."""
    return time.time() - (time.monotonic() - moment)


def past(stored: object) -> float:
    """Return the monotonic moment of an epoch; nothing past can be yet to come.

    Raises `TypeError` for what is no epoch.
    """
    return min(coming(stored), time.monotonic())


def coming(stored: object) -> float:
    """Return the monotonic moment of an epoch.

    Raises `TypeError` for what is no epoch.
    """
    if isinstance(stored, bool) or not isinstance(stored, int | float):
        raise TypeError
    return time.monotonic() + (stored - time.time())
