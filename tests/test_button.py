"""Tests of the button that lists plants and devices."""

import asyncio
from datetime import timedelta

import pytest

from custom_components.smartpvms.const import DOMAIN
from homeassistant.components.button import DOMAIN as BUTTON_DOMAIN, SERVICE_PRESS
from homeassistant.const import (
    ATTR_ENTITY_ID,
    STATE_UNAVAILABLE,
    STATE_UNKNOWN,
    EntityCategory,
)
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import device_registry as dr, entity_registry as er
from tests.simulator import Simulator, faults, homes
from tests.simulator.plants import Device

from .component import ENGLISH, read_json
from .conftest import Account

BUTTON = "button.fusionsolar_account_refresh_plants_and_devices"
EMI = Device(1000000035436899, 10, "EMI-1")


async def _press(hass: HomeAssistant) -> None:
    await hass.services.async_call(
        BUTTON_DOMAIN, SERVICE_PRESS, {ATTR_ENTITY_ID: BUTTON}, blocking=True
    )


@pytest.mark.fast
async def test_registered(hass: HomeAssistant, added: Account) -> None:
    """The account has the button, with a name and an icon."""
    registered = er.async_get(hass).async_get(BUTTON)
    assert registered
    assert registered.unique_id == f"{added.entry.entry_id}_refresh_inventory"
    assert registered.entity_category is EntityCategory.CONFIG
    device = dr.async_get(hass).async_get(registered.device_id or "")
    assert device
    assert (DOMAIN, added.entry.entry_id) in device.identifiers
    assert [*ENGLISH["entity"]["button"]] == [registered.translation_key]
    assert [*read_json("icons.json")["entity"]["button"]] == [
        registered.translation_key
    ]


@pytest.mark.fast
async def test_new_plant_and_device(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """A plant and a device that are new have entities soon after the press."""
    await added.pass_time(timedelta(minutes=6))
    [new] = homes.apartment().plants
    simulator.home.plants[0].devices.append(EMI)
    simulator.home.plants.append(new)
    await _press(hass)
    await added.pass_time(timedelta(minutes=6))
    shown = [
        added.value(EMI.id, "temperature"),
        added.value(new.code, "day_power"),
        added.value(new.devices[0].id, "active_power"),
    ]
    assert not {None, STATE_UNAVAILABLE, STATE_UNKNOWN} & {*shown}
    assert simulator.refusals == []


async def test_press_that_fails(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """The error is translated, and the button can be pressed again."""
    simulator.withdraw_permission("getDevList")
    with pytest.raises(HomeAssistantError) as caught:
        await _press(hass)
    assert caught.value.translation_domain == DOMAIN
    assert caught.value.translation_key == "no_permission_device_list"
    state = hass.states.get(BUTTON)
    assert state
    assert state.state != STATE_UNAVAILABLE


async def test_many_presses(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """Presses at the same time share one list."""
    await added.pass_time(timedelta(minutes=6))
    simulator.calls.clear()
    simulator.faults.add(faults.Latency(1), "getDevList", times=1)
    presses = asyncio.gather(*(_press(hass) for _ in range(50)))
    await added.pass_time(timedelta(seconds=5))
    await presses
    assert len(simulator.calls_to("getDevList")) == 1


async def test_presses_until_the_quota_is_used_up(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """Flow control lets some presses through; the server refuses none."""
    keys: set[str | None] = set()
    for _ in range(50):
        try:
            await _press(hass)
        except HomeAssistantError as err:
            keys.add(err.translation_key)
    assert keys == {"rate_limited"}
    assert simulator.refusals == []
