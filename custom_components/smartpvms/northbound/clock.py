"""Conversion between monotonic time and stored epoch seconds.

The system's clock can be set at any time; monotonic time never jumps.
"""

import time

type Moment = float
"""Monotonic seconds."""
type PastMoment = float
"""Monotonic seconds, never later than now."""
type EpochTime = float
"""Epoch seconds."""


def to_epoch(moment: Moment) -> float:
    """Return the epoch seconds of a monotonic time."""
    return time.time() - (time.monotonic() - moment)


def seconds_until(moment: Moment | None) -> float:
    """Return the seconds until a moment, 0 if it is past or `None`."""
    return 0.0 if moment is None else max(moment - time.monotonic(), 0.0)


def limited(moment: Moment | None, seconds: float) -> Moment | None:
    """Return a moment, which is at most these seconds ahead."""
    return None if moment is None else min(moment, time.monotonic() + seconds)


def to_monotonic(stored: EpochTime, behind: float = 0.0) -> Moment:
    """Return the monotonic time of epoch seconds, for a clock that is `behind`."""
    return time.monotonic() + (stored - time.time() - behind)


def to_past(stored: EpochTime, behind: float = 0.0) -> PastMoment:
    """Return the monotonic time of epoch seconds, limited to now."""
    return min(to_monotonic(stored, behind), time.monotonic())


def seconds_behind(saved: EpochTime) -> float:
    """Return the seconds by which the clock is behind the time of the last save.

    A computer without a clock battery starts with an old time.
    """
    return max(saved - time.time(), 0.0)
