"""FusionSolar SmartPVMS for Home Assistant."""

from contextlib import suppress
from typing import Final

import aiohttp

from homeassistant.config_entries import (
    SIGNAL_CONFIG_ENTRY_CHANGED,
    ConfigEntry,
    ConfigEntryChange,
    ConfigEntryState,
)
from homeassistant.const import EVENT_HOMEASSISTANT_STOP, Platform
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import config_validation as cv, device_registry as dr
from homeassistant.helpers.aiohttp_client import async_create_clientsession
from homeassistant.helpers.dispatcher import async_dispatcher_connect
from homeassistant.helpers.typing import ConfigType

from .account import account_client, async_get_account, temporary_client
from .alarm_coordinator import AlarmCoordinator
from .const import DOMAIN
from .coordinator import RealTimeCoordinator
from .counter_filters import CounterFilters
from .device_registry import async_owners, source_name
from .inventory_coordinator import InventoryCoordinator
from .models import Inventory
from .northbound import NorthboundError
from .options import options_of
from .repairs import async_delete_issues, async_update_issues
from .report_coordinator import ReportCoordinator
from .row_reader import RowReader
from .runtime import (
    SmartPvmsConfigEntry,
    SmartPvmsData,
    StoredAccount,
    account_store,
    async_load,
)
from .services import async_setup_services
from .statistics import HistoryImporter, history_store
from .time_zones import async_with_time_zones

# A pass may be followed by another at once.
SAVE_DELAY: Final = 5

CONFIG_SCHEMA = cv.config_entry_only_config_schema(DOMAIN)

PLATFORMS: Final = [
    Platform.BINARY_SENSOR,
    Platform.BUTTON,
    Platform.EVENT,
    Platform.SENSOR,
]


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Set up the actions, and the transfer of plants to other accounts."""
    async_setup_services(hass)

    @callback
    def transfer(change: ConfigEntryChange, removed: ConfigEntry) -> None:
        """List the plants of the other accounts, which can have those of a removed one."""
        if change is not ConfigEntryChange.REMOVED or removed.domain != DOMAIN:
            return
        for entry in hass.config_entries.async_entries(DOMAIN):
            if entry.state is ConfigEntryState.LOADED:
                entry.async_create_background_task(
                    hass, entry.runtime_data.inventory.async_refresh(), "take plants"
                )
            elif entry.state is ConfigEntryState.SETUP_RETRY:
                hass.config_entries.async_schedule_reload(entry.entry_id)

    async_dispatcher_connect(hass, SIGNAL_CONFIG_ENTRY_CHANGED, transfer)
    return True


async def async_setup_entry(hass: HomeAssistant, entry: SmartPvmsConfigEntry) -> bool:
    """Set up an account."""
    store = account_store(hass, entry)
    stored = await async_load(store)
    if stored.next_pass is not None:
        stored.session.flow_control.assume_kill(stored.next_pass)
    if stored.next_alarms is not None:
        stored.session.flow_control.assume_call("getAlarmList", stored.next_alarms)
    account = async_get_account(hass, entry.data, stored.session)
    websession = async_create_clientsession(hass, cookie_jar=aiohttp.DummyCookieJar())
    client = account_client(websession, entry.data, account)
    listed, account.plants = account.plants, None
    known, problems = await _known_inventory(hass, entry, stored), stored.problems
    inventory = InventoryCoordinator(hass, entry, client, listed, known, problems)
    if known is None:
        try:
            await inventory.async_config_entry_first_refresh()
        except HomeAssistantError:
            async_update_issues(hass, entry, account.session, problems)
            raise
        finally:
            stored.session = account.session
            await store.async_save(stored.encoded())
    elif listed is not None:
        # A flow has logged in, maybe to another server with other ids.
        await inventory.async_refresh()
    real_time = RealTimeCoordinator(
        hass,
        entry,
        client,
        inventory,
        stored.plant_readings | stored.device_readings,
        RowReader(
            CounterFilters(
                stored.plant_counters | stored.device_counters, problems.isolation
            ),
            stored.meters,
        ),
        stored.flows,
        problems,
    )
    reports = ReportCoordinator(hass, entry, client, inventory, problems)
    alarms = AlarmCoordinator(
        hass, entry, client, inventory, real_time, stored.alarms, problems
    )
    history = HistoryImporter(hass, entry, client, inventory, real_time, problems)
    await history.async_load()
    entry.runtime_data = SmartPvmsData(
        account, inventory, real_time, reports, alarms, history, problems, store
    )
    # The calls of a killed process are not stored, but the time of its pass is.
    await store.async_save(entry.runtime_data.stored())
    # An account that was loaded before has its last values, and reads on its own.
    if not real_time.data:
        await real_time.async_refresh()
    _add_listeners(hass, entry)
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    real_time.async_start()
    history.async_start()
    return True


async def _known_inventory(
    hass: HomeAssistant, entry: SmartPvmsConfigEntry, stored: StoredAccount
) -> Inventory | None:
    """Return the stored inventory of the chosen plants, if there is any."""
    known = stored.inventory
    if known is not None:
        known = known.restricted_to(
            options_of(entry).plants, async_owners(hass, entry).keys()
        )
    if known is not None:
        known = await async_with_time_zones(hass, entry, known)
    return known


def _add_listeners(hass: HomeAssistant, entry: SmartPvmsConfigEntry) -> None:
    """Save the state and update the issues after each update, and before the stop."""
    data = entry.runtime_data

    @callback
    def update() -> None:
        # A save after the last one would restore the file of a removed entry.
        if entry.state is not ConfigEntryState.UNLOAD_IN_PROGRESS:
            data.store.async_delay_save(data.stored, SAVE_DELAY)
        update_issues()

    @callback
    def update_issues() -> None:
        audit = data.history.plants.audit
        async_update_issues(hass, entry, data.account.session, data.problems, audit)

    @callback
    def stop(event: Event) -> None:
        data.real_time.polling.next_pass = None
        data.alarms.next_read = None
        update()

    # Without a listener, a coordinator refreshes once and never again.
    removals = [
        data.inventory.async_add_listener(update),
        data.real_time.async_add_listener(update),
        data.reports.async_add_listener(update),
        data.alarms.async_add_listener(update),
        data.history.async_add_listener(update),
        data.inventory.async_add_listener(data.real_time.async_follow_inventory),
        data.inventory.async_add_listener(data.alarms.async_follow_inventory),
        hass.bus.async_listen(
            dr.EVENT_DEVICE_REGISTRY_UPDATED,
            data.real_time.reported.async_forget_removed,
        ),
        hass.bus.async_listen(EVENT_HOMEASSISTANT_STOP, stop),
    ]
    for remove in removals:
        entry.async_on_unload(remove)
    update()


async def async_unload_entry(hass: HomeAssistant, entry: SmartPvmsConfigEntry) -> bool:
    """Unload an account; its session stays open for the next set-up.

    Its issues stay as well, since the user may have chosen to ignore some.
    """
    unloaded = await hass.config_entries.async_unload_platforms(entry, PLATFORMS)
    if entry.disabled_by:
        async_delete_issues(hass, entry)
    data = entry.runtime_data
    data.real_time.polling.next_pass = None
    data.alarms.next_read = None
    await data.store.async_save(data.stored())
    await data.history.async_save()
    return unloaded


async def async_remove_config_entry_device(
    hass: HomeAssistant, entry: SmartPvmsConfigEntry, device: dr.DeviceEntry
) -> bool:
    """Let the user delete a device that is not listed any more.

    The account's own device stays.
    """
    if (name := source_name(device)) == entry.entry_id:
        return False
    if entry.state is ConfigEntryState.LOADED:
        known = entry.runtime_data.inventory.data
    else:
        stored = await async_load(account_store(hass, entry))
        if stored.inventory is None:
            return False
        known = stored.inventory
    return name not in known.registered_names


async def async_remove_entry(hass: HomeAssistant, entry: SmartPvmsConfigEntry) -> None:
    """Log out, and remove the stored data of an account."""
    async_delete_issues(hass, entry)
    store = account_store(hass, entry)
    stored = await async_load(store)
    # Kept afterwards, for flows that begin during the logout or later.
    account = async_get_account(hass, entry.data, stored.session)
    await store.async_remove()
    await history_store(hass, entry.entry_id).async_remove()
    # The session ends by itself soon if the server cannot be reached.
    with (
        temporary_client(hass, entry.data, account) as client,
        suppress(NorthboundError),
    ):
        await client.logout()
