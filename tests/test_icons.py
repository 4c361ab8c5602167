"""Tests of icons.json: an icon for each entity without a default icon."""

from collections import defaultdict
from collections.abc import Mapping
import json
from pathlib import Path
import re
from typing import Any, Final

import hass_frontend
import pytest

from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.descriptions import (
    ALARM_EVENTS,
    BINARY_SENSORS,
    DEVICE_SENSORS,
    FLOW_SENSORS,
    PLANT_SENSORS,
    PROBLEM,
    ItemSensorDescription,
)
from homeassistant.components import binary_sensor, sensor
from homeassistant.components.sensor import SensorDeviceClass
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component

from .component import leaves, read_json, sensors

pytestmark = pytest.mark.fast

ICONS: Final = read_json("icons.json")
SENSOR_ICONS: Final[dict[str, Any]] = ICONS["entity"]["sensor"]

DIRECTION: Final = re.compile(
    "import|export|discharge|charge|production|output|input|consumption"
)


def _of_device_classes(module: Any) -> dict[str, Any]:
    icons = json.loads((Path(module.__file__).parent / "icons.json").read_text())
    by_device_class: dict[str, Any] = icons["entity_component"]
    return by_device_class


OF_SENSORS: Final = _of_device_classes(sensor)
OF_BINARY_SENSORS: Final = _of_device_classes(binary_sensor)


@pytest.mark.parametrize("item", sensors(), ids=lambda item: item.key)
def test_every_sensor_has_an_icon(item: ItemSensorDescription) -> None:
    """A sensor has the icon of its device class or its own icon."""
    meaningful = OF_SENSORS.keys() - {SensorDeviceClass.ENUM}
    assert item.translation_key in SENSOR_ICONS or item.device_class in meaningful


@pytest.mark.parametrize(
    "table", [{**PLANT_SENSORS, **FLOW_SENSORS}, *DEVICE_SENSORS.values()]
)
def test_energies_differ(table: Mapping[str, ItemSensorDescription]) -> None:
    """Energies of a plant or device that flow in different directions differ."""
    flows = defaultdict(set)
    for item in table.values():
        if item.device_class == SensorDeviceClass.ENERGY and (
            direction := DIRECTION.search(str(item.translation_key))
        ):
            icon = SENSOR_ICONS[str(item.translation_key)]["default"]
            flows[icon].add(direction[0])
    assert all(len(directions) == 1 for directions in flows.values())


def test_every_binary_sensor_has_an_icon() -> None:
    """All binary sensors have the icon of their device class."""
    assert {item.device_class for item in (*BINARY_SENSORS.values(), PROBLEM)} <= set(
        OF_BINARY_SENSORS
    )
    assert set(ICONS["entity"]) == {"button", "event", "sensor"}
    assert set(ICONS["entity"]["event"]) == {ALARM_EVENTS.translation_key}


def test_no_icon_is_left_over() -> None:
    """Every icon belongs to a sensor, and every state icon to one of its states."""
    options = {item.translation_key: set(item.options or ()) for item in sensors()}
    for key, icons in SENSOR_ICONS.items():
        assert set(icons.get("state", {})) <= options[key]


def test_states_differ() -> None:
    """State icons exist, and differ from the default icon."""
    for item in sensors():
        icons = SENSOR_ICONS.get(str(item.translation_key), {"default": None})
        assert icons["default"] not in icons.get("state", {}).values()
        assert bool(item.options) == ("state" in icons)


async def test_every_action_has_an_icon(
    hass: HomeAssistant, enable_custom_integrations: None
) -> None:
    """Actions and their icons have the same keys."""
    assert await async_setup_component(hass, DOMAIN, {})
    actions = hass.services.async_services_for_domain(DOMAIN)
    assert set(ICONS["services"]) == set(actions)


def test_icons_exist() -> None:
    """Home Assistant's frontend has every icon."""
    names = json.loads(
        (hass_frontend.where() / "static" / "mdi" / "iconList.json").read_text()
    )
    known = {f"mdi:{icon['name']}" for icon in names}
    assert known >= {icon for _, icon in leaves(ICONS)}
