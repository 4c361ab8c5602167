"""Button that lists the plants and devices of an account."""

from typing import override

from homeassistant.components.button import ButtonEntity
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .device_registry import account_device
from .runtime import SmartPvmsConfigEntry

# Presses at the same time share one list.
PARALLEL_UPDATES = 0


async def async_setup_entry(
    hass: HomeAssistant,
    entry: SmartPvmsConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Set up the button of an account."""
    async_add_entities([RefreshButton(entry)])


class RefreshButton(ButtonEntity):
    """Button that lists the plants and devices of an account."""

    _attr_entity_category = EntityCategory.CONFIG
    _attr_has_entity_name = True
    _attr_translation_key = "refresh_inventory"

    def __init__(self, entry: SmartPvmsConfigEntry) -> None:
        """Initialize the button with the device of the account."""
        self._inventory = entry.runtime_data.inventory
        self._attr_unique_id = f"{entry.entry_id}_{self._attr_translation_key}"
        self._attr_device_info = account_device(entry)

    @override
    async def async_press(self) -> None:
        await self._inventory.async_list()
