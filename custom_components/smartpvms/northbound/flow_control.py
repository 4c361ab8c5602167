"""Flow control: how often an account may call each interface, and when next.

The published quotas are sliding windows here, which holds for a server with fixed
windows as well. A call counts from the moment its answer has come, the latest at which
the server can have counted it, and refused calls count like any other. Where the
server is stricter than it publishes, its refusals teach.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from math import ceil
import time
from typing import Any, Final, Self

from .clock import coming, epoch, past
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

# For a server that keeps its moments in seconds.
MARGIN: Final = 1.0
# What a refusal adds to an interface's windows of minutes, as a share, up to the most.
WIDENING: Final = 0.05
MOST_WIDENING: Final = 1.0
# Refusals within a minute of an accepted call, and none accepted, until an interface is
# known to allow one call a minute.
MINUTELY_AFTER: Final = 2
# How long a daily interface that refuses is left alone at most.
MOST_PATIENCE: Final = 6 * HOUR
# The whole system may be limited for longer than the minute that it asks for.
MOST_SYSTEM_PATIENCE: Final = 15 * MINUTE

# Allowed once a minute by every policy.
ONE_A_MINUTE: Final = frozenset({"getDevHistoryKpi"})

# How long reading everything may take.
LONGEST_PASS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Quota:
    """So many calls in a window of so many seconds."""

    calls: int
    window: float


@dataclass(frozen=True, slots=True)
class Usage:
    """How far a quota is used: a device type's part where each has its own."""

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
    at: float

    def as_dict(self) -> dict[str, Any]:
        """Return the refusal as what JSON can hold."""
        return asdict(self) | {"at": epoch(self.at)}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any], behind: float = 0.0) -> Self:
        """Restore what `as_dict` returned, by a clock that is `behind`."""
        return cls(**{**state, "at": past(state["at"], behind)})


@dataclass(slots=True)
class Interface:
    """What is known of the calls to one interface; moments are monotonic seconds."""

    calls: list[tuple[int | None, float]] = field(default_factory=list)
    """The device type, and when the answer came."""
    stopped_until: float = 0.0
    accepted: float | None = None
    """When the last call was accepted."""
    refused: float | None = None
    """When the last call was refused."""
    refusals: int = 0
    """Refusals since the last accepted call."""
    used_up: bool = False
    """Whether the last call was refused for all of the day."""
    widening: float = 0.0
    doubts: int = 0
    """Refusals that a policy of one call a minute explains."""
    minutely: bool = False
    """Whether the interface allows one call a minute (the policy of before 2022)."""

    def as_dict(self) -> dict[str, Any]:
        """Return all that is known as what JSON can hold."""
        return asdict(self) | {
            "calls": [(type_id, epoch(at)) for type_id, at in self.calls],
            "stopped_until": epoch(self.stopped_until),
            "accepted": self.accepted and epoch(self.accepted),
            "refused": self.refused and epoch(self.refused),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any], behind: float = 0.0) -> Self:
        """Restore what `as_dict` returned, by a clock that is `behind`."""
        accepted, refused = state["accepted"], state["refused"]
        return cls(
            calls=[(type_id, past(at, behind)) for type_id, at in state["calls"]],
            stopped_until=coming(state["stopped_until"], behind),
            accepted=None if accepted is None else past(accepted, behind),
            refused=None if refused is None else past(refused, behind),
            refusals=int(state["refusals"]),
            used_up=bool(state["used_up"]),
            widening=float(state["widening"]),
            doubts=int(state["doubts"]),
            minutely=bool(state["minutely"]),
        )

    def span(self, window: float, now: float) -> float:
        """Return the seconds in which a window's quota is kept."""
        if window >= TEN_MINUTES:
            return window + MARGIN
        if self.refused is not None and now - self.refused > DAY:
            self.widening = 0.0
        return window * (1 + self.widening) + MARGIN

    def counting(self, type_id: int | None, window: float, now: float) -> list[float]:
        """Return when the calls were made that count in a window now."""
        since = now - self.span(window, now)
        return [at for called, at in self.calls if called == type_id and at > since]


class FlowControl:
    """Knows of every call of an account, and who may call when."""

    def __init__(self) -> None:
        """Know of no call, and of an account with little."""
        self._plants = 0
        self._devices: Mapping[int, int] = {}
        self._interfaces: dict[str, Interface] = {}
        self._stopped_until = 0.0
        self._stops = 0
        self._refusals: list[Refusal] = []

    def measure(self, plants: int, devices: Mapping[int, int]) -> None:
        """Take the account's size, which its quotas follow: devices by type."""
        self._plants = plants
        self._devices = devices

    def quota(self, interface: str, type_id: int | None = None) -> Quota | None:
        """Return the published quota of an interface.

        That of `getDevRealKpi` counts over all types; each type gets its own part of
        it, which is also right for servers that count by type.
        """
        pages = max(ceil(self._plants / 100), 1)
        match interface:
            case "login" | "logout":
                return Quota(5, TEN_MINUTES)
            case "getStationRealKpi":
                return Quota(pages, FIVE_MINUTES)
            case "getDevRealKpi":
                devices = self._devices.get(type_id or 0, 0)
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
                    for of_type, devices in self._devices.items()
                    if of_type in HISTORY_TYPES
                )
                return Quota(batches + 24, DAY)
        return None

    @property
    def used_up(self) -> list[str]:
        """Return the interfaces that may not be called any more today."""
        return [name for name, known in self._interfaces.items() if known.used_up]

    @property
    def interfaces(self) -> Mapping[str, Interface]:
        """Return what is known of each interface that was called."""
        return self._interfaces

    @property
    def refusals(self) -> list[Refusal]:
        """Return what the server refused in the last day."""
        day_ago = time.monotonic() - DAY
        return [refusal for refusal in self._refusals if refusal.at > day_ago]

    def usages(self, interface: str) -> list[Usage]:
        """Return how far the quota of an interface that was called is used."""
        now = time.monotonic()
        known = self._interfaces[interface]
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
        known = self._interfaces.get(interface)
        if known is None:
            return max(self._stopped_until - now, 0.0)
        moments = [self._stopped_until, known.stopped_until]
        if (quota := self.quota(interface, type_id)) is not None:
            calls = known.counting(type_id, quota.window, now)
            # More calls than the quota has are never possible at once.
            if (excess := len(calls) - max(quota.calls - reserve, 1)) >= 0:
                moments.append(calls[excess] + known.span(quota.window, now))
        if known.calls and (known.minutely or interface in ONE_A_MINUTE):
            moments.append(known.calls[-1][1] + known.span(MINUTE, now))
        return max(max(moments) - now, 0.0)

    def check(
        self, interface: str, type_id: int | None = None, reserve: int = 0
    ) -> None:
        """Raise `RateLimited` if a call has to wait."""
        if wait := self.wait(interface, type_id, reserve):
            stopped = self._stopped_until > time.monotonic()
            limited = interface == "login" or stopped
            raise (AccountLimited if limited else RateLimited)(wait)

    @contextmanager
    def call(
        self, interface: str, type_id: int | None = None, reserve: int = 0
    ) -> Iterator[None]:
        """Count a call, and learn from how it ends.

        Raises `RateLimited` before the call when it has to wait. A refusal by the
        server leaves with the true time to wait.
        """
        self.check(interface, type_id, reserve)
        known = self._interfaces.setdefault(interface, Interface())
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
            # Whatever has interrupted the call, it may have been made.
            self._count(interface, known, type_id)
            if isinstance(error, RateLimited):
                self._learn(interface, known, type_id, error)
            raise
        self._count(interface, known, type_id)
        self._accept(known)

    def _accept(self, known: Interface) -> None:
        """End what a refusal had begun."""
        now = time.monotonic()
        if known.accepted is not None and now - known.accepted < MINUTE:
            known.doubts = 0
        known.accepted = now
        known.refusals = 0
        known.used_up = False
        self._stops = 0

    def _count(self, interface: str, known: Interface, type_id: int | None) -> None:
        """Remember a call for as long as it may count."""
        now = time.monotonic()
        quota = self.quota(interface, type_id)
        window = MINUTE if quota is None else quota.window
        longest = window * (1 + MOST_WIDENING) + MARGIN
        known.calls = [
            *(call for call in known.calls if call[1] > now - longest),
            (type_id, now),
        ]

    def _learn(
        self,
        interface: str,
        known: Interface,
        type_id: int | None,
        refusal: RateLimited,
    ) -> None:
        """Stop what was refused."""
        now = time.monotonic()
        self._refusals = [*self.refusals, Refusal(interface, refusal.code, now)]
        if refusal.code in SYSTEM_LIMIT:
            patience = min(MINUTE * 2**self._stops, MOST_SYSTEM_PATIENCE)
            self._stops += 1
            self._stopped_until = now + patience
            refusal.retry_after = patience
            return
        if known.accepted is not None and now - known.accepted < MINUTE:
            known.doubts += interface != "login"
            known.minutely = known.minutely or known.doubts >= MINUTELY_AFTER
        known.refusals += 1
        known.used_up = refusal.code == 20618
        known.refused = now
        known.widening = min(known.widening + WIDENING, MOST_WIDENING)
        quota = self.quota(interface, type_id)
        if refusal.code == 20618 and known.refusals == 1:
            # The server's midnight is not known; that of UTC is as good as any.
            patience = DAY - time.time() % DAY + MINUTE
        elif refusal.code == 20618:
            patience = MOST_PATIENCE
        elif known.minutely:
            patience = known.span(MINUTE, now)
        elif quota is not None and quota.window <= TEN_MINUTES:
            patience = known.span(quota.window, now)
        else:
            # Either the day is used up by someone else, or just the minute.
            patience = min(MINUTE * 4 ** (known.refusals - 1), MOST_PATIENCE)
        known.stopped_until = now + patience
        refusal.retry_after = patience

    def assume_pass(self, planned: float) -> None:
        """Take into account a reading of everything that was planned, at a moment.

        Home Assistant may have been killed before it could keep that it was made.
        """
        now = time.monotonic()
        if planned > now:
            return
        for interface in ("getStationRealKpi", "getDevRealKpi"):
            known = self._interfaces.setdefault(interface, Interface())
            known.stopped_until = max(
                known.stopped_until,
                planned + LONGEST_PASS + known.span(FIVE_MINUTES, now),
            )

    def as_dict(self) -> dict[str, Any]:
        """Return all that is known as what JSON can hold."""
        return {
            "stopped_until": epoch(self._stopped_until),
            "stops": self._stops,
            "refusals": [refusal.as_dict() for refusal in self._refusals],
            "interfaces": {
                # Another thread may do this, while interfaces are added.
                name: known.as_dict()
                for name, known in [*self._interfaces.items()]
            },
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any], behind: float = 0.0) -> Self:
        """Restore what `as_dict` returned, by a clock that is `behind`."""
        flow_control = cls()
        flow_control._stopped_until = coming(state["stopped_until"], behind)
        flow_control._stops = int(state["stops"])
        flow_control._refusals = [
            Refusal.from_dict(refusal, behind) for refusal in state["refusals"]
        ]
        flow_control._interfaces = {
            name: Interface.from_dict(known, behind)
            for name, known in state["interfaces"].items()
        }
        return flow_control
