"""Flow control: how often an account may call each interface."""

from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
import math

from .clock import Clock
from .items import has_history, has_kpis
from .plants import Home

_FIVE_MINUTES = timedelta(minutes=5)
_TEN_MINUTES = timedelta(minutes=10)
_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)


def _batches(number: int, size: int) -> int:
    return math.ceil(number / size)


def _plants(home: Home) -> int:
    return max(_batches(len(home.plants), 100), 1)


def _devices(home: Home, size: int, counts: Callable[[int], bool]) -> int:
    types = Counter(device.type_id for _, device in home.devices())
    return sum(
        _batches(number, size) for type_id, number in types.items() if counts(type_id)
    )


@dataclass(frozen=True, slots=True)
class Quota:
    """So many calls in a window."""

    calls: Callable[[Home], int]
    window: timedelta


_SESSION_QUOTAS = {
    "login": Quota(lambda home: 5, _TEN_MINUTES),
    "logout": Quota(lambda home: 5, _TEN_MINUTES),
}
PUBLISHED = _SESSION_QUOTAS | {
    "stations": Quota(lambda home: _plants(home) * 10 + 24, _DAY),
    "getStationList": Quota(lambda home: 24, _DAY),
    "getDevList": Quota(lambda home: _plants(home) + 24, _DAY),
    "getStationRealKpi": Quota(_plants, _FIVE_MINUTES),
    "getDevRealKpi": Quota(
        lambda home: max(_devices(home, 100, has_kpis), 1), _FIVE_MINUTES
    ),
    "getDevHistoryKpi": Quota(lambda home: _devices(home, 10, has_history) + 24, _DAY),
}
OLD = _SESSION_QUOTAS | dict.fromkeys(
    (
        "stations",
        "getStationList",
        "getDevList",
        "getStationRealKpi",
        "getDevRealKpi",
        "getDevHistoryKpi",
    ),
    Quota(lambda home: 1, _MINUTE),
)
NONE: dict[str, Quota] = {}


class FlowControl:
    """Count calls in sliding windows; refused calls count as well."""

    def __init__(self, quotas: dict[str, Quota], home: Home, clock: Clock) -> None:
        """Start with no calls made."""
        self._quotas = quotas
        self._home = home
        self._clock = clock
        self._calls: defaultdict[str, deque[datetime]] = defaultdict(deque)

    def admits(self, interface: str) -> bool:
        """Count a call and tell whether it is within the quota."""
        if (quota := self._quotas.get(interface)) is None:
            return True
        now = self._clock.now()
        calls = self._calls[interface]
        while calls and calls[0] <= now - quota.window:
            calls.popleft()
        calls.append(now)
        return len(calls) <= quota.calls(self._home)
