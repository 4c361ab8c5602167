"""Tests of the system health: reachable servers and used quotas."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from freezegun.api import FrozenDateTimeFactory
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.smartpvms.const import DOMAIN
from homeassistant.core import HomeAssistant
from homeassistant.helpers.translation import async_get_translations
from homeassistant.setup import async_setup_component
from tests.simulator import RealClock, Simulator, faults, homes

from .conftest import Account


async def _shown(
    hass: HomeAssistant, hass_ws_client: WebSocketGenerator
) -> dict[str, Any]:
    """Return the final values in the frontend."""
    assert await async_setup_component(hass, "system_health", {})
    client = await hass_ws_client(hass)
    await client.send_json_auto_id({"type": "system_health/info"})
    assert (await client.receive_json())["success"]

    async def events() -> AsyncIterator[dict[str, Any]]:
        while (event := (await client.receive_json())["event"])["type"] != "finish":
            yield event

    initial, *updates = [event async for event in events()]
    shown: dict[str, Any] = initial["data"][DOMAIN]["info"]
    return shown | {
        update["key"]: update["data"]
        for update in updates
        if update["domain"] == DOMAIN
    }


async def test_account(
    hass: HomeAssistant, added: Account, hass_ws_client: WebSocketGenerator
) -> None:
    """Every quota has a value and a label."""
    shown = await _shown(hass, hass_ws_client)
    assert shown == {
        "accounts": 1,
        "can_reach_server": "ok",
        "service": "ok (2026-06-21 12:00)",
        "logins": "1/5",
        "plant_list_calls": "1/34",
        "device_list_calls": "1/25",
        "real_time_plant_calls": "1/1",
        "real_time_device_calls": "3/3",
        "refusals": 0,
    }
    texts = await async_get_translations(hass, "en", "system_health", {DOMAIN})
    for key in (*shown, "old_plant_list_calls", "device_history_calls"):
        assert texts[f"component.{DOMAIN}.system_health.info.{key}"]


async def test_refusals(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    hass_ws_client: WebSocketGenerator,
) -> None:
    """Refused calls are shown, also after a restart."""
    simulator.faults.add(faults.FailCode(407), "getDevRealKpi")
    await added.poll()
    simulator.faults.clear()
    await added.restart()
    refused = [call for call in simulator.calls if call.fail_code == 407]
    shown = await _shown(hass, hass_ws_client)
    assert shown["refusals"] == len(refused) == 1


async def test_service(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    hass_ws_client: WebSocketGenerator,
) -> None:
    """The state of the service is shown, and since when it lasts."""
    simulator.faults.add(faults.HtmlPage(503))
    await added.pass_time(timedelta(minutes=20))
    shown = await _shown(hass, hass_ws_client)
    assert shown["service"] == "busy (2026-06-21 12:01)"


async def test_several_accounts(
    hass: HomeAssistant,
    added: Account,
    hass_ws_client: WebSocketGenerator,
    hass_storage: dict[str, Any],
    freezer: FrozenDateTimeFactory,
) -> None:
    """Accounts are shown in order, without names."""
    other = Simulator(homes.apartment(), RealClock())
    async with other.serve():
        await Account(hass, other, freezer, hass_storage).add()
        shown = await _shown(hass, hass_ws_client)
    assert shown == {
        "accounts": 2,
        "can_reach_server": "ok",
        "service": "ok (2026-06-21 12:00), ok (2026-06-21 12:00)",
        "logins": "1/5, 1/5",
        "plant_list_calls": "1/34, 1/34",
        "device_list_calls": "1/25, 1/25",
        "real_time_plant_calls": "1/1, 1/1",
        "real_time_device_calls": "3/3, 1/1",
        "refusals": 0,
    }


async def test_server_that_cannot_be_reached(
    hass: HomeAssistant, added: Account, hass_ws_client: WebSocketGenerator
) -> None:
    """The server of an account that was never loaded is checked without its name."""
    gone = Simulator(homes.apartment(), RealClock())
    async with gone.serve() as url:
        pass
    MockConfigEntry(domain=DOMAIN, data={"host": url}).add_to_hass(hass)
    shown = await _shown(hass, hass_ws_client)
    assert shown["accounts"] == 2
    assert shown["can_reach_server"] == {"type": "failed", "error": "unreachable"}
    assert shown["logins"] == "1/5"
