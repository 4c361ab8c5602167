"""Entity registry: entities of data items."""

from collections.abc import Iterator

from homeassistant.const import Platform
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import entity_registry as er

from .const import DOMAIN
from .models import Inventory, SourceId, unique_id


def registered_items(
    hass: HomeAssistant, entry_id: str, inventory: Inventory, platform: Platform
) -> Iterator[tuple[er.RegistryEntry, SourceId, str]]:
    """Yield the entities of data items, each with its source and key."""
    for registered in er.async_entries_for_config_entry(er.async_get(hass), entry_id):
        if registered.domain == platform and (
            source := inventory.source_of(registered.unique_id)
        ):
            yield registered, *source


@callback
def enabled_sensors(
    hass: HomeAssistant, entry_id: str, inventory: Inventory
) -> dict[tuple[SourceId, str], er.RegistryEntry]:
    """Return the enabled sensors of data items by source and key."""
    return {
        (source_id, key): registered
        for registered, source_id, key in registered_items(
            hass, entry_id, inventory, Platform.SENSOR
        )
        if not registered.disabled
    }


@callback
def enabled_entity_id(
    hass: HomeAssistant, platform: Platform, source_id: SourceId, key: str
) -> str | None:
    """Return the entity id of a data item, if its entity is enabled."""
    registry = er.async_get(hass)
    entity_id = registry.async_get_entity_id(
        platform, DOMAIN, unique_id(source_id, key)
    )
    registered = entity_id and registry.async_get(entity_id)
    return registered.entity_id if registered and not registered.disabled else None
