"""Tests that device types are complete; each failure names the missing step.

The steps are those of *A new device type* in CONTRIBUTING.md.
"""

from collections import Counter
from datetime import UTC, datetime
import json
from pathlib import Path
from typing import Any, Final

import pytest

from custom_components.smartpvms.descriptions import BINARY_SENSORS, DEVICE_SENSORS
from custom_components.smartpvms.northbound import (
    DEVICE_TYPE_NAMES,
    HISTORY_TYPES,
    DeviceType,
)
from tests.simulator import SetClock, Simulator, homes
from tests.simulator.plants import DeviceType as SimulatedType

from .component import ENGLISH, leaves, read_json
from .test_translations import LANGUAGES

pytestmark = pytest.mark.fast

NOON: Final = datetime(2026, 6, 21, 10, tzinfo=UTC)
DOCUMENT: Final[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "fixtures" / "data_items.json").read_text()
)
# Types of newer servers that are not documented.
NEWER: Final = frozenset({DeviceType.EMMA})
# Homes that together have a device of each type.
HOMES: Final = (homes.family, homes.farm, homes.telecom, homes.emma)

every_type = pytest.mark.parametrize("type_id", list(DeviceType))
documented_type = pytest.mark.parametrize(
    "type_id", [each for each in DeviceType if each not in NEWER]
)


@every_type
def test_name(type_id: DeviceType) -> None:
    """A type has its documented name."""
    assert type_id in DEVICE_TYPE_NAMES, (
        f"Add {type_id} to DEVICE_TYPE_NAMES in northbound/models.py."
    )


@documented_type
def test_items(type_id: DeviceType) -> None:
    """A type has a table of entity descriptions, of all documented items."""
    table = DOCUMENT["device_realtime"].get(str(int(type_id)))
    assert table is not None, (
        f"Add the documented items of {type_id} to tests/fixtures/data_items.json."
    )
    described = DEVICE_SENSORS.get(type_id)
    assert described is not None, (
        f"Add a table of {type_id} to DEVICE_SENSORS in descriptions.py."
    )
    missing = [
        item["key"]
        for item in table["items"]
        if item["key"] not in {**described, **BINARY_SENSORS}
    ]
    assert not missing, f"Add {missing} to the table of {type_id} in descriptions.py."


@documented_type
def test_simulator(type_id: DeviceType) -> None:
    """The simulator reports every documented item of a type."""
    assert int(type_id) in {int(each) for each in SimulatedType}, (
        f"Add {type_id} to DeviceType in tests/simulator/plants.py."
    )
    reported: set[str] = set()
    found = False
    for home in HOMES:
        simulator = Simulator(home(), SetClock(NOON))
        for plant in simulator.home.plants:
            for device in plant.devices:
                if device.type_id == type_id:
                    found = True
                    reported |= simulator.device_items(device.id).keys()
    assert found, f"Add a device of {type_id} to a home in tests/simulator/homes.py."
    table = DOCUMENT["device_realtime"][str(int(type_id))]
    missing = {item["key"] for item in table["items"]} - reported
    assert not missing, (
        f"Report {sorted(missing)} of {type_id} in tests/simulator/items.py."
    )


@documented_type
def test_history(type_id: DeviceType) -> None:
    """A type has a history if the document lists it for getDevHistoryKpi."""
    documented = str(int(type_id)) in DOCUMENT["device_history"]
    assert (type_id in HISTORY_TYPES) == documented, (
        f"{type_id} is {'' if documented else 'not '}documented for getDevHistoryKpi: "
        "see HISTORY_TYPES in northbound/models.py."
    )


def test_names_are_translated() -> None:
    """A name that is English in most languages is not translated."""
    english = dict(leaves(ENGLISH["entity"]))
    others = [language for language in LANGUAGES if language != "en.json"]
    same = Counter(
        path
        for language in others
        for path, text in leaves(read_json(f"translations/{language}")["entity"])
        if text == english.get(path)
    )
    missing = [path for path, count in same.items() if count > len(others) / 2]
    assert not missing, f"Translate {missing} in all files of translations/."
