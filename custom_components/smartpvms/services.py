"""Actions."""

from typing import Final

import voluptuous as vol

from homeassistant.const import ATTR_CONFIG_ENTRY_ID
from homeassistant.core import (
    HomeAssistant,
    ServiceCall,
    ServiceResponse,
    SupportsResponse,
    callback,
)
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import service

from .const import DOMAIN
from .coordinator import SmartPvmsConfigEntry

REFRESH: Final = "refresh_inventory"

_ACCOUNT: Final = vol.Schema({vol.Required(ATTR_CONFIG_ENTRY_ID): str})


@callback
def async_setup_services(hass: HomeAssistant) -> None:
    """Register the actions."""
    hass.services.async_register(
        DOMAIN, REFRESH, _refresh, _ACCOUNT, SupportsResponse.OPTIONAL
    )


async def _refresh(call: ServiceCall) -> ServiceResponse:
    """List plants and devices now, and say how many there are."""
    entry: SmartPvmsConfigEntry = service.async_get_config_entry(
        call.hass, DOMAIN, call.data[ATTR_CONFIG_ENTRY_ID]
    )
    inventory = entry.runtime_data.inventory
    await inventory.async_refresh()
    if not inventory.last_update_success:
        error = inventory.last_exception
        explained = error if isinstance(error, HomeAssistantError) else None
        raise HomeAssistantError(
            translation_domain=DOMAIN,
            translation_key=explained.translation_key if explained else "unknown",
            translation_placeholders=explained and explained.translation_placeholders,
        ) from error
    return {
        "plants": len(inventory.data.plants),
        "devices": len(inventory.data.devices),
    }
