"""Times of answers by the server's clock, checked against other clocks.

`params.currentTime` can be wrong in single answers, or for hours. Home Assistant's
clock can be wrong until the system's clock is set. Monotonic time is always correct,
but has no date.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
import math
from typing import Final, Self

# Tolerated difference in seconds: answers are delayed, and the servers of one address
# have separate clocks.
TOLERANCE: Final = 120.0
# Minimum duration in seconds, and number of answers, of a consistent deviation that
# is accepted as the server's time.
MIN_DURATION: Final = 6 * 3600.0
MIN_ANSWERS: Final = 12
# Maximum difference in seconds between two clocks. A larger one means a wrong clock, not
# a wrong time zone.
MAX_DIFFERENCE: Final = timedelta(days=2).total_seconds()
# Minimum rate at which the returned time advances after a correction backward.
MIN_RATE: Final = 0.9


class ServerClock:
    """Determines the times of the answers of one server.

    The time in an answer is accepted if it agrees with one of these: the last accepted
    time plus the elapsed time, Home Assistant's clock (with or without the server's
    last lead), or a long series of deviating answers. Otherwise, the last accepted time
    plus the elapsed time is returned. Returned times never decrease.
    """

    def __init__(self, ahead: float = 0.0, last: float = -math.inf) -> None:
        """Set the lead over Home Assistant's clock, and the last returned time."""
        self._ahead = ahead
        self._last = last
        self._read: float | None = None
        """Monotonic time of the last answer."""
        self._offset = 0.0
        """The server's clock minus monotonic time."""
        self._deviating: float | None = None
        """Offset of the current series of deviating answers."""
        self._deviating_since = 0.0
        self._deviations = 0

    @classmethod
    def after(cls, dated: Iterable[tuple[datetime, datetime]]) -> Self:
        """Return a clock that continues from earlier receipt and server times."""
        last = max(dated, key=lambda each: each[1], default=None)
        if last is None:
            return cls()
        received, moment = last
        ahead = (moment - received).total_seconds()
        return cls(ahead if abs(ahead) <= MAX_DIFFERENCE else 0.0, moment.timestamp())

    def moment(
        self, reported: datetime | None, received: datetime, monotonic: float
    ) -> datetime:
        """Return the time of an answer.

        `reported` is the server's clock in the answer, `received` is Home Assistant's
        clock, and `monotonic` is its monotonic time.
        """
        own = received.timestamp()
        expected = own + self._ahead
        answer = expected if reported is None else reported.timestamp()
        if self._read is None:
            # The earliest one, since a correction cannot move the time back.
            possible = [expected, answer]
            begin = min(
                (each for each in possible if each >= self._last - TOLERANCE),
                default=self._last,
            )
            self._offset = begin - monotonic
            self._read = monotonic
        at = self._offset + monotonic
        clocks = [at] if reported is None else [at, own, expected]
        agrees = any(abs(answer - clock) <= TOLERANCE for clock in clocks)
        if agrees or self._settles(answer, own, monotonic):
            at = answer
            self._offset = at - monotonic
            self._ahead = at - own
            self._deviating = None
        self._last = max(at, self._last + MIN_RATE * (monotonic - self._read))
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
            monotonic - self._deviating_since >= MIN_DURATION
            and self._deviations >= MIN_ANSWERS
            and abs(answer - own) <= MAX_DIFFERENCE
        )
