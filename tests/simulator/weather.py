"""Trouble with the server, far more than any has: spells of faults that come and go.

The same seed always gives the same spells. All of them end, and none needs anybody to
change anything: a client has to get over them by itself.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from random import Random
from typing import override

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
    StringFailCode,
    StringsForNumbers,
)
from .server import Simulator

_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)

_SPELLS_A_DAY = (10, 20)
_SHORTEST = 1.0
_LONGEST = 180.0
_LOCKED = "account locked"
_LOCK = 30.0
# Before an account is locked again: longer locks are not for a client to get over.
_UNLOCKED = timedelta(hours=1)

# Between two logins of another client, in seconds.
_OTHER_LOGINS = (60.0, 600.0)
# Some clients have given up before a late answer comes.
_LATE = (5.0, 45.0)
# No client waits for so long.
_NEVER = 180.0

_LOGIN = ("login",)
_KPIS = ("getStationRealKpi", "getDevRealKpi")
_DATA = ("stations", "getDevList", *_KPIS)
_EVERYTHING = (*_LOGIN, *_DATA)


class LateAnswer(Fault):
    """Do what is asked for, and tell so late."""

    def __init__(self, dice: Random) -> None:
        """Take what tells how late."""
        self._dice = dice

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Wait after the honest answer."""
        answer = await honest()
        await asyncio.sleep(self._dice.uniform(*_LATE))
        return answer


class NoAnswer(Fault):
    """Say nothing for as long as any client waits."""

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """Outwait the client, but not for ever: nobody tells that it is gone."""
        await asyncio.sleep(_NEVER)
        return web.Response(status=504)


class DeadToken(Fault):
    """Give the client a token, and do not know it any more."""

    def __init__(self, simulator: Simulator) -> None:
        """Take whose tokens die."""
        self._simulator = simulator

    @override
    async def answer(self, exchange: Exchange, honest: Honest) -> Answer:
        """End the session that the honest answer opens."""
        answer = await honest()
        self._simulator.expire_token()
        return answer


@dataclass(frozen=True, slots=True)
class Spell:
    """A time of one kind of trouble."""

    start: datetime
    end: datetime
    kind: str
    interfaces: tuple[str, ...] = ()
    """The interfaces that have a fault; none where it is the account's session."""

    @override
    def __str__(self) -> str:
        """Return the kind, and the interface if it is only one."""
        if len(self.interfaces) == 1:
            return f"{self.kind} ({self.interfaces[0]})"
        return self.kind


@dataclass(frozen=True, slots=True)
class _Change:
    at: datetime
    make: Callable[[], None]


class Weather:
    """Lets spells of trouble come and go as time passes; they may overlap."""

    def __init__(
        self, simulator: Simulator, seed: int, start: datetime, end: datetime
    ) -> None:
        """Plan all spells between two moments."""
        self._simulator = simulator
        self._dice = Random(f"{seed}/weather")
        # Dice of its own, for the weather to be the same for all homes.
        self._faults = self._faults_by_kind(Random(f"{seed}/faults"))
        spells = sorted(self._plan(start, end), key=attrgetter("start"))
        self.spells = list(_with_time_between_locks(spells))
        changes = [change for spell in self.spells for change in self._changes(spell)]
        self._changes_to_come = deque(sorted(changes, key=attrgetter("at")))

    @property
    def next_change(self) -> datetime | None:
        """Return when something changes next, if anything will."""
        return self._changes_to_come[0].at if self._changes_to_come else None

    def at(self, now: datetime) -> None:
        """Change what is due."""
        while self._changes_to_come and self._changes_to_come[0].at <= now:
            self._changes_to_come.popleft().make()

    def _faults_by_kind(self, dice: Random) -> dict[str, tuple[Fault, tuple[str, ...]]]:
        """Return all faults, and the interfaces that each makes sense for."""
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
            "failCode 407": (FailCode(407), _EVERYTHING),
            "failCode 20004": (FailCode(20004), _EVERYTHING),
            "failCode 20200": (FailCode(20200), _EVERYTHING),
            "failCode as string": (StringFailCode(), _EVERYTHING),
            "no data": (NullData(), _DATA),
            "no items": (NullItemMap(), _KPIS),
            "rows missing": (MissingRows(some), _KPIS),
            "numbers as strings": (StringsForNumbers(), _KPIS),
            # A server that does not know a token does not count the call, so no call
            # itself may be answered wrongly here.
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
        """Yield all kinds again and again, in any order."""
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
        """Yield what a spell changes, and when."""
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
        """Yield a fault's coming and going."""
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
    """Leave out the locks that follow too soon on another."""
    unlocked: datetime | None = None
    for spell in spells:
        if spell.kind == _LOCKED:
            if unlocked and spell.start < unlocked + _UNLOCKED:
                continue
            unlocked = spell.end
        yield spell
