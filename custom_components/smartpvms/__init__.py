"""FusionSolar SmartPVMS for Home Assistant."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from homeassistant.config_entries import ConfigEntryState
from homeassistant.const import (
    CONF_HOST,
    CONF_PASSWORD,
    CONF_USERNAME,
    EVENT_HOMEASSISTANT_STOP,
    Platform,
)
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import config_validation as cv, device_registry as dr
from homeassistant.helpers.aiohttp_client import async_create_clientsession
from homeassistant.helpers.storage import Store
from homeassistant.helpers.typing import ConfigType
from homeassistant.util.hass_dict import HassKey

from .const import CONF_PLANTS, DOMAIN
from .coordinator import (
    InventoryCoordinator,
    RealTimeCoordinator,
    SmartPvmsConfigEntry,
    SmartPvmsData,
    async_with_time_zones,
    source_name,
)
from .history import History, history_store
from .northbound import (
    Access,
    NorthboundClient,
    NorthboundError,
    Plant,
    Session,
    base_url,
    coming,
)
from .plant_flow import PlantFlows
from .repairs import async_delete_issues, async_update_issues
from .services import async_setup_services
from .snapshot import Hindrances, Inventory, readings_from

STORE_VERSION: Final = 1
# A pass may be followed by another at once.
SAVE_DELAY: Final = 5

CONFIG_SCHEMA = cv.config_entry_only_config_schema(DOMAIN)

PLATFORMS: Final = [Platform.BINARY_SENSOR, Platform.SENSOR]


@dataclass(slots=True)
class KnownAccount:
    """What is known of an account as long as Home Assistant runs."""

    access: Access = field(default_factory=Access)
    listed: list[Plant] | None = None
    """The plants that a flow has listed and the set-up has not used yet."""


KNOWN_ACCOUNTS: HassKey[dict[str | None, KnownAccount]] = HassKey(DOMAIN)
"""By unique id. The server allows an account one session and few logins, so flows,
set-ups and reloads share what they know."""


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Set up what is there without an account."""
    async_setup_services(hass)
    return True


async def async_setup_entry(hass: HomeAssistant, entry: SmartPvmsConfigEntry) -> bool:
    """Set up an account."""
    store = _store(hass, entry)
    stored = await store.async_load() or {}
    account = _account(hass, entry, stored)
    websession = async_create_clientsession(hass, cookie_jar=aiohttp.DummyCookieJar())
    client = NorthboundClient(_session(websession, entry, account.access))
    listed, account.listed = account.listed, None
    known = _restored(Inventory.from_dict, stored, "inventory")
    if known is not None:
        known = known.restricted_to(entry.options.get(CONF_PLANTS))
    if known is not None:
        known = await async_with_time_zones(hass, entry, known)
    hindrances = _restored(Hindrances.from_dict, stored, "hindrances") or Hindrances()
    inventory = InventoryCoordinator(hass, entry, client, listed, known, hindrances)
    if known is None:
        try:
            await inventory.async_config_entry_first_refresh()
        except HomeAssistantError:
            async_update_issues(hass, entry, account.access, hindrances)
            raise
        finally:
            await store.async_save({**stored, "access": account.access.as_dict()})
    real_time = RealTimeCoordinator(
        hass,
        entry,
        client,
        inventory,
        _restored(readings_from, stored, "readings") or {},
        _restored(dict, stored, "counters") or {},
        _restored(dict, stored, "meters") or {},
        _restored(PlantFlows.from_dict, stored, "flows") or PlantFlows(),
        hindrances,
    )
    history = History(hass, entry, client)
    await history.async_load()
    data = SmartPvmsData(
        account.access, inventory, real_time, history, hindrances, store
    )
    entry.runtime_data = data
    # An account that was loaded before has its last values, and reads on its own.
    if not real_time.data:
        await real_time.async_refresh()

    @callback
    def save() -> None:
        store.async_delay_save(data.as_dict, SAVE_DELAY)

    @callback
    def update_issues() -> None:
        async_update_issues(hass, entry, account.access, hindrances)

    @callback
    def stop(event: Event) -> None:
        real_time.next_pass = None
        save()

    # Without a listener, a coordinator refreshes once and never again.
    for coordinator in (inventory, real_time):
        for listener in (save, update_issues):
            entry.async_on_unload(coordinator.async_add_listener(listener))
    entry.async_on_unload(
        inventory.async_add_listener(real_time.async_follow_inventory)
    )
    entry.async_on_unload(
        hass.bus.async_listen(
            dr.EVENT_DEVICE_REGISTRY_UPDATED, real_time.async_forget_removed
        )
    )
    entry.async_on_unload(hass.bus.async_listen(EVENT_HOMEASSISTANT_STOP, stop))
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    for coordinator in (inventory, real_time):
        entry.async_on_unload(coordinator.async_add_listener(history.async_follow))
    entry.async_on_unload(history.async_add_listener(update_issues))
    history.async_start()
    save()
    update_issues()
    return True


async def async_unload_entry(hass: HomeAssistant, entry: SmartPvmsConfigEntry) -> bool:
    """Unload an account; its session stays open for the next set-up.

    So do its issues, of which the user may have chosen to ignore some.
    """
    unloaded = await hass.config_entries.async_unload_platforms(entry, PLATFORMS)
    if entry.disabled_by:
        async_delete_issues(hass, entry)
    data = entry.runtime_data
    data.real_time.next_pass = None
    await data.store.async_save(data.as_dict())
    await data.history.async_save()
    return unloaded


async def async_remove_config_entry_device(
    hass: HomeAssistant, entry: SmartPvmsConfigEntry, device: dr.DeviceEntry
) -> bool:
    """Let the user delete a device that is surely not listed any more."""
    if entry.state is ConfigEntryState.LOADED:
        known: Inventory | None = entry.runtime_data.inventory.data
    else:
        stored = await _store(hass, entry).async_load() or {}
        known = _restored(Inventory.from_dict, stored, "inventory")
    return known is not None and source_name(device) not in known.registered_names


async def async_remove_entry(hass: HomeAssistant, entry: SmartPvmsConfigEntry) -> None:
    """Log out and forget an account."""
    async_delete_issues(hass, entry)
    store = _store(hass, entry)
    account = _account(hass, entry, await store.async_load() or {})
    hass.data[KNOWN_ACCOUNTS].pop(entry.unique_id)
    await store.async_remove()
    await history_store(hass, entry.entry_id).async_remove()
    websession = async_create_clientsession(
        hass, auto_cleanup=False, cookie_jar=aiohttp.DummyCookieJar()
    )
    # The session ends by itself soon where the server cannot be told.
    with suppress(NorthboundError):
        await _session(websession, entry, account.access).logout()
    websession.detach()


def _account(
    hass: HomeAssistant, entry: SmartPvmsConfigEntry, stored: Mapping[str, Any]
) -> KnownAccount:
    """Return what is known of an account, at least since Home Assistant was started."""
    accounts = hass.data.setdefault(KNOWN_ACCOUNTS, {})
    if entry.unique_id not in accounts:
        access = _restored(Access.from_dict, stored, "access") or Access()
        with suppress(KeyError, TypeError):
            access.flow_control.assume_pass(coming(stored["next_pass"]))
        accounts[entry.unique_id] = KnownAccount(access)
    return accounts[entry.unique_id]


def _session(
    websession: aiohttp.ClientSession, entry: SmartPvmsConfigEntry, access: Access
) -> Session:
    return Session(
        websession,
        base_url(entry.data[CONF_HOST]),
        entry.data[CONF_USERNAME],
        entry.data[CONF_PASSWORD],
        access,
    )


def _restored[T](
    restore: Callable[[Any], T], stored: Mapping[str, Any], key: str
) -> T | None:
    """Return a part of what was stored, unless it is not there or damaged."""
    try:
        return restore(stored[key])
    except AttributeError, KeyError, TypeError, ValueError:
        return None


def _store(hass: HomeAssistant, entry: SmartPvmsConfigEntry) -> Store[dict[str, Any]]:
    # Of a thousand devices there is much to be written, and others cannot wait.
    return Store(
        hass,
        STORE_VERSION,
        f"{DOMAIN}.{entry.entry_id}",
        serialize_in_event_loop=False,
    )
