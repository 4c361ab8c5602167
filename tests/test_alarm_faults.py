"""Tests of alarms with refusals, other clocks, restarts, and unusual answers."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final, override

from freezegun.api import FrozenDateTimeFactory
import pytest
from pytest_homeassistant_custom_component.common import async_mock_service

from custom_components.smartpvms.northbound.models import parse_alarm
from homeassistant.const import STATE_UNAVAILABLE
from homeassistant.core import CoreState, HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import entity_registry as er, issue_registry as ir
from homeassistant.helpers.update_coordinator import UpdateFailed
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
from tests.simulator import RealClock, Simulator, alarms, faults, homes
from tests.simulator.plants import Device, Plant

from . import test_alarms
from .conftest import Account
from .test_alarms import (
    ACTIVE,
    ALARM,
    LIST,
    QUARTER,
    SOON,
    Announced,
    get_alarms,
    pass_time,
)

home = test_alarms.home
plant = test_alarms.plant
inverter = test_alarms.inverter
announced = test_alarms.announced

HOUR: Final = timedelta(hours=1)


async def test_slow_start(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    plant: Plant,
    inverter: Device,
) -> None:
    """An alarm that is read during the start triggers automations after it."""
    sent = async_mock_service(hass, "notify", "phone")
    await account.add()
    await pass_time(account, SOON)
    event = account.registered(plant.code, ALARM)
    assert event is not None
    await hass.config_entries.async_unload(account.entry.entry_id)
    simulator.alarms.start(inverter)
    hass.set_state(CoreState.not_running)
    automation = {
        "triggers": {
            "trigger": "event.received",
            "target": {"entity_id": event.entity_id},
            "options": {"event_type": ["raised"]},
        },
        "actions": {"action": "notify.phone", "data": {"message": "Alarm"}},
    }
    assert await async_setup_component(hass, "automation", {"automation": automation})
    await hass.config_entries.async_setup(account.entry.entry_id)
    await account.pass_time(QUARTER)
    assert account.value(plant.code, ACTIVE) == "1"
    assert sent == []
    await hass.async_start()
    await account.pass_time(timedelta(seconds=5))
    assert len(sent) == 1


@pytest.mark.parametrize("code", [20055, 401, 20007])
async def test_single_refusal(
    account: Account,
    simulator: Simulator,
    inverter: Device,
    announced: Announced,
    code: int,
) -> None:
    """Alarms that were read before are read again after 15 minutes."""
    await account.add()
    await pass_time(account, SOON)
    simulator.faults.add(faults.FailCode(code), LIST, times=1)
    await pass_time(account, QUARTER)
    simulator.alarms.start(inverter)
    await pass_time(account, QUARTER)
    assert len(announced.of("raised")) == 1


@pytest.mark.parametrize(
    "fault",
    [
        faults.HttpStatus(401),
        faults.FailCode(305),
        faults.FailCode(20003),
        faults.FailCode(20400, message="user.login.user_or_value_invalid"),
        faults.FailCode(403),
        faults.FailCode(429),
        faults.HttpStatus(403),
        faults.Gateway403(),
    ],
)
async def test_fault_of_alarms_alone(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    inverter: Device,
    announced: Announced,
    fault: faults.Fault,
) -> None:
    """A fault of the interface does not affect live values, and asks for no password."""
    await account.add()
    await pass_time(account, SOON)
    logins = len(simulator.calls_to("login"))
    since = dt_util.utcnow()
    handle = simulator.faults.add(fault, LIST)
    await pass_time(account, 3 * HOUR)
    live = [each.at for each in simulator.calls_to("getStationRealKpi")]
    waits = [after - at for at, after in pairwise(live) if after > since]
    assert max(waits) < timedelta(seconds=304)
    assert len(simulator.calls_to("login")) <= logins + 1
    assert ir.async_get(hass).issues == {}
    assert hass.config_entries.flow.async_progress() == []
    assert len(simulator.calls_to(LIST)) <= 14
    handle.remove()
    simulator.alarms.start(inverter)
    await pass_time(account, HOUR + QUARTER)
    assert len(announced.of("raised")) == 1


@pytest.mark.parametrize("home", [homes.apartment()])
async def test_error_shortly_before_a_call_is_allowed(
    account: Account, simulator: Simulator, freezer: FrozenDateTimeFactory
) -> None:
    """Home Assistant, which cuts off fractions of a second, does not read at once."""
    await account.add()
    simulator.faults.add(faults.HttpStatus(503), LIST)
    await pass_time(account, SOON)
    [first] = simulator.calls_to(LIST)
    coordinator = account.entry.runtime_data.alarms
    freezer.move_to(first.at + HOUR / 2)
    while len(simulator.calls_to(LIST)) == 1:
        await coordinator.async_refresh()
        error = coordinator.last_exception
        assert isinstance(error, UpdateFailed)
        assert error.retry_after is not None
        assert error.retry_after >= 1
        freezer.tick(timedelta(milliseconds=300))


@pytest.mark.parametrize("home", [homes.fleet(plants=120, devices=480)])
async def test_refused_session_with_batches(
    account: Account, simulator: Simulator
) -> None:
    """Several batches whose session is refused cause one login."""
    simulator.faults.add(faults.FailCode(305), LIST)
    await account.add_plants(simulator.home.plants)
    await pass_time(account, HOUR)
    assert len(simulator.calls_to("login")) == 2


async def test_lost_session(
    account: Account,
    simulator: Simulator,
    inverter: Device,
    announced: Announced,
) -> None:
    """After a refusal, a session that is really lost is opened again."""
    await account.add()
    await pass_time(account, SOON)
    simulator.faults.add(faults.FailCode(305), LIST, times=2)
    await pass_time(account, 2 * QUARTER)
    simulator.expire_token()
    simulator.alarms.start(inverter)
    await pass_time(account, QUARTER)
    assert len(announced.of("raised")) == 1


class AheadClock(RealClock):
    """A clock that is ahead by 50 minutes."""

    @override
    def now(self) -> datetime:
        """Return the time."""
        return super().now() + timedelta(minutes=50)


class TestClockAhead:
    """A server whose clock is ahead."""

    @pytest.fixture
    def clock(self) -> RealClock:
        """Return the server's clock."""
        return AheadClock()

    async def test_restarts(
        self,
        account: Account,
        simulator: Simulator,
        inverter: Device,
        announced: Announced,
    ) -> None:
        """Restarts do not clear an alarm."""
        await account.add()
        await pass_time(account, SOON)
        simulator.alarms.start(inverter)
        await pass_time(account, QUARTER)
        for _ in range(2):
            await account.restart()
            await pass_time(account, QUARTER)
        await pass_time(account, HOUR)
        assert len(announced.of()) == 1


@pytest.fixture
def disable_event(
    hass: HomeAssistant, account: Account, plant: Plant
) -> Callable[[bool], Awaitable[None]]:
    """Return a function that disables the event of the alarms, or enables it."""

    async def disable(is_disabled: bool) -> None:
        event = account.registered(plant.code, ALARM)
        assert event is not None
        er.async_get(hass).async_update_entity(
            event.entity_id,
            disabled_by=er.RegistryEntryDisabler.USER if is_disabled else None,
        )
        await pass_time(account, timedelta(minutes=1))

    return disable


async def test_clearance_while_disabled(
    account: Account,
    simulator: Simulator,
    inverter: Device,
    announced: Announced,
    disable_event: Callable[[bool], Awaitable[None]],
) -> None:
    """A clearance is announced after a reload; the event was disabled before."""
    await account.add()
    await pass_time(account, SOON)
    alarm = simulator.alarms.start(inverter)
    await pass_time(account, QUARTER)
    await disable_event(True)
    simulator.alarms.clear(alarm)
    await pass_time(account, timedelta(minutes=32))
    await disable_event(False)
    await pass_time(account, timedelta(minutes=31))
    assert [kind for kind, _ in announced.names] == ["raised", "cleared"]


async def test_advice_after_a_reload(
    account: Account,
    simulator: Simulator,
    inverter: Device,
    announced: Announced,
    disable_event: Callable[[bool], Awaitable[None]],
) -> None:
    """An alarm that was not announced before a reload is announced with its texts."""
    await account.add()
    await pass_time(account, SOON)
    await disable_event(True)
    simulator.alarms.start(inverter)
    await pass_time(account, timedelta(minutes=16))
    await disable_event(False)
    await pass_time(account, timedelta(minutes=31))
    [attributes] = announced.of("raised")
    assert attributes["advice"] == alarms.FAULT.texts["en_US"].advice


async def test_row_without_id_and_name(
    account: Account,
    simulator: Simulator,
    plant: Plant,
    inverter: Device,
    announced: Announced,
) -> None:
    """An alarm without id and name does not hide the others."""
    simulator.alarms.start(inverter)
    simulator.alarms.start(inverter, alarms.GRID_LOSS, alarmId=None, alarmName="--")
    await account.add()
    await pass_time(account, QUARTER)
    assert account.value(plant.code, ACTIVE) == "2"
    assert {name for _, name in announced.names} == {"Alarm", "Device abnormal"}


async def test_language_that_becomes_known(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    inverter: Device,
    announced: Announced,
) -> None:
    """The texts follow the language after one that the server does not support."""
    hass.config.language = "cs"
    simulator.alarms.languages = alarms.TEN_LANGUAGES
    await account.add()
    await pass_time(account, SOON)
    hass.config.language = "de"
    simulator.alarms.start(inverter)
    await pass_time(account, HOUR)
    assert announced.names == [("raised", "Gerät gestört")]


async def test_action_without_recent_alarms(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    plant: Plant,
    inverter: Device,
) -> None:
    """The action has no alarms of which nothing is known any more."""
    simulator.alarms.start(inverter)
    await account.add()
    await pass_time(account, SOON)
    assert len(await get_alarms(hass)) == 1
    simulator.faults.add(faults.FailCode(401), LIST)
    await pass_time(account, 3 * HOUR)
    assert account.value(plant.code, ACTIVE) == STATE_UNAVAILABLE
    with pytest.raises(HomeAssistantError, match="alarms"):
        await get_alarms(hass)


async def test_error_before_a_refused_plant(
    account: Account, simulator: Simulator
) -> None:
    """The error of a plant does not outlast its refusal."""
    await account.add()
    await pass_time(account, SOON)
    simulator.faults.add(faults.FailCode(20004), LIST, times=1)
    await pass_time(account, QUARTER)
    simulator.faults.add(faults.FailCode(20007), LIST, times=1)
    await pass_time(account, QUARTER)
    coordinator = account.entry.runtime_data.alarms
    assert coordinator.errors == {}
    assert coordinator.last_update_success


def test_html_in_a_name() -> None:
    """The name of an alarm has no HTML."""
    alarm = parse_alarm({"alarmId": 1, "alarmName": "<b>Grid</b> loss &amp; more"})
    assert alarm is not None
    assert alarm.name == "Grid loss & more"
