"""Device registry: plants and devices of an inventory."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from homeassistant.config_entries import ConfigEntry
from homeassistant.const import CONF_HOST
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry as dr, entity_registry as er

from .const import CONF_GRID_METERS, CONF_PLANTS, CONF_TIME_ZONES, DOMAIN
from .models import Inventory, unique_id
from .northbound import DEVICE_TYPE_NAMES, Device, Plant, base_url

# Minimum time a device must be missing before it is removed.
CONFIRMATION: Final = timedelta(hours=1)


def source_name(device: dr.DeviceEntry) -> str:
    """Return the plant code or device id with which the device is registered."""
    return next(name for domain, name in device.identifiers if domain == DOMAIN)


def account_device(entry: ConfigEntry) -> dr.DeviceInfo:
    """Return the device of an account."""
    return dr.DeviceInfo(
        identifiers={(DOMAIN, entry.entry_id)},
        entry_type=dr.DeviceEntryType.SERVICE,
        manufacturer="Huawei",
        model="Northbound account",
        translation_key="account",
    )


@callback
def async_owners(hass: HomeAssistant, entry: ConfigEntry | None) -> dict[str, str]:
    """Return the titles of the other accounts by the plants that they have.

    A plant belongs to the account that was the first to register it, also while this is
    disabled or fails.
    """
    registry = dr.async_get(hass)
    owners: dict[str, ConfigEntry] = {}
    for each in hass.config_entries.async_entries(DOMAIN):
        for device in dr.async_entries_for_config_entry(registry, each.entry_id):
            owners.setdefault(source_name(device), each)
    return {name: owner.title for name, owner in owners.items() if owner is not entry}


@callback
def async_register(
    hass: HomeAssistant, entry: ConfigEntry, known: Inventory | None, listed: Inventory
) -> None:
    """Register all plants and devices, including devices without entities.

    With several plants, the names of devices begin with their plant's.
    """
    registry = dr.async_get(hass)
    # The names do not change back when only one plant is left.
    with_plant = len(listed.plants) > 1 or _has_name_with_plant(
        registry, entry, known or listed
    )
    plants: dict[str, str] = {}
    for plant in listed.plants.values():
        plants[plant.code] = registry.async_get_or_create(
            config_entry_id=entry.entry_id,
            identifiers={(DOMAIN, plant.code)},
            entry_type=dr.DeviceEntryType.SERVICE,
            configuration_url=str(base_url(entry.data[CONF_HOST])),
            manufacturer="Huawei",
            model="FusionSolar plant",
            name=plant.name,
        ).id
    for device in listed.devices.values():
        plant = listed.plants[device.plant_code]
        registry.async_get_or_create(
            config_entry_id=entry.entry_id,
            identifiers={(DOMAIN, str(device.id))},
            manufacturer="Huawei",
            model=device.model or DEVICE_TYPE_NAMES.get(device.type_id),
            name=_name_with_plant(plant, device) if with_plant else device.name,
            serial_number=device.serial_number,
            sw_version=device.software_version,
            via_device_id=plants[plant.code],
        )


def _has_name_with_plant(
    registry: dr.DeviceRegistry, entry: ConfigEntry, known: Inventory
) -> bool:
    """Return whether the name of a plant was added to the name of a device."""
    registered = {
        device.id: device
        for device in dr.async_entries_for_config_entry(registry, entry.entry_id)
    }
    names = {str(device.id): device.name for device in known.devices.values()}
    return any(
        device.name == f"{plant.name} {names.get(source_name(device))}"
        for device in registered.values()
        if (plant := registered.get(device.via_device_id or ""))
    )


def _name_with_plant(plant: Plant, device: Device) -> str:
    """Return the name of a device, beginning with the name of its plant."""
    rest = device.name.removeprefix(plant.name)
    # "Battery-1" does not begin with the name of a plant "B"; names in other scripts
    # have no spaces.
    is_part_of_word = rest[:1].isascii() and rest[:1].isalnum()
    if rest != device.name and not is_part_of_word:
        return device.name
    return f"{plant.name} {device.name}"


@callback
def async_remove_stale(
    hass: HomeAssistant, entry: ConfigEntry, known: Inventory | None, listed: Inventory
) -> Inventory:
    """Remove devices of deselected plants, and devices that are missing in two lists.

    Returns the list with the times since which devices are missing. Every plant has a
    device. If the list has no device of a plant, it is incomplete, due to an error or
    a missing authorization, so no device of the plant is removed.
    """
    registry = dr.async_get(hass)
    registered = {
        device.id: device
        for device in dr.async_entries_for_config_entry(registry, entry.entry_id)
    }
    names = listed.registered_names
    were_empty = set() if known is None else known.plants_without_devices
    empty = listed.plants_without_devices
    missing: dict[str, datetime] = {}
    for device in registered.values():
        name = source_name(device)
        plant = source_name(registered.get(device.via_device_id or "", device))
        # The account also has a device.
        if name in names or name == entry.entry_id:
            continue
        # Times of the future were set by a wrong clock.
        since = min(listed.missing.get(name, listed.listed), listed.listed)
        if plant in were_empty - empty:
            since = listed.listed
        is_deselected = plant in listed.offered and plant not in listed.plants
        is_gone = listed.listed - since >= CONFIRMATION
        if is_deselected or (is_gone and plant not in empty):
            registry.async_remove_device(device.id)
        else:
            missing[name] = since
    return replace(listed, missing=missing)


@callback
def async_rename(
    hass: HomeAssistant,
    entry: ConfigEntry,
    known: Inventory,
    codes: Mapping[str, str],
    ids: Mapping[int, int],
) -> None:
    """Move devices, entities and options to new plant codes and device ids."""
    names = {**codes, **{str(old): str(new) for old, new in ids.items()}}
    sources = {
        entity.entity_id: source
        for entity in er.async_entries_for_config_entry(
            er.async_get(hass), entry.entry_id
        )
        if (source := known.source_of(entity.unique_id)) is not None
        and str(source[0]) in names
    }
    # A new id can be the old one of another device, so all get a temporary one first.
    for prefix, new_prefix in (("", "new "), ("new ", "")):
        _rename_devices(
            hass,
            entry,
            {
                f"{prefix}{new if prefix else old}": f"{new_prefix}{new}"
                for old, new in names.items()
            },
        )
        for entity_id, (source_id, key) in sources.items():
            er.async_get(hass).async_update_entity(
                entity_id,
                new_unique_id=unique_id(f"{new_prefix}{names[str(source_id)]}", key),
            )
    options = {**entry.options}
    for option in (CONF_PLANTS, CONF_GRID_METERS):
        if chosen := options.get(option):
            options[option] = [names.get(name, name) for name in chosen]
    if zones := options.get(CONF_TIME_ZONES):
        options[CONF_TIME_ZONES] = {
            names.get(code, code): zone for code, zone in zones.items()
        }
    hass.config_entries.async_update_entry(entry, options=options)


def _rename_devices(
    hass: HomeAssistant, entry: ConfigEntry, names: Mapping[str, str]
) -> None:
    registry = dr.async_get(hass)
    for old, new in names.items():
        device = registry.async_get_device_by_identifier((DOMAIN, old), entry.entry_id)
        if device is not None:
            registry.async_update_device(device.id, new_identifiers={(DOMAIN, new)})
