"""Tests of refusals, lost sessions, locks, silence and recovery of the server."""

import asyncio
from collections.abc import Iterable
from datetime import timedelta
import gc
import logging
import tracemalloc
from typing import override

from freezegun.api import FrozenDateTimeFactory
import pytest

from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.northbound import ServerClock
from homeassistant.const import STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant
from tests.simulator import Call, Simulator, faults, homes
from tests.simulator.plants import Home
from tests.simulator.weather import DeadToken

from .conftest import Account

INVERTER = 1000000035436842
BATTERY = 1000000035436843
METER = 1000000035436844
TEN_MINUTES = timedelta(minutes=10)


def _most_in_ten_minutes(calls: Iterable[Call]) -> int:
    """Return the largest number of calls in ten minutes."""
    times = [call.at for call in calls]
    return max(
        sum(timedelta() <= at - first < TEN_MINUTES for at in times) for first in times
    )


def _flows(hass: HomeAssistant) -> list[object]:
    return list(hass.config_entries.flow.async_progress_by_handler(DOMAIN))


def _log(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the integration's log from level warning."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("custom_components.smartpvms")
        and record.levelno >= logging.INFO
    ]


@pytest.mark.parametrize("with_login", [False, True])
async def test_server_that_always_returns_305(
    hass: HomeAssistant, added: Account, simulator: Simulator, with_login: bool
) -> None:
    """T#84: if a session is lost at once, calls pause for a while."""
    simulator.calls.clear()
    fault = (
        simulator.faults.add(faults.FailCode(305))
        if with_login
        else simulator.faults.add(DeadToken(simulator), "login")
    )
    simulator.expire_token()
    await added.pass_time(timedelta(minutes=14))
    assert added.value(INVERTER, "active_power") == "8000.0"
    await added.pass_time(timedelta(hours=23, minutes=46))
    assert added.value(INVERTER, "active_power") == STATE_UNAVAILABLE
    assert len(simulator.calls_to("login")) <= 30
    assert _flows(hass) == []
    fault.remove()
    await added.pass_time(timedelta(hours=1, minutes=1))
    assert added.value(INVERTER, "active_power") != STATE_UNAVAILABLE
    assert simulator.refusals == []


@pytest.mark.parametrize("seconds", [60, 300, 600])
async def test_another_client(
    hass: HomeAssistant, added: Account, simulator: Simulator, seconds: int
) -> None:
    """T#84: another client of the account ends the session repeatedly."""
    simulator.calls.clear()
    unavailable = 0
    for _ in range(6 * 3600 // seconds):
        simulator.log_in_elsewhere()
        await added.pass_time(timedelta(seconds=seconds))
        unavailable += added.value(INVERTER, "active_power") == STATE_UNAVAILABLE
    # A client that logs in every minute uses up the logins of the account.
    assert unavailable == 0 or seconds == 60
    assert _most_in_ten_minutes(simulator.calls_to("login")) <= 3
    assert _flows(hass) == []
    await added.pass_time(timedelta(minutes=21))
    assert added.value(INVERTER, "active_power") != STATE_UNAVAILABLE


async def test_password_changed(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """A wrong password is sent once, until the user enters another."""
    simulator.change_password("Changed-2")
    await added.pass_time(timedelta(minutes=30))
    assert _flows(hass) == []
    simulator.calls.clear()
    simulator.expire_token()
    await added.pass_time(timedelta(hours=6))
    await added.restart(off=timedelta(hours=1))
    await added.pass_time(timedelta(hours=6))
    assert len(simulator.calls_to("login")) == 1
    assert added.value(INVERTER, "active_power") == STATE_UNAVAILABLE
    [flow] = hass.config_entries.flow.async_progress_by_handler(DOMAIN)
    await hass.config_entries.flow.async_configure(
        flow["flow_id"], {"password": "Changed-2"}
    )
    await added.pass_time(timedelta(seconds=3))
    assert added.value(INVERTER, "active_power") != STATE_UNAVAILABLE
    assert len(simulator.calls_to("login")) == 2


async def test_account_locked_for_half_an_hour(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """A lock does not ask for the password; calls resume after it."""
    simulator.calls.clear()
    simulator.lock(minutes=30)
    await added.pass_time(timedelta(minutes=25))
    assert added.value(INVERTER, "active_power") == STATE_UNAVAILABLE
    await added.pass_time(timedelta(minutes=20))
    assert added.value(INVERTER, "active_power") == "8000.0"
    assert [call.fail_code for call in simulator.calls_to("login")] == [20400, 0]
    assert _flows(hass) == []


async def test_permanently_locked_account(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """A refusal that outlasts any lock asks for the password."""
    simulator.calls.clear()
    simulator.expire_token()
    simulator.faults.add(faults.FailCode(20400), "login")
    await added.pass_time(timedelta(minutes=30))
    assert _flows(hass) == []
    await added.pass_time(timedelta(hours=5))
    assert len(_flows(hass)) == 1
    assert len(simulator.calls_to("login")) == 2


async def test_repeated_407(
    added: Account, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """T#89, T#91: refused devices do not affect the plant, and are read less often."""
    caplog.clear()
    simulator.calls.clear()
    simulator.faults.add(faults.FailCode(407), "getDevRealKpi")
    await added.pass_time(timedelta(minutes=14))
    assert added.value(INVERTER, "active_power") == "8000.0"
    await added.pass_time(timedelta(hours=2))
    plant = simulator.home.plants[0].code
    assert added.value(INVERTER, "active_power") == STATE_UNAVAILABLE
    assert added.value(plant, "day_power") != STATE_UNAVAILABLE
    assert len(simulator.calls_to("getStationRealKpi")) in (26, 27)
    # Every five minutes at first, every ten minutes at the end.
    assert 13 <= len(simulator.calls_to("getDevRealKpi")) <= 20
    simulator.faults.clear()
    await added.pass_time(timedelta(minutes=25))
    assert added.value(INVERTER, "active_power") != STATE_UNAVAILABLE
    log = _log(caplog)
    for type_id in (38, 39, 47):
        group = f"devices of type {type_id}"
        lines = [line for line in log if group in line]
        assert len(lines) == 2
        assert lines[0].startswith(f"Failed to read {group}: ")
        assert lines[1] == f"Reading of {group} recovered"
    assert len(log) == 6


async def test_daily_quota_used_up_at_noon(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """20618: an interface without calls for today pauses until tomorrow."""
    simulator.calls.clear()
    simulator.limit_day("getDevRealKpi", 0)
    await added.pass_time(timedelta(hours=13, minutes=59))
    assert len(simulator.calls_to("getDevRealKpi")) == 1
    assert added.value(INVERTER, "active_power") == STATE_UNAVAILABLE
    plant = simulator.home.plants[0].code
    assert added.value(plant, "day_power") != STATE_UNAVAILABLE
    simulator.limit_day("getDevRealKpi", None)
    await added.pass_time(timedelta(minutes=15))
    assert added.value(INVERTER, "active_power") != STATE_UNAVAILABLE


async def test_list_calls_used_up_by_another_client(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """An inventory that cannot be read today is read later; nothing is lost."""
    simulator.use_up("getDevList")
    simulator.calls.clear()
    await added.pass_time(timedelta(hours=23, minutes=59))
    assert simulator.calls_to("getDevList") == []
    simulator.use_up("stations")
    await added.pass_time(timedelta(hours=6))
    assert len(simulator.refusals) <= 4
    assert added.value(INVERTER, "active_power") != STATE_UNAVAILABLE
    await added.pass_time(timedelta(days=1))
    assert added.entry.runtime_data.inventory.last_update_success


@pytest.mark.parametrize(
    "fault",
    [
        faults.FailCode(429),
        faults.Gateway403(),
        faults.DropConnection(),
        faults.NeverAnswer(),
        faults.HttpStatus(500),
        faults.HtmlPage(),
        faults.HalfJson(),
        faults.EmptyBody(),
        faults.FailCode(20200),
        faults.NullItemMap(),
    ],
)
async def test_outage_of_an_hour(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    caplog: pytest.LogCaptureFixture,
    fault: faults.Fault,
) -> None:
    """Values last a quarter of an hour, and return with the next success."""
    caplog.clear()
    handle = simulator.faults.add(fault)
    await added.pass_time(timedelta(minutes=14))
    assert added.value(INVERTER, "active_power") == "8000.0"
    await added.pass_time(timedelta(minutes=46))
    assert added.value(INVERTER, "active_power") == STATE_UNAVAILABLE
    handle.remove()
    await added.pass_time(timedelta(minutes=16))
    for entity in hass.states.async_all("sensor"):
        assert entity.state != STATE_UNAVAILABLE
    # Reports are read again hours later.
    log = [line for line in _log(caplog) if "plant reports" not in line]
    ended = [line for line in log if line.endswith("recovered")]
    assert len(log) == 2 * len(ended)
    assert len(log) == len(set(log))
    assert simulator.refusals == []


class TestUnknownDevice:
    """A device that is unknown to the server."""

    @pytest.fixture
    def home(self) -> Home:
        """Return a farm with four inverters."""
        return homes.farm()

    async def test_inventory_is_read_once(
        self, hass: HomeAssistant, added: Account, simulator: Simulator
    ) -> None:
        """20006, 20008: the inventory is read once; other devices are still read."""
        plant = simulator.home.plants[0]
        gone = next(device for device in plant.devices if device.type_id == 1)
        others = [
            device.id
            for device in plant.devices
            if device.type_id == 1 and device is not gone
        ]
        simulator.calls.clear()
        simulator.faults.add(
            faults.FailCode(20008),
            "getDevRealKpi",
            when=lambda body: str(gone.id) in body["devIds"].split(","),
        )
        await added.pass_time(timedelta(minutes=45))
        assert len(simulator.calls_to("getDevList")) == 1
        assert added.value(gone.id, "active_power") == STATE_UNAVAILABLE
        for device_id in others:
            assert added.value(device_id, "active_power") != STATE_UNAVAILABLE
        assert simulator.refusals == []
        await added.pass_time(timedelta(days=1))
        assert simulator.refusals == []
        assert len(simulator.calls_to("getDevList")) <= 14
        simulator.faults.clear()
        await added.pass_time(timedelta(hours=1, minutes=10))
        assert added.value(gone.id, "active_power") != STATE_UNAVAILABLE

    async def test_withdrawn_device(self, added: Account, simulator: Simulator) -> None:
        """A device that is missing from the new inventory is no longer read."""
        plant = simulator.home.plants[0]
        gone = next(device for device in plant.devices if device.type_id == 1)
        plant.devices.remove(gone)
        reject = simulator.faults.add(
            faults.FailCode(20008),
            "getDevRealKpi",
            when=lambda body: str(gone.id) in body["devIds"].split(","),
        )
        simulator.calls.clear()
        await added.pass_time(timedelta(minutes=10))
        assert len(simulator.calls_to("getDevList")) == 1
        simulator.calls.clear()
        await added.pass_time(timedelta(hours=2))
        ids = {
            device_id
            for call in simulator.calls_to("getDevRealKpi")
            for device_id in call.body["devIds"].split(",")
        }
        assert str(gone.id) not in ids
        # A second list confirms that it is missing.
        assert len(simulator.calls_to("getDevList")) == 1
        reject.remove()


async def test_failures_of_one_type_stay_with_it(
    added: Account, simulator: Simulator
) -> None:
    """A type that cannot be read does not affect other types."""
    simulator.faults.add(
        faults.FailCode(20013),
        "getDevRealKpi",
        when=lambda body: str(body["devTypeId"]) == "39",
    )
    await added.pass_time(timedelta(hours=1))
    assert added.value(BATTERY, "battery_soc") == STATE_UNAVAILABLE
    assert added.value(INVERTER, "active_power") == "8000.0"
    assert added.value(METER, "active_power") != STATE_UNAVAILABLE


async def test_pass_that_ends_unexpectedly(
    added: Account, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass with an unexpected error is repeated after a while."""

    def fail(*args: object) -> None:
        raise ArithmeticError

    monkeypatch.setattr(ServerClock, "moment", fail)
    await added.pass_time(timedelta(minutes=6))
    simulator.calls.clear()
    await added.pass_time(timedelta(minutes=13))
    assert 1 <= len(simulator.calls) <= 3
    monkeypatch.undo()
    await added.pass_time(timedelta(minutes=7))
    assert added.value(INVERTER, "active_power") != STATE_UNAVAILABLE


@pytest.mark.parametrize("interface", ["getStationRealKpi", "getDevRealKpi"])
@pytest.mark.parametrize("fault", [faults.NeverAnswer(), faults.Gateway403()])
async def test_interface_without_answers(
    added: Account,
    simulator: Simulator,
    caplog: pytest.LogCaptureFixture,
    fault: faults.Fault,
    interface: str,
) -> None:
    """One interface that does not answer is logged once, and the other one is read."""
    handle = simulator.faults.add(fault, interface)
    await added.pass_time(timedelta(hours=2))
    shown = added.value(INVERTER, "active_power") != STATE_UNAVAILABLE
    assert shown == (interface == "getStationRealKpi")
    handle.remove()
    await added.pass_time(timedelta(minutes=15))
    assert added.value(INVERTER, "active_power") not in (None, STATE_UNAVAILABLE)
    lines = [line for line in _log(caplog) if "real-time data" in line]
    assert len(lines) == 2
    assert "recovered" in lines[-1]


async def test_large_answers_are_not_kept(added: Account, simulator: Simulator) -> None:
    """The last errors of all coordinators need no more memory than other errors."""
    size = 8 * 1024 * 1024
    simulator.faults.add(faults.Body(b"x" * size))
    data = added.entry.runtime_data
    coordinators = data.inventory, data.real_time, data.reports, data.alarms
    tracemalloc.start()
    try:
        await added.pass_time(timedelta(hours=1))
        await added.poll(timedelta(days=1))
        # In the thread, which has the last answer until it does something else.
        await asyncio.to_thread(gc.collect)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert all(each.last_exception is not None for each in coordinators)
    assert kept < size


class _Late(faults.Fault):
    """Answers two seconds later."""

    def __init__(self, freezer: FrozenDateTimeFactory) -> None:
        """Store the clock."""
        self._freezer = freezer

    @override
    async def answer(
        self, exchange: faults.Exchange, honest: faults.Honest
    ) -> faults.Answer:
        """Advance the time, and answer."""
        self._freezer.tick(timedelta(seconds=2))
        return await honest()


async def test_plants_are_read_after_their_devices(
    added: Account, simulator: Simulator, freezer: FrozenDateTimeFactory
) -> None:
    """The powers that explain a plant's counters are of the same collection."""
    simulator.faults.add(
        _Late(freezer), "getDevRealKpi", 1, lambda body: body["devTypeId"] == 47
    )
    simulator.calls.clear()
    await added.pass_time(timedelta(minutes=20, seconds=20))
    interfaces = [
        call.interface for call in simulator.calls if call.interface.endswith("RealKpi")
    ]
    assert interfaces == 4 * [*3 * ["getDevRealKpi"], "getStationRealKpi"]
