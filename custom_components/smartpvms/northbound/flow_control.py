"""Flow control: how often an account may call each interface, and when next.

The published quotas are kept as sliding windows, which also suit a server with fixed
windows. A call counts from its answer on, the latest moment at which the server can
have counted it. Refused calls count as well, and widen the window of a server that is
stricter than its document.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
import time
from typing import Final

from .clock import Moment, PastMoment
from .errors import (
    SYSTEM_LIMIT,
    AccountLimited,
    ConnectionFailed,
    RateLimited,
    SessionTaken,
)
from .models import HISTORY_TYPES

MINUTE: Final = 60.0
FIVE_MINUTES: Final = 5 * MINUTE
TEN_MINUTES: Final = 10 * MINUTE
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

# For a server that rounds times to seconds.
MARGIN: Final = 1.0
# Share by which a refusal widens an interface's windows of minutes, and the highest.
WIDENING: Final = 0.05
MOST_WIDENING: Final = 1.0
# Refusals within a minute of an accepted call after which an interface is called once
# a minute.
EARLY_REFUSALS: Final = 2
# Longest pause of a daily interface that refuses.
MOST_PATIENCE: Final = 6 * HOUR
# The whole system may be limited for longer than the minute that it asks for.
MOST_SYSTEM_PATIENCE: Final = 15 * MINUTE

# Allowed once a minute by every policy.
ONE_A_MINUTE: Final = frozenset({"getDevHistoryKpi"})

# Longest time of a pass over all groups.
LONGEST_PASS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Quota:
    """Number of calls in a window of seconds."""

    calls: int
    window: float


@dataclass(frozen=True, slots=True)
class Usage:
    """Used part of a quota, by device type where each has its own."""

    type_id: int | None
    calls: int
    quota: Quota
    wait: float
    """The seconds until the next call."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that the server refused."""

    interface: str
    code: int | None
    at: PastMoment


@dataclass(slots=True)
class Interface:
    """Calls to one interface."""

    calls: list[tuple[int | None, PastMoment]] = field(default_factory=list)
    """The device type, and the time of the answer."""
    stopped_until: Moment = 0.0
    accepted: PastMoment | None = None
    """Time of the last accepted call."""
    refused: PastMoment | None = None
    """Time of the last refused call."""
    refusals: int = 0
    """Refusals since the last accepted call."""
    used_up: bool = False
    """Whether the last call was refused for all of the day."""
    widening: float = 0.0
    """Share by which refusals have widened the window."""
    early_refusals: int = 0
    """Refusals within a minute of an accepted call."""
    once_a_minute: bool = False
    """Whether the interface allows one call a minute (the policy of before 2022)."""

    def span(self, window: float, now: float) -> float:
        """Return the seconds of a window, with margin and widening."""
        if window >= TEN_MINUTES:
            return window + MARGIN
        if self.refused is not None and now - self.refused > DAY:
            self.widening = 0.0
        return window * (1 + self.widening) + MARGIN

    def counting(self, type_id: int | None, window: float, now: float) -> list[float]:
        """Return the times of the calls that count in a window now."""
        since = now - self.span(window, now)
        return [at for called, at in self.calls if called == type_id and at > since]


@dataclass(slots=True)
class FlowControl:
    """Calls of an account, and the time until the next one."""

    stopped_until: Moment = 0.0
    """End of a limit on all interfaces."""
    stops: int = 0
    """Refusals by the whole system since the last accepted call."""
    refusals: list[Refusal] = field(default_factory=list)
    interfaces: dict[str, Interface] = field(default_factory=dict)
    """The interfaces that were called."""
    plants: int = field(default=0, init=False)
    devices: Mapping[int, int] = field(default_factory=dict, init=False)
    """Number of devices by type."""

    def measure(self, plants: int, devices: Mapping[int, int]) -> None:
        """Set the account's size, from which quotas follow: devices by type."""
        self.plants = plants
        self.devices = devices

    def quota(self, interface: str, type_id: int | None = None) -> Quota | None:
        """Return the published quota of an interface.

        The quota of `getDevRealKpi` counts over all types; each type gets its own part
        of it, which also suits servers that count by type.
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
            case "getDevList":
                return Quota(pages + 24, DAY)
            case "getDevHistoryKpi":
                batches = sum(
                    ceil(devices / 10)
                    for of_type, devices in self.devices.items()
                    if of_type in HISTORY_TYPES
                )
                return Quota(batches + 24, DAY)
        return None

    @property
    def used_up(self) -> list[str]:
        """Return the interfaces whose quota of the day is used up."""
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
            for type_id in dict.fromkeys(called for called, _ in known.calls)
            if (quota := self.quota(interface, type_id)) is not None
        ]

    def wait(
        self, interface: str, type_id: int | None = None, reserve: int = 0
    ) -> float:
        """Return the seconds until a call may be made, and `reserve` more."""
        now = time.monotonic()
        known = self.interfaces.get(interface)
        if known is None:
            return max(self.stopped_until - now, 0.0)
        moments = [self.stopped_until, known.stopped_until]
        if (quota := self.quota(interface, type_id)) is not None:
            calls = known.counting(type_id, quota.window, now)
            # The quota may be smaller than the reserve.
            if (excess := len(calls) - max(quota.calls - reserve, 1)) >= 0:
                moments.append(calls[excess] + known.span(quota.window, now))
        if known.calls and (known.once_a_minute or interface in ONE_A_MINUTE):
            moments.append(known.calls[-1][1] + known.span(MINUTE, now))
        return max(max(moments) - now, 0.0)

    def check(
        self, interface: str, type_id: int | None = None, reserve: int = 0
    ) -> None:
        """Raise `RateLimited` if a call has to wait."""
        if wait := self.wait(interface, type_id, reserve):
            stopped = self.stopped_until > time.monotonic()
            limited = interface == "login" or stopped
            raise (AccountLimited if limited else RateLimited)(wait)

    @contextmanager
    def call(
        self, interface: str, type_id: int | None = None, reserve: int = 0
    ) -> Iterator[None]:
        """Count a call.

        Raises `RateLimited` before the call if it has to wait. Sets `retry_after` of a
        refusal by the server.
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
            # A call that was interrupted may have reached the server.
            self._count(interface, known, type_id)
            if isinstance(error, RateLimited):
                self._refuse(interface, known, type_id, error)
            raise
        self._count(interface, known, type_id)
        self._accept(known)

    def _accept(self, known: Interface) -> None:
        """Clear the refusals of an interface."""
        now = time.monotonic()
        if known.accepted is not None and now - known.accepted < MINUTE:
            known.early_refusals = 0
        known.accepted = now
        known.refusals = 0
        known.used_up = False
        self.stops = 0

    def _count(self, interface: str, known: Interface, type_id: int | None) -> None:
        """Add a call, and drop those that no longer count."""
        now = time.monotonic()
        quota = self.quota(interface, type_id)
        window = MINUTE if quota is None else quota.window
        longest = window * (1 + MOST_WIDENING) + MARGIN
        known.calls = [
            *(call for call in known.calls if call[1] > now - longest),
            (type_id, now),
        ]

    def _refuse(
        self,
        interface: str,
        known: Interface,
        type_id: int | None,
        refusal: RateLimited,
    ) -> None:
        """Stop the interface, or all of them, after a refusal."""
        now = time.monotonic()
        self.refusals = [*self.recent_refusals, Refusal(interface, refusal.code, now)]
        if refusal.code in SYSTEM_LIMIT:
            patience = min(MINUTE * 2**self.stops, MOST_SYSTEM_PATIENCE)
            self.stops += 1
            self.stopped_until = now + patience
            refusal.retry_after = patience
            return
        if known.accepted is not None and now - known.accepted < MINUTE:
            known.early_refusals += interface != "login"
            known.once_a_minute |= known.early_refusals >= EARLY_REFUSALS
        known.refusals += 1
        known.used_up = refusal.code == 20618
        known.refused = now
        known.widening = min(known.widening + WIDENING, MOST_WIDENING)
        quota = self.quota(interface, type_id)
        if refusal.code == 20618 and known.refusals == 1:
            # The server's midnight is unknown.
            patience = DAY - time.time() % DAY + MINUTE
        elif refusal.code == 20618:
            patience = MOST_PATIENCE
        elif known.once_a_minute:
            patience = known.span(MINUTE, now)
        elif quota is not None and quota.window <= TEN_MINUTES:
            patience = known.span(quota.window, now)
        else:
            # Another client may have used up the quota of the day, or of the minute.
            patience = min(MINUTE * 4 ** (known.refusals - 1), MOST_PATIENCE)
        known.stopped_until = now + patience
        refusal.retry_after = patience

    def assume_pass(self, planned: float) -> None:
        """Count a pass over all groups that was planned for a moment, if it is past.

        A process that was killed has not stored the calls of its last pass.
        """
        now = time.monotonic()
        if planned > now:
            return
        for interface in ("getStationRealKpi", "getDevRealKpi"):
            known = self.interfaces.setdefault(interface, Interface())
            known.stopped_until = max(
                known.stopped_until,
                planned + LONGEST_PASS + known.span(FIVE_MINUTES, now),
            )
