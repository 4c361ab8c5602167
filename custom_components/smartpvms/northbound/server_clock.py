"""The moments of answers by the server's clock, as far as it agrees with time passed.

`params.currentTime` may be wrong in single answers, or for hours. The clock of Home
Assistant may be wrong from its start until it is set. Monotonic time is right for as
long as Home Assistant runs, but has no date.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
import math
from typing import Final, Self

# Answers take time, and the servers behind one address have clocks of their own.
TOLERANCE: Final = 120.0
# A deviating clock is followed after so many seconds and answers in a row that agree.
SETTLING: Final = 6 * 3600.0
ANSWERS: Final = 12
# Clocks that differ by more are not a matter of time zones: one is broken.
FARTHEST: Final = timedelta(days=2).total_seconds()
# The slowest that time passes while a later clock is given up.
SLOWEST: Final = 0.9


class ServerClock:
    """Dates the answers of one server.

    An answer counts if it agrees with the last one that counted and the time since, or
    with Home Assistant's clock, or with a series of deviating answers. Any other answer
    is dated by the time since the last one that counted. Moments never go back.
    """

    def __init__(self, ahead: float = 0.0, last: float = -math.inf) -> None:
        """Go on from the last moment, with a clock that was ahead of the own one."""
        self._ahead = ahead
        self._last = last
        self._read: float | None = None
        """When the last moment was returned, in monotonic seconds."""
        self._offset = 0.0
        """The server's clock less monotonic time."""
        self._deviating: float | None = None
        """The offset of the answers since the last one that counted."""
        self._deviating_since = 0.0
        self._deviations = 0

    @classmethod
    def after(cls, dated: Iterable[tuple[datetime, datetime]]) -> Self:
        """Go on from answers: when each was received, and its moment."""
        last = max(dated, key=lambda each: each[1], default=None)
        if last is None:
            return cls()
        received, moment = last
        ahead = (moment - received).total_seconds()
        return cls(ahead if abs(ahead) <= FARTHEST else 0.0, moment.timestamp())

    def moment(
        self, reported: datetime | None, received: datetime, monotonic: float
    ) -> datetime:
        """Return the moment of an answer from what it reports, if it does.

        `received` is Home Assistant's clock, `monotonic` its monotonic time.
        """
        own = received.timestamp()
        told = None if reported is None else reported.timestamp()
        answer = own + self._ahead if told is None else told
        if self._read is None:
            # Time can be moved ahead later, but not back.
            possible = [own + self._ahead, answer]
            begin = min(
                (each for each in possible if each >= self._last - TOLERANCE),
                default=self._last,
            )
            self._offset = begin - monotonic
            self._read = monotonic
        at = self._offset + monotonic
        clocks = [at] if told is None else [at, own, own + self._ahead]
        agrees = any(abs(answer - clock) <= TOLERANCE for clock in clocks)
        if agrees or self._settles(answer, own, monotonic):
            at = answer
            self._offset = at - monotonic
            self._ahead = at - own
            self._deviating = None
        self._last = max(at, self._last + SLOWEST * (monotonic - self._read))
        self._read = monotonic
        return datetime.fromtimestamp(self._last, UTC)

    def _settles(self, answer: float, own: float, monotonic: float) -> bool:
        """Return whether a deviating answer ends a series that is long enough."""
        offset = answer - monotonic
        if self._deviating is None or abs(offset - self._deviating) > TOLERANCE:
            self._deviating = offset
            self._deviating_since = monotonic
            self._deviations = 0
        self._deviations += 1
        return (
            monotonic - self._deviating_since >= SETTLING
            and self._deviations >= ANSWERS
            and abs(answer - own) <= FARTHEST
        )
