"""FusionSolar SmartPVMS for Home Assistant."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import aiohttp

from homeassistant.const import CONF_HOST, CONF_PASSWORD, CONF_USERNAME, Platform
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.aiohttp_client import async_create_clientsession
from homeassistant.util.hass_dict import HassKey

from .const import DOMAIN
from .coordinator import (
    InventoryCoordinator,
    Reading,
    RealTimeCoordinator,
    SmartPvmsConfigEntry,
    SmartPvmsData,
    SourceId,
)
from .northbound import NorthboundClient, Plant, Session, base_url

PLATFORMS: Final = [Platform.BINARY_SENSOR, Platform.SENSOR]


@dataclass(frozen=True, slots=True)
class KnownAccount:
    """What is known of an account while its entry is not loaded."""

    token: str | None = None
    plants: list[Plant] | None = None
    readings: Mapping[SourceId, Reading] | None = None


KNOWN_ACCOUNTS: HassKey[dict[str | None, KnownAccount]] = HassKey(DOMAIN)
"""By unique id. The server allows an account one session, few logins and one reading
in five minutes, so the config flow, the set-up and reloads go on from one another."""


async def async_setup_entry(hass: HomeAssistant, entry: SmartPvmsConfigEntry) -> bool:
    """Set up an account."""
    accounts = hass.data.setdefault(KNOWN_ACCOUNTS, {})
    known = accounts.pop(entry.unique_id, KnownAccount())
    session = Session(
        async_create_clientsession(hass, cookie_jar=aiohttp.DummyCookieJar()),
        base_url(entry.data[CONF_HOST]),
        entry.data[CONF_USERNAME],
        entry.data[CONF_PASSWORD],
        known.token,
    )
    client = NorthboundClient(session)
    inventory = InventoryCoordinator(hass, entry, client, known.plants)
    real_time = RealTimeCoordinator(hass, entry, client, inventory, known.readings)

    @callback
    def keep_account() -> None:
        # A flow that makes the entry reload has already handed a newer token over.
        known = accounts.get(entry.unique_id, KnownAccount(session.token))
        accounts[entry.unique_id] = replace(known, readings=real_time.data)

    entry.async_on_unload(keep_account)
    await inventory.async_config_entry_first_refresh()
    await real_time.async_config_entry_first_refresh()
    # Without a listener, a coordinator refreshes once and never again.
    entry.async_on_unload(inventory.async_add_listener(lambda: None))
    entry.runtime_data = SmartPvmsData(inventory, real_time)
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    return True


async def async_unload_entry(hass: HomeAssistant, entry: SmartPvmsConfigEntry) -> bool:
    """Unload an account; its session stays open for the next set-up."""
    return await hass.config_entries.async_unload_platforms(entry, PLATFORMS)
