"""Flow control: the calls that an account may make to each interface.

Quotas are counted in sliding windows, which also suit a server with fixed windows. A
call counts from its answer, the latest time at which the server can have counted it.
Refused calls also count. They widen the windows, since the server can be stricter than
its document.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
import time
from typing import ClassVar, Final

from .clock import Moment, PastMoment, limited, seconds_until
from .errors import (
    OPTIONAL,
    SYSTEM_LIMIT,
    AccountLimited,
    ConnectionFailed,
    FailCode,
    RateLimited,
    SessionTaken,
)
from .models import HISTORY_TYPES, ReportPeriod

MINUTE: Final = 60.0
FIVE_MINUTES: Final = 5 * MINUTE
TEN_MINUTES: Final = 10 * MINUTE
HALF_HOUR: Final = 30 * MINUTE
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

# Margin in seconds for a server that rounds times to seconds.
MARGIN: Final = 1.0
# Share of a window of minutes by which each refusal widens it.
WIDENING: Final = 0.05
MAX_WIDENING: Final = 1.0
# Number of early refusals that reduces an interface to one call per minute.
EARLY_REFUSALS: Final = 2
# Number of refusals in a row after which a whole window passes without a call.
SOON_AGAIN: Final = 6
# Maximum pause of an interface with a daily quota.
MAX_PAUSE: Final = 6 * HOUR
# Maximum pause of all interfaces. The documented pause is a minute, but can be too short.
MAX_SYSTEM_PAUSE: Final = 15 * MINUTE
# Maximum number of times that a pause doubles: `2**1024` is no float.
MAX_DOUBLINGS: Final = 10

# Interfaces that always allow one call per minute.
ONE_A_MINUTE: Final = frozenset({"getDevHistoryKpi", *ReportPeriod})

# Maximum duration of a pass over all groups.
MAX_PASS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Quota:
    """Number of calls in a window of seconds."""

    calls: int
    window: float


@dataclass(frozen=True, slots=True)
class Usage:
    """Used part of a quota, of one device type if each has its own quota."""

    type_id: int | None
    calls: int
    quota: Quota
    wait: float
    """Seconds until the next call is allowed."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that the server refused."""

    interface: str
    code: int | None
    at: PastMoment


@dataclass(frozen=True, slots=True)
class Call:
    """A call to an interface."""

    is_record: ClassVar = True

    at: PastMoment
    """Time of the answer."""
    type_id: int | None = None
    """Device type, if each has its own quota."""


@dataclass(slots=True)
class Interface:
    """Calls to one interface."""

    is_record: ClassVar = True

    calls: list[Call] = field(default_factory=list)
    accepted: PastMoment | None = field(
        default=None, compare=False, metadata={"stored": False}
    )
    """Time of the last accepted call."""
    stopped_until: Moment | None = None
    refused: PastMoment | None = None
    """Time of the last refused call."""
    refusals: int = 0
    """Refusals since the last accepted call."""
    used_up: bool = False
    """Whether the last call was refused for the rest of the day."""
    widening: float = 0.0
    """Share by which refusals have widened the window."""
    early_refusals: int = 0
    """Refusals within a minute after an accepted call."""
    once_a_minute: bool = False
    """Whether the interface allows one call per minute (the policy before 2022)."""

    def span(self, window: float, now: float) -> float:
        """Return the length of a window in seconds, with margin and widening."""
        if window >= TEN_MINUTES:
            return window + MARGIN
        if self.refused is not None and now - self.refused > DAY:
            self.widening = 0.0
        return window * (1 + self.widening) + MARGIN

    def counting(self, type_id: int | None, window: float, now: float) -> list[float]:
        """Return the times of the calls in the current window."""
        since = now - self.span(window, now)
        return [
            call.at
            for call in self.calls
            if call.type_id == type_id and call.at > since
        ]


@dataclass(slots=True)
class FlowControl:
    """Counts the calls of an account, and limits them to the quotas."""

    stopped_until: Moment | None = None
    """End of the pause of all interfaces."""
    stops: int = 0
    """Refusals due to the system's limit since the last accepted call."""
    refusals: list[Refusal] = field(default_factory=list)
    interfaces: dict[str, Interface] = field(default_factory=dict)
    """Interfaces that were called, by name."""
    plants: int = field(default=0, init=False)
    devices: Mapping[int, int] = field(default_factory=dict, init=False)
    """Number of devices by type."""

    def __post_init__(self) -> None:
        """Limit stored pauses, whose ends can be wrong, to the longest ones."""
        self.stopped_until = limited(self.stopped_until, MAX_SYSTEM_PAUSE)
        for name, known in self.interfaces.items():
            known.widening = min(max(known.widening, 0.0), MAX_WIDENING)
            quota = self.quota(name)
            if known.used_up:
                longest = DAY + MINUTE
            elif quota is None or quota.window > TEN_MINUTES:
                longest = MAX_PAUSE
            else:
                longest = MAX_PASS + known.span(quota.window, time.monotonic())
            known.stopped_until = limited(known.stopped_until, longest)

    def set_account_size(self, plants: int, devices: Mapping[int, int]) -> None:
        """Set the number of plants, and of devices by type; the quotas depend on it."""
        self.plants = plants
        self.devices = devices

    def quota(self, interface: str, type_id: int | None = None) -> Quota | None:
        """Return the documented quota of an interface.

        The quota of `getDevRealKpi` is the sum over all device types. Each type gets
        its own part, which also suits servers that count by type.
        """
        pages = max(ceil(self.plants / 100), 1)
        match interface:
            case "login" | "logout":
                return Quota(5, TEN_MINUTES)
            case "getStationRealKpi":
                return Quota(pages, FIVE_MINUTES)
            case "getDevRealKpi":
                devices = self.devices.get(type_id or 0, 0)
                return Quota(max(ceil(devices / 100), 1), FIVE_MINUTES)
            case "stations":
                return Quota(pages * 10 + 24, DAY)
            case "getStationList":
                return Quota(24, DAY)
            case (
                "getDevList"
                | ReportPeriod.HOUR
                | ReportPeriod.DAY
                | ReportPeriod.MONTH
                | ReportPeriod.YEAR
            ):
                return Quota(pages + 24, DAY)
            case "getDevHistoryKpi":
                batches = sum(
                    ceil(devices / 10)
                    for of_type, devices in self.devices.items()
                    if of_type in HISTORY_TYPES
                )
                return Quota(batches + 24, DAY)
            case "device/history":
                # The limit is a rate: each device adds a call in ten minutes.
                devices = sum(
                    devices
                    for of_type, devices in self.devices.items()
                    if of_type in HISTORY_TYPES
                )
                return Quota(1, TEN_MINUTES / max(devices, 1))
            case "getAlarmList":
                batches = sum(ceil(devices / 100) for devices in self.devices.values())
                return Quota(max(pages, batches), HALF_HOUR)
        return None

    @property
    def used_up(self) -> list[str]:
        """Return the interfaces whose daily quota is used up."""
        return [name for name, known in self.interfaces.items() if known.used_up]

    @property
    def recent_refusals(self) -> list[Refusal]:
        """Return the refusals of the last day."""
        day_ago = time.monotonic() - DAY
        return [refusal for refusal in self.refusals if refusal.at > day_ago]

    def usages(self, interface: str) -> list[Usage]:
        """Return the used quotas of an interface that was called."""
        now = time.monotonic()
        known = self.interfaces[interface]
        return [
            Usage(
                type_id,
                len(known.counting(type_id, quota.window, now)),
                quota,
                self.wait(interface, type_id),
            )
            for type_id in dict.fromkeys(call.type_id for call in known.calls)
            if (quota := self.quota(interface, type_id)) is not None
        ]

    def wait(
        self, interface: str, type_id: int | None = None, reserve: int = 0
    ) -> float:
        """Return the seconds until a call, and `reserve` more, are allowed."""
        now = time.monotonic()
        known = self.interfaces.get(interface)
        if known is None:
            return seconds_until(self.stopped_until)
        moments = [self.stopped_until or now, known.stopped_until or now]
        if (quota := self.quota(interface, type_id)) is not None:
            calls = known.counting(type_id, quota.window, now)
            # The quota can be smaller than the reserve.
            if (excess := len(calls) - max(quota.calls - reserve, 1)) >= 0:
                moments.append(calls[excess] + known.span(quota.window, now))
        if known.calls and (known.once_a_minute or interface in ONE_A_MINUTE):
            moments.append(known.calls[-1].at + known.span(MINUTE, now))
        return max(max(moments) - now, 0.0)

    def check(
        self, interface: str, type_id: int | None = None, reserve: int = 0
    ) -> None:
        """Raise `RateLimited` if a call is not allowed yet."""
        if wait := self.wait(interface, type_id, reserve):
            is_of_account = interface == "login" or seconds_until(self.stopped_until)
            raise (AccountLimited if is_of_account else RateLimited)(wait)

    @contextmanager
    def call(
        self, interface: str, type_id: int | None = None, reserve: int = 0
    ) -> Iterator[None]:
        """Count the call that the block makes.

        Raises `RateLimited` before the block if the call is not allowed yet. If the
        server refuses the call, sets `retry_after` of its error.
        """
        self.check(interface, type_id, reserve)
        known = self.interfaces.setdefault(interface, Interface())
        try:
            yield
        except SessionTaken:
            if interface == "login":
                self._count(interface, known, type_id)
            raise
        except ConnectionFailed as failure:
            if failure.sent:
                self._count(interface, known, type_id)
            raise
        except BaseException as error:
            # An interrupted call may have reached the server.
            self._count(interface, known, type_id)
            if isinstance(error, RateLimited):
                self._refuse(interface, known, type_id, error)
            raise
        self._count(interface, known, type_id)
        self._accept(known)

    def _accept(self, known: Interface) -> None:
        """Record an accepted call, which clears the refusals."""
        now = time.monotonic()
        if known.accepted is not None and now - known.accepted < MINUTE:
            known.early_refusals = 0
        known.accepted = now
        known.refusals = 0
        known.used_up = False
        self.stops = 0

    def _count(self, interface: str, known: Interface, type_id: int | None) -> None:
        """Add a call, and drop the calls before the longest possible window."""
        now = time.monotonic()
        quota = self.quota(interface, type_id)
        window = MINUTE if quota is None else quota.window
        longest = window * (1 + MAX_WIDENING) + MARGIN
        known.calls = [
            *(call for call in known.calls if call.at > now - longest),
            Call(now, type_id),
        ]

    def _refuse(
        self,
        interface: str,
        known: Interface,
        type_id: int | None,
        refusal: RateLimited,
    ) -> None:
        """Pause the interface, or all interfaces, after a refusal."""
        now = time.monotonic()
        self.refusals = [*self.recent_refusals, Refusal(interface, refusal.code, now)]
        if refusal.code in SYSTEM_LIMIT and interface not in OPTIONAL:
            doublings = min(self.stops, MAX_DOUBLINGS)
            pause = min(MINUTE * 2**doublings, MAX_SYSTEM_PAUSE)
            self.stops += 1
            self.stopped_until = now + pause
            refusal.retry_after = pause
            return
        if known.accepted is not None and now - known.accepted < MINUTE:
            known.early_refusals += interface != "login"
            known.once_a_minute |= known.early_refusals >= EARLY_REFUSALS
        known.refusals += 1
        known.used_up = refusal.code == FailCode.DAILY_LIMIT
        known.refused = now
        known.widening = min(known.widening + WIDENING, MAX_WIDENING)
        quota = self.quota(interface, type_id)
        if known.used_up and known.refusals == 1:
            # The server's midnight is unknown, so the pause ends at midnight UTC.
            pause = DAY - time.time() % DAY + MINUTE
        elif known.used_up:
            pause = MAX_PAUSE
        elif known.once_a_minute:
            pause = known.span(MINUTE, now)
        elif quota is not None and quota.window <= TEN_MINUTES:
            pause = known.span(quota.window, now)
        else:
            # Another client may have used up the quota of the day, or of the minute.
            doublings = min(2 * (known.refusals - 1), MAX_DOUBLINGS)
            window = DAY if quota is None else quota.window
            # The quota can be smaller than documented, and refused calls count.
            longest = window if known.refusals > SOON_AGAIN else window / 2
            pause = min(MINUTE * 2**doublings, longest, MAX_PAUSE)
        known.stopped_until = now + pause
        refusal.retry_after = pause

    def assume_kill(self, next_pass: float) -> None:
        """Count the calls that a killed process may have made but not stored.

        These are one call of each import, and a pass if its planned time is past.
        """
        now = time.monotonic()
        for interface in ONE_A_MINUTE & self.interfaces.keys():
            self.assume_call(interface, now)
        if next_pass > now:
            return
        for interface in ("getStationRealKpi", "getDevRealKpi"):
            known = self.interfaces.setdefault(interface, Interface())
            known.stopped_until = max(
                known.stopped_until or next_pass,
                next_pass + MAX_PASS + known.span(FIVE_MINUTES, now),
            )

    def assume_call(self, interface: str, planned: Moment) -> None:
        """Count a call if its planned time is past.

        If the process was killed, its last call may not be stored.
        """
        now = time.monotonic()
        if planned <= now:
            answered = min(planned + MAX_PASS, now)
            known = self.interfaces.setdefault(interface, Interface())
            known.calls.append(Call(answered))
