"""Tests of the account and the user of actions."""

from typing import Any

import pytest

from custom_components.smartpvms.const import DOMAIN
from homeassistant.auth.models import User
from homeassistant.components.recorder import Recorder
from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import ServiceValidationError, Unauthorized
from homeassistant.setup import async_setup_component
from tests.simulator import Simulator, homes

from .conftest import Account

START = {"start": "2026-06-20 00:00:00"}


async def _call(
    hass: HomeAssistant, action: str, user: User | None = None, **data: Any
) -> Any:
    """Call an action without an account."""
    context = Context(user_id=user.id) if user else None
    return await hass.services.async_call(
        DOMAIN, action, data, blocking=True, return_response=True, context=context
    )


async def test_only_account(hass: HomeAssistant, added: Account) -> None:
    """The only account need not be named."""
    assert await _call(hass, "refresh_inventory") == {"plants": 1, "devices": 4}


async def test_several_accounts(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """One of several accounts must be named; disabled ones do not count."""
    simulator.account.user_name = "second_api"
    simulator.home.plants = homes.emma().plants
    await added.add()
    first, second = hass.config_entries.async_entries(DOMAIN)
    with pytest.raises(ServiceValidationError) as error:
        await _call(hass, "refresh_inventory")
    assert error.value.translation_key == "no_account"
    response = await _call(hass, "refresh_inventory", config_entry_id=second.entry_id)
    assert response["plants"] == 1
    entries = hass.config_entries
    await entries.async_set_disabled_by(first.entry_id, ConfigEntryDisabler.USER)
    assert (await _call(hass, "refresh_inventory"))["plants"] == 1


async def test_no_account(hass: HomeAssistant, added: Account) -> None:
    """Without an account, there is nothing to choose."""
    await hass.config_entries.async_remove(added.entry.entry_id)
    with pytest.raises(ServiceValidationError) as error:
        await _call(hass, "refresh_inventory")
    assert error.value.translation_key == "no_account"


@pytest.mark.parametrize(
    ("action", "data"),
    [("import_history", START), ("suggest_energy_dashboard", {"apply": True})],
)
async def test_administrators_only(
    hass: HomeAssistant,
    added: Account,
    hass_read_only_user: User,
    action: str,
    data: dict[str, Any],
) -> None:
    """Other users change neither statistics nor the Energy dashboard."""
    with pytest.raises(Unauthorized):
        await _call(hass, action, hass_read_only_user, **data)
    await hass.auth.async_remove_user(hass_read_only_user)
    with pytest.raises(Unauthorized):
        await _call(hass, action, hass_read_only_user, **data)


async def test_other_users(
    recorder_mock: Recorder,
    hass: HomeAssistant,
    added: Account,
    hass_read_only_user: User,
    hass_admin_user: User,
) -> None:
    """All users may look, and administrators and automations may change."""
    assert await async_setup_component(hass, "energy", {})
    suggest = "suggest_energy_dashboard"
    response = await _call(hass, suggest, hass_read_only_user)
    assert response["energy_sources"]
    assert await _call(hass, "refresh_inventory", hass_read_only_user)
    response = await _call(hass, suggest, hass_admin_user, apply=True)
    assert response["added"]
    assert (await _call(hass, suggest, apply=True))["added"] == []
