"""Write the page of all entities, docs/entities.md."""

from collections.abc import Iterable, Iterator, Sequence
import json
from pathlib import Path
from typing import Any, Final

from custom_components.smartpvms.descriptions import (
    ALARM_EVENTS,
    ALARM_SENSORS,
    BINARY_SENSORS,
    DEVICE_SENSORS,
    FLOW_SENSORS,
    PLANT_SENSORS,
    POWER_UNITS,
    PROBLEM,
    REPORT_SENSORS,
    AlarmSensorDescription,
    ItemBinarySensorDescription,
    ItemSensorDescription,
    ReportSensorDescription,
)
from custom_components.smartpvms.northbound import DEVICE_TYPE_NAMES
from custom_components.smartpvms.sensor import HISTORY_SENSORS, SERVICE_SENSOR
from homeassistant.components import binary_sensor, sensor
from homeassistant.components.sensor import SensorDeviceClass
from homeassistant.const import EntityCategory, Platform

ROOT: Final = Path(__file__).parent.parent
ENTITIES: Final = ROOT / "docs" / "entities.md"

INTRODUCTION: Final = """\
# Entities

Every documented data item becomes an entity when a device first reports a value; those of
strings, MPPTs, states of health, battery modules and external meters when the value is not
0. The unique ID of the entity ends with the data item. Powers of a plant with 100 kWp or
more are in kW, kvar and kVA. Home Assistant may show a value in another unit, depending on
its unit system and your settings.

This page shows the English names. Home Assistant shows the names, and creates the IDs of
entities, in its own language. [Which entity do I use?](which-entity.md) explains entities
that look alike.

An undocumented number, which is not listed here, becomes a disabled diagnostic sensor
with its raw name. The integration adds at most 100 of them for a plant or device, and
1,000 for an account.

## Supported devices

The table shows the entities that are enabled by default, and the number of those that are
disabled. A device that reports whether it is connected also has the binary sensor
*Connection*.
"""

PLANT: Final = """\
*PV production today* and *PV production this month* are the values of the server. With a
battery behind the inverters, they are a few percent lower than the rise of *PV production
total*: see [the production of a plant](energy.md#the-production-of-a-plant).
"""

FROM_DEVICES: Final = """\
The integration counts the energies of this table from the counters of the devices, and
also *Home consumption today* and *Grid export today* if the server does not report them:

- A total begins at 0 when the account is added. [The import of history](history.md) adds
  the days before to its statistics, but not to the value of the sensor.
- An energy today begins at 0 at the plant's midnight. On the first day it begins at 0
  with the first reading, which is its last reset. Until midnight it is therefore lower
  than a value that the server or a battery has counted since the midnight before, such as
  *Charge today* of a battery.

An energy exists if a device of the plant counts it.
[How they are calculated](energy.md) also covers C&I storages and telecom sites.
"""

FROM_ALARMS: Final = """\
A plant also has the event *{event}* (`{event_key}`), and each device with values the
binary sensor *{problem}* (`{key}`, diagnostic). See [Alarms](alarms.md).
"""

FROM_REPORTS: Final = """\
The values of this table come from the server's day, month and year reports of the plant,
which are read every six hours, at 01:10, 07:10, 13:10 and 19:10 in the plant's time zone.
They have no statistics of energy, since other sensors count the same energy. If a report
cannot be read, its values are shown for a day.

- *PV production all years*, *CO₂ avoided*, *Coal saved* and *Equivalent trees* are the
  sums of all years in the reports. *PV production all years* is added if it exceeds
  *FusionSolar yield total* by more than 1 %.
- The specific yield is the production divided by the installed capacity.
- The server reports a performance ratio only for plants with an irradiance sensor.
- Older servers do not report all of these values.
"""

ACCOUNT: Final = """\
## Account

The account is a device, too. The button lists plants and devices immediately,
instead of once a day.
"""

STATES: Final = """\
## States

The states of sensors, as used in triggers and conditions of automations.
"""

WITHOUT_ENTITIES: Final = """\
## Devices without entities

The API documents no values for these device types. Their devices are added without
entities, with model, serial number and firmware.
"""

type SensorDescription = (
    AlarmSensorDescription | ItemSensorDescription | ReportSensorDescription
)
type Description = SensorDescription | ItemBinarySensorDescription


def _texts(component: Path) -> dict[str, Any]:
    texts: dict[str, Any] = json.loads(
        (component / "translations" / "en.json").read_text()
    )
    return texts


_OWN: Final = _texts(ROOT / "custom_components" / "smartpvms")["entity"]
_CLASSES: Final = {
    platform: _texts(Path(module.__path__[0]))["entity_component"]
    for platform, module in (
        (Platform.BINARY_SENSOR, binary_sensor),
        (Platform.SENSOR, sensor),
    )
}


def name_of(description: Description) -> str:
    """Return the name of an item's entity."""
    platform = (
        Platform.BINARY_SENSOR
        if isinstance(description, ItemBinarySensorDescription)
        else Platform.SENSOR
    )
    if description.translation_key is None:
        name: str = _CLASSES[platform][description.device_class]["name"]
        return name
    name = _OWN[platform][description.translation_key]["name"]
    return name.format(**description.translation_placeholders or {})


def _unit(description: Description) -> str:
    if isinstance(description, ItemBinarySensorDescription):
        return "on or off"
    match description.device_class:
        case SensorDeviceClass.ENUM:
            return "state"
        case SensorDeviceClass.MONETARY:
            return "currency"
        case SensorDeviceClass.TIMESTAMP:
            return "time"
    if units := POWER_UNITS.get(description.device_class):
        return units[0]
    texts = _OWN[Platform.SENSOR].get(description.translation_key, {})
    return (
        description.native_unit_of_measurement or texts.get("unit_of_measurement") or ""
    )


def _default(description: Description) -> str:
    enabled = "enabled" if description.entity_registry_enabled_default else "disabled"
    if description.entity_category is EntityCategory.DIAGNOSTIC:
        return f"{enabled}, diagnostic"
    return enabled


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _account() -> str:
    """Return the table of the account's entities."""
    button = _OWN[Platform.BUTTON]["refresh_inventory"]["name"]
    return _table(
        ("Entity", "Type", "Default"),
        (
            (button, "button", "enabled, configuration"),
            *(
                (
                    _OWN[Platform.SENSOR][each.translation_key]["name"],
                    "sensor",
                    "enabled, diagnostic",
                )
                for each in (SERVICE_SENSOR, *HISTORY_SENSORS)
            ),
        ),
    )


def _span(first: str, last: str) -> str:
    return first if first == last else f"{first} … {last}"


def _entities(descriptions: Iterable[Description]) -> str:
    """Return a table of entities; names that differ only in a number share a row."""
    alike: dict[str, list[Description]] = {}
    for description in descriptions:
        key = description.translation_key or description.key
        alike.setdefault(key, []).append(description)
    return _table(
        ("Entity", "Data item", "Unit", "Default"),
        (
            (
                _span(name_of(first), name_of(last)),
                _span(f"`{first.key}`", f"`{last.key}`"),
                _unit(first),
                _default(first),
            )
            for first, last in ((each[0], each[-1]) for each in alike.values())
        ),
    )


def _from_alarms() -> str:
    """Return the text about the other entities of alarms."""
    event = _OWN[Platform.EVENT][str(ALARM_EVENTS.translation_key)]["name"]
    problem = _CLASSES[Platform.BINARY_SENSOR][PROBLEM.device_class]["name"]
    return FROM_ALARMS.format(
        event=event, event_key=ALARM_EVENTS.key, problem=problem, key=PROBLEM.key
    )


_PLANT: Final = "Plant"
_FROM_DEVICES: Final = "Plant, from its devices"
_FROM_REPORTS: Final = "Plant, from its reports"
_FROM_ALARMS: Final = "Plant, from its alarms"
_NOTES: Final = {
    _PLANT: PLANT,
    _FROM_DEVICES: FROM_DEVICES,
    _FROM_REPORTS: FROM_REPORTS,
    _FROM_ALARMS: _from_alarms(),
}
"""Texts below the tables."""


def described() -> Iterator[tuple[str, str, Iterable[SensorDescription]]]:
    """Return the name, devTypeId and sensors of the plant and of all device types."""
    yield _PLANT, "", PLANT_SENSORS.values()
    yield _FROM_DEVICES, "", FLOW_SENSORS.values()
    yield _FROM_REPORTS, "", REPORT_SENSORS.values()
    yield _FROM_ALARMS, "", ALARM_SENSORS.values()
    for type_id, table in DEVICE_SENSORS.items():
        yield DEVICE_TYPE_NAMES[type_id], str(type_id), table.values()


def _overview() -> str:
    """Return the table of supported devices."""
    rows = []
    for name, type_id, descriptions in described():
        names = [
            name_of(description)
            for description in descriptions
            if description.entity_registry_enabled_default
        ]
        disabled = sum(
            not description.entity_registry_enabled_default
            for description in descriptions
        )
        rows.append((name, type_id, ", ".join(names), str(disabled or "")))
    return _table(("Device", "devTypeId", "Enabled", "Disabled"), rows)


def _states() -> Iterator[str]:
    listed: set[str] = set()
    for _, _, descriptions in described():
        for description in descriptions:
            key = description.translation_key
            if key is None or key in listed or not description.options:
                continue
            listed.add(key)
            texts = _OWN[Platform.SENSOR][key]["state"]
            yield f"### {name_of(description)} (`{description.key}`)\n"
            yield _table(
                ("State", "Name"),
                ((f"`{state}`", texts[state]) for state in description.options),
            )


def entities() -> str:
    """Return the page of all entities."""
    parts = [INTRODUCTION, _overview()]
    for name, type_id, descriptions in described():
        parts += [
            f"## {name}{type_id and f' (devTypeId {type_id})'}\n",
            _entities(descriptions),
            *([_NOTES[name]] if name in _NOTES else []),
        ]
    parts += ["## Any device\n", _entities(BINARY_SENSORS.values())]
    parts += [ACCOUNT, _account()]
    parts += [STATES, *_states()]
    without = sorted(DEVICE_TYPE_NAMES.keys() - DEVICE_SENSORS.keys())
    parts += [
        WITHOUT_ENTITIES,
        _table(
            ("Device", "devTypeId"),
            ((DEVICE_TYPE_NAMES[type_id], str(type_id)) for type_id in without),
        ),
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    ENTITIES.write_text(entities())
