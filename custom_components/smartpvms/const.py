"""Constants of the SmartPVMS integration."""

import logging
from typing import Final

DOMAIN: Final = "smartpvms"
LOGGER: Final = logging.getLogger(__package__)

CONF_GRID_METERS: Final = "grid_meters"
CONF_HISTORY: Final = "history"
CONF_PLANT: Final = "plant"
CONF_PLANTS: Final = "plants"
CONF_TIME_ZONES: Final = "time_zones"
