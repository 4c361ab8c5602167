"""Times of answers by the server's clock, checked against other clocks.

`params.currentTime` may be wrong in single answers, or for hours. The clock of Home
Assistant may be wrong from its start until it is set. Monotonic time is correct while
Home Assistant runs, but has no date.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
import math
from typing import Final, Self

# Allowed difference in seconds: answers are delayed, and the servers behind one address
# have separate clocks.
TOLERANCE: Final = 120.0
# A deviating clock is accepted after so many seconds and consistent answers in a row.
SETTLING: Final = 6 * 3600.0
ANSWERS: Final = 12
# A larger difference is not due to time zones: one clock is wrong.
FARTHEST: Final = timedelta(days=2).total_seconds()
# Minimum rate at which the returned time advances after a correction backward.
SLOWEST: Final = 0.9


class ServerClock:
    """Determines the times of the answers of one server.

    The time in an answer is accepted if it agrees with the last accepted time plus the
    time elapsed since, with Home Assistant's clock (with or without the server's last
    offset), or with a long series of deviating answers. Otherwise, the last accepted
    time plus the time elapsed is returned. Returned times never decrease.
    """

    def __init__(self, ahead: float = 0.0, last: float = -math.inf) -> None:
        """Set the lead over Home Assistant's clock, and the last returned time."""
        self._ahead = ahead
        self._last = last
        self._read: float | None = None
        """Monotonic seconds at which a time was last returned."""
        self._offset = 0.0
        """The server's clock minus monotonic time."""
        self._deviating: float | None = None
        """Offset of the current series of deviating answers."""
        self._deviating_since = 0.0
        self._deviations = 0

    @classmethod
    def after(cls, dated: Iterable[tuple[datetime, datetime]]) -> Self:
        """Return a clock that continues from receipt and server times of answers."""
        last = max(dated, key=lambda each: each[1], default=None)
        if last is None:
            return cls()
        received, moment = last
        ahead = (moment - received).total_seconds()
        return cls(ahead if abs(ahead) <= FARTHEST else 0.0, moment.timestamp())

    def moment(
        self, reported: datetime | None, received: datetime, monotonic: float
    ) -> datetime:
        """Return the time of an answer.

        `reported` is the server's clock in the answer, `received` is Home Assistant's
        clock, and `monotonic` is its monotonic time.
        """
        own = received.timestamp()
        told = None if reported is None else reported.timestamp()
        answer = own + self._ahead if told is None else told
        if self._read is None:
            # The earliest, since later corrections cannot move the time back.
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
        """Return whether a deviating answer completes a series that is long enough."""
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
