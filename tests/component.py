"""Files of the integration other than code, as read by their tests."""

from collections.abc import Iterator
import json
from pathlib import Path
from string import Formatter
from typing import Any, Final

from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.descriptions import (
    ALARM_SENSORS,
    DEVICE_SENSORS,
    FLOW_SENSORS,
    PLANT_SENSORS,
    REPORT_SENSORS,
)
from custom_components.smartpvms.sensor import HISTORY_SENSORS, SERVICE_SENSOR
from homeassistant.components.sensor import SensorEntityDescription

ROOT: Final = Path(__file__).parent.parent
COMPONENT: Final = ROOT / "custom_components" / DOMAIN


def read_json(name: str) -> dict[str, Any]:
    """Return a JSON file of the integration."""
    content: dict[str, Any] = json.loads((COMPONENT / name).read_text())
    return content


ENGLISH: Final = read_json("translations/en.json")


def sensors() -> Iterator[SensorEntityDescription]:
    """Return the sensors of all tables."""
    yield SERVICE_SENSOR
    yield from HISTORY_SENSORS
    yield from REPORT_SENSORS.values()
    yield from ALARM_SENSORS.values()
    for table in (PLANT_SENSORS, FLOW_SENSORS, *DEVICE_SENSORS.values()):
        yield from table.values()


def fields(text: str) -> set[str]:
    """Return the placeholders of a text."""
    return {field for _, field, _, _ in Formatter().parse(text) if field}


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Return all texts below a node, by path."""
    if isinstance(node, str):
        yield path, node
        return
    for key, value in node.items():
        yield from leaves(value, f"{path}.{key}")
