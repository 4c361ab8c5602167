"""Sources of a plant for the Energy dashboard."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, cast

import voluptuous as vol

from homeassistant.components.energy.const import DOMAIN as ENERGY_DOMAIN
from homeassistant.components.energy.data import (
    ENERGY_SOURCE_SCHEMA,
    EnergyPreferencesUpdate,
    async_get_manager,
)
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry as dr, entity_registry as er

from .const import DOMAIN
from .descriptions import sensors
from .device_registry import source_name
from .entity_registry import enabled_entity_id
from .models import SourceId
from .northbound import Device, DeviceType, Plant
from .plant import GRID_COUNTERS
from .runtime import SmartPvmsConfigEntry

type Source = dict[str, Any]
"""An energy source in the format of `energy/save_prefs`."""
type Sensors = Callable[[SourceId, str], str | None]
"""Returns the entity id of a data item, if its sensor is enabled."""


@callback
def async_suggest(
    hass: HomeAssistant, entry: SmartPvmsConfigEntry, plant: Plant
) -> list[Source]:
    """Return the energy sources for which a plant has entities.

    Prefers `pv_energy` to the plant's total yield. It is the sum of inverter counters,
    which have history; the total yield has history only if it equals their sum.
    """
    shown = partial(enabled_entity_id, hass, Platform.SENSOR)
    sources = [
        _grid(entry, plant, shown),
        {
            "type": "solar",
            "stat_energy_from": shown(plant.code, "pv_energy")
            or shown(plant.code, "total_power"),
            "stat_rate": shown(plant.code, "pv_power"),
            "config_entry_solar_forecast": None,
        },
        _battery(entry, plant, shown),
    ]
    if len(entry.runtime_data.inventory.data.plants) == 1:
        # The Energy dashboard has only one home.
        sources.append(
            {
                "type": "home",
                "stat_energy_to": shown(plant.code, "home_energy"),
                "stat_rate": shown(plant.code, "home_power"),
            }
        )
    return [valid for source in sources if (valid := _validated(source)) is not None]


def _grid(entry: SmartPvmsConfigEntry, plant: Plant, shown: Sensors) -> Source:
    data = entry.runtime_data
    imported = exported = None
    point = data.real_time.grid_point(plant.code)
    if point is not None:
        type_id = data.inventory.data.devices[point].type_id
        imported, exported = (
            key and shown(point, key) for key in GRID_COUNTERS[type_id]
        )
        if data.history.plants.has_reports:
            # The reports of a plant reach further back than the history of devices.
            imported = shown(plant.code, "grid_import") or imported
            exported = shown(plant.code, "grid_export") or exported
    return {
        "type": "grid",
        "stat_energy_from": imported,
        "stat_energy_to": exported,
        "stat_rate": shown(plant.code, "grid_power"),
        "cost_adjustment_day": 0.0,
    }


def _battery(entry: SmartPvmsConfigEntry, plant: Plant, shown: Sensors) -> Source:
    source: Source = {
        "type": "battery",
        "stat_energy_from": shown(plant.code, "discharged_energy"),
        "stat_energy_to": shown(plant.code, "charged_energy"),
        "stat_rate": shown(plant.code, "battery_power"),
    }
    storages = [
        device
        for device in entry.runtime_data.inventory.data.devices_of(plant.code)
        if device.type_id in (DeviceType.BATTERY, DeviceType.ESS)
    ]
    # One of several batteries does not have the state of charge of the plant.
    if len(storages) == 1:
        [storage] = storages
        source["stat_soc"] = shown(storage.id, "battery_soc")
        source["capacity"] = _capacity(entry, storage)
    return source


def _capacity(entry: SmartPvmsConfigEntry, storage: Device) -> float | None:
    """Return the rated capacity of a battery in kWh."""
    description = sensors(storage.type_id).get("rated_capacity")
    reading = entry.runtime_data.real_time.data.get(storage.id)
    if description is None or reading is None:
        return None
    return cast("float | None", description.value(reading)) or None


def _validated(source: Source) -> Source | None:
    """Return a source in the format of the energy integration, `None` if invalid.

    A source is invalid if a required statistic is missing, or if its type requires a
    newer version of Home Assistant.
    """
    given = {
        key: value
        for key, value in source.items()
        if value is not None or key == "config_entry_solar_forecast"
    }
    try:
        [valid] = ENERGY_SOURCE_SCHEMA([given])
    except vol.Invalid:
        return None
    return cast("Source", valid)


async def async_missing(
    hass: HomeAssistant, entry: SmartPvmsConfigEntry, plant: Plant
) -> list[Source]:
    """Return the suggested sources that do not duplicate those of the dashboard.

    Skips types that are already configured, unless all sources of the type belong to
    other plants. Skips the home if a source does not belong to this plant, since the
    home's consumption would not include it.
    """
    present = (await _preferences(hass))["energy_sources"]
    devices = entry.runtime_data.inventory.data.devices_of(plant.code)
    names = {plant.code, *(str(device.id) for device in devices)}
    ours = {
        statistic: device
        for source in present
        for statistic in _statistics(source)
        if (device := _device(hass, statistic)) is not None
    }
    own = {
        statistic
        for statistic, device in ours.items()
        if device.config_entry_id == entry.entry_id and source_name(device) in names
    }
    others = ours.keys() - own
    taken = {source["type"] for source in present if not _statistics(source) <= others}
    if not all(_statistics(source) <= own for source in present):
        taken.add("home")
    suggested = async_suggest(hass, entry, plant)
    return [source for source in suggested if source["type"] not in taken]


async def async_apply(
    hass: HomeAssistant, entry: SmartPvmsConfigEntry, plant: Plant
) -> list[Source]:
    """Add the missing sources of a plant to the Energy dashboard, and return them."""
    missing = await async_missing(hass, entry, plant)
    if missing:
        preferences = await _preferences(hass)
        sources = [*preferences["energy_sources"], *missing]
        update = {**preferences, "energy_sources": sources}
        manager = await async_get_manager(hass)
        await manager.async_update(cast("EnergyPreferencesUpdate", update))
    return missing


async def async_has_sources(hass: HomeAssistant) -> bool:
    """Return whether the Energy dashboard is configured."""
    if ENERGY_DOMAIN not in hass.config.components:
        return False
    return bool((await _preferences(hass))["energy_sources"])


async def _preferences(hass: HomeAssistant) -> Mapping[str, Any]:
    """Return the configuration of the Energy dashboard."""
    manager = await async_get_manager(hass)
    return manager.data or manager.default_preferences()


@callback
def async_entity_names(hass: HomeAssistant, sources: Iterable[Source]) -> list[str]:
    """Return the names of the entities in sources."""
    entity_ids = dict.fromkeys(
        value
        for source in sources
        for key, value in source.items()
        if key.startswith("stat_") and value is not None
    )
    states = [hass.states.get(entity_id) for entity_id in entity_ids]
    return [state.name for state in states if state is not None]


def _statistics(source: Mapping[str, Any]) -> set[str]:
    """Return the energy statistics of a source, or its power if it has none."""
    energies = {source.get("stat_energy_from"), source.get("stat_energy_to")} - {None}
    return {str(each) for each in energies or {source.get("stat_rate")}}


def _device(hass: HomeAssistant, entity_id: str) -> dr.DeviceEntry | None:
    """Return the device of an entity of the integration."""
    registered = er.async_get(hass).async_get(entity_id)
    if registered is None or registered.platform != DOMAIN or not registered.device_id:
        return None
    device = dr.async_get(hass).async_get(registered.device_id)
    return device if isinstance(device, dr.DeviceEntry) else None
