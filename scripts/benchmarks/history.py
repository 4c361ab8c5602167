"""Imports a long history, and measures calls, seconds, memory and blocks."""

import asyncio
from asyncio.events import Handle
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
import logging
import math
import os
from pathlib import Path
import time
from typing import Any

import pytest

from custom_components.smartpvms.const import CONF_HISTORY, DOMAIN
from custom_components.smartpvms.northbound import HISTORY_BATCH, HISTORY_SPAN, Session
from custom_components.smartpvms.statistics import Activity
from homeassistant.components.recorder import Recorder, get_instance
from homeassistant.components.recorder.statistics import (
    StatisticsRow,
    statistics_during_period,
)
from homeassistant.config_entries import SOURCE_USER
from homeassistant.const import CONF_HOST, CONF_PASSWORD, CONF_USERNAME
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
from homeassistant.util import dt as dt_util
from scripts.demo import SIMULATED_PASSWORD, SIMULATED_USERNAME, simulator
from scripts.eager import hasten
from tests.simulator import homes
from tests.simulator.counters import Kind, counters_of
from tests.simulator.items import has_history
from tests.simulator.plants import Home

from . import files

hass_config_dir = files.hass_config_dir
hass_storage = files.hass_storage


@dataclass(frozen=True, slots=True)
class Case:
    """A home, and the number of days to import."""

    home: str
    days: int
    options: Mapping[str, int] = field(default_factory=dict)
    is_withdrawn: bool = False
    """Whether `device/history` replaces `getDevHistoryKpi`."""


CASES = {
    "family": Case("family", 365),
    "farm": Case("farm", 30),
    "withdrawn": Case("family", 30, is_withdrawn=True),
    # The largest responses: ten inverters.
    "inverters": Case("fleet", 9, {"plants": 1, "devices": 12}),
}
NAMES = os.environ.get("BENCHMARK_HOMES", " ".join(CASES)).split()

HOUR = timedelta(hours=1)
# Days that the server deletes before they are requested.
LOST = timedelta(hours=2)

# Of the event loop, in seconds.
LONGEST_BLOCK = 0.05
BEAT = 0.005

# Relative to the counted energy.
TOLERANCE = 0.001

HEADING = (
    f"{'Home':<10}{'days':>5}{'hours':>9}{'calls':>7}{'least':>7}{'per device-day':>16}"
    f"{'wall':>8}{'server':>8}{'loop':>7}{'threads':>9}{'MB':>6}"
    f"{'block ms':>10}{'held ms':>9}{'late ms':>9}"
)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """Return the name of the import."""
    name: str = request.param
    return name


@pytest.fixture
def case(name: str) -> Case:
    """Return the home, and the number of days to import."""
    return CASES[name]


@pytest.fixture
async def url(case: Case, socket_enabled: None) -> AsyncIterator[str]:
    """Serve the home in another process, whose work is not measured."""
    options = [f"--{name}={value}" for name, value in case.options.items()]
    if case.is_withdrawn:
        options.append("--device-history")
    async with simulator(case.home, "--no-history-quota", *options) as url:
        yield url


@pytest.fixture
def persistent_database() -> bool:
    """Keep the statistics in a file, like Home Assistant does by default."""
    return True


@pytest.fixture
def recorder_config() -> dict[str, int]:
    """Commit as often as by default."""
    # The test framework logs and keeps everything.
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("sqlalchemy.engine").setLevel(logging.WARNING)
    return {"commit_interval": 5}


@dataclass(slots=True)
class Calls:
    """History calls."""

    number: int = 0
    waited: float = 0.0
    """The seconds until the responses had arrived."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Count the history calls."""
    calls = Calls()
    send = Session._send  # noqa: SLF001

    async def counted(self: Session, interface: str, *args: Any) -> Any:
        begin = time.monotonic()
        answer = await send(self, interface, *args)
        if interface in ("getDevHistoryKpi", "device/history"):
            calls.number += 1
            calls.waited += time.monotonic() - begin
        return answer

    monkeypatch.setattr(Session, "_send", counted)
    return calls


@dataclass(slots=True)
class Watch:
    """Resources of the process, and blocks of its event loop.

    Other processes do not count: a callback counts with the time of its thread, and
    this process blocks the loop for at most the work of all its threads in that time.
    """

    wall: float = 0.0
    loop: float = 0.0
    """Seconds of work of the loop's thread."""
    threads: float = 0.0
    """Seconds of work of all other threads."""
    memory: int = 0
    """Largest increase of the resident memory in bytes."""
    block: float = 0.0
    """The longest callback, in seconds of its thread."""
    blocker: str = ""
    held: float = 0.0
    """Largest delay of a timer that this process can have caused."""
    late: float = 0.0
    """Largest delay of a timer, for any reason."""
    _timer: asyncio.TimerHandle | None = field(default=None, repr=False)

    @contextmanager
    def watching(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Measure the running loop."""
        Path("/proc/self/clear_refs").write_text("5")
        memory = _memory("VmRSS")
        wall, process, thread = _times()
        run = Handle._run  # noqa: SLF001

        def timed(handle: Handle) -> None:
            begin = time.thread_time()
            run(handle)
            if (block := time.thread_time() - begin) > self.block:
                self.block = block
                task = getattr(getattr(handle, "_callback", None), "__self__", None)
                self.blocker = getattr(task, "get_name", task.__repr__)()

        self._beat(*_times()[:2])
        with monkeypatch.context() as patched:
            patched.setattr(Handle, "_run", timed)
            yield
        assert self._timer is not None
        self._timer.cancel()
        ended, processed, looped = _times()
        self.wall = ended - wall
        self.loop = looped - thread
        self.threads = processed - process - self.loop
        self.memory = _memory("VmHWM") - memory

    def _beat(self, due: float, process: float) -> None:
        now, processed, _ = _times()
        late = now - due
        self.late = max(self.late, late)
        self.held = max(self.held, min(late, processed - process))
        self._timer = asyncio.get_running_loop().call_later(
            BEAT, self._beat, now + BEAT, processed
        )


def _times() -> tuple[float, float, float]:
    """Return the times of the clock, the process and this thread."""
    return time.monotonic(), time.process_time(), time.thread_time()


def _memory(name: str) -> int:
    """Return a number of bytes of this process, as known to the system."""
    status = Path("/proc/self/status").read_text()
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return int(lines[name].split()[0]) * 1024


def least_calls(home: Home, case: Case) -> int:
    """Return the minimum number of calls for the history of all devices."""
    if case.is_withdrawn:
        # One device and day for each call.
        return case.days * number_of_devices(home)
    types = Counter(device.type_id for _, device in home.devices())
    batches = sum(
        math.ceil(number / HISTORY_BATCH)
        for type_id, number in types.items()
        if has_history(type_id)
    )
    return batches * math.ceil(case.days / (HISTORY_SPAN / timedelta(days=1)))


def number_of_devices(home: Home) -> int:
    """Return the number of devices with a history."""
    return sum(has_history(device.type_id) for _, device in home.devices())


async def add_account(hass: HomeAssistant, url: str, days: int) -> None:
    """Add the account with its history."""
    flows = hass.config_entries.flow
    step = await flows.async_init(DOMAIN, context={"source": SOURCE_USER})
    await flows.async_configure(
        step["flow_id"],
        {
            CONF_HOST: url,
            CONF_USERNAME: SIMULATED_USERNAME,
            CONF_PASSWORD: SIMULATED_PASSWORD,
            CONF_HISTORY: days,
        },
    )


async def imported(hass: HomeAssistant) -> None:
    """Wait until everything is imported."""
    [entry] = hass.config_entries.async_entries(DOMAIN)
    history = entry.runtime_data.history
    while history.queue.days_left:
        assert history.activity is not Activity.WAITING
        await asyncio.sleep(1)


async def statistics(hass: HomeAssistant) -> dict[str, list[StatisticsRow]]:
    """Return all hours by unique ID."""
    registered = {
        entity.entity_id: entity.unique_id
        for entity in er.async_get(hass).entities.values()
        if entity.platform == DOMAIN
    }
    rows = await get_instance(hass).async_add_executor_job(
        statistics_during_period,
        hass,
        datetime.fromtimestamp(0, UTC),
        None,
        set(registered),
        "hour",
        None,
        {"change"},
    )
    return {registered[entity_id]: hours for entity_id, hours in rows.items()}


def problems(
    home: Home,
    rows: Mapping[str, Sequence[StatisticsRow]],
    begin: datetime,
    end: datetime,
) -> list[str]:
    """Return the lifetime counters of devices that differ from the true energies."""
    problems = []
    compared = 0
    for counter in counters_of(home, end):
        hours = rows.get(f"{counter.name}_{counter.key}")
        if counter.kind is not Kind.LIFETIME or counter.device is None or not hours:
            continue
        compared += 1
        past = [row for row in hours if row["start"] < end.timestamp()]
        first = datetime.fromtimestamp(past[0]["start"], UTC)
        name = f"{counter.device.name} {counter.key}"
        if first > begin or len(past) < (end - first) / HOUR:
            problems.append(f"{name}: {len(past)} hours since {first}")
        recorded = math.fsum(row["change"] or 0.0 for row in past)
        true = counter.true(end) - counter.true(first)
        if not math.isclose(recorded, true, rel_tol=TOLERANCE, abs_tol=0.05):
            problems.append(f"{name}: {recorded:.2f} kWh of {true:.2f}")
    return problems if compared else ["nothing was compared"]


async def test_import(
    name: str,
    case: Case,
    url: str,
    recorder_mock: Recorder,
    hass: HomeAssistant,
    enable_custom_integrations: None,
    calls: Calls,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    """The import uses few calls, and blocks nothing."""
    days = case.days
    home = homes.HOMES[case.home](**case.options)
    hass.loop.set_debug(False)
    await hass.config.async_set_time_zone(str(home.plants[0].time_zone))
    hasten(monkeypatch.setattr)
    end = dt_util.utcnow().replace(minute=0, second=0, microsecond=0)
    await add_account(hass, url, days)
    watch = Watch()
    with watch.watching(monkeypatch):
        await imported(hass)

    rows = await statistics(hass)
    wrong = problems(home, rows, end - timedelta(days=days) + LOST, end)
    devices = number_of_devices(home)
    least = least_calls(home, case)
    row = (
        f"{name:<10}{days:>5}{sum(map(len, rows.values())):>9}{calls.number:>7}"
        f"{least:>7}{calls.number / days / devices:>16.3f}{watch.wall:>8.1f}"
        f"{calls.waited:>8.1f}{watch.loop:>7.1f}{watch.threads:>9.1f}"
        f"{watch.memory / 2**20:>6.0f}{1000 * watch.block:>10.1f}"
        f"{1000 * watch.held:>9.1f}{1000 * watch.late:>9.1f}"
    )
    record_property("row", (HEADING, row))
    print(f"The longest callback was of: {watch.blocker}")
    assert not wrong, "\n".join(wrong)
    assert watch.block < LONGEST_BLOCK
