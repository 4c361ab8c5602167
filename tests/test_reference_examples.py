"""Tests with the example responses of the reference document."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from homeassistant.const import STATE_OFF, STATE_UNAVAILABLE, STATE_UNKNOWN
from homeassistant.core import HomeAssistant
from tests.simulator import DeviceType, Simulator, faults, homes
from tests.simulator.plants import Home

from .conftest import Account

EXAMPLES: Final = json.loads(
    (Path(__file__).parent / "fixtures" / "reference_examples.json").read_text()
)
PLANTS: Final = [
    row["stationCode"] for row in EXAMPLES["getStationRealKpi"]["answer"]["data"]
]
INVERTERS: Final = [row["devId"] for row in EXAMPLES["getDevRealKpi"]["answer"]["data"]]


@pytest.fixture
def home() -> Home:
    """Return the two plants of the examples, each with a string inverter."""
    home = homes.fleet(plants=2, devices=2)
    for plant, code, device_id in zip(home.plants, PLANTS, INVERTERS, strict=True):
        plant.code = code
        plant.devices[0].id = device_id
        plant.devices[0].type_id = DeviceType.STRING_INVERTER
    return home


def _answer(simulator: Simulator, interface: str, kind: str) -> None:
    body = json.dumps(EXAMPLES[interface][kind]).encode()
    simulator.faults.add(faults.Body(body), interface)


async def _add(hass: HomeAssistant, account: Account) -> None:
    result = await account.add()
    await hass.config_entries.flow.async_configure(
        result["flow_id"], {"plants": PLANTS}
    )
    await hass.async_block_till_done()


def _shown(account: Account, source_id: str | int, keys: tuple[str, ...]) -> list[Any]:
    return [account.value(source_id, key) for key in keys]


async def test_two_plants_with_strings_for_numbers(
    hass: HomeAssistant, account: Account, simulator: Simulator
) -> None:
    """The plants of the example report strings as numbers."""
    _answer(simulator, "getStationRealKpi", "answer")
    await _add(hass, account)
    keys = (
        *("real_health_state", "day_power", "month_power", "total_power"),
        *("day_income", "total_income"),
    )
    assert _shown(account, PLANTS[0], keys) == [
        *("healthy", "10000.0", "900.0", "900.0", "0.0", "2088.0")
    ]
    assert _shown(account, PLANTS[1], keys) == [
        *("disconnected", "16770.0", "35100.0", "35100.0", "26832.0", "61152.0")
    ]


async def test_two_inverters_all_zero_and_disconnected(
    hass: HomeAssistant, account: Account, simulator: Simulator
) -> None:
    """The inverters of the example are disconnected, so their zeros are ignored."""
    await _add(hass, account)
    total = account.value(INVERTERS[0], "total_cap")
    assert total not in (None, STATE_UNKNOWN, "0.0")
    _answer(simulator, "getDevRealKpi", "answer")
    await account.poll()
    keys = ("run_state", "active_power", "total_cap", "inverter_state", "temperature")
    assert _shown(account, INVERTERS[0], keys) == [
        *(STATE_OFF, "0.0", total, STATE_UNKNOWN, STATE_UNKNOWN)
    ]


async def test_two_inverters_first_seen_disconnected(
    hass: HomeAssistant, account: Account, simulator: Simulator
) -> None:
    """Disconnected inverters without earlier values have only a state and a power."""
    _answer(simulator, "getDevRealKpi", "answer")
    await _add(hass, account)
    for inverter in INVERTERS:
        assert account.value(inverter, "run_state") == STATE_OFF
        assert account.value(inverter, "active_power") == "0.0"
        assert account.registered(inverter, "total_cap") is None
        assert account.registered(inverter, "pv1_u") is None


@pytest.mark.parametrize(
    ("interface", "source_id", "key", "code"),
    [
        ("getStationRealKpi", PLANTS[0], "total_power", 20009),
        ("getDevRealKpi", INVERTERS[0], "total_cap", 20006),
    ],
)
async def test_errors(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    caplog: pytest.LogCaptureFixture,
    interface: str,
    source_id: str | int,
    key: str,
    code: int,
) -> None:
    """The errors of the examples keep the last values for 15 minutes."""
    await _add(hass, account)
    before = account.value(source_id, key)
    _answer(simulator, interface, "error")
    await account.poll()
    assert account.value(source_id, key) == before
    await account.poll()
    await account.poll()
    assert account.value(source_id, key) == STATE_UNAVAILABLE
    # The devices of a refused group are read one by one before it counts as failed.
    assert f"(failCode {code})" in caplog.text
    simulator.faults.clear()
    await account.poll()
    assert account.value(source_id, key) not in (None, STATE_UNAVAILABLE)
