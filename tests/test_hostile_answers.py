"""Tests of hostile answers in Home Assistant: other values are not affected."""

from datetime import datetime, timedelta
import logging
from typing import Any, Final

from freezegun.api import FrozenDateTimeFactory
import pytest

from custom_components.smartpvms.account import ACCOUNTS
from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.runtime import StoredAccount
from custom_components.smartpvms.storage import decode_parts, encode
from homeassistant.components.sensor import SensorDeviceClass
from homeassistant.config_entries import ConfigEntryState
from homeassistant.const import (
    STATE_OFF,
    STATE_ON,
    STATE_UNAVAILABLE,
    STATE_UNKNOWN,
    Platform,
)
from homeassistant.core import HomeAssistant, State
from homeassistant.helpers.json import json_bytes
from homeassistant.util.json import json_loads
from tests.simulator import Simulator

from . import history, statistics
from .conftest import POLL, Account
from .history import Past
from .hostile import INTERFACES, examples

past = history.past
recorder_config = statistics.recorder_config

INVERTER: Final = 1000000035436842
# All pauses and quotas of flow control have ended, and the inventory is read again.
DAY: Final = timedelta(days=1, hours=1)


@pytest.fixture
def start() -> str:
    """Return when the account with history is added."""
    return "2026-06-21 12:20:30+02:00"


@pytest.fixture
def days() -> int:
    """Return the number of days to import when the account is added."""
    return 0


def _check_log(caplog: pytest.LogCaptureFixture) -> None:
    """Check that nothing unexpected is logged."""
    assert [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING
        and (
            record.exc_info
            or "Traceback" in record.getMessage()
            or record.levelno >= logging.ERROR
        )
        # An error that was expected.
        and not record.getMessage().startswith("Error fetching")
    ] == []
    caplog.clear()


def _check_states(hass: HomeAssistant) -> None:
    """Check that each state is a value of its entity."""
    for state in hass.states.async_all((Platform.SENSOR, Platform.BINARY_SENSOR)):
        assert _is_valid(state), state


def _is_valid(state: State) -> bool:
    if state.state in (STATE_UNAVAILABLE, STATE_UNKNOWN):
        return True
    if state.domain == Platform.BINARY_SENSOR:
        return state.state in (STATE_ON, STATE_OFF)
    match state.attributes.get("device_class"):
        case SensorDeviceClass.ENUM:
            return state.state in state.attributes["options"]
        case SensorDeviceClass.TIMESTAMP:
            return datetime.fromisoformat(state.state).tzinfo is not None
    return abs(float(state.state)) < float("inf")


def _check_store(account: Account) -> None:
    """Check that the state can be stored and restored."""
    state: dict[str, Any] = account.entry.runtime_data.stored()
    restored = decode_parts(StoredAccount, json_loads(json_bytes(state)))
    # Times are relative to the clock.
    assert encode(restored).keys() == state.keys()
    for key in ("plant_readings", "device_readings", "inventory"):
        assert encode(restored).get(key) == state.get(key)


async def _recover(hass: HomeAssistant, account: Account, simulator: Simulator) -> None:
    """Enter the password again if it is asked for, and read honest answers."""
    flows = hass.config_entries.flow
    for flow in flows.async_progress_by_handler(DOMAIN):
        await flows.async_configure(
            flow["flow_id"], {"password": account.credentials["password"]}
        )
    await hass.async_block_till_done()
    if account.entry.state is ConfigEntryState.SETUP_RETRY:
        await hass.config_entries.async_reload(account.entry.entry_id)
        await hass.async_block_till_done()
    await account.poll(DAY)
    await account.poll(DAY)
    await account.poll(POLL)
    assert account.entry.state is ConfigEntryState.LOADED
    power = float(account.value(INVERTER, "active_power") or "")
    true = simulator.device_items(INVERTER)["active_power"]
    assert power == pytest.approx(1000 * true)


def _use(simulator: Simulator, interface: str) -> None:
    """Give the account the permission for one of both plant lists."""
    if interface == "getStationList":
        simulator.withdraw_permission("stations")
        simulator.grant_permission(interface)


@pytest.mark.parametrize("interface", INTERFACES[:6])
async def test_running(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    caplog: pytest.LogCaptureFixture,
    interface: str,
) -> None:
    """While the account is loaded, any answer is a value or a known error."""
    _use(simulator, interface)
    for fault in examples(4):
        handle = simulator.faults.add(fault, interface)
        await added.poll(DAY)
        await added.poll(POLL)
        _check_log(caplog)
        _check_states(hass)
        if added.entry.state is ConfigEntryState.LOADED:
            _check_store(added)
        handle.remove()
    await _recover(hass, added, simulator)


@pytest.mark.parametrize("interface", INTERFACES[:6])
async def test_setup(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    hass_storage: dict[str, Any],
    freezer: FrozenDateTimeFactory,
    caplog: pytest.LogCaptureFixture,
    interface: str,
) -> None:
    """During setup without stored state, any answer is a value or a known error."""
    _use(simulator, interface)
    entry_id = added.entry.entry_id
    for fault in examples(1):
        await hass.config_entries.async_unload(entry_id)
        hass.data.pop(ACCOUNTS, None)
        hass_storage.pop(f"{DOMAIN}.{entry_id}", None)
        freezer.tick(DAY)
        handle = simulator.faults.add(fault, interface)
        await hass.config_entries.async_setup(entry_id)
        await hass.async_block_till_done()
        _check_log(caplog)
        _check_states(hass)
        if added.entry.state is ConfigEntryState.LOADED:
            _check_store(added)
        else:
            assert added.entry.reason is not None
        handle.remove()
    await _recover(hass, added, simulator)


async def test_removal(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Any answer to the logout lets the entry be removed."""
    for fault in examples(1)[::4]:
        await account.add()
        handle = simulator.faults.add(fault, "logout")
        await hass.config_entries.async_remove(account.entry.entry_id)
        _check_log(caplog)
        assert hass.config_entries.async_entries(DOMAIN) == []
        handle.remove()
        await account.poll(timedelta(minutes=11))


async def test_history(
    past: Past,
    simulator: Simulator,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """During the import of history, any answer is a value or a known error."""
    account = past.run.account
    # The import waits until everything is recorded.
    await past.poll(POLL)
    await past.poll(timedelta(minutes=70))
    for fault in examples(1)[1::4]:
        handle = simulator.faults.add(fault, "getDevHistoryKpi")
        await past.hass.services.async_call(
            DOMAIN,
            "import_history",
            {"config_entry_id": account.entry.entry_id, "start": "2026-06-20"},
            blocking=True,
            return_response=True,
        )
        for _ in range(3):
            await past.poll(POLL)
        _check_log(caplog)
        _check_states(past.hass)
        _check_store(account)
        handle.remove()
        await past.poll(DAY)
    assert len(simulator.calls_to("getDevHistoryKpi")) > 8
