"""Actions of the integration."""

from collections.abc import Iterable
from typing import Final

import voluptuous as vol

from homeassistant.components.energy.const import DOMAIN as ENERGY_DOMAIN
from homeassistant.components.recorder import DOMAIN as RECORDER_DOMAIN
from homeassistant.const import ATTR_CONFIG_ENTRY_ID, ATTR_DEVICE_ID
from homeassistant.core import (
    HomeAssistant,
    ServiceCall,
    ServiceResponse,
    SupportsResponse,
    callback,
)
from homeassistant.exceptions import (
    HomeAssistantError,
    ServiceValidationError,
    Unauthorized,
)
from homeassistant.helpers import (
    config_validation as cv,
    device_registry as dr,
    service,
)
from homeassistant.util import dt as dt_util

from .active_alarms import alarm_attributes
from .const import DOMAIN
from .dashboard import async_suggest_fleet, async_suggest_home
from .device_registry import source_name
from .energy_dashboard import Source, async_apply, async_suggest
from .northbound import HISTORY_REACH, HISTORY_TYPES, AlarmLevel, Plant
from .runtime import SmartPvmsConfigEntry
from .statistics import async_settle

REFRESH: Final = "refresh_inventory"
IMPORT_HISTORY: Final = "import_history"
SUGGEST_ENERGY_DASHBOARD: Final = "suggest_energy_dashboard"
SUGGEST_DASHBOARD: Final = "suggest_dashboard"
GET_ALARMS: Final = "get_alarms"

ATTR_APPLY: Final = "apply"
ATTR_START: Final = "start"
ATTR_END: Final = "end"
ATTR_LEVEL: Final = "level"

_ACCOUNT: Final = vol.Schema({vol.Optional(ATTR_CONFIG_ENTRY_ID): str})
_HISTORY: Final = _ACCOUNT.extend(
    {
        vol.Optional(ATTR_DEVICE_ID): vol.All(cv.ensure_list, [str]),
        vol.Required(ATTR_START): cv.datetime,
        vol.Optional(ATTR_END): cv.datetime,
    }
)
_DASHBOARD: Final = _ACCOUNT.extend({vol.Optional(ATTR_DEVICE_ID): str})
_ENERGY_DASHBOARD: Final = _ACCOUNT.extend(
    {
        vol.Optional(ATTR_DEVICE_ID): str,
        vol.Optional(ATTR_APPLY, default=False): cv.boolean,
    }
)
_ALARMS: Final = _ACCOUNT.extend(
    {
        vol.Optional(ATTR_DEVICE_ID): str,
        vol.Optional(ATTR_LEVEL): vol.All(cv.ensure_list, [vol.Coerce(AlarmLevel)]),
    }
)


@callback
def async_setup_services(hass: HomeAssistant) -> None:
    """Register the actions."""
    hass.services.async_register(
        DOMAIN, REFRESH, _refresh, _ACCOUNT, SupportsResponse.OPTIONAL
    )
    # Only administrators may change statistics and the Energy dashboard.
    service.async_register_admin_service(
        hass,
        DOMAIN,
        IMPORT_HISTORY,
        _import_history,
        _HISTORY,
        SupportsResponse.OPTIONAL,
    )
    hass.services.async_register(
        DOMAIN,
        SUGGEST_ENERGY_DASHBOARD,
        _suggest_energy_dashboard,
        _ENERGY_DASHBOARD,
        SupportsResponse.OPTIONAL,
    )
    hass.services.async_register(
        DOMAIN,
        SUGGEST_DASHBOARD,
        _suggest_dashboard,
        _DASHBOARD,
        SupportsResponse.ONLY,
    )
    hass.services.async_register(
        DOMAIN, GET_ALARMS, _get_alarms, _ALARMS, SupportsResponse.ONLY
    )


def _entry(call: ServiceCall) -> SmartPvmsConfigEntry:
    """Return the loaded config entry of a call, or the only one."""
    entry_id = call.data.get(ATTR_CONFIG_ENTRY_ID)
    if entry_id is None:
        entries = call.hass.config_entries.async_entries(DOMAIN, include_disabled=False)
        if len(entries) != 1:
            raise ServiceValidationError(
                translation_domain=DOMAIN, translation_key="no_account"
            )
        entry_id = entries[0].entry_id
    entry: SmartPvmsConfigEntry = service.async_get_config_entry(
        call.hass, DOMAIN, entry_id
    )
    return entry


async def _check_admin(call: ServiceCall) -> None:
    """Raise `Unauthorized` unless an administrator or an automation calls."""
    if call.context.user_id is None:
        return
    user = await call.hass.auth.async_get_user(call.context.user_id)
    if user is None or not user.is_admin:
        raise Unauthorized(context=call.context)


async def _refresh(call: ServiceCall) -> ServiceResponse:
    """Refresh the inventory, and return the numbers of plants and devices."""
    inventory = await _entry(call).runtime_data.inventory.async_list()
    return {"plants": len(inventory.plants), "devices": len(inventory.devices)}


async def _import_history(call: ServiceCall) -> ServiceResponse:
    """Request an import of history, and return its devices, period and calls."""
    hass, entry = call.hass, _entry(call)
    now = dt_util.utcnow()
    # Times without a UTC offset are local.
    start = dt_util.as_utc(call.data[ATTR_START])
    end = dt_util.as_utc(call.data.get(ATTR_END, now))
    if start >= now:
        raise ServiceValidationError(
            translation_domain=DOMAIN, translation_key="start_in_future"
        )
    if end <= start:
        raise ServiceValidationError(
            translation_domain=DOMAIN, translation_key="end_before_start"
        )
    if start < now - HISTORY_REACH:
        raise ServiceValidationError(
            translation_domain=DOMAIN,
            translation_key="too_long_ago",
            translation_placeholders={"days": str(HISTORY_REACH.days)},
        )
    devices = _devices(hass, entry, call.data.get(ATTR_DEVICE_ID))
    if RECORDER_DOMAIN not in hass.config.components:
        raise ServiceValidationError(
            translation_domain=DOMAIN, translation_key="recorder_not_loaded"
        )
    try:
        await async_settle(hass)
    except TimeoutError as err:
        raise HomeAssistantError(
            translation_domain=DOMAIN, translation_key="recorder_busy"
        ) from err
    plan = entry.runtime_data.history.async_request(devices, start, end)
    return {
        "devices": plan.devices,
        "start": dt_util.as_local(plan.start).isoformat(),
        "end": dt_util.as_local(plan.end).isoformat(),
        "calls": plan.calls,
        "joined": plan.joined,
    }


def _devices(
    hass: HomeAssistant,
    entry: SmartPvmsConfigEntry,
    registered: Iterable[str] | None,
) -> list[int]:
    """Return the ids of the chosen devices, or of all devices, with history."""
    devices = entry.runtime_data.inventory.data.devices
    with_history = {
        device.id: device
        for device in devices.values()
        if device.type_id in HISTORY_TYPES
    }
    if registered is None:
        return list(with_history)
    chosen: list[int] = []
    registry = dr.async_get(hass)
    for registry_id in registered:
        name = _source_name(registry, entry, registry_id)
        found = [
            each.id
            for each in with_history.values()
            if name in (str(each.id), each.plant_code)
        ]
        if not found:
            raise ServiceValidationError(
                translation_domain=DOMAIN, translation_key="no_history_of_device"
            )
        chosen += found
    return chosen


def _source_name(
    registry: dr.DeviceRegistry, entry: SmartPvmsConfigEntry, registry_id: str
) -> str | None:
    """Return the registered name of a plant or device of the account."""
    device = registry.async_get(registry_id)
    if isinstance(device, dr.DeviceEntry) and device.config_entry_id == entry.entry_id:
        return source_name(device)
    return None


async def _suggest_energy_dashboard(call: ServiceCall) -> ServiceResponse:
    """Return sources for the Energy dashboard, and add them on request."""
    if call.data[ATTR_APPLY]:
        await _check_admin(call)
    hass, entry = call.hass, _entry(call)
    plant = _plant(hass, entry, call.data.get(ATTR_DEVICE_ID))
    if ENERGY_DOMAIN not in hass.config.components:
        raise ServiceValidationError(
            translation_domain=DOMAIN, translation_key="energy_not_loaded"
        )
    sources = async_suggest(hass, entry, plant)
    added: list[Source] = []
    if call.data[ATTR_APPLY]:
        added = await async_apply(hass, entry, plant)
    return {
        "energy_sources": [*sources],
        "added": [source["type"] for source in added],
    }


async def _suggest_dashboard(call: ServiceCall) -> ServiceResponse:
    """Return the dashboard of a plant, or of several."""
    hass, entry = call.hass, _entry(call)
    chosen = call.data.get(ATTR_DEVICE_ID)
    if chosen is None and len(entry.runtime_data.inventory.data.plants) > 1:
        return async_suggest_fleet(hass, entry)
    return await async_suggest_home(hass, entry, _plant(hass, entry, chosen))


async def _get_alarms(call: ServiceCall) -> ServiceResponse:
    """Return the active alarms of a plant, or of all, the most severe ones first."""
    entry = _entry(call)
    inventory = entry.runtime_data.inventory.data
    plants = [*inventory.plants.values()]
    if (registry_id := call.data.get(ATTR_DEVICE_ID)) is not None:
        plants = [_plant(call.hass, entry, registry_id)]
    now = dt_util.utcnow()
    known = {
        code: of_plant
        for code, of_plant in entry.runtime_data.alarms.data.items()
        if of_plant.is_current(now)
    }
    if not any(plant.code in known for plant in plants):
        raise HomeAssistantError(translation_domain=DOMAIN, translation_key="no_alarms")
    levels = call.data.get(ATTR_LEVEL, [*AlarmLevel])
    return {
        "alarms": [
            {
                "plant": plant.name,
                **alarm_attributes(each.alarm),
                "announced_at": None
                if each.announced is None
                else each.announced.isoformat(timespec="seconds"),
            }
            for level in AlarmLevel
            for plant in plants
            if level in levels and plant.code in known
            for each in known[plant.code].active
            if each.alarm.level is level
        ]
    }


def _plant(
    hass: HomeAssistant, entry: SmartPvmsConfigEntry, registry_id: str | None
) -> Plant:
    """Return the chosen plant, or the only one."""
    plants = entry.runtime_data.inventory.data.plants
    chosen = [*plants.values()]
    if registry_id is not None:
        name = _source_name(dr.async_get(hass), entry, registry_id)
        chosen = [plant for plant in chosen if plant.code == name]
    if len(chosen) != 1:
        raise ServiceValidationError(
            translation_domain=DOMAIN, translation_key="no_plant"
        )
    return chosen[0]
