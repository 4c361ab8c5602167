"""Reads the alarms of three plants for days with faults, and checks each event.

Alarms are raised and cleared at any time, while Home Assistant is restarted, killed or
reloaded, its clock is set, sessions end, and answers are refused, missing or partial.
Live values must be as fresh as without alarms.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
import os
from random import Random
from typing import Any, Final, Literal

from freezegun.api import FrozenDateTimeFactory
import pytest

from custom_components import smartpvms
from homeassistant.const import STATE_UNAVAILABLE, STATE_UNKNOWN, Platform
from homeassistant.core import Event, EventStateChangedData, HomeAssistant, callback
from tests import conftest, test_restarts
from tests.conftest import NOON, Account
from tests.simulator import Clock, Simulator, alarms, faults, homes
from tests.simulator.plants import Home
from tests.timeline import pass_time

account = conftest.account
clock = test_restarts.clock
set_clock = test_restarts.set_clock

DAYS = float(os.environ.get("BENCHMARK_DAYS", "7"))
SEED = int(os.environ.get("BENCHMARK_SEED", "1"))
ALARMS = 50
INCIDENTS = 60

MINUTE = timedelta(minutes=1)
RAISED_WITHIN = 16 * MINUTE
CLEARED_WITHIN = 31 * MINUTE
# Longest time between two reads of live values without alarms, in `benchmark limits`.
FRESH: Final = timedelta(seconds=304)
# Time after a start in which live values are read in their usual rhythm again.
SETTLED: Final = 10 * MINUTE
# Time in which the last alarms are cleared.
QUIET = timedelta(hours=6)

HEADING = (
    f"{'Seed':<5}{'raised':>7}{'cleared':>8}{'latest':>8}{'cleared':>8}{'calls':>7}"
    f"{'refused':>8}{'longest wait for live values, without restarts':>48}"
)

type Incident = Literal[
    "restart",
    "kill",
    "reload",
    "clock set",
    "session ended",
    "refused",
    "partial",
    "failed",
    "off",
]
KINDS: tuple[Incident, ...] = Incident.__value__.__args__


def _unreadable(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer whose rows have nothing but their plant."""
    rows: list[Any] = [{"stationCode": row["stationCode"]} for row in answer["data"]]
    return answer | {"data": rows or [None]}


def _lacking(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer with null in place of its first row."""
    return answer | {"data": [None, *answer["data"][1:]]}


FAULTS: dict[str, list[faults.Fault]] = {
    "refused": [
        faults.FailCode(407),
        faults.FailCode(20004),
        faults.FailCode(429),
        faults.Gateway403(),
    ],
    "partial": [faults.Rewrite(_unreadable), faults.Rewrite(_lacking)],
    "failed": [
        faults.NullData(),
        faults.HalfJson(),
        faults.HttpStatus(502),
        faults.DropConnection(),
        faults.NeverAnswer(),
    ],
}


@pytest.fixture
def home() -> Home:
    """Return three plants with four types of devices."""
    return homes.fleet(plants=3, devices=12)


@pytest.fixture
async def simulator(
    home: Home,
    clock: Clock,
    socket_enabled: None,
    freezer: FrozenDateTimeFactory,
) -> AsyncIterator[Simulator]:
    """Serve the plants."""
    freezer.move_to(NOON)
    simulator = Simulator(home, clock)
    async with simulator.serve():
        yield simulator


@pytest.fixture(autouse=True)
def few_entities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Create few entities, because most of the time is taken by states."""
    monkeypatch.setattr(
        smartpvms, "PLATFORMS", [Platform.BINARY_SENSOR, Platform.EVENT]
    )


@dataclass(slots=True)
class Life:
    """The life of an alarm, in the server's time, and its events."""

    raised: datetime
    cleared: datetime
    events: list[tuple[str, datetime]] = field(default_factory=list)


class Run:
    """A run of some days."""

    def __init__(
        self,
        hass: HomeAssistant,
        account: Account,
        simulator: Simulator,
        freezer: FrozenDateTimeFactory,
        set_clock: Callable[[timedelta], None],
    ) -> None:
        """Plan all alarms and incidents."""
        self._hass = hass
        self._account = account
        self._simulator = simulator
        self._freezer = freezer
        self._set_clock = set_clock
        self._dice = Random(SEED)
        self._ahead = timedelta()
        self._begin = self.now + timedelta(minutes=30)
        self._length = timedelta(days=DAYS) - QUIET
        self.lives: dict[int, Life] = {}
        self._bad: list[tuple[datetime, datetime]] = []
        """Times without complete answers."""
        self._away: list[tuple[datetime, datetime]] = []
        """Times without Home Assistant."""
        hass.bus.async_listen("state_changed", self._listen)

    @property
    def now(self) -> datetime:
        """Return the true time."""
        return self._simulator.clock.now()

    @callback
    def _listen(self, event: Event[EventStateChangedData]) -> None:
        new, old = event.data["new_state"], event.data["old_state"]
        if (
            new is not None
            and new.domain == Platform.EVENT
            # As the trigger `event.received`.
            and old is not None
            and old.state != STATE_UNAVAILABLE
            and new.state not in (STATE_UNAVAILABLE, STATE_UNKNOWN, old.state)
        ):
            life = self.lives[new.attributes["cause_id"]]
            life.events.append((new.attributes["event_type"], self.now))

    async def _until(self, moment: datetime) -> None:
        await pass_time(self._hass, self._freezer, moment + self._ahead)

    def _plan(self) -> Iterator[tuple[datetime, Callable[[], Any]]]:
        devices = [device for _, device in self._simulator.home.devices()]
        for number in range(ALARMS):
            raised = self._begin + self._dice.random() * self._length
            lasting = self._dice.choice(
                [20 * MINUTE, 2 * 60 * MINUTE, 30 * 60 * MINUTE]
            )
            cleared = min(
                raised + self._dice.uniform(1, 2) * lasting, self._begin + self._length
            )
            device, kind = self._dice.choice(devices), self._dice.choice(alarms.KINDS)
            self.lives[number] = Life(raised, cleared)

            def start(
                number: int = number,
                raised: datetime = raised,
                cleared: datetime = cleared,
                device: Any = device,
                kind: alarms.Kind = kind,
            ) -> None:
                alarm = self._simulator.alarms.start(device, kind, causeId=number)
                alarm.cleared = cleared

            yield raised, start
        for number in range(INCIDENTS):
            at = self._begin + self._dice.random() * self._length
            kind_ = KINDS[number % len(KINDS)]
            yield at, partial(self._meet, kind_)

    async def run(self) -> None:
        """Run to the end."""
        plan = sorted(self._plan(), key=lambda planned: planned[0])
        await self._account.add_plants(self._simulator.home.plants)
        for at, action in plan:
            await self._until(at)
            if (awaited := action()) is not None:
                await awaited
        await self._until(self._begin + self._length + QUIET)

    async def _meet(self, kind: Incident) -> None:
        begin = self.now
        if kind == "clock set":
            jump = -self._ahead or self._dice.uniform(-30, 30) * timedelta(hours=1)
            self._set_clock(jump)
            self._ahead += jump
            return
        if kind == "session ended":
            self._simulator.expire_token()
            return
        if kind in FAULTS:
            fault = self._simulator.faults.add(
                self._dice.choice(FAULTS[kind]), "getAlarmList"
            )
            await self._until(self.now + self._dice.uniform(1, 70) * MINUTE)
            fault.remove()
        elif kind == "off":
            await self._account.restart(self._dice.uniform(5, 90) * MINUTE)
        elif kind == "reload":
            await self._hass.config_entries.async_reload(self._account.entry.entry_id)
        else:
            away = self._dice.uniform(1, 60) * timedelta(seconds=1)
            await (
                self._account.kill(away)
                if kind == "kill"
                else self._account.restart(away)
            )
        self._bad.append((begin, self.now))
        if kind not in FAULTS:
            self._away.append((begin, self.now + SETTLED))

    def _good(self, since: datetime, lasting: timedelta) -> datetime:
        """Return the start of the first time of this length with complete answers."""
        for begin, end in sorted(self._bad):
            if end > since and begin < since + lasting:
                since = max(since, end)
        return since

    def waits(self) -> list[timedelta]:
        """Return the times between two reads of live values, without restarts."""
        live = [call.at for call in self._simulator.calls_to("getStationRealKpi")]
        return [
            after - before
            for before, after in pairwise(live)
            if not any(before < end and begin < after for begin, end in self._away)
        ]

    def delays(self) -> tuple[list[timedelta], list[timedelta]]:
        """Check the events, and return the delays of raises and of clearances."""
        raises, clearances = [], []
        for number, life in self.lives.items():
            within = self._good(life.raised, RAISED_WITHIN)
            kinds = [kind for kind, _ in life.events]
            if life.cleared < within + RAISED_WITHIN and not kinds:
                # It was over before it had to be announced.
                continue
            assert kinds == ["raised", "cleared"], (number, life)
            (_, raised), (_, cleared) = life.events
            assert life.raised <= raised
            raises.append(raised - within)
            since = max(life.cleared, raised)
            clearances.append(cleared - self._good(since, CLEARED_WITHIN))
        return raises, clearances


async def test_alarms(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    freezer: FrozenDateTimeFactory,
    set_clock: Callable[[timedelta], None],
    record_property: Callable[[str, object], None],
) -> None:
    """Each alarm is announced once and cleared once, both in time."""
    run = Run(hass, account, simulator, freezer, set_clock)
    await run.run()
    raises, clearances = run.delays()
    longest = max(run.waits())
    row = (
        f"{SEED:<5}{len(raises):>7}{len(clearances):>8}"
        f"{max(raises) / MINUTE:>8.1f}{max(clearances) / MINUTE:>8.1f}"
        f"{len(simulator.calls_to('getAlarmList')):>7}{len(simulator.refusals):>8}"
        f"{longest.total_seconds():>48.0f}"
    )
    record_property("row", (HEADING, row))
    print(HEADING, row, sep="\n")
    assert max(raises) <= RAISED_WITHIN
    assert max(clearances) <= CLEARED_WITHIN
    assert simulator.refusals == []
    assert longest <= FRESH
