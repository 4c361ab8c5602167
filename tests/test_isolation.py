"""Tests of unexpected errors, which affect one plant, device or counter only."""

from collections.abc import Callable
from datetime import timedelta
import logging
from typing import Any, Final

import pytest

from custom_components.smartpvms.counter_filter import CounterFilter
from custom_components.smartpvms.diagnostics import async_get_config_entry_diagnostics
from custom_components.smartpvms.plant import GridPointDetector
from homeassistant.const import STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant
from tests.simulator import Simulator, homes
from tests.simulator.plants import Home

from .conftest import Account

SECRET: Final = "a value of the server"


@pytest.fixture
def home() -> Home:
    """Return two plants."""
    return homes.fleet(plants=2, devices=6)


def _fail_for(function: Callable[..., Any], is_wrong: Callable[..., bool]) -> Any:
    """Return a function that raises an error for some of its arguments."""

    def wrapped(*args: Any, **options: Any) -> Any:
        if is_wrong(*args):
            raise OverflowError(SECRET)
        return function(*args, **options)

    return wrapped


def _errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.ERROR
    ]


async def _assert_recorded_once(
    hass: HomeAssistant, added: Account, caplog: pytest.LogCaptureFixture
) -> None:
    """The error is logged once, with its place and without its text."""
    [line] = _errors(caplog)
    assert line.startswith("Unexpected error in a value: OverflowError in ")
    assert "test_isolation.py" in line
    assert SECRET not in caplog.text
    report = await async_get_config_entry_diagnostics(hass, added.entry)
    [error] = report["unexpected_errors"]
    assert error["error"].startswith("OverflowError in test_isolation.py, line ")


async def test_device(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An error in the row of a device leaves all other devices."""
    await account.add_plants(simulator.home.plants)
    wrong, right = (
        next(each.id for each in plant.devices if each.type_id in (1, 38))
        for plant in simulator.home.plants
    )
    reader = account.entry.runtime_data.real_time.rows
    monkeypatch.setattr(
        reader, "read", _fail_for(reader.read, lambda source_id, *_: source_id == wrong)
    )
    await account.pass_time(timedelta(minutes=30))
    assert account.value(wrong, "active_power") == STATE_UNAVAILABLE
    assert account.value(right, "active_power") != STATE_UNAVAILABLE
    await _assert_recorded_once(hass, account, caplog)


async def test_plant(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An error in the powers of a plant leaves its row, and the other plants."""
    await account.add_plants(simulator.home.plants)
    wrong, right = simulator.home.plants
    first = wrong.devices[0].id
    monkeypatch.setattr(
        GridPointDetector,
        "update",
        _fail_for(GridPointDetector.update, lambda _, devices: first in devices),
    )
    await account.pass_time(timedelta(minutes=30))
    assert account.value(wrong.code, "pv_power") == STATE_UNAVAILABLE
    assert account.value(wrong.code, "day_power") != STATE_UNAVAILABLE
    assert account.value(right.code, "pv_power") != STATE_UNAVAILABLE
    await _assert_recorded_once(hass, account, caplog)


async def test_counter(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An error in a counter leaves the other items of its device."""
    await account.add_plants(simulator.home.plants)
    device = next(
        each.id for each in simulator.home.plants[0].devices if each.type_id == 38
    )
    filters = account.entry.runtime_data.real_time.rows.counters.of(device)
    wrong = filters["total_cap"]
    monkeypatch.setattr(
        CounterFilter,
        "update",
        _fail_for(CounterFilter.update, lambda counter, *_: counter is wrong),
    )
    before = account.value(device, "total_cap"), account.value(device, "day_cap")
    await account.pass_time(timedelta(minutes=30))
    assert account.value(device, "total_cap") == before[0]
    assert account.value(device, "day_cap") != before[1]
    assert account.value(device, "active_power") != STATE_UNAVAILABLE
    await _assert_recorded_once(hass, account, caplog)
