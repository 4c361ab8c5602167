"""Runs for days with faults of server, clock and files, and checks the recovery."""

import asyncio
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from datetime import UTC, datetime, timedelta
import gc
from inspect import getfile
import logging
import math
import os
from pathlib import Path
from random import Random
from statistics import mode
import tracemalloc
from typing import Any, Literal, NamedTuple, override

import aiohttp
from freezegun.api import FrozenDateTimeFactory
import orjson
import pytest

from custom_components import smartpvms
from custom_components.smartpvms.account import ACCOUNTS
from custom_components.smartpvms.const import DOMAIN, LOGGER
from custom_components.smartpvms.descriptions import (
    ALARM_EVENTS,
    FLOW_SENSORS,
    REPORT_SENSORS,
)
from homeassistant import core
from homeassistant.components.sensor import SensorDeviceClass
from homeassistant.config_entries import SOURCE_REAUTH, ConfigEntryState
from homeassistant.const import (
    ATTR_DEVICE_CLASS,
    ATTR_UNIT_OF_MEASUREMENT,
    STATE_OFF,
    STATE_ON,
    STATE_UNAVAILABLE,
    STATE_UNKNOWN,
    Platform,
    UnitOfPower,
    UnitOfSpeed,
)
from homeassistant.core import HomeAssistant, State
from homeassistant.helpers import entity_registry as er
from homeassistant.util.async_ import get_scheduled_timer_handles
from homeassistant.util.unit_conversion import PowerConverter, SpeedConverter
from scripts.benchmarks.distance import DistantSimulator
from tests import conftest, test_restarts
from tests.conftest import NOON, Account
from tests.simulator import Call, Clock, alarms, homes
from tests.simulator.moment import last_collection
from tests.simulator.plants import Home
from tests.simulator.weather import Spell, Weather
from tests.timeline import pass_time

from . import files

account = conftest.account
clock = test_restarts.clock
set_clock = test_restarts.set_clock
hass_config_dir = files.hass_config_dir
# The mock would keep everything that was ever stored.
hass_storage = files.hass_storage

HOMES = os.environ.get("BENCHMARK_HOMES", "family farm").split()
DAYS = float(os.environ.get("BENCHMARK_DAYS", "7"))
SEED = int(os.environ.get("BENCHMARK_SEED", "1"))

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
BEFORE_WEATHER = timedelta(hours=1)
AFTER_WEATHER = timedelta(hours=2)

# The cloud collects every five minutes, and the states may be older.
COLLECTION = timedelta(minutes=5)
COLLECTIONS = 3

LOGINS = 5
LOGIN_WINDOW = timedelta(minutes=10)
MEMORY_GROWTH = 0.05
MEASURED = [
    tracemalloc.Filter(True, str(Path(getfile(part)).parent / "*"))
    for part in (smartpvms, core, aiohttp)
]

# Levels of alarms that are shown as problems: critical and major.
SEVERE = (1, 2)

# The health of a battery is that of its modules, unless the battery reports it.
HEALTH = "_state_of_health"
# No real-time row has these values.
ELSEWHERE = {*REPORT_SENSORS, "battery_modules", ALARM_EVENTS.key}

# Resources that are only used for a moment are missing in at least one of these.
LOOKS = 21
LOOK = timedelta(seconds=15)

type Incident = Literal[
    "kill", "clock set", "clock set while off", "half a file", "other version", "damage"
]
INCIDENTS: tuple[Incident, ...] = Incident.__value__.__args__
INCIDENTS_A_DAY = 4
SHORTLY_OFF = (1.0, 60.0)
# A server that cannot be asked again before a window of its flow control ends: neither a
# clock that was set nor a file without the calls says when it was asked last.
OFF = timedelta(minutes=11)
JUMP = timedelta(hours=2)
WRONG: tuple[Any, ...] = (None, True, "x", 1.5, [], {})

type Reported = list[Mapping[str, Any]]
"""The last reported values of a plant or device."""


@pytest.fixture(params=HOMES)
def home(request: pytest.FixtureRequest) -> Home:
    """Return the home to run."""
    return homes.HOMES[request.param]()


class RoughSimulator(DistantSimulator):
    """A distant server with weather."""

    weather: Weather | None = None

    @override
    def arrive(self, now: datetime) -> None:
        """Apply the changes of the weather."""
        if self.weather:
            self.weather.at(now)


@pytest.fixture
async def simulator(
    home: Home, clock: Clock, socket_enabled: None, freezer: FrozenDateTimeFactory
) -> AsyncIterator[RoughSimulator]:
    """Serve the home."""
    freezer.move_to(NOON)
    simulator = RoughSimulator(freezer, SEED, home, clock)
    async with simulator.serve():
        yield simulator


class Records(logging.Handler):
    """Logged warnings and errors."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        """Store warnings and errors with the true time."""
        super().__init__(logging.WARNING)
        self._now = now
        self.counts: Counter[str] = Counter()
        self.lines: list[tuple[datetime, str]] = []
        """The lines of the integration."""
        self.bugs: list[str] = []

    def repeated(self, spell: Spell) -> list[str]:
        """Return the lines of the integration that a spell has repeated."""
        lines = Counter(text for at, text in self.lines if spell.start < at < spell.end)
        return [f"{n} x {text} (during {spell})" for text, n in lines.items() if n > 1]

    @override
    def emit(self, record: logging.LogRecord) -> None:
        """Count a message, regardless of its arguments."""
        self.counts[f"{record.levelname} {record.name}: {record.msg}"] += 1
        if record.name == LOGGER.name:
            self.lines.append((self._now(), record.getMessage()))
        # A file that is no JSON is logged with a traceback.
        is_bug = record.exc_info and record.name != "homeassistant.util.json"
        if is_bug or record.name.startswith("asyncio"):
            self.bugs.append(logging.Formatter().format(record))


@contextmanager
def recorded(now: Callable[[], datetime]) -> Iterator[Records]:
    """Return the logged messages."""
    records = Records(now)
    root = logging.getLogger()
    # The test framework's own handlers keep all records with their referenced objects.
    handlers, level = root.handlers, root.level
    root.handlers = [records]
    root.setLevel(logging.WARNING)
    try:
        yield records
    finally:
        root.handlers = handlers
        root.setLevel(level)


def traced_memory() -> int:
    """Return the allocated bytes, without those of the simulation."""
    gc.collect()
    snapshot = tracemalloc.take_snapshot().filter_traces(MEASURED)
    return sum(file.size for file in snapshot.statistics("filename"))


def held(hass: HomeAssistant) -> tuple[int, int, int]:
    """Return the numbers of tasks, timers and sockets."""
    timers = get_scheduled_timer_handles(hass.loop)
    return (
        len(asyncio.all_tasks()),
        sum(not timer.cancelled() for timer in timers),
        sum(file.is_socket() for file in Path("/proc/self/fd").iterdir()),
    )


@dataclass(frozen=True, slots=True)
class Footprint:
    """The minimum of the resources during the measurement."""

    memory: int
    tasks: int
    timers: int
    sockets: int

    def outgrown(self, later: Footprint) -> list[str]:
        """Return the resources that have grown."""
        leftovers = [
            name
            for name in ("tasks", "timers", "sockets")
            if getattr(later, name) > getattr(self, name)
        ]
        if later.memory > self.memory * (1 + MEMORY_GROWTH):
            leftovers.append("memory")
        return leftovers


class PlannedIncident(NamedTuple):
    """A fault of the computer of Home Assistant."""

    at: datetime
    kind: Incident


def damaged(dice: Random, content: Any) -> Any:
    """Return JSON with one part of another type."""
    if isinstance(content, dict | list) and content and dice.random() < 0.9:
        key = dice.choice(
            [*content] if isinstance(content, dict) else range(len(content))
        )
        content[key] = damaged(dice, content[key])
        return content
    return dice.choice([wrong for wrong in WRONG if type(wrong) is not type(content)])


class Soak:
    """Some days of an account in Home Assistant, and the calls to its server."""

    def __init__(
        self,
        hass: HomeAssistant,
        account: Account,
        simulator: RoughSimulator,
        freezer: FrozenDateTimeFactory,
        set_clock: Callable[[timedelta], None],
    ) -> None:
        """Store the account, which is not added yet."""
        self._hass = hass
        self._freezer = freezer
        self._set_clock = set_clock
        self.ahead = timedelta()
        self._dice = Random(f"{SEED}/incidents")
        self.account = account
        self.simulator = simulator
        self.begin = self.now
        self.end = self.begin + DAYS * DAY
        self.weather = simulator.weather = Weather(
            simulator, SEED, self.begin + BEFORE_WEATHER, self.end - AFTER_WEATHER
        )
        self.incidents = deque(self._plan_incidents())
        self.met: list[PlannedIncident] = []
        self.calls: Counter[str] = Counter()
        self.refusals: list[Call] = []
        self.logins: list[datetime] = []
        self.wrong_passwords = 0
        self.reauth: datetime | None = None
        """The login after which Home Assistant asked for the password, if it did."""

    @property
    def now(self) -> datetime:
        """Return the simulated time."""
        return self.simulator.clock.now()

    async def start(self) -> None:
        """Add the account in the time zone of the first plant."""
        zone = self.simulator.home.plants[0].time_zone
        await self._hass.config.async_set_time_zone(str(zone))
        self._raise_alarms()
        await self.account.add()

    async def until(self, moment: datetime) -> None:
        """Run until a time, in any weather."""
        while self.now < moment:
            changes = [moment, self.weather.next_change or moment]
            changes += [at for at, _ in [*self.incidents][:1]]
            await self._pass(min(changes))
            if self.incidents and self.incidents[0].at <= self.now:
                kind = self.incidents.popleft().kind
                self.met.append(PlannedIncident(self.now, kind))
                await self._meet(kind)
            self._look()

    async def _pass(self, moment: datetime) -> None:
        await pass_time(self._hass, self._freezer, moment + self.ahead)
        self.weather.at(self.now)

    def _plan_incidents(self) -> Iterator[PlannedIncident]:
        """Yield incidents of all kinds, at random times."""
        start, end = self.begin + BEFORE_WEATHER, self.end - AFTER_WEATHER
        number = round(DAYS * INCIDENTS_A_DAY)
        times = sorted(
            start + self._dice.random() * (end - start) for _ in range(number)
        )
        kinds: list[Incident] = []
        for at in times:
            kinds = kinds or self._dice.sample(INCIDENTS, len(INCIDENTS))
            yield PlannedIncident(at, kinds.pop())

    async def _meet(self, kind: Incident) -> None:
        """Kill Home Assistant, change its files or its clock, and start it again."""
        if kind == "clock set":
            self._jump()
            return
        entry, entries = self.account.entry, self._hass.config_entries
        while entry.state is ConfigEntryState.SETUP_IN_PROGRESS:
            await self._pass(self.now + LOOK)
        kept = self._files()
        await entries.async_unload(entry.entry_id)
        self._hass.data.pop(ACCOUNTS)
        # A killed process saves nothing more.
        for path, content in kept.items():
            path.write_bytes(self._changed(kind, content))
        seconds = timedelta(seconds=self._dice.uniform(*SHORTLY_OFF))
        self._freezer.tick(seconds if kind == "kill" else OFF)
        self.weather.at(self.now)
        # A wrong clock counts as right for hours if nothing else is stored.
        is_lost = kind in ("half a file", "other version", "damage")
        if kind == "clock set while off" or (is_lost and self.ahead):
            self._jump()
        # The server may answer late, or never.
        self._hass.async_create_task(entries.async_setup(entry.entry_id))

    def _files(self) -> dict[Path, bytes]:
        """Return the contents of the account's files."""
        folder = Path(self._hass.config.path(".storage"))
        return {
            path: path.read_bytes()
            for path in folder.glob(f"{DOMAIN}.{self.account.entry.entry_id}*")
            if "corrupt" not in path.name
        }

    def _jump(self) -> None:
        """Set the clock to a wrong time, or to the right one if it is wrong."""
        jump = -self.ahead or self._dice.uniform(-1, 1) * JUMP
        self._set_clock(jump)
        self.ahead += jump

    def _changed(self, kind: Incident, content: bytes) -> bytes:
        match kind:
            case "half a file":
                return content[: len(content) // 2]
            case "other version":
                return orjson.dumps(orjson.loads(content) | {"version": 99})
            case "damage":
                file = orjson.loads(content)
                return orjson.dumps(file | {"data": damaged(self._dice, file["data"])})
        return content

    async def footprint(self) -> Footprint:
        """Measure the resources over more than one poll."""
        looks = []
        for _ in range(LOOKS):
            await self.until(self.now + LOOK)
            looks.append(held(self._hass))
        tasks, timers, sockets = (min(counts) for counts in zip(*looks, strict=True))
        return Footprint(traced_memory(), tasks, timers, sockets)

    async def usual_footprint(self, end: datetime) -> Footprint:
        """Run until a time, and return the usual resources and the largest memory.

        After the loss of a file, less is in memory for a while.
        """
        footprints = []
        while self.now < end:
            await self.until(min(self.now + DAY / 4, end))
            footprints.append(await self.footprint())
        memory, *others = zip(*map(astuple, footprints), strict=True)
        return Footprint(max(memory), *map(mode, others))

    def _look(self) -> None:
        """Store the events since the last call, and clear those of the simulator."""
        account = self.simulator.account
        for call in self.simulator.calls:
            self.calls[call.interface] += 1
            if call.refused:
                self.refusals.append(call)
            if call.interface == "login":
                self.logins.append(call.at)
                self.wrong_passwords += call.body != {
                    "userName": account.user_name,
                    "systemCode": account.system_code,
                }
        self.simulator.calls.clear()
        flows = self.account.entry.async_get_active_flows(self._hass, {SOURCE_REAUTH})
        if self.reauth is None and any(flows):
            self.reauth = self.logins[-1]

    @property
    def most_logins(self) -> int:
        """Return the largest number of logins in their window."""
        logins = (
            number - bisect_right(self.logins, at - LOGIN_WINDOW)
            for number, at in enumerate(self.logins, start=1)
        )
        return max(logins, default=0)

    def trouble(self, at: datetime) -> str:
        """Return the faults at a time."""
        spells = [spell for spell in self.weather.spells if spell.start <= at]
        faults = [str(spell) for spell in spells if at < spell.end]
        recent = [each for each in self.met if each.at <= at < each.at + HOUR]
        faults += [f"{each.kind} {at - each.at} ago" for each in recent]
        return ", ".join(faults) or "nothing"

    async def last_reported(self) -> dict[str, Reported]:
        """Run until the end, and return the last reported values by source."""
        home = self.simulator.home
        names: list[int | str] = [plant.code for plant in home.plants]
        names += [device.id for _, device in home.devices()]
        reported: dict[str, Reported] = {str(name): [] for name in names}
        for ago in reversed(range(COLLECTIONS)):
            await self.until(self.end - ago * COLLECTION)
            for name in names:
                items = self.simulator.reported_items(name) or {}
                if isinstance(name, str):
                    items |= self._true_powers(name)
                reported[str(name)].append(items | self._true_alarms(name))
        return reported

    def _true_powers(self, plant_code: str) -> dict[str, float]:
        """Return the powers that are calculated for a plant, in W."""
        collected = datetime.fromtimestamp(last_collection(self.now.timestamp()), UTC)
        true = self.simulator.flows(plant_code, collected)
        return {
            "pv_power": true.pv,
            "grid_power": true.grid_import - true.grid_export,
            "battery_power": true.discharge - true.charge,
            "home_power": true.load,
        }

    def _raise_alarms(self) -> None:
        """Raise alarms of some devices for the whole time, and others for a part."""
        dice = Random(f"{SEED}/alarms")
        for _, device in self.simulator.home.devices():
            for kind in dice.sample(alarms.KINDS, 2):
                alarm = self.simulator.alarms.start(device, kind)
                if dice.random() < 0.75:
                    lasting = self.end - AFTER_WEATHER - self.begin
                    alarm.cleared = self.begin + dice.random() * lasting

    def _true_alarms(self, name: int | str) -> dict[str, int]:
        """Return what is shown of the active alarms of a plant or device."""
        severe = [
            alarm
            for plant in self.simulator.home.plants
            for alarm in self.simulator.alarms.active(plant, self.now)
            if name in (plant.code, alarm.device.id) and alarm.kind.level in SEVERE
        ]
        if isinstance(name, str):
            return {"active_alarms": len(severe)}
        return {"problem": int(bool(severe))}

    def entities(self) -> Iterator[er.RegistryEntry]:
        """Yield all enabled entities."""
        for entity in er.async_entries_for_config_entry(
            er.async_get(self._hass), self.account.entry.entry_id
        ):
            if not entity.disabled:
                yield entity

    def judged(self, reported: Mapping[str, Reported]) -> dict[str, bool | None]:
        """Return whether each entity shows the last reported value, if comparable."""
        judgements: dict[str, bool | None] = {}
        for entity in self.entities():
            source, _, key = entity.unique_id.partition("_")
            # The account has entities of its own.
            if source not in reported or key in ELSEWHERE:
                continue
            state = self._hass.states.get(entity.entity_id)
            if state is None or state.state == STATE_UNAVAILABLE:
                judgements[f"{entity.entity_id} is unavailable"] = False
                continue
            shown = shows_power if key in FLOW_SENSORS else shows
            agreements = [shown(state, items.get(key)) for items in reported[source]]
            last = reported[source][-1].get(key)
            judgements[f"{entity.entity_id} is {state.state} instead of {last}"] = (
                None if None in agreements else any(agreements)
            )
        return judgements


def shows_power(state: State, watts: object) -> bool | None:
    """Return whether a state is a power; `None` if only the past decides.

    The powers of a plant are calculated from those of its devices, of which a pass may
    read some before a collection and others after it.
    """
    if not isinstance(watts, float):
        return None
    return state.state != STATE_UNKNOWN and math.isclose(
        in_watts(state), watts, rel_tol=0.2, abs_tol=60
    )


def in_watts(state: State) -> float:
    """Return a power in W; those of large plants are shown in kW."""
    unit = state.attributes[ATTR_UNIT_OF_MEASUREMENT]
    return PowerConverter.convert(float(state.state), unit, UnitOfPower.WATT)


def shows(state: State, raw: object) -> bool | None:
    """Return whether a state is the reported value; `None` if only a table decides."""
    device_class = state.attributes.get(ATTR_DEVICE_CLASS)
    if not isinstance(raw, int | float):
        return state.state == STATE_UNKNOWN
    if state.state == STATE_UNKNOWN:
        return False
    if state.domain == Platform.BINARY_SENSOR:
        return state.state == (STATE_ON if raw else STATE_OFF)
    if device_class == SensorDeviceClass.ENUM or state.entity_id.endswith(HEALTH):
        return None
    if device_class == SensorDeviceClass.TIMESTAMP:
        return datetime.fromisoformat(state.state).timestamp() == raw // 1000
    if device_class == SensorDeviceClass.WIND_SPEED:
        unit = state.attributes[ATTR_UNIT_OF_MEASUREMENT]
        raw = SpeedConverter.convert(raw, UnitOfSpeed.METERS_PER_SECOND, unit)
    if device_class == SensorDeviceClass.POWER:
        # Some powers are reported in W, and most in kW.
        watts = in_watts(state)
        return any(
            math.isclose(watts, raw * factor, abs_tol=0.001) for factor in (1, 1000)
        )
    return math.isclose(float(state.state), raw, abs_tol=0.001)


@pytest.fixture
async def soak(
    simulator: RoughSimulator,
    hass: HomeAssistant,
    account: Account,
    freezer: FrozenDateTimeFactory,
    set_clock: Callable[[timedelta], None],
) -> Soak:
    """Return days that start now."""
    soak = Soak(hass, account, simulator, freezer, set_clock)
    await soak.start()
    return soak


@pytest.fixture
def traced() -> Iterator[None]:
    """Store the origin of allocations."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


async def test_soak(traced: None, soak: Soak) -> None:
    """No call is refused, no resource is left, and all values are right at the end."""
    # Frozen time contains no information about the computer.
    started = os.times().elapsed
    incidents = Counter(kind for _, kind in soak.incidents)
    with recorded(lambda: soak.now) as records:
        first = await soak.usual_footprint(soak.begin + DAYS * DAY / 2)
        reported = await soak.last_reported()
        judged = soak.judged(reported)
        last = await soak.footprint()
    seconds = os.times().elapsed - started

    spells = soak.weather.spells
    hours = sum((spell.end - spell.start for spell in spells), timedelta()) / HOUR
    print(f"\n{DAYS:g} days with {len(spells)} spells of trouble, {hours:.0f} h in all")
    print(", ".join(f"{number} x {kind}" for kind, number in incidents.items()))
    for interface, number in sorted(soak.calls.items()):
        refused = sum(call.interface == interface for call in soak.refusals)
        print(f"{interface:<20}{number:>7} calls{refused:>7} refused")
    causes = Counter(soak.trouble(call.at) for call in soak.refusals)
    for trouble, number in causes.most_common():
        print(f"{number:>6} refused during {trouble}")
    print(f"Clock at the end: {soak.ahead} ahead")
    print(f"Logins within 10 minutes: {soak.most_logins}")
    print(f"Wrong passwords sent: {soak.wrong_passwords}")
    if soak.reauth:
        trouble = soak.trouble(soak.reauth)
        print(f"Asked for the password after {soak.reauth} during {trouble}")
    for name, before in asdict(first).items():
        print(f"{name:<10}{before:>12,}{getattr(last, name):>12,}")
    verdicts = Counter(judged.values())
    print(
        f"{len(judged)} entities: {verdicts[True]} right, {verdicts[False]} wrong, "
        f"{verdicts[None]} not to be compared"
    )
    for message, number in records.counts.most_common():
        print(f"{number:>6} {message}")
    print(f"{seconds:.0f} s, {seconds / DAYS:.1f} s per day")

    problems = [entity for entity, right in judged.items() if right is False]
    problems += [f"{name} grew" for name in first.outgrown(last)]
    problems += records.bugs
    for spell in spells:
        # Each start may log the problem again, late answers come and go, and so does a
        # problem among others.
        restarts = [each for each in soak.met if spell.start < each.at < spell.end]
        others = [each for each in spells if each is not spell and each.overlaps(spell)]
        if not restarts and not others and spell.kind != "late answer":
            problems += records.repeated(spell)
    if not verdicts[True]:
        problems.append("no entity is right")
    if soak.refusals:
        problems.append(f"{len(soak.refusals)} calls were refused")
    if soak.most_logins > LOGINS:
        problems.append(f"{soak.most_logins} logins in 10 minutes")
    if soak.wrong_passwords:
        problems.append("wrong passwords were sent")
    if soak.reauth:
        problems.append("the password was asked for")
    assert not problems, "\n".join(problems)
