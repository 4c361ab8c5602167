"""Tests of what is not code: manifest, translations and tables in step with it."""

import ast
from collections.abc import Iterator
import json
from pathlib import Path
import re
from string import Formatter
from typing import Any, Final

import pytest

from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.descriptions import (
    BINARY_SENSORS,
    DEVICE_SENSORS,
    PLANT_SENSORS,
    ItemSensorDescription,
)
from custom_components.smartpvms.errors import as_update_error, explain
from custom_components.smartpvms.northbound import (
    AccountLocked,
    ConnectionFailed,
    DeviceType,
    InvalidCredentials,
    MalformedResponse,
    NorthboundError,
    PermissionDenied,
    RateLimited,
    RequestRejected,
    ServerBusy,
    SessionTaken,
)

ROOT: Final = Path(__file__).parent.parent
COMPONENT: Final = ROOT / "custom_components" / DOMAIN
ENGLISH: Final = json.loads((COMPONENT / "translations" / "en.json").read_text())
MANIFEST: Final = json.loads((COMPONENT / "manifest.json").read_text())

ERRORS: Final[list[NorthboundError]] = [
    AccountLocked(),
    ConnectionFailed(),
    InvalidCredentials(20400),
    InvalidCredentials(20002),
    MalformedResponse(),
    PermissionDenied("stations"),
    RateLimited(61),
    RequestRejected(20009),
    ServerBusy(),
    SessionTaken(),
]


def _sensors() -> Iterator[ItemSensorDescription]:
    for table in (PLANT_SENSORS, *DEVICE_SENSORS.values()):
        yield from table.values()


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, str):
        yield path, node
        return
    for key, value in node.items():
        yield from _leaves(value, f"{path}.{key}")


def test_manifest() -> None:
    """The manifest has the keys that hassfest and HACS ask for, in their order."""
    keys = list(MANIFEST)
    assert keys[:2] == ["domain", "name"]
    assert keys[2:] == sorted(keys[2:])
    assert MANIFEST["domain"] == DOMAIN == COMPONENT.name
    assert MANIFEST["requirements"] == []
    assert MANIFEST["integration_type"] == "hub"
    assert MANIFEST["iot_class"] == "cloud_polling"
    assert MANIFEST["config_flow"] is True
    assert re.fullmatch(r"\d+\.\d+\.\d+", MANIFEST["version"])
    assert all(owner.startswith("@") for owner in MANIFEST["codeowners"])


def test_every_sensor_has_a_name() -> None:
    """Sensors and their translations name the same keys, and the same placeholders."""
    translated = ENGLISH["entity"]["sensor"]
    assert {sensor.translation_key for sensor in _sensors()} == set(translated)
    for sensor in _sensors():
        assert sensor.translation_key
        name = translated[sensor.translation_key]["name"]
        fields = {field for _, field, _, _ in Formatter().parse(name) if field}
        assert fields == set(sensor.translation_placeholders or {})


def test_every_binary_sensor_has_a_name() -> None:
    """Binary sensors and their translations name the same keys."""
    assert {sensor.translation_key for sensor in BINARY_SENSORS.values()} == set(
        ENGLISH["entity"]["binary_sensor"]
    )


def test_every_state_has_a_name() -> None:
    """States of enum sensors and their translations are the same."""
    translated = ENGLISH["entity"]["sensor"]
    options = {
        sensor.translation_key: set(sensor.options)
        for sensor in _sensors()
        if sensor.options
    }
    assert options == {
        key: set(texts["state"])
        for key, texts in translated.items()
        if "state" in texts
    }


def test_every_type_with_kpis_has_a_table() -> None:
    """The tables cover the device types that are polled."""
    assert set(DEVICE_SENSORS) == set(DeviceType)


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_every_error_has_its_texts(error: NorthboundError) -> None:
    """An error has a text in the flow and as an exception, with its placeholders."""
    key, placeholders = explain(error)
    for text in (
        ENGLISH["config"]["error"][key],
        ENGLISH["exceptions"][key]["message"],
    ):
        assert text.format(**placeholders)
        fields = {field for _, field, _, _ in Formatter().parse(text) if field}
        assert fields == set(placeholders)
    assert as_update_error(error).translation_key == key


def test_no_exception_text_is_left_over() -> None:
    """Every translated exception is one that can be raised."""
    assert set(ENGLISH["exceptions"]) == {explain(error)[0] for error in ERRORS} | {
        "no_plants"
    }


def test_every_flow_error_is_raised() -> None:
    """Every error text of the flow belongs to an error, and the other way round."""
    source = ast.parse((COMPONENT / "config_flow.py").read_text())
    literals = {
        node.value for node in ast.walk(source) if isinstance(node, ast.Constant)
    }
    explained = {explain(error)[0] for error in ERRORS}
    assert set(ENGLISH["config"]["error"]) - explained <= literals
    assert explained <= set(ENGLISH["config"]["error"])


def test_flow_fields_are_described() -> None:
    """Every field of every step has a label and a description."""
    for step in ENGLISH["config"]["step"].values():
        assert set(step["data"]) == set(step["data_description"])


def test_texts_are_tidy() -> None:
    """Texts have no blanks at their ends, no HTML and no text that is missing."""
    for path, text in _leaves(ENGLISH):
        assert text == text.strip(), path
        assert text, path
        assert "<" not in text, path
