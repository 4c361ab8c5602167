"""Times at which the cloud collects values, and from which it shows them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from .moment import COLLECTION_SECONDS


@dataclass(slots=True)
class Collection:
    """A collection every five minutes, which is shown some time later."""

    lag: float = 0.0
    """Seconds until a collection is shown, at least."""
    jitter: float = 0.0
    """Greatest number of seconds by which the lag is longer."""
    seed: int = 1
    moves: list[tuple[float, int]] = field(default_factory=list)
    """Moves of all later collections: the epoch, and the seconds, 60 at most."""

    def last(self, epoch: float) -> int:
        """Return the time of the last collection that is shown."""
        number = self._number(epoch) + 1
        while self._at(number) + self._lag(number) > epoch:
            number -= 1
        return self._at(number)

    def between(self, start: float, end: float) -> Iterator[int]:
        """Yield the times of the collections from `start` to `end`."""
        number = self._number(start) - 1
        while (at := self._at(number)) <= end:
            if at >= start:
                yield at
            number += 1

    def _number(self, epoch: float) -> int:
        return int((epoch - self._moved(epoch)) // COLLECTION_SECONDS)

    def _at(self, number: int) -> int:
        at = number * COLLECTION_SECONDS
        return at + self._moved(at)

    def _moved(self, epoch: float) -> int:
        return sum(seconds for since, seconds in self.moves if since <= epoch)

    def _lag(self, number: int) -> float:
        if not self.jitter:
            return self.lag
        return self.lag + Random(f"{self.seed}/{number}").uniform(0, self.jitter)
