"""FusionSolar SmartPVMS for Home Assistant."""

from dataclasses import dataclass
from typing import Final

import aiohttp

from homeassistant.const import CONF_HOST, CONF_PASSWORD, CONF_USERNAME, Platform
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.aiohttp_client import async_create_clientsession
from homeassistant.util.hass_dict import HassKey

from .const import DOMAIN
from .coordinator import (
    InventoryCoordinator,
    RealTimeCoordinator,
    SmartPvmsConfigEntry,
    SmartPvmsData,
)
from .northbound import NorthboundClient, Plant, Session, base_url

PLATFORMS: Final = [Platform.BINARY_SENSOR, Platform.SENSOR]


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """What is known of an account whose entry is not loaded."""

    token: str | None = None
    plants: list[Plant] | None = None


LOGGED_IN: HassKey[dict[str | None, LoggedIn]] = HassKey(DOMAIN)
"""By unique id. The server allows one session an account and few logins, so the
config flow, the set-up and its retries use one after the other the same."""


async def async_setup_entry(hass: HomeAssistant, entry: SmartPvmsConfigEntry) -> bool:
    """Set up an account."""
    logged_in = hass.data.setdefault(LOGGED_IN, {})
    known = logged_in.pop(entry.unique_id, LoggedIn())
    session = Session(
        async_create_clientsession(hass, cookie_jar=aiohttp.DummyCookieJar()),
        base_url(entry.data[CONF_HOST]),
        entry.data[CONF_USERNAME],
        entry.data[CONF_PASSWORD],
        known.token,
    )

    @callback
    def keep_token() -> None:
        logged_in[entry.unique_id] = LoggedIn(session.token)

    entry.async_on_unload(keep_token)

    client = NorthboundClient(session)
    inventory = InventoryCoordinator(hass, entry, client, known.plants)
    await inventory.async_config_entry_first_refresh()
    real_time = RealTimeCoordinator(hass, entry, client, inventory)
    await real_time.async_config_entry_first_refresh()
    entry.runtime_data = SmartPvmsData(inventory, real_time)
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    return True


async def async_unload_entry(hass: HomeAssistant, entry: SmartPvmsConfigEntry) -> bool:
    """Unload an account; its session stays open for the next set-up."""
    return await hass.config_entries.async_unload_platforms(entry, PLATFORMS)
