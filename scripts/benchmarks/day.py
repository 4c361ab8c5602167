"""Measures a day of a home: calls, states, rows of the database, files and CPU time."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
import os
from pathlib import Path
import sqlite3
import time
from typing import Any, Final
from unittest.mock import patch

from freezegun.api import FrozenDateTimeFactory
import pytest

from custom_components.smartpvms.const import DOMAIN
from homeassistant.components.recorder import Recorder, get_instance
from homeassistant.const import EVENT_STATE_CHANGED, EVENT_STATE_REPORTED
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.helpers import entity_registry as er, storage
from tests import conftest, history, statistics
from tests.conftest import Account
from tests.simulator import Simulator, homes
from tests.simulator.plants import Home
from tests.statistics import Run

from . import files

account = conftest.account
recorder_config = statistics.recorder_config
simulator = history.simulator
hass_config_dir = files.hass_config_dir
hass_storage = files.hass_storage

HOMES = os.environ.get("BENCHMARK_HOMES", "family apartment").split()
# The import of history is over, and all files are written.
SETTLED: Final = timedelta(hours=2)
DAY: Final = timedelta(days=1)

TABLES: Final = ("states", "state_attributes", "events", "event_data")
STATISTICS: Final = ("statistics", "statistics_short_term")

HEADING = (
    f"{'Home':<12}{'entities':>9}{'calls':>7}{'refused':>8}{'changed':>9}"
    f"{'reported':>9}{'rows':>8}{'statistics':>11}{'MB':>7}{'writes':>8}"
    f"{'kB each':>9}{'largest':>9}{'MB':>7}{'CPU s':>7}"
)


@pytest.fixture(params=HOMES)
def home(request: pytest.FixtureRequest) -> Home:
    """Return a home."""
    return homes.HOMES[request.param]()


@pytest.fixture
def persistent_database() -> bool:
    """Write the database to a file."""
    return True


@pytest.fixture
def start() -> str:
    """Return a time after midnight."""
    return "2026-06-21 00:01:30+02:00"


class Written:
    """Sizes of the files of the integration that are written."""

    def __init__(self) -> None:
        """Start without files."""
        self.sizes: list[int] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record each write."""
        write = storage.write_utf8_file

        def written(path: str, data: str, *args: Any, **kwargs: Any) -> None:
            if Path(path).name.startswith(DOMAIN):
                self.sizes.append(len(data))
            write(path, data, *args, **kwargs)

        with patch.object(storage, "write_utf8_file", written):
            yield


class LoopTime:
    """CPU time of the event loop, without that of the simulator."""

    def __init__(self) -> None:
        """Start at 0 seconds."""
        self.seconds = 0.0

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Measure the callbacks of the loop."""
        run = asyncio.Handle._run  # noqa: SLF001

        def timed(handle: asyncio.Handle) -> None:
            begun = time.thread_time()
            run(handle)
            if not _is_of_server(handle):
                self.seconds += time.thread_time() - begun

        with patch.object(asyncio.Handle, "_run", timed):
            yield


def _is_of_server(handle: asyncio.Handle) -> bool:
    task = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined] # noqa: SLF001
    if not isinstance(task, asyncio.Task):
        return False
    return "RequestHandler" in getattr(task.get_coro(), "__qualname__", "")


def rows_of(path: Path) -> dict[str, int]:
    """Return the numbers of rows of the recorder's tables, and the used bytes."""
    with sqlite3.connect(path) as database:

        def count(query: str) -> int:
            number: int = database.execute(query).fetchone()[0]
            return number

        rows = {
            table: count(f"SELECT count(*) FROM {table}")  # noqa: S608
            for table in (*TABLES, *STATISTICS)
        }
        pages = count("PRAGMA page_count") - count("PRAGMA freelist_count")
        return rows | {"bytes": pages * count("PRAGMA page_size")}


async def test_day(
    request: pytest.FixtureRequest,
    home: Home,
    simulator: Simulator,
    recorder_mock: Recorder,
    hass: HomeAssistant,
    account: Account,
    freezer: FrozenDateTimeFactory,
    record_property: Callable[[str, object], None],
) -> None:
    """A day refuses no call and writes at most 10 kB at once."""
    run = Run(hass, account, simulator, freezer)
    await run.start()
    recorder = get_instance(hass)
    recorder.entity_filter = lambda _: True
    await run.until(run.begin + SETTLED)
    await recorder.async_block_till_done()
    assert recorder.engine
    database = Path(str(recorder.engine.url.database))
    before = await hass.async_add_executor_job(rows_of, database)

    own = {
        each.entity_id
        for each in er.async_get(hass).entities.values()
        if each.platform == DOMAIN and not each.disabled_by
    }
    states: Counter[str] = Counter()

    @callback
    def count(event: Event[Any]) -> None:
        if event.data["entity_id"] in own:
            states[str(event.event_type)] += 1

    @callback
    def is_own(_: Any) -> bool:
        return True

    stops = [
        hass.bus.async_listen(EVENT_STATE_CHANGED, count),
        hass.bus.async_listen(EVENT_STATE_REPORTED, count, event_filter=is_own),
    ]
    calls = len(simulator.calls)
    written, loop_time = Written(), LoopTime()
    start = run.now
    while run.now < start + DAY:
        with written.recording(), loop_time.recording():
            await account.poll()
        await run.poll(timedelta())
    for stop in stops:
        stop()
    await recorder.async_block_till_done()
    after = await hass.async_add_executor_job(rows_of, database)

    gained = {table: after[table] - before[table] for table in after}
    made = simulator.calls[calls:]
    refused = sum(call.refused for call in made)
    sizes = written.sizes
    row = (
        f"{request.node.callspec.params['home']:<12}{len(own):>9}{len(made):>7}"
        f"{refused:>8}{states['state_changed']:>9}{states['state_reported']:>9}"
        f"{sum(gained[table] for table in TABLES):>8}"
        f"{sum(gained[table] for table in STATISTICS):>11}{gained['bytes'] / 1e6:>7.1f}"
        f"{len(sizes):>8}{sum(sizes) / len(sizes) / 1e3:>9.1f}{max(sizes) / 1e3:>9.1f}"
        f"{sum(sizes) / 1e6:>7.1f}{loop_time.seconds:>7.1f}"
    )
    record_property("row", (HEADING, row))
    assert refused == 0
