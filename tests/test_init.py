"""Tests of the life of an entry: setup, retries, unloading."""

from datetime import timedelta
from typing import Any

from freezegun.api import FrozenDateTimeFactory
import pytest

from custom_components.smartpvms.const import DOMAIN
from homeassistant.config_entries import SOURCE_REAUTH, ConfigEntryState
from homeassistant.const import STATE_ON, STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant
from homeassistant.helpers.update_coordinator import UpdateFailed
from tests.simulator import Simulator, faults, homes

from .conftest import NOON, Account

INVERTER = 1000000035436842


def _state(account: Account) -> ConfigEntryState:
    return account.entry.state


@pytest.mark.fast
async def test_adding_logs_in_once(account: Account, simulator: Simulator) -> None:
    """The config flow passes its session and plant list to the setup."""
    await account.add()
    assert _state(account) is ConfigEntryState.LOADED
    assert [call.interface for call in simulator.calls] == [
        "login",
        "stations",
        "getDevList",
        "getDevRealKpi",
        "getDevRealKpi",
        "getDevRealKpi",
        "getStationRealKpi",
    ]


@pytest.mark.fast
async def test_one_pass_every_five_minutes(
    added: Account, simulator: Simulator
) -> None:
    """T#89, T#248: every group is read every 5 minutes, and no call is refused."""
    simulator.calls.clear()
    for _ in range(12):
        await added.poll()
    assert len(simulator.calls_to("getStationRealKpi")) == 12
    assert len(simulator.calls_to("getDevRealKpi")) == 36
    assert simulator.refusals == []


@pytest.mark.fast
async def test_unload_and_set_up_again(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """A reload uses the existing session."""
    assert await hass.config_entries.async_unload(added.entry.entry_id)
    assert _state(added) is ConfigEntryState.NOT_LOADED
    assert added.value(INVERTER, "active_power") == STATE_UNAVAILABLE
    assert added.value(INVERTER, "run_state") == STATE_UNAVAILABLE
    await added.poll()
    assert await hass.config_entries.async_setup(added.entry.entry_id)
    await hass.async_block_till_done()
    assert added.value(INVERTER, "active_power") == "8000.0"
    assert added.value(INVERTER, "run_state") == STATE_ON
    assert len(simulator.calls_to("login")) == 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (faults.FailCode(20200), "server_busy"),
        (faults.FailCode(407), "rate_limited"),
        (faults.FailCode(305), "session_taken"),
        (faults.FailCode(401), "no_permission_device_list"),
        (faults.FailCode(20009), "request_rejected"),
        (faults.HtmlPage(), "not_northbound"),
        (faults.DropConnection(), "cannot_connect"),
    ],
)
async def test_first_set_up_is_retried(
    account: Account, simulator: Simulator, fault: faults.Fault, reason: str
) -> None:
    """T#150, T#176, T#289: a failed start is retried."""
    simulator.faults.add(fault, "getDevList")
    await account.add()
    assert _state(account) is ConfigEntryState.SETUP_RETRY
    assert account.entry.error_reason_translation_key == reason
    simulator.faults.clear()
    await account.poll(timedelta(minutes=11))
    assert _state(account) is ConfigEntryState.LOADED
    assert account.value(INVERTER, "active_power") == "8000.0"
    assert simulator.refusals == []


@pytest.mark.parametrize(
    "fault",
    [
        faults.FailCode(20200),
        faults.FailCode(407),
        faults.FailCode(305),
        faults.FailCode(20009),
        faults.Gateway403(),
        faults.HtmlPage(),
        faults.HalfJson(),
        faults.HttpStatus(503),
        faults.DropConnection(),
    ],
)
async def test_start_without_the_server(
    hass: HomeAssistant, added: Account, simulator: Simulator, fault: faults.Fault
) -> None:
    """T#139, T#140: devices and entities exist from the start, and recover."""
    entry_id = added.entry.entry_id
    await hass.config_entries.async_unload(entry_id)
    await added.poll(timedelta(hours=1))
    simulator.faults.add(fault)
    await hass.config_entries.async_setup(entry_id)
    await added.poll(timedelta(seconds=3))
    assert _state(added) is ConfigEntryState.LOADED
    assert added.value(INVERTER, "active_power") == STATE_UNAVAILABLE
    simulator.faults.clear()
    await added.poll(timedelta(minutes=11))
    assert _state(added) is ConfigEntryState.LOADED
    assert added.value(INVERTER, "active_power") == "8000.0"


async def test_half_working_server(account: Account, simulator: Simulator) -> None:
    """Setup succeeds with partial data; the rest follows."""
    simulator.faults.add(faults.FailCode(20004), "getDevRealKpi")
    await account.add()
    assert _state(account) is ConfigEntryState.LOADED
    assert account.registered(INVERTER, "active_power") is None
    simulator.faults.clear()
    await account.poll()
    assert account.value(INVERTER, "active_power") == "8000.0"


async def test_no_plants_any_more(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """T#12: an account without plants reports this, and recovers."""
    plants, simulator.home.plants = simulator.home.plants, []
    await added.poll(timedelta(days=1, seconds=1))
    inventory = added.entry.runtime_data.inventory
    assert isinstance(inventory.last_exception, UpdateFailed)
    assert inventory.last_exception.translation_key == "no_plants"
    simulator.home.plants = plants
    await added.poll(timedelta(minutes=16))
    assert inventory.last_update_success
    await added.poll()
    assert added.value(INVERTER, "active_power") == "8000.0"


async def test_wrong_password_asks_for_the_new_one(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """A changed password starts one reauthentication, immediately."""
    simulator.change_password("Changed-2")
    simulator.expire_token()
    await added.poll()
    [flow] = hass.config_entries.flow.async_progress_by_handler(DOMAIN)
    assert flow["context"]["source"] == SOURCE_REAUTH
    wrong = [call for call in simulator.calls_to("login") if call.fail_code == 20400]
    assert len(wrong) == 1


async def test_locked_account_starts_no_reauthentication(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """After a lock, values return automatically."""
    simulator.lock(minutes=30)
    for _ in range(5):
        await added.poll()
    assert hass.config_entries.flow.async_progress_by_handler(DOMAIN) == []
    assert added.value(INVERTER, "active_power") == STATE_UNAVAILABLE
    for _ in range(3):
        await added.poll()
    assert added.value(INVERTER, "active_power") == "8000.0"


async def test_large_old_account(
    hass: HomeAssistant,
    socket_enabled: None,
    hass_storage: dict[str, Any],
    enable_custom_integrations: None,
    freezer: FrozenDateTimeFactory,
) -> None:
    """T#68: a list of two pages takes two minutes with one call a minute."""
    freezer.move_to(NOON)
    simulator = Simulator(homes.fleet(plants=101, devices=101), quotas="old")
    async with simulator.serve():
        account = Account(hass, simulator, freezer, hass_storage)
        adding = hass.async_create_task(account.add())
        await account.pass_time(timedelta(minutes=3))
        assert adding.result()["step_id"] == "plants"
    assert len(simulator.calls_to("stations")) == 3
    assert len(simulator.refusals) == 1


async def test_large_account(
    hass: HomeAssistant, account: Account, simulator: Simulator
) -> None:
    """T#106, 20015, 20017: calls name at most 100 plants or devices."""
    simulator.home.plants = homes.fleet(plants=110, devices=440).plants
    await account.add_plants(simulator.home.plants)
    assert account.entry.title == "Plant 0001 + 109"
    assert all(call.fail_code == 0 for call in simulator.calls)
    assert account.value(simulator.home.plants[-1].code, "day_power") is not None
    assert simulator.refusals == []
