"""Flow control: the allowed calls of an account per interface."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
import math
from typing import Any, Literal

from .clock import Clock
from .items import has_history, has_kpis
from .plants import Home
from .reports import REPORTS

_FIVE_MINUTES = timedelta(minutes=5)
_TEN_MINUTES = timedelta(minutes=10)
_HALF_HOUR = timedelta(minutes=30)
_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)
_EPOCH = datetime.fromtimestamp(0, UTC)

type Windows = Literal["sliding", "fixed"]
"""Whether a window ends now, or is aligned to the server's clock."""


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
    """A number of calls in a window."""

    calls: Callable[[Home], int]
    window: timedelta
    # Each device type has the quota of a home without other types.
    per_type: bool = False


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
    "device/history": Quota(lambda home: _devices(home, 1, has_history), _TEN_MINUTES),
    "getAlarmList": Quota(
        lambda home: max(_plants(home), _devices(home, 100, lambda type_id: True)),
        _HALF_HOUR,
    ),
    **dict.fromkeys(REPORTS, Quota(lambda home: _plants(home) + 24, _DAY)),
}
PER_TYPE = PUBLISHED | {
    "getDevRealKpi": replace(PUBLISHED["getDevRealKpi"], per_type=True)
}
OLD = _SESSION_QUOTAS | dict.fromkeys(
    (
        "stations",
        "getStationList",
        "getDevList",
        "getStationRealKpi",
        "getDevRealKpi",
        "getDevHistoryKpi",
        "getAlarmList",
        *REPORTS,
    ),
    Quota(lambda home: 1, _MINUTE),
)
WITHOUT_HISTORY = {
    interface: quota
    for interface, quota in PUBLISHED.items()
    if interface not in ("getDevHistoryKpi", "device/history", *REPORTS)
}
# Passes follow each other faster, for tests in real time.
QUICK = WITHOUT_HISTORY | {
    interface: replace(WITHOUT_HISTORY[interface], window=_MINUTE)
    for interface in ("getStationRealKpi", "getDevRealKpi")
}
NONE: dict[str, Quota] = {}


class _Window:
    """The calls that currently count."""

    def __init__(self, length: timedelta, kind: Windows) -> None:
        """Start without calls."""
        self._length = length
        self._kind = kind
        self._calls: deque[datetime] = deque()

    def calls(self, now: datetime) -> int:
        """Return the number of calls that count."""
        while self._calls and not self._counts(self._calls[0], now):
            self._calls.popleft()
        return len(self._calls)

    def _counts(self, call: datetime, now: datetime) -> bool:
        if self._kind == "fixed":
            return (call - _EPOCH) // self._length == (now - _EPOCH) // self._length
        return now - call < self._length

    def add(self, now: datetime) -> int:
        """Count a call, and return the number of calls that count."""
        self._calls.append(now)
        return self.calls(now)


class FlowControl:
    """Counts calls in windows, including refused ones."""

    def __init__(
        self,
        quotas: dict[str, Quota],
        home: Home,
        clock: Clock,
        windows: Windows,
        daily_code: int,
    ) -> None:
        """Start without calls."""
        self._quotas = quotas
        self._home = home
        self._clock = clock
        self._kind = windows
        self._daily_code = daily_code
        self._windows: dict[tuple[str, str], _Window] = {}
        self._days: dict[str, tuple[int, _Window]] = {}

    def refusal(self, interface: str, fields: dict[str, Any]) -> int | None:
        """Count a call, and return the failCode if it exceeds a quota."""
        now = self._clock.now()
        code = None
        if quota := self._quotas.get(interface):
            type_id = str(fields.get("devTypeId")) if quota.per_type else ""
            window = self._window(interface, quota, type_id)
            if window.add(now) > self._allowed(quota, type_id):
                code = self._daily_code if quota.window == _DAY else 407
        if interface in self._days:
            allowed, day = self._days[interface]
            if day.add(now) > allowed:
                code = 20618
        return code

    def use_up(self, interface: str) -> None:
        """Make the remaining calls of an interface's quota."""
        quota = self._quotas[interface]
        types = {str(device.type_id) for _, device in self._home.devices()}
        for type_id in types if quota.per_type else ("",):
            made = self._window(interface, quota, type_id).calls(self._clock.now())
            for _ in range(self._allowed(quota, type_id) - made):
                self.refusal(interface, {"devTypeId": type_id})

    def limit_day(self, interface: str, calls: int | None) -> None:
        """Limit the calls of a UTC day, counted from now on; None for no limit."""
        if calls is None:
            self._days.pop(interface, None)
        else:
            self._days[interface] = calls, _Window(_DAY, "fixed")

    def _window(self, interface: str, quota: Quota, type_id: str) -> _Window:
        return self._windows.setdefault(
            (interface, type_id), _Window(quota.window, self._kind)
        )

    def _allowed(self, quota: Quota, type_id: str) -> int:
        home = _only(self._home, type_id) if quota.per_type else self._home
        return quota.calls(home)


def _only(home: Home, type_id: str) -> Home:
    """Return a home without the devices of other types."""
    return Home(
        [
            replace(
                plant,
                devices=[
                    device for device in plant.devices if str(device.type_id) == type_id
                ],
            )
            for plant in home.plants
        ]
    )
