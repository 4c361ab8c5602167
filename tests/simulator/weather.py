"""Periods of server faults, far more than real servers have.

A seed always gives the same periods. All of them end, and none requires an action of
the user: a client must recover automatically.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from operator import attrgetter
from random import Random
from typing import Any, override

from aiohttp import web

from .faults import (
    Answer,
    DropConnection,
    EmptyBody,
    Exchange,
    FailCode,
    Fault,
    FaultHandle,
    Gateway403,
    HalfJson,
    Honest,
    HtmlPage,
    HttpStatus,
    MissingRows,
    NullData,
    NullItemMap,
    Oversized,
    Rewrite,
    StringFailCode,
    StringsForNumbers,
    failure,
)
from .plants import Plant
from .server import Simulator

_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)

_SPELLS_A_DAY = (10, 20)
_SHORTEST = 1.0
_LONGEST = 180.0
_LOCKED = "account locked"
_LOCK = 30.0
# Minimum time between two locks, because clients cannot handle longer locks.
_UNLOCKED = timedelta(hours=1)

# Between two logins of another client, in seconds.
_OTHER_LOGINS = (60.0, 600.0)
# Longer than the timeout of some clients.
_LATE = (5.0, 45.0)
# Longer than the timeout of any client.
_NEVER = 180.0
# More levels than any honest answer has.
_LEVELS = 100
_UNKNOWN_KEYS = 1000
# The server refuses a whole call because of one plant.
_REFUSED_PLANT = (20007, 20045, 20056, 20621)

_LOGIN = ("login",)
_KPIS = ("getStationRealKpi", "getDevRealKpi")
_OF_PLANTS = ("getDevList", *_KPIS)
_DATA = ("stations", *_OF_PLANTS)
_EVERYTHING = (*_LOGIN, *_DATA)


class LateAnswer(Fault):
    """Performs the request, but responds late."""

    def __init__(self, dice: Random) -> None:
        """Store the random generator of the delays."""
        self._dice = dice

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Wait after the response of the server."""
        answer = await honest()
        await asyncio.sleep(self._dice.uniform(*_LATE))
        return answer


class NoAnswer(Fault):
    """Sends no response within any client's timeout."""

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Wait longer than the client, but not forever: its timeout is not noticed."""
        await asyncio.sleep(_NEVER)
        return web.Response(status=504)


class DeadToken(Fault):
    """Returns a token that is invalid."""

    def __init__(self, simulator: Simulator) -> None:
        """Store the account of the tokens."""
        self._simulator = simulator

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """End the session that the login starts."""
        answer = await honest()
        self._simulator.expire_token()
        return answer


class NestedAnswer(Rewrite):
    """Returns lists in each other instead of the data."""

    def __init__(self) -> None:
        """Create the lists."""
        data: list[Any] = []
        for _ in range(_LEVELS):
            data = [data]
        super().__init__(lambda payload: payload | {"data": data})


class UnknownKeys(Rewrite):
    """Adds many keys to all parts of the response, new ones each time."""

    def __init__(self) -> None:
        """Start with the first key."""
        numbers = count()

        def more(part: Any) -> Any:
            if isinstance(part, list):
                return [more(each) for each in part]
            if not isinstance(part, dict):
                return part
            return {key: more(value) for key, value in part.items()} | {
                f"unknown_{next(numbers)}": 1.5 for _ in range(_UNKNOWN_KEYS)
            }

        super().__init__(more)


class RefusedPlant(Fault):
    """Refuses each call that names a plant, or one of its devices."""

    def __init__(self, plant: Plant, code: int) -> None:
        """Store the names, and the failCode."""
        self._names = {plant.code, *(str(device.id) for device in plant.devices)}
        self._code = code

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Return the error if the plant is named."""
        body = exchange.body
        named = str(body.get("stationCodes") or body.get("devIds")).split(",")
        if self._names.isdisjoint(named):
            return await honest()
        return failure(self._code, exchange.echo)


@dataclass(frozen=True, slots=True)
class Spell:
    """A period with one kind of fault."""

    start: datetime
    end: datetime
    kind: str
    interfaces: tuple[str, ...] = ()
    """The interfaces with a fault; empty for faults of the session."""

    def overlaps(self, other: Spell) -> bool:
        """Return whether both periods have a time in common."""
        return self.start < other.end and other.start < self.end

    @override
    def __str__(self) -> str:
        """Return the kind, and the interface if there is only one."""
        if len(self.interfaces) == 1:
            return f"{self.kind} ({self.interfaces[0]})"
        return self.kind


@dataclass(frozen=True, slots=True)
class _Change:
    at: datetime
    make: Callable[[], None]


class Weather:
    """Starts and ends spells as time passes; they may overlap."""

    def __init__(
        self, simulator: Simulator, seed: int, start: datetime, end: datetime
    ) -> None:
        """Plan all spells between two times."""
        self._simulator = simulator
        self._dice = Random(f"{seed}/weather")
        # A separate random generator makes the weather the same for all homes.
        self._faults = self._faults_by_kind(Random(f"{seed}/faults"))
        spells = sorted(self._plan(start, end), key=attrgetter("start"))
        self.spells = list(_with_time_between_locks(spells))
        changes = [change for spell in self.spells for change in self._changes(spell)]
        self._changes_to_come = deque(sorted(changes, key=attrgetter("at")))

    @property
    def next_change(self) -> datetime | None:
        """Return the time of the next change, if any."""
        return self._changes_to_come[0].at if self._changes_to_come else None

    def at(self, now: datetime) -> None:
        """Apply the changes that are due."""
        while self._changes_to_come and self._changes_to_come[0].at <= now:
            self._changes_to_come.popleft().make()

    def _faults_by_kind(self, dice: Random) -> dict[str, tuple[Fault, tuple[str, ...]]]:
        """Return all faults, with the interfaces that each applies to."""
        home = self._simulator.home
        names: list[int | str] = [plant.code for plant in home.plants]
        names += [device.id for _, device in home.devices()]
        some = set(dice.sample(names, len(names) // 2))
        return {
            "connection dropped": (DropConnection(), _EVERYTHING),
            "no answer": (NoAnswer(), _EVERYTHING),
            "late answer": (LateAnswer(dice), _EVERYTHING),
            "HTTP 429": (HttpStatus(429), _EVERYTHING),
            "HTTP 500": (HttpStatus(500), _EVERYTHING),
            "HTTP 502": (HtmlPage(502), _EVERYTHING),
            "HTTP 503": (HttpStatus(503), _EVERYTHING),
            "quota of the gateway": (Gateway403(), _EVERYTHING),
            "web page": (HtmlPage(), _EVERYTHING),
            "half an answer": (HalfJson(), _EVERYTHING),
            "empty answer": (EmptyBody(), _EVERYTHING),
            "oversized answer": (Oversized(), _EVERYTHING),
            "failCode 407": (FailCode(407), _EVERYTHING),
            "failCode 20004": (FailCode(20004), _EVERYTHING),
            "failCode 20200": (FailCode(20200), _EVERYTHING),
            "failCode as string": (StringFailCode(), _EVERYTHING),
            "no data": (NullData(), _DATA),
            "no items": (NullItemMap(), _KPIS),
            "rows missing": (MissingRows(some), _KPIS),
            "numbers as strings": (StringsForNumbers(), _KPIS),
            "nested answer": (NestedAnswer(), _DATA),
            "unknown keys": (UnknownKeys(), _DATA),
            **{
                f"plant refused, {code}": (
                    RefusedPlant(home.plants[-1], code),
                    _OF_PLANTS,
                )
                for code in _REFUSED_PLANT
            },
            # A server without a valid token does not count the call, so no call
            # itself may have a fault here.
            "always 305": (DeadToken(self._simulator), _LOGIN),
        }

    def _plan(self, start: datetime, end: datetime) -> Iterator[Spell]:
        kinds = self._shuffled(*self._faults, "token expired", "other client", _LOCKED)
        day = start
        while day < end:
            for _ in range(self._dice.randint(*_SPELLS_A_DAY)):
                spell = self._spell(next(kinds), day + self._dice.random() * _DAY, end)
                if spell.start < end:
                    yield spell
            day += _DAY

    def _shuffled(self, *kinds: str) -> Iterator[str]:
        """Yield all kinds repeatedly, in random order."""
        while True:
            yield from self._dice.sample(kinds, len(kinds))

    def _spell(self, kind: str, start: datetime, latest_end: datetime) -> Spell:
        """Return a spell: many are short, few are long."""
        minutes = _SHORTEST * (_LONGEST / _SHORTEST) ** self._dice.random()
        if kind == _LOCKED:
            minutes = _LOCK
        interfaces: tuple[str, ...] = ()
        if kind in self._faults:
            _, interfaces = self._faults[kind]
            if self._dice.random() < 0.5:
                interfaces = (self._dice.choice(interfaces),)
        end = min(start + minutes * _MINUTE, latest_end)
        return Spell(start, end, kind, interfaces)

    def _changes(self, spell: Spell) -> Iterator[_Change]:
        """Yield the changes of a spell, with their times."""
        simulator = self._simulator
        if spell.kind == _LOCKED:
            minutes = (spell.end - spell.start) / _MINUTE
            yield _Change(spell.start, lambda: simulator.lock(minutes))
        elif spell.kind == "other client":
            at = spell.start
            while at < spell.end:
                yield _Change(at, simulator.take_session)
                at += timedelta(seconds=self._dice.uniform(*_OTHER_LOGINS))
        elif spell.kind in ("token expired", "always 305"):
            yield _Change(spell.start, simulator.expire_token)
        if spell.kind in self._faults:
            fault, _ = self._faults[spell.kind]
            yield from self._presence(fault, spell)

    def _presence(self, fault: Fault, spell: Spell) -> Iterator[_Change]:
        """Yield the start and the end of a fault."""
        handles: list[FaultHandle] = []

        def come() -> None:
            handles.extend(
                self._simulator.faults.add(fault, interface)
                for interface in spell.interfaces
            )

        def go() -> None:
            for handle in handles:
                handle.remove()

        yield _Change(spell.start, come)
        yield _Change(spell.end, go)


def _with_time_between_locks(spells: Iterable[Spell]) -> Iterator[Spell]:
    """Remove locks that follow too soon after another."""
    unlocked: datetime | None = None
    for spell in spells:
        if spell.kind == _LOCKED:
            if unlocked and spell.start < unlocked + _UNLOCKED:
                continue
            unlocked = spell.end
        yield spell
