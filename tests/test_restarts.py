"""Tests of restarts, crashes, reloads, and clock changes."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
import time
from types import SimpleNamespace
from typing import Any, override

from freezegun.api import FrozenDateTimeFactory
import pytest

from custom_components.smartpvms import alarm_coordinator, coordinator, northbound
from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.descriptions import FLOW_SENSORS
from custom_components.smartpvms.models import Gap
from custom_components.smartpvms.northbound import flow_control, session
from custom_components.smartpvms.row_reader import MIN_GAP, KpiRow
from homeassistant.config_entries import ConfigEntryState
from homeassistant.const import STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
from homeassistant.util.async_ import get_scheduled_timer_handles
from tests.simulator import Clock, RealClock, Simulator, faults

from .conftest import POLL, Account

INVERTER = 1000000035436842
BATTERY = 1000000035436843
BATTERY_TYPE = 39


async def test_restart_costs_no_call(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """A restart between two readings makes no call, and restores every entity."""
    before = {entity.entity_id: entity.state for entity in hass.states.async_all()}
    simulator.calls.clear()
    await added.restart(off=timedelta(minutes=2))
    assert {
        entity.entity_id: entity.state for entity in hass.states.async_all()
    } == before
    assert STATE_UNAVAILABLE not in before.values()
    assert simulator.calls == []
    await added.pass_time(timedelta(minutes=3, seconds=5))
    assert len(simulator.calls_to("getDevRealKpi")) == 3
    assert simulator.calls_to("login") == []


@pytest.mark.parametrize("is_silent", [False, True])
async def test_restart_calculates_the_plant_again(
    added: Account, simulator: Simulator, is_silent: bool
) -> None:
    """Powers and energies of a plant are the same after a restart.

    This includes a device that has not been read for more than 15 minutes.
    """
    [plant] = added.entry.runtime_data.inventory.data.plants
    for _ in range(3):
        await added.poll()
    if is_silent:
        simulator.faults.add(
            faults.FailCode(20010),
            "getDevRealKpi",
            when=lambda body: body["devTypeId"] == BATTERY_TYPE,
        )
    for _ in range(5):
        await added.poll()
    before = added.entry.runtime_data.real_time.flows.readings[plant]
    await added.restart(off=timedelta(minutes=2))
    after = added.entry.runtime_data.real_time.flows.readings[plant]
    assert after.items == before.items
    assert after.server_time == before.server_time.replace(microsecond=0)
    assert (after.items["battery_power"] is None) is is_silent


async def test_restart_after_a_while(added: Account, simulator: Simulator) -> None:
    """Outdated values are read at once."""
    simulator.calls.clear()
    await added.restart(off=timedelta(hours=2))
    assert added.value(INVERTER, "active_power") == STATE_UNAVAILABLE
    await added.pass_time(timedelta(seconds=3))
    assert added.value(INVERTER, "active_power") == "8000.0"
    assert [call.interface for call in simulator.calls] == [
        "login",
        *["getDevRealKpi"] * 3,
        "getStationRealKpi",
    ]


async def test_restart_while_a_pass_was_due(
    added: Account, simulator: Simulator
) -> None:
    """A clean stop stores that no more calls were made."""
    await added.pass_time(timedelta(minutes=4))
    simulator.calls.clear()
    await added.restart(off=timedelta(minutes=2))
    await added.pass_time(timedelta(seconds=3))
    assert len(simulator.calls_to("getDevRealKpi")) == 3


@pytest.mark.parametrize("way", ["restart", "kill", "reload"])
async def test_restart_every_two_minutes(
    hass: HomeAssistant, added: Account, simulator: Simulator, way: str
) -> None:
    """Repeated restarts stay within the quotas, with regular updates."""
    ways: dict[str, Callable[[], Any]] = {
        "restart": added.restart,
        "kill": added.kill,
        "reload": lambda: hass.config_entries.async_reload(added.entry.entry_id),
    }
    for _ in range(30):
        await added.pass_time(timedelta(minutes=2))
        await ways[way]()
        assert added.value(INVERTER, "active_power") == "8000.0"
    assert simulator.refusals == []
    assert len(simulator.calls_to("login")) == 1
    assert len(simulator.calls_to("getDevList")) == 1
    # After a crash, a due pass may already have been made.
    least = 6 if way == "kill" else 9
    assert len(simulator.calls_to("getStationRealKpi")) >= least


async def test_killed_before_the_last_reading_was_kept(
    added: Account,
    simulator: Simulator,
    hass_storage: dict[str, Any],
) -> None:
    """After an incomplete write, the previous file is used: one poll is lost."""
    await added.pass_time(timedelta(minutes=1))
    key = f"{DOMAIN}.{added.entry.entry_id}"
    before = hass_storage[key]
    shown = added.value(INVERTER, "total_cap")
    await added.pass_time(timedelta(minutes=5))
    assert hass_storage[key] != before
    hass_storage[key] = before
    await added.kill()
    assert added.value(INVERTER, "total_cap") == shown
    await added.pass_time(timedelta(minutes=6))
    assert float(added.value(INVERTER, "total_cap") or 0) == pytest.approx(
        simulator.device_items(INVERTER)["total_cap"]
    )
    assert simulator.refusals == []
    assert len(simulator.calls_to("login")) == 1


@pytest.mark.parametrize("is_new", [True, False])
async def test_killed_after_the_first_pass(
    added: Account, simulator: Simulator, is_new: bool
) -> None:
    """The first pass after a start counts, although its calls are not stored yet."""
    if not is_new:
        await added.pass_time(timedelta(minutes=1))
        simulator.calls.clear()
        await added.kill(off=timedelta(minutes=20))
        await added.pass_time(timedelta(seconds=2))
    assert len(simulator.calls_to("getStationRealKpi")) == 1
    await added.kill(off=timedelta(seconds=1))
    await added.pass_time(timedelta(minutes=7))
    assert len(simulator.calls_to("getStationRealKpi")) == 2
    assert simulator.refusals == []
    assert added.value(INVERTER, "active_power") not in (None, STATE_UNAVAILABLE)


@pytest.mark.parametrize("junk", [None, "text", 7, [], {}, {"calls": [[]]}])
async def test_damaged_file(
    hass: HomeAssistant, added: Account, hass_storage: dict[str, Any], junk: object
) -> None:
    """Unreadable parts of a file are dropped; the rest is used."""
    await added.pass_time(timedelta(minutes=1))
    key = f"{DOMAIN}.{added.entry.entry_id}"
    whole = hass_storage[key]["data"]
    for part in whole:
        hass_storage[key]["data"] = whole | {part: junk}
        await added.kill(off=timedelta(minutes=6))
        assert added.entry.state is ConfigEntryState.LOADED
        await added.pass_time(timedelta(minutes=6))
        assert added.value(INVERTER, "active_power") not in (None, STATE_UNAVAILABLE)


async def test_disabled_groups_are_not_read_after_a_restart(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """A group with only disabled entities that nothing needs is not read."""
    registry = er.async_get(hass)
    for registered in er.async_entries_for_config_entry(registry, added.entry.entry_id):
        if registered.unique_id.startswith(str(BATTERY)) or (
            registered.unique_id.partition("_")[2] in FLOW_SENSORS
        ):
            registry.async_update_entity(
                registered.entity_id, disabled_by=er.RegistryEntryDisabler.USER
            )
    await added.pass_time(timedelta(minutes=1))
    await added.restart()
    simulator.calls.clear()
    await added.pass_time(timedelta(minutes=6))
    types = [call.body["devTypeId"] for call in simulator.calls_to("getDevRealKpi")]
    assert sorted(types) == [38, 47]


async def test_removal_logs_out(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    hass_storage: dict[str, Any],
) -> None:
    """Removal ends the session and deletes the files, unloading does neither."""
    entry_id = added.entry.entry_id
    await hass.config_entries.async_unload(entry_id)
    assert simulator.calls_to("logout") == []
    await hass.config_entries.async_remove(entry_id)
    assert len(simulator.calls_to("logout")) == 1
    assert f"{DOMAIN}.{entry_id}" not in hass_storage


async def test_removal_without_the_server(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """An account can be removed while the server is unreachable."""
    simulator.faults.add(faults.DropConnection())
    await hass.config_entries.async_remove(added.entry.entry_id)
    assert hass.config_entries.async_entries(DOMAIN) == []


class _SetClock(Clock):
    """The true time, while the clock of Home Assistant's computer is set."""

    def __init__(self) -> None:
        self.ahead = timedelta()
        self._real = RealClock()

    @override
    def now(self) -> datetime:
        return self._real.now() - self.ahead

    def monotonic(self) -> float:
        return time.monotonic() - self.ahead.total_seconds()


@pytest.fixture
def clock() -> _SetClock:
    """Return the true clock, independent of Home Assistant's."""
    return _SetClock()


@pytest.fixture
def set_clock(
    hass: HomeAssistant,
    freezer: FrozenDateTimeFactory,
    monkeypatch: pytest.MonkeyPatch,
    clock: _SetClock,
) -> Callable[[timedelta], None]:
    """Return a function that sets the clock of Home Assistant's computer."""
    # Frozen time moves both clocks of the computer, but only one was set.
    times = SimpleNamespace(time=time.time, monotonic=clock.monotonic)
    for module in (
        alarm_coordinator,
        coordinator,
        northbound.clock,
        flow_control,
        session,
    ):
        monkeypatch.setattr(module, "time", times)
    monkeypatch.setattr(hass.loop, "time", clock.monotonic)

    def set_by(jump: timedelta) -> None:
        freezer.tick(jump)
        clock.ahead += jump

    return set_by


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(hours=-1)])
async def test_clock_jumps(
    account: Account,
    simulator: Simulator,
    set_clock: Callable[[timedelta], None],
    jump: timedelta,
) -> None:
    """A clock that is set by an hour makes no call too early or too late."""
    await account.add()
    for number in range(24):
        if number in (3, 10):
            set_clock(jump)
        await account.poll(POLL / 2)
    assert simulator.refusals == []
    assert len(simulator.calls_to("login")) == 1
    assert len(simulator.calls_to("getStationRealKpi")) == 13
    assert account.value(INVERTER, "active_power") == "8000.0"


JUMPS = [
    timedelta(hours=2),
    timedelta(days=40),
    timedelta(days=20_000),
    timedelta(hours=-2),
    timedelta(days=-40),
    timedelta(days=-20_000),
]


@pytest.mark.parametrize("jump", JUMPS, ids=str)
@pytest.mark.parametrize("when", ["running", "off", "until the start", "after it"])
async def test_wrong_clock(
    account: Account,
    simulator: Simulator,
    set_clock: Callable[[timedelta], None],
    jump: timedelta,
    when: str,
) -> None:
    """A clock that is wrong or set at any time delays neither values nor lists.

    Values of a server that cannot be reached become unavailable.
    """
    if when == "until the start":
        set_clock(jump)
    await account.add()
    await account.poll()
    if when == "running":
        set_clock(jump)
    else:
        await account.restart()
        set_clock(-jump if when == "until the start" else jump)
        await account.restart()
    if when == "after it":
        await account.poll()
        set_clock(-jump)
    simulator.calls.clear()
    for _ in range(6):
        await account.poll()
        assert account.value(INVERTER, "active_power") not in (None, STATE_UNAVAILABLE)
    assert len(simulator.calls_to("getStationRealKpi")) == 6
    total = simulator.device_items(INVERTER)["total_cap"]
    assert float(account.value(INVERTER, "total_cap") or 0) == pytest.approx(total)
    await account.poll(timedelta(days=1))
    assert simulator.calls_to("stations")
    assert simulator.refusals == []
    simulator.faults.add(faults.DropConnection())
    set_clock(-jump)
    for _ in range(5):
        await account.poll()
    assert account.value(INVERTER, "active_power") == STATE_UNAVAILABLE


@pytest.mark.parametrize("jump", JUMPS, ids=str)
@pytest.mark.parametrize("outage", [timedelta(minutes=5), timedelta(hours=1)])
async def test_gap_with_a_wrong_clock(
    added: Account, simulator: Simulator, jump: timedelta, outage: timedelta
) -> None:
    """A gap has the server's times if the clock was set in between."""
    data = added.entry.runtime_data
    reader, last = data.real_time.rows, data.real_time.data[INVERTER]
    now = last.received + outage + jump
    end = last.server_time + outage
    row = KpiRow(simulator.device_items(INVERTER), now, end)
    reader.read(INVERTER, row, data.inventory.data, last, {})
    gaps = [Gap(INVERTER, last.server_time, end)] if outage > MIN_GAP else []
    assert reader.take_gaps() == gaps


def _resources(hass: HomeAssistant) -> dict[str, int]:
    """Return the number of tasks, timers, listeners and files."""
    return {
        "tasks": len(hass._tasks) + len(hass._background_tasks),  # noqa: SLF001
        "timers": sum(
            not handle.cancelled() for handle in get_scheduled_timer_handles(hass.loop)
        ),
        "listeners": sum(hass.bus.async_listeners().values()),
        "files": len(list(Path("/proc/self/fd").iterdir())),
    }


@pytest.mark.parametrize(
    "fault",
    [
        None,
        faults.DropConnection(),
        faults.NeverAnswer(),
        faults.HalfJson(),
        faults.HtmlPage(),
        faults.HttpStatus(502),
        faults.FailCode(305),
        faults.FailCode(20008),
    ],
)
async def test_no_resources_are_left(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    fault: faults.Fault | None,
) -> None:
    """20 reloads and unloads leave no task, timer, listener, session or file."""
    entry_id = added.entry.entry_id
    entries = hass.config_entries
    await entries.async_unload(entry_id)
    await added.pass_time(timedelta(minutes=6))
    before = _resources(hass)
    if fault is not None:
        simulator.faults.add(fault)
    for _ in range(20):
        await entries.async_setup(entry_id)
        await added.pass_time(timedelta(minutes=6))
        await entries.async_reload(entry_id)
        await entries.async_unload(entry_id)
    simulator.faults.clear()
    await added.pass_time(timedelta(minutes=6))
    assert _resources(hass) == before
    await entries.async_setup(entry_id)
    await added.pass_time(timedelta(hours=1))
    assert added.value(INVERTER, "active_power") != STATE_UNAVAILABLE
