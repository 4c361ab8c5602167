"""Sources of a plant for the Energy dashboard."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import voluptuous as vol

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
from .models import SourceId, unique_id
from .northbound import Device, DeviceType, Plant
from .plant import GRID_COUNTERS
from .runtime import SmartPvmsConfigEntry

type Source = dict[str, Any]
"""An energy source in the format of `energy/save_prefs`."""

# Keys of the import and export counters, by device type.
_GRID_COUNTERS: Final[Mapping[int, tuple[str, str | None]]] = {
    **GRID_COUNTERS,
    DeviceType.MAINS: ("total_energy_consumption", None),
}


class _Sensors:
    """Registered and enabled sensors of the integration."""

    def __init__(self, hass: HomeAssistant) -> None:
        """Initialize with the entity registry."""
        self._registry = er.async_get(hass)

    def of(self, source_id: SourceId, key: str | None) -> str | None:
        """Return the entity id of a data item, if its sensor is enabled."""
        entity_id = key and self._registry.async_get_entity_id(
            Platform.SENSOR, DOMAIN, unique_id(source_id, key)
        )
        registered = entity_id and self._registry.async_get(entity_id)
        return registered.entity_id if registered and not registered.disabled else None


@callback
def async_suggest(
    hass: HomeAssistant, entry: SmartPvmsConfigEntry, plant: Plant
) -> list[Source]:
    """Return the energy sources for which a plant has entities.

    Prefers `pv_energy` to the plant's total yield. It is the sum of inverter counters,
    which have history; the total yield has history only if it equals their sum.
    """
    shown = _Sensors(hass)
    sources = [
        _grid(entry, plant, shown),
        {
            "type": "solar",
            "stat_energy_from": shown.of(plant.code, "pv_energy")
            or shown.of(plant.code, "total_power"),
            "stat_rate": shown.of(plant.code, "pv_power"),
            "config_entry_solar_forecast": None,
        },
        _battery(entry, plant, shown),
    ]
    if len(entry.runtime_data.inventory.data.plants) == 1:
        # The Energy dashboard has only one home.
        sources.append(
            {
                "type": "home",
                "stat_energy_to": shown.of(plant.code, "home_energy"),
                "stat_rate": shown.of(plant.code, "home_power"),
            }
        )
    return [valid for source in sources if (valid := _validated(source)) is not None]


def _grid(entry: SmartPvmsConfigEntry, plant: Plant, shown: _Sensors) -> Source:
    imported = exported = None
    point = entry.runtime_data.real_time.grid_point(plant.code)
    if point is not None:
        type_id = entry.runtime_data.inventory.data.devices[point].type_id
        imported, exported = (shown.of(point, key) for key in _GRID_COUNTERS[type_id])
    return {
        "type": "grid",
        "stat_energy_from": imported,
        "stat_energy_to": exported,
        "stat_rate": shown.of(plant.code, "grid_power"),
        "cost_adjustment_day": 0.0,
    }


def _battery(entry: SmartPvmsConfigEntry, plant: Plant, shown: _Sensors) -> Source:
    source: Source = {
        "type": "battery",
        "stat_energy_from": shown.of(plant.code, "discharged_energy"),
        "stat_energy_to": shown.of(plant.code, "charged_energy"),
        "stat_rate": shown.of(plant.code, "battery_power"),
    }
    storages = [
        device
        for device in entry.runtime_data.inventory.data.devices_of(plant.code)
        if device.type_id in (DeviceType.BATTERY, DeviceType.ESS)
    ]
    # One of several batteries does not have the state of charge of the plant.
    if len(storages) == 1:
        [storage] = storages
        source["stat_soc"] = shown.of(storage.id, "battery_soc")
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


async def async_apply(
    hass: HomeAssistant,
    entry: SmartPvmsConfigEntry,
    plant: Plant,
    suggested: Iterable[Source],
) -> list[Source]:
    """Add the suggested sources that do not duplicate others, and return them.

    Skips types that are already configured, unless all sources of the type belong to
    other plants. Skips the home if a source does not belong to this plant, since the
    home's consumption would not include it.
    """
    manager = await async_get_manager(hass)
    preferences = manager.data or manager.default_preferences()
    present = cast("list[Source]", preferences["energy_sources"])
    own = _entities_of(hass, entry, plant)
    others = _entities(hass) - own
    taken = {source["type"] for source in present if not _statistics(source) <= others}
    if not all(_statistics(source) <= own for source in present):
        taken.add("home")
    added = [source for source in suggested if source["type"] not in taken]
    if added:
        update = {**preferences, "energy_sources": [*present, *added]}
        await manager.async_update(cast("EnergyPreferencesUpdate", update))
    return added


def _statistics(source: Mapping[str, Any]) -> set[str]:
    """Return the energy statistics of a source, or its power if it has none."""
    energies = {source.get("stat_energy_from"), source.get("stat_energy_to")} - {None}
    return {str(each) for each in energies or {source.get("stat_rate")}}


def _entities_of(
    hass: HomeAssistant, entry: SmartPvmsConfigEntry, plant: Plant
) -> set[str]:
    """Return the entity ids of a plant and its devices."""
    devices = entry.runtime_data.inventory.data.devices_of(plant.code)
    names = {plant.code, *(str(device.id) for device in devices)}
    return {
        registered.entity_id
        for device in dr.async_entries_for_config_entry(
            dr.async_get(hass), entry.entry_id
        )
        if source_name(device) in names
        for registered in er.async_entries_for_device(
            er.async_get(hass), device.id, include_disabled_entities=True
        )
        if registered.platform == DOMAIN
    }


def _entities(hass: HomeAssistant) -> set[str]:
    """Return the entity ids of all plants."""
    return {
        registered.entity_id
        for registered in er.async_get(hass).entities.values()
        if registered.platform == DOMAIN
    }
