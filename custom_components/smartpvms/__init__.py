"""FusionSolar SmartPVMS for Home Assistant."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import aiohttp

from homeassistant.const import CONF_HOST, CONF_PASSWORD, CONF_USERNAME, Platform
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.aiohttp_client import async_create_clientsession
from homeassistant.helpers.storage import Store
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

STORE_VERSION: Final = 1
SAVE_DELAY: Final = 30

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
    store = _store(hass, entry)
    stored = await store.async_load() or {}
    inventory = InventoryCoordinator(hass, entry, client, known.plants)
    real_time = RealTimeCoordinator(
        hass, entry, client, inventory, known.readings, stored.get("counters", {})
    )

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
    entry.runtime_data = SmartPvmsData(inventory, real_time, store)
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)

    @callback
    def save() -> None:
        store.async_delay_save(real_time.counters_to_store, SAVE_DELAY)

    entry.async_on_unload(real_time.async_add_listener(save))
    return True


async def async_unload_entry(hass: HomeAssistant, entry: SmartPvmsConfigEntry) -> bool:
    """Unload an account; its session stays open for the next set-up."""
    data = entry.runtime_data
    await data.store.async_save(data.real_time.counters_to_store())
    return await hass.config_entries.async_unload_platforms(entry, PLATFORMS)


async def async_remove_entry(hass: HomeAssistant, entry: SmartPvmsConfigEntry) -> None:
    """Forget an account."""
    hass.data.get(KNOWN_ACCOUNTS, {}).pop(entry.unique_id, None)
    await _store(hass, entry).async_remove()


def _store(hass: HomeAssistant, entry: SmartPvmsConfigEntry) -> Store[dict[str, Any]]:
    return Store(hass, STORE_VERSION, f"{DOMAIN}.{entry.entry_id}")
