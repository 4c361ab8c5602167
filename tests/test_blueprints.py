"""Tests of the blueprints: each runs as an automation in Home Assistant."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import chain
import json
from pathlib import Path
import re
import shutil
from typing import Any, Final
from urllib.parse import quote

from freezegun.api import FrozenDateTimeFactory
import pytest
from pytest_homeassistant_custom_component.common import (
    async_mock_service,
    mock_restore_cache,
)
from pytest_homeassistant_custom_component.components.recorder.common import (
    async_wait_recording_done,
)
from pytest_homeassistant_custom_component.test_util.aiohttp import AiohttpClientMocker

from custom_components.smartpvms.const import DOMAIN
from homeassistant.components.automation.config import AUTOMATION_BLUEPRINT_SCHEMA
from homeassistant.components.blueprint import BLUEPRINT_SCHEMA, Blueprint
from homeassistant.components.blueprint.importer import fetch_blueprint_from_url
from homeassistant.components.recorder import Recorder
from homeassistant.components.recorder.models import (
    StatisticData,
    StatisticMeanType,
    StatisticMetaData,
)
from homeassistant.components.recorder.statistics import async_import_statistics
from homeassistant.const import STATE_OFF, STATE_ON, STATE_UNAVAILABLE, STATE_UNKNOWN
from homeassistant.core import CoreState, HomeAssistant, ServiceCall, State
from homeassistant.helpers import entity_registry as er
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
from homeassistant.util.yaml import load_yaml_dict, parse_yaml
from tests.simulator import Device, Simulator, alarms, faults, homes
from tests.simulator.plants import Plant

from .component import ROOT, read_json
from .conftest import NOON, Account
from .timeline import pass_time

FOLDER: Final = ROOT / "blueprints" / "automation" / DOMAIN
FILES: Final = sorted(FOLDER.glob("*.yaml"))
TEXTS: Final = {file: file.read_text() for file in FILES}
DOCS: Final = (ROOT / "docs" / "automations.md").read_text()
REPOSITORY: Final = f"{read_json('manifest.json')['documentation']}/blob/main"
EXAMPLES: Final = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)

# Home Assistant imports into a folder named after the owner of the repository.
IMPORTED: Final = REPOSITORY.split("/")[3]

PHONE: Final = [
    {
        "action": "notify.phone",
        "data": {"title": "{{ title }}", "message": "{{ message }}"},
    }
]


@pytest.fixture
def expected_lingering_timers() -> bool:
    """Allow automations to wait until the end of the test."""
    return True


@pytest.fixture
def hass_config_dir(tmp_path: Path) -> str:
    """Return a configuration folder that contains the blueprints."""
    shutil.copytree(FOLDER, tmp_path / "blueprints" / "automation" / IMPORTED)
    return str(tmp_path)


@pytest.fixture
async def phone(hass: HomeAssistant) -> list[ServiceCall]:
    """Return the notifications sent to a phone."""
    calls: list[ServiceCall] = async_mock_service(hass, "notify", "phone")
    return calls


def _messages(calls: list[ServiceCall]) -> list[str]:
    return [call.data["message"] for call in calls]


async def _automate(hass: HomeAssistant, blueprint: str, **inputs: Any) -> None:
    """Create an automation from a blueprint."""
    automation = {
        "id": "1",
        "alias": "Tested",
        "use_blueprint": {"path": f"{IMPORTED}/{blueprint}.yaml", "input": inputs},
    }
    assert await async_setup_component(hass, "automation", {"automation": automation})
    await hass.async_block_till_done()
    state = hass.states.get("automation.tested")
    assert state
    assert state.state == STATE_ON


def _last_triggered(hass: HomeAssistant, ago: timedelta) -> None:
    """Restore the time of the automation's last action."""
    last = (dt_util.utcnow() - ago).isoformat()
    mock_restore_cache(
        hass, [State("automation.tested", STATE_ON, {"last_triggered": last})]
    )


type Pass = Callable[..., Any]


@pytest.fixture
async def wait(hass: HomeAssistant, freezer: FrozenDateTimeFactory) -> Pass:
    """Advance the time, starting at a noon in Berlin."""
    freezer.move_to(NOON)
    await hass.config.async_set_time_zone("Europe/Berlin")

    async def wait(**passed: float) -> None:
        await pass_time(hass, freezer, dt_util.utcnow() + timedelta(**passed))

    return wait


def _show(hass: HomeAssistant, entity_id: str, state: object, **more: Any) -> None:
    hass.states.async_set(entity_id, str(state), {"friendly_name": entity_id, **more})


# All blueprints


def _inputs(inputs: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, value in inputs.items():
        yield from _inputs(value["input"]) if "input" in value else [(key, value)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
async def test_import(
    hass: HomeAssistant, aioclient_mock: AiohttpClientMocker, file: Path
) -> None:
    """A blueprint can be imported from its address in the repository."""
    source = f"{REPOSITORY}/{file.relative_to(ROOT)}"
    raw = source.replace("github.com", "raw.githubusercontent.com")
    aioclient_mock.get(raw.replace("/blob", ""), text=TEXTS[file])
    imported = await fetch_blueprint_from_url(hass, source)
    assert imported.suggested_filename == f"{IMPORTED}/{file.stem}"
    assert imported.blueprint.validate() is None
    # As it is written to the disk.
    stored = parse_yaml(imported.blueprint.yaml())
    assert isinstance(stored, dict)
    assert Blueprint(stored, schema=AUTOMATION_BLUEPRINT_SCHEMA).inputs


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_metadata(file: Path) -> None:
    """A blueprint has its address, its requirements and all texts."""
    blueprint = BLUEPRINT_SCHEMA(load_yaml_dict(file))["blueprint"]
    # An import sets the address, but a manual copy does not.
    assert blueprint["source_url"] == f"{REPOSITORY}/{file.relative_to(ROOT)}"
    floor = json.loads((ROOT / "hacs.json").read_text())["homeassistant"]
    assert blueprint["homeassistant"]["min_version"] == floor
    assert blueprint["domain"] == "automation"
    assert blueprint["description"]
    for key, fields in _inputs(blueprint["input"]):
        assert fields["name"], key
        assert fields["selector"], key
    for section in blueprint["input"].values():
        required = [
            key for key, value in _inputs({"": section}) if "default" not in value
        ]
        assert not (section.get("collapsed") and required)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_documentation(file: Path) -> None:
    """A blueprint has a section with an import link and an example."""
    blueprint = load_yaml_dict(file)["blueprint"]
    assert isinstance(blueprint, dict)
    [section] = [
        section
        for section in DOCS.split("\n## ")
        if section.startswith(f"{blueprint['name']}\n")
    ]
    address = quote(f"{REPOSITORY}/{file.relative_to(ROOT)}", safe="")
    assert (
        "https://my.home-assistant.io/redirect/blueprint_import/"
        f"?blueprint_url={address})" in section
    )
    assert f"path: {IMPORTED}/{file.name}\n" in section
    for _, fields in _inputs(blueprint["input"]):
        assert fields["name"] in section


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_names_of_entities(file: Path) -> None:
    """The texts use the English entity names."""
    translations = ROOT / "custom_components" / DOMAIN / "translations" / "en.json"
    entities = json.loads(translations.read_text())["entity"]
    names = {
        entity["name"] for platform in entities.values() for entity in platform.values()
    }
    blueprint = load_yaml_dict(file)["blueprint"]
    assert isinstance(blueprint, dict)
    called = {
        name
        for _, fields in _inputs(blueprint["input"])
        for name in re.findall(r'"(.*?)"', fields.get("description", ""))
    }
    assert called
    assert called <= names


def test_every_section_has_a_blueprint() -> None:
    """Every section of the documentation belongs to a blueprint."""
    assert DOCS.count("\n## ") == DOCS.count("```yaml") == len(FILES) == 6


@pytest.mark.parametrize("example", EXAMPLES)
async def test_examples(hass: HomeAssistant, example: str) -> None:
    """Home Assistant accepts the examples as automations."""
    # Placeholders of IDs are in capitals.
    text = re.sub(r"\b[a-z_]+\.[A-Z_]+\b", lambda match: match[0].lower(), example)
    automation = parse_yaml(text)
    assert isinstance(automation, dict)
    use = automation["use_blueprint"]
    known = load_yaml_dict(FOLDER / Path(use["path"]).name)["blueprint"]
    assert isinstance(known, dict)
    assert use["input"].keys() <= dict(_inputs(known["input"])).keys()
    assert await async_setup_component(hass, "automation", {"automation": automation})
    await hass.async_block_till_done()
    [state] = hass.states.async_all("automation")
    assert state.name == automation["alias"]
    assert state.state == STATE_ON


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
async def test_entities_to_choose(
    hass: HomeAssistant, added: Account, file: Path
) -> None:
    """The family's account has an entity for every entity selector."""
    await added.poll()
    entries = er.async_entries_for_config_entry(
        er.async_get(hass), added.entry.entry_id
    )
    offered = {
        (entry.domain, entry.original_device_class)
        for entry in entries
        if entry.disabled_by is None
    }
    # An event of alarms has no device class.
    offered |= {(domain, None) for domain, _ in offered}
    blueprint = load_yaml_dict(file)["blueprint"]
    assert isinstance(blueprint, dict)
    filters = [
        fields["selector"]["entity"]["filter"]
        for _, fields in _inputs(blueprint["input"])
        if "entity" in fields["selector"]
    ]
    asked = {
        (each["domain"], each.get("device_class"))
        for each in filters
        # A load or another sensor may be of any integration.
        if "device_class" in each or each.get("integration") == DOMAIN
    }
    assert asked
    assert asked <= offered
    assert {each.get("integration", DOMAIN) for each in filters} == {DOMAIN}


@pytest.mark.parametrize(
    ("blueprint", "inputs"),
    [
        ("inverter_problem", {"inverter_states": ["sensor.state"]}),
        ("battery_level", {"battery": "sensor.level"}),
        ("daily_report", {"yield_today": "sensor.yield"}),
        ("low_yield", {"inverter": "sensor.yield", "others": ["sensor.other"]}),
    ],
)
async def test_notification_without_a_choice(
    hass: HomeAssistant, wait: Pass, blueprint: str, inputs: dict[str, Any]
) -> None:
    """By default, Home Assistant shows a notification."""
    shown = async_mock_service(hass, "persistent_notification", "create")
    _show(hass, "sensor.state", "shutdown_on_fault")
    _show(hass, "sensor.level", "5")
    _show(hass, "sensor.yield", "1", unit_of_measurement="kWh")
    _show(hass, "sensor.other", "9", unit_of_measurement="kWh")
    await _automate(hass, blueprint, **inputs)
    await hass.services.async_call(
        "automation", "trigger", {"entity_id": "automation.tested"}
    )
    await wait(minutes=1)
    [call] = shown
    assert call.data["title"]
    assert "sensor." in call.data["title"] + call.data["message"]


# Alarm


@pytest.fixture
async def alarmed(
    hass: HomeAssistant, added: Account, plant: Plant, phone: list[ServiceCall]
) -> Account:
    """Return the family's account with the event of its alarms."""
    await added.pass_time(timedelta(minutes=2))
    await hass.async_block_till_done(wait_background_tasks=True)
    assert added.value(plant.code, "alarm") == STATE_UNKNOWN
    return added


async def _next_alarms(account: Account) -> None:
    """Let the integration read the alarms."""
    await account.pass_time(timedelta(minutes=15, seconds=2))
    # Not until all is done: an automation may wait for the end of the quiet hours.
    for _ in range(3):
        await account.pass_time(timedelta(seconds=1))


ALARM: Final = "event.lindenweg_12_alarm"


async def test_alarm(
    hass: HomeAssistant,
    alarmed: Account,
    simulator: Simulator,
    plant: Plant,
    phone: list[ServiceCall],
) -> None:
    """An alarm is reported with cause and advice, and so is its end."""
    await _automate(hass, "alarm", plants=[ALARM], notification=PHONE)
    alarm = simulator.alarms.start(plant.devices[1])
    await _next_alarms(alarmed)
    [call] = phone
    assert call.data["title"] == "Lindenweg 12: alarm raised"
    texts = alarms.FAULT.texts["en_US"]
    assert call.data["message"] == (
        f"Inverter-1: Device abnormal (major)\n{texts.cause}\n{texts.advice}"
    )
    simulator.alarms.clear(alarm)
    await _next_alarms(alarmed)
    await _next_alarms(alarmed)
    assert phone[1].data["title"] == "Lindenweg 12: alarm cleared"
    assert phone[1].data["message"] == "Inverter-1: Device abnormal (major)"
    await _next_alarms(alarmed)
    assert len(phone) == 2


@pytest.mark.parametrize(
    ("inputs", "reported"),
    [
        ({}, ["Grid loss raised", "Device abnormal raised", "Grid loss cleared"]),
        ({"levels": ["critical"]}, ["Grid loss raised", "Grid loss cleared"]),
        ({"levels": ["warning"]}, ["Battery expansion module undervoltage raised"]),
        ({"events": ["cleared"]}, ["Grid loss cleared"]),
    ],
)
async def test_chosen_alarms(
    hass: HomeAssistant,
    alarmed: Account,
    simulator: Simulator,
    plant: Plant,
    phone: list[ServiceCall],
    inputs: dict[str, list[str]],
    reported: list[str],
) -> None:
    """Only the chosen levels and events are reported, each in one message."""
    message = "{{ name }} {{ event }}"
    await _automate(
        hass, "alarm", plants=[ALARM], notification=PHONE, message=message, **inputs
    )
    inverter, battery = plant.devices[1:3]
    lost = simulator.alarms.start(inverter, alarms.GRID_LOSS)
    simulator.alarms.start(battery, alarms.UNDERVOLTAGE)
    simulator.alarms.start(inverter)
    await _next_alarms(alarmed)
    simulator.alarms.clear(lost)
    await _next_alarms(alarmed)
    await _next_alarms(alarmed)
    assert _messages(phone) == reported


@pytest.mark.parametrize(
    ("quiet_from", "quiet_until", "waits"),
    [
        ("22:00:00", "12:30:00", True),
        ("12:00:00", "12:30:00", True),
        ("13:00:00", "12:30:00", True),
        ("22:00:00", "07:00:00", False),
        ("12:30:00", "13:00:00", False),
        ("12:00:00", "12:00:00", False),
    ],
)
async def test_quiet_hours(
    hass: HomeAssistant,
    alarmed: Account,
    simulator: Simulator,
    plant: Plant,
    phone: list[ServiceCall],
    quiet_from: str,
    quiet_until: str,
    waits: bool,
) -> None:
    """Alarms of the quiet hours are reported at their end."""
    await _automate(
        hass,
        "alarm",
        plants=[ALARM],
        notification=PHONE,
        message="{{ name }}",
        quiet_from=quiet_from,
        quiet_until=quiet_until,
    )
    simulator.alarms.start(plant.devices[1])
    simulator.alarms.start(plant.devices[1], alarms.GRID_LOSS)
    await _next_alarms(alarmed)
    assert len(phone) == (0 if waits else 2)
    await _next_alarms(alarmed)
    assert sorted(_messages(phone)) == ["Device abnormal", "Grid loss"]


async def test_texts_are_no_markdown(
    hass: HomeAssistant, alarmed: Account, simulator: Simulator, plant: Plant
) -> None:
    """By default, the texts of the server are shown as they are."""
    shown = async_mock_service(hass, "persistent_notification", "create")
    await _automate(hass, "alarm", plants=[ALARM])
    simulator.alarms.start(
        plant.devices[1], alarmCause=None, alarmName="![*x*](a_b)", repairSuggestion=""
    )
    await _next_alarms(alarmed)
    [call] = shown
    assert call.data["message"] == r"Inverter-1: !\[\*x\*\](a\_b) (major)"


# Inverter fault or disconnection


def _sun(hass: HomeAssistant, elevation: float) -> None:
    _show(hass, "sun.sun", "above_horizon", elevation=elevation)


def _send(simulator: Simulator, device: Device, **items: Any) -> faults.FaultHandle:
    """Change some items of a device from now on."""

    def rewrite(payload: dict[str, Any]) -> dict[str, Any]:
        for row in payload["data"]:
            row["dataItemMap"] |= items if row["devId"] == device.id else {}
        return payload

    return simulator.faults.add(faults.Rewrite(rewrite), "getDevRealKpi")


@pytest.fixture
def plant(simulator: Simulator) -> Plant:
    """Return the simulated plant."""
    return simulator.home.plants[0]


@pytest.fixture
async def watched(
    hass: HomeAssistant, added: Account, plant: Plant, phone: list[ServiceCall]
) -> Account:
    """Return the family's account, with its inverter watched in daylight."""
    inverter = plant.devices[1]
    _sun(hass, 60)
    state = added.registered(inverter.id, "inverter_state")
    connection = added.registered(inverter.id, "run_state")
    assert state
    assert connection
    await _automate(
        hass,
        "inverter_problem",
        inverter_states=[state.entity_id],
        connections=[connection.entity_id],
        notification=PHONE,
    )
    return added


async def test_fault(
    watched: Account, simulator: Simulator, plant: Plant, phone: list[ServiceCall]
) -> None:
    """A lasting fault is reported once, with translated names."""
    _send(simulator, plant.devices[1], inverter_state=768)
    await watched.pass_time(timedelta(minutes=9))
    assert phone == []
    await watched.pass_time(timedelta(minutes=7))
    [call] = phone
    assert call.data["title"] == "Inverter problem"
    assert call.data["message"] == "Inverter-1: Shutdown: on fault"
    await watched.pass_time(timedelta(hours=1))
    assert len(phone) == 1


async def test_fault_that_passes(
    watched: Account, simulator: Simulator, plant: Plant, phone: list[ServiceCall]
) -> None:
    """Faults of five minutes and normal states are not reported."""
    fault = _send(simulator, plant.devices[1], inverter_state=768)
    await watched.poll()
    fault.remove()
    await watched.pass_time(timedelta(hours=1))
    assert phone == []
    _send(simulator, plant.devices[1], inverter_state=513)
    await watched.pass_time(timedelta(hours=1))
    assert phone == []


async def test_disconnection(
    watched: Account, plant: Plant, phone: list[ServiceCall]
) -> None:
    """A disconnection is reported after half an hour."""
    plant.devices[1].connected = False
    await watched.pass_time(timedelta(minutes=30))
    assert phone == []
    await watched.pass_time(timedelta(minutes=6))
    assert _messages(phone) == ["Inverter-1: no connection"]


async def test_night(
    hass: HomeAssistant, watched: Account, plant: Plant, phone: list[ServiceCall]
) -> None:
    """A sleeping inverter is reported only if it sleeps on in the morning."""
    _sun(hass, 3)
    plant.devices[1].connected = False
    await watched.pass_time(timedelta(hours=2))
    assert phone == []
    _sun(hass, 6)
    await watched.pass_time(timedelta(minutes=29))
    assert phone == []
    await watched.pass_time(timedelta(minutes=2))
    assert _messages(phone) == ["Inverter-1: no connection"]


async def test_inverter_that_wakes_up(
    hass: HomeAssistant, watched: Account, plant: Plant, phone: list[ServiceCall]
) -> None:
    """An inverter that wakes up in the morning is not reported."""
    _sun(hass, 3)
    plant.devices[1].connected = False
    await watched.pass_time(timedelta(hours=2))
    _sun(hass, 6)
    await watched.pass_time(timedelta(minutes=10))
    plant.devices[1].connected = True
    await watched.pass_time(timedelta(hours=1))
    assert phone == []


async def test_unavailable_entities_are_not_reported(
    watched: Account, simulator: Simulator, phone: list[ServiceCall]
) -> None:
    """Unavailable entities are not reported as disconnected."""
    simulator.faults.add(faults.DropConnection())
    await watched.pass_time(timedelta(hours=1))
    assert phone == []


@pytest.fixture
async def two_inverters(hass: HomeAssistant, wait: Pass) -> dict[str, list[str]]:
    """Return the entities of two healthy inverters in daylight, without values."""
    _sun(hass, 60)
    entities = {
        "inverter_states": ["sensor.state_1", "sensor.state_2"],
        "connections": ["binary_sensor.connection_1", "binary_sensor.connection_2"],
    }
    for entity_id in chain.from_iterable(entities.values()):
        _show(hass, entity_id, STATE_UNAVAILABLE)
    return entities


async def test_problems_of_one_moment(
    hass: HomeAssistant,
    wait: Pass,
    phone: list[ServiceCall],
    two_inverters: dict[str, list[str]],
) -> None:
    """Inverters that fail together are reported in one message."""
    await _automate(
        hass,
        "inverter_problem",
        **two_inverters,
        disconnection_minutes=10,
        notification=PHONE,
    )
    _show(hass, "sensor.state_1", "grid_connected")
    _show(hass, "binary_sensor.connection_2", STATE_ON)
    await wait(minutes=5)
    _show(hass, "sensor.state_1", "shutdown_on_fault")
    # Another device type is read slightly later.
    await wait(seconds=5)
    _show(hass, "binary_sensor.connection_2", STATE_OFF)
    await wait(minutes=30)
    [message] = _messages(phone)
    assert message == (
        "sensor.state_1: shutdown_on_fault\nbinary_sensor.connection_2: no connection"
    )


@pytest.mark.parametrize(
    ("last_notified", "repeated"), [(timedelta(hours=2), 0), (timedelta(hours=13), 1)]
)
async def test_problem_after_restart(
    hass: HomeAssistant,
    wait: Pass,
    phone: list[ServiceCall],
    two_inverters: dict[str, list[str]],
    last_notified: timedelta,
    repeated: int,
) -> None:
    """A problem that was reported today is not repeated after a restart."""
    _last_triggered(hass, last_notified)
    await _automate(hass, "inverter_problem", **two_inverters, notification=PHONE)
    _show(hass, "binary_sensor.connection_1", STATE_OFF)
    _show(hass, "sensor.state_1", STATE_UNKNOWN)
    await wait(hours=1)
    assert len(phone) == repeated
    # A problem after the restart is always reported.
    _show(hass, "sensor.state_1", "shutdown_on_fault")
    await wait(hours=1)
    assert len(phone) == repeated + 1


async def test_any_time(
    hass: HomeAssistant,
    wait: Pass,
    phone: list[ServiceCall],
    two_inverters: dict[str, list[str]],
) -> None:
    """Inverters that stay on at night are also watched at night."""
    _sun(hass, -40)
    await _automate(
        hass,
        "inverter_problem",
        **two_inverters,
        minimum_elevation=-90,
        notification=PHONE,
    )
    _show(hass, "binary_sensor.connection_1", STATE_OFF)
    await wait(hours=1)
    assert len(phone) == 1


# Use the surplus

LOAD: Final = "input_boolean.heater"
POWER: Final = "sensor.power"


def _export(hass: HomeAssistant, power: object, unit: str = "W") -> None:
    _show(hass, POWER, power, unit_of_measurement=unit)


def _is_on(hass: HomeAssistant) -> bool:
    return hass.states.is_state(LOAD, STATE_ON)


async def _switch(hass: HomeAssistant, action: str) -> None:
    await hass.services.async_call(
        "input_boolean", action, {"entity_id": LOAD}, blocking=True
    )


@pytest.fixture
async def load(hass: HomeAssistant, wait: Pass) -> None:
    """Return a load that is off while nothing is exported."""
    assert await async_setup_component(hass, "homeassistant", {})
    await async_setup_component(
        hass, "input_boolean", {"input_boolean": {"heater": {}}}
    )
    _export(hass, 0)


@pytest.fixture
async def surplus(hass: HomeAssistant, load: None) -> None:
    """Create an automation that switches the load."""
    await _automate(hass, "surplus_load", power=POWER, load=LOAD)


@pytest.fixture
async def running(hass: HomeAssistant, surplus: None, wait: Pass) -> None:
    """Run the load for its minimum time, without surplus or shortage."""
    _export(hass, 1600)
    await wait(minutes=10)
    _export(hass, 0)
    await wait(minutes=31)
    assert _is_on(hass)


async def test_surplus_of_the_account(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    plant: Plant,
    load: None,
) -> None:
    """The net export power of the power sensor switches a load."""
    meter = plant.devices[3]
    normal = _send(simulator, meter, active_power=100)
    await added.poll()
    power = added.registered(meter.id, "active_power")
    assert power
    await _automate(hass, "surplus_load", power=power.entity_id, load=LOAD)
    normal.remove()
    _send(simulator, meter, active_power=2500)
    await added.pass_time(timedelta(minutes=9))
    assert not _is_on(hass)
    await added.pass_time(timedelta(minutes=8))
    assert _is_on(hass)


@pytest.mark.parametrize(
    ("positive", "power", "unit"),
    [
        ("export", 1501, "W"),
        ("export", 1.501, "kW"),
        ("export", 0.001501, "MW"),
        ("import", -1501, "W"),
        ("import", -1.501, "kW"),
    ],
)
async def test_units_and_signs(
    hass: HomeAssistant, load: None, wait: Pass, positive: str, power: float, unit: str
) -> None:
    """The threshold is in exported watts, regardless of unit and sign."""
    await _automate(hass, "surplus_load", power=POWER, load=LOAD, positive=positive)
    _export(hass, -power, unit)
    await wait(minutes=30)
    assert not _is_on(hass)
    _export(hass, power, unit)
    await wait(minutes=9)
    assert not _is_on(hass)
    await wait(minutes=2)
    assert _is_on(hass)


@pytest.mark.parametrize("dip", [1500, STATE_UNKNOWN, STATE_UNAVAILABLE])
async def test_short_surplus(
    hass: HomeAssistant, surplus: None, wait: Pass, dip: object
) -> None:
    """A short surplus does not switch the load on."""
    _export(hass, 3000)
    await wait(minutes=7)
    _export(hass, dip)
    await wait(minutes=30)
    assert not _is_on(hass)
    _export(hass, 3000)
    await wait(minutes=7)
    _export(hass, dip)
    await wait(minutes=1)
    _export(hass, 3000)
    await wait(minutes=9)
    assert not _is_on(hass)
    await wait(minutes=2)
    assert _is_on(hass)


async def test_hysteresis(hass: HomeAssistant, running: None, wait: Pass) -> None:
    """Powers between the thresholds do not switch."""
    await wait(hours=1)
    assert _is_on(hass)
    _export(hass, -1)
    await wait(minutes=9)
    assert _is_on(hass)
    await wait(minutes=2)
    assert not _is_on(hass)
    _export(hass, 1500)
    await wait(hours=1)
    assert not _is_on(hass)


async def test_short_shortage(hass: HomeAssistant, running: None, wait: Pass) -> None:
    """A short shortage does not switch the load off."""
    _export(hass, -2000)
    await wait(minutes=7)
    _export(hass, 100)
    await wait(minutes=30)
    assert _is_on(hass)
    _export(hass, -2000)
    await wait(minutes=7)
    _export(hass, 100)
    await wait(minutes=1)
    _export(hass, -2000)
    await wait(minutes=9)
    assert _is_on(hass)
    await wait(minutes=2)
    assert not _is_on(hass)


async def test_minimum_run_time(hass: HomeAssistant, surplus: None, wait: Pass) -> None:
    """A load runs for its minimum time even if the surplus ends at once."""
    _export(hass, 3000)
    await wait(minutes=10)
    _export(hass, -500)
    await wait(minutes=29)
    assert _is_on(hass)
    await wait(minutes=2)
    assert not _is_on(hass)


@pytest.mark.parametrize("missing", [STATE_UNKNOWN, STATE_UNAVAILABLE])
async def test_missing_power(
    hass: HomeAssistant, running: None, wait: Pass, missing: str
) -> None:
    """The load is switched off if the power is unknown."""
    _export(hass, missing)
    await wait(minutes=9)
    assert _is_on(hass)
    await wait(minutes=2)
    assert not _is_on(hass)
    await wait(hours=1)
    assert not _is_on(hass)


@pytest.mark.parametrize(
    ("before", "power", "after"),
    [(STATE_OFF, 3000, True), (STATE_ON, -500, False), (STATE_OFF, -500, False)],
)
async def test_surplus_at_start(
    hass: HomeAssistant,
    load: None,
    wait: Pass,
    before: str,
    power: float,
    after: bool,
) -> None:
    """A surplus or shortage at the start of Home Assistant switches the load."""
    hass.set_state(CoreState.not_running)
    hass.states.async_set(LOAD, before)
    _export(hass, power)
    await _automate(hass, "surplus_load", power=POWER, load=LOAD)
    await hass.async_start()
    await wait(minutes=5)
    assert hass.states.is_state(LOAD, before)
    await wait(minutes=26)
    assert _is_on(hass) is after


async def test_surplus_at_creation(hass: HomeAssistant, load: None, wait: Pass) -> None:
    """A new automation acts on an existing surplus."""
    _export(hass, 3000)
    await _automate(hass, "surplus_load", power=POWER, load=LOAD)
    hass.bus.async_fire("automation_reloaded")
    await wait(minutes=11)
    assert _is_on(hass)


async def test_load_that_was_unavailable(
    hass: HomeAssistant, surplus: None, wait: Pass
) -> None:
    """An unavailable load is switched when it becomes available."""
    hass.states.async_set(LOAD, STATE_UNAVAILABLE)
    _export(hass, 3000)
    await wait(minutes=20)
    hass.states.async_set(LOAD, STATE_OFF)
    await wait(minutes=11)
    assert _is_on(hass)


async def test_switched_by_hand(hass: HomeAssistant, surplus: None, wait: Pass) -> None:
    """A manually switched load keeps its state until a threshold is crossed."""
    _export(hass, -500)
    await _switch(hass, "turn_on")
    await wait(hours=2)
    assert _is_on(hass)
    _export(hass, 3000)
    await _switch(hass, "turn_off")
    await wait(minutes=1)
    await _switch(hass, "turn_on")
    await wait(minutes=30)
    await _switch(hass, "turn_off")
    await wait(hours=2)
    assert not _is_on(hass)


async def test_contradicting_thresholds(
    hass: HomeAssistant, load: None, wait: Pass
) -> None:
    """Contradicting thresholds do not switch back and forth."""
    await _automate(
        hass, "surplus_load", power=POWER, load=LOAD, on_above=1000, off_below=2000
    )
    _export(hass, 1500)
    await wait(minutes=11)
    assert _is_on(hass)
    await wait(hours=2)
    assert _is_on(hass)
    _export(hass, 900)
    await wait(minutes=11)
    assert not _is_on(hass)


# Battery low or full

LEVEL: Final = "sensor.level"


def _charge(hass: HomeAssistant, level: object) -> None:
    _show(hass, LEVEL, level, unit_of_measurement="%")


async def _charge_to(hass: HomeAssistant, wait: Pass, *levels: object) -> None:
    for level in levels:
        _charge(hass, level)
        await wait(minutes=1)


async def test_battery_of_the_account(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    plant: Plant,
    phone: list[ServiceCall],
) -> None:
    """The notification names the family's battery."""
    battery = plant.devices[2]
    level = added.registered(battery.id, "battery_soc")
    assert level
    await _automate(hass, "battery_level", battery=level.entity_id, notification=PHONE)
    _send(simulator, battery, battery_soc=9.4)
    await added.pass_time(timedelta(minutes=6))
    [call] = phone
    assert call.data["title"] == "Battery low"
    assert call.data["message"] == "Battery-1: 9 %"


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([11, 10, 11, 9, 15, 8], ["Battery low"]),
        ([10, 15, 16, 10], ["Battery low"] * 2),
        ([97, 98, 97, 99, 93, 100], ["Battery full"]),
        ([98, 93, 92, 98], ["Battery full"] * 2),
        ([10, 99, 9], ["Battery low", "Battery full", "Battery low"]),
        ([10, STATE_UNKNOWN, 9, STATE_UNAVAILABLE, 8], ["Battery low"]),
        ([STATE_UNAVAILABLE, 9], ["Battery low"]),
        ([STATE_UNKNOWN, STATE_UNAVAILABLE, 50], []),
    ],
)
async def test_battery_levels(
    hass: HomeAssistant,
    wait: Pass,
    phone: list[ServiceCall],
    levels: list[object],
    expected: list[str],
) -> None:
    """Each threshold is reported once, until the level has left it clearly."""
    _charge(hass, 50)
    await _automate(hass, "battery_level", battery=LEVEL, notification=PHONE)
    await _charge_to(hass, wait, *levels)
    assert [call.data["title"] for call in phone] == expected


@pytest.mark.parametrize("notices", [[], ["low"], ["full"]])
async def test_chosen_notices(
    hass: HomeAssistant, wait: Pass, phone: list[ServiceCall], notices: list[str]
) -> None:
    """Only the chosen events are reported."""
    _charge(hass, 50)
    await _automate(
        hass, "battery_level", battery=LEVEL, notices=notices, notification=PHONE
    )
    await _charge_to(hass, wait, 5, 50, 100, 50)
    assert [call.data["title"] for call in phone] == [
        f"Battery {notice}" for notice in notices
    ]


@pytest.mark.parametrize("first", [8, STATE_UNAVAILABLE])
@pytest.mark.parametrize(
    ("last_notified", "repeated"), [(timedelta(hours=5), 0), (timedelta(hours=7), 1)]
)
async def test_battery_after_restart(
    hass: HomeAssistant,
    wait: Pass,
    phone: list[ServiceCall],
    first: object,
    last_notified: timedelta,
    repeated: int,
) -> None:
    """After a restart, notifications are not repeated and the hysteresis is kept."""
    _last_triggered(hass, last_notified)
    hass.set_state(CoreState.not_running)
    _charge(hass, first)
    await _automate(hass, "battery_level", battery=LEVEL, notification=PHONE)
    await hass.async_start()
    await _charge_to(hass, wait, 8, 7, 11, 9)
    assert len(phone) == repeated
    await _charge_to(hass, wait, 16, 9)
    assert len(phone) == repeated + 1


async def test_full_battery_after_restart(
    hass: HomeAssistant, wait: Pass, phone: list[ServiceCall]
) -> None:
    """A full battery is not reported again after a restart."""
    _last_triggered(hass, timedelta(hours=1))
    hass.set_state(CoreState.not_running)
    _charge(hass, 100)
    await _automate(hass, "battery_level", battery=LEVEL, notification=PHONE)
    await hass.async_start()
    await wait(hours=7)
    await _charge_to(hass, wait, 99)
    assert phone == []


async def test_battery_jumps_after_restart(
    hass: HomeAssistant, wait: Pass, phone: list[ServiceCall]
) -> None:
    """A new level after a restart is reported, even without earlier levels."""
    _last_triggered(hass, timedelta(hours=1))
    hass.set_state(CoreState.not_running)
    _charge(hass, 100)
    await _automate(hass, "battery_level", battery=LEVEL, notification=PHONE)
    await hass.async_start()
    await _charge_to(hass, wait, STATE_UNAVAILABLE, 5)
    assert [call.data["title"] for call in phone] == ["Battery low"]


async def test_battery_automation_off_and_on(
    hass: HomeAssistant, wait: Pass, phone: list[ServiceCall]
) -> None:
    """Turning the automation off and on repeats no notification."""
    _charge(hass, 50)
    await _automate(hass, "battery_level", battery=LEVEL, notification=PHONE)
    await _charge_to(hass, wait, 8)
    for action in ("turn_off", "turn_on"):
        await hass.services.async_call(
            "automation", action, {"entity_id": "automation.tested"}, blocking=True
        )
    await _charge_to(hass, wait, 7)
    assert len(phone) == 1


async def test_battery_that_is_low_at_creation(
    hass: HomeAssistant, wait: Pass, phone: list[ServiceCall]
) -> None:
    """A battery that is low when the automation is created is reported."""
    _charge(hass, 8)
    await _automate(hass, "battery_level", battery=LEVEL, notification=PHONE)
    hass.bus.async_fire("automation_reloaded")
    await wait(minutes=1)
    assert len(phone) == 1


# Daily report


async def test_report_of_the_account(
    hass: HomeAssistant, added: Account, plant: Plant, phone: list[ServiceCall]
) -> None:
    """The daily report is sent a quarter of an hour before midnight."""
    entities = {
        name: added.registered(plant.code, key)
        for name, key in {
            "yield_today": "day_power",
            "exported_today": "day_on_grid_energy",
            "consumed_today": "day_use_energy",
            "revenue_today": "day_income",
        }.items()
    }
    inputs = {name: entry.entity_id for name, entry in entities.items() if entry}
    await _automate(hass, "daily_report", **inputs, notification=PHONE)
    await added.poll(timedelta(hours=11, minutes=39))
    await added.pass_time(timedelta(minutes=5))
    assert phone == []
    await added.pass_time(timedelta(minutes=2))
    [call] = phone
    yielded, exported, consumed, revenue = (
        float(added.value(plant.code, key) or "")
        for key in ("day_power", "day_on_grid_energy", "day_use_energy", "day_income")
    )
    used = yielded - exported
    assert 0 < used < yielded
    assert call.data["title"] == "Lindenweg 12 today"
    assert call.data["message"].splitlines() == [
        f"Yield: {yielded:.1f} kWh",
        f"Self-consumption: {used:.1f} kWh ({used / yielded * 100:.0f} % of the yield)",
        f"Exported: {exported:.1f} kWh",
        f"Consumed: {consumed:.1f} kWh",
        f"Revenue: {revenue:.2f} EUR",
    ]
    await added.pass_time(timedelta(hours=23))
    assert len(phone) == 1


@pytest.fixture
def day(hass: HomeAssistant) -> dict[str, str]:
    """Return the entities of a plant's day."""
    for key, value, unit in (
        ("yield_today", 20, "kWh"),
        ("exported_today", 12_000, "Wh"),
        ("consumed_today", 0.015, "MWh"),
        ("revenue_today", 3.456, "EUR"),
    ):
        _show(hass, f"sensor.{key}", value, unit_of_measurement=unit)
    return {
        key: f"sensor.{key}"
        for key in ("yield_today", "exported_today", "consumed_today", "revenue_today")
    }


@pytest.mark.parametrize("missing", [STATE_UNKNOWN, STATE_UNAVAILABLE])
@pytest.mark.parametrize(
    ("without", "lines"),
    [
        (
            [],
            (
                "Yield: 20.0 kWh|Self-consumption: 8.0 kWh (40 % of the yield)"
                "|Exported: 12.0 kWh|Consumed: 15.0 kWh|Revenue: 3.46 EUR"
            ),
        ),
        (
            ["yield_today"],
            "Exported: 12.0 kWh|Consumed: 15.0 kWh|Revenue: 3.46 EUR",
        ),
        (
            ["exported_today", "revenue_today"],
            "Yield: 20.0 kWh|Consumed: 15.0 kWh",
        ),
        (["yield_today", "exported_today", "consumed_today"], "Revenue: 3.46 EUR"),
    ],
)
async def test_report_of_known_values(
    hass: HomeAssistant,
    wait: Pass,
    phone: list[ServiceCall],
    day: dict[str, str],
    missing: str,
    without: list[str],
    lines: str,
) -> None:
    """Unknown values are left out of the report."""
    for key in without:
        _show(hass, day[key], missing)
    await _automate(hass, "daily_report", **day, notification=PHONE)
    await wait(hours=12)
    assert _messages(phone) == [lines.replace("|", "\n")]


async def test_report_of_nothing(
    hass: HomeAssistant, wait: Pass, phone: list[ServiceCall], day: dict[str, str]
) -> None:
    """Without known values, there is no report."""
    for entity_id in day.values():
        _show(hass, entity_id, STATE_UNAVAILABLE)
    await _automate(hass, "daily_report", **day, notification=PHONE)
    await wait(hours=24)
    assert phone == []


async def test_report_of_the_yield_alone(
    hass: HomeAssistant, wait: Pass, phone: list[ServiceCall], day: dict[str, str]
) -> None:
    """A plant without the newer values has a report, even without a yield."""
    _show(hass, day["yield_today"], 0, unit_of_measurement="kWh")
    await _automate(
        hass, "daily_report", yield_today=day["yield_today"], notification=PHONE
    )
    await wait(hours=12)
    assert _messages(phone) == ["Yield: 0.0 kWh"]


async def test_dark_day(
    hass: HomeAssistant, wait: Pass, phone: list[ServiceCall], day: dict[str, str]
) -> None:
    """Without a yield, the report has no share of the yield."""
    _show(hass, day["yield_today"], 0, unit_of_measurement="kWh")
    await _automate(hass, "daily_report", **day, notification=PHONE)
    await wait(hours=12)
    [message] = _messages(phone)
    assert "Self-consumption: 0.0 kWh\n" in message


async def test_report_after_sunset(
    hass: HomeAssistant, wait: Pass, phone: list[ServiceCall], day: dict[str, str]
) -> None:
    """The report can be sent after sunset, and is then not sent twice."""
    await hass.config.async_update(latitude=52.52, longitude=13.405)
    await _automate(
        hass,
        "daily_report",
        **day,
        report_at="sunset",
        after_sunset={"minutes": 30},
        notification=PHONE,
    )
    # The sun sets at 21:33.
    await wait(hours=10)
    assert phone == []
    await wait(minutes=10)
    assert len(phone) == 1
    await wait(hours=12)
    assert len(phone) == 1


# Low yield

INVERTER: Final = "sensor.inverter_1"
OTHERS: Final = ["sensor.inverter_2", "sensor.inverter_3"]


def _yield(hass: HomeAssistant, *yields: object, unit: str = "kWh") -> None:
    for entity_id, value in zip((INVERTER, *OTHERS), yields, strict=False):
        _show(hass, entity_id, value, unit_of_measurement=unit)


@pytest.mark.parametrize("home", [homes.farm()])
@pytest.mark.parametrize(
    ("connected", "messages"), [(True, 0), (False, 1)], ids=["healthy", "dead"]
)
async def test_yield_of_the_account(
    hass: HomeAssistant,
    added: Account,
    plant: Plant,
    phone: list[ServiceCall],
    connected: bool,
    messages: int,
) -> None:
    """An inverter that is off since noon is reported, a healthy one is not."""
    inverters = plant.devices[1:5]
    entries = [added.registered(inverter.id, "day_cap") for inverter in inverters]
    entity_ids = [entry.entity_id for entry in entries if entry]
    await _automate(
        hass,
        "low_yield",
        inverter=entity_ids[0],
        others=entity_ids,
        notification=PHONE,
    )
    inverters[0].connected = connected
    await added.poll(timedelta(hours=10, minutes=54))
    await added.pass_time(timedelta(minutes=7))
    assert len(phone) == messages
    assert all("Inverter-1: " in message for message in _messages(phone))


@pytest.mark.parametrize(
    ("yields", "inputs", "expected"),
    [
        ([7.9, 10, 10], {}, ["7.9 kWh today, 10.0 kWh"]),
        ([8, 10, 10], {}, []),
        ([7.9, STATE_UNKNOWN, 10], {}, ["7.9 kWh today, 10.0 kWh"]),
        ([0, STATE_UNKNOWN, STATE_UNAVAILABLE], {}, []),
        ([STATE_UNKNOWN, 10, 10], {}, []),
        ([STATE_UNAVAILABLE, 10, 10], {}, []),
        ([0, 0.9, 0.9], {}, []),
        ([0, 0.9, 0.9], {"minimum": 0.5}, ["0.0 kWh today, 0.9 kWh"]),
        ([4.1, 10, 10], {"ratio": 50}, []),
        ([3.9, 10, 10], {"ratio": 50}, ["3.9 kWh today, 5.0 kWh"]),
        ([7.9, 10, 10], {"least_of_others": 75}, []),
        ([0, 10, 10], {"others": []}, []),
        ([7.9, 10], {"others": [INVERTER, *OTHERS]}, ["7.9 kWh today, 10.0 kWh"]),
    ],
)
async def test_yield_of_neighbors(
    hass: HomeAssistant,
    wait: Pass,
    phone: list[ServiceCall],
    yields: list[object],
    inputs: dict[str, Any],
    expected: list[str],
) -> None:
    """A yield is low if it is clearly below that of the other inverters."""
    _yield(hass, *yields)
    choices = {"others": OTHERS, **inputs}
    await _automate(hass, "low_yield", inverter=INVERTER, notification=PHONE, **choices)
    await wait(hours=24)
    assert _messages(phone) == [
        f"{INVERTER}: {text} to expect from the other inverters" for text in expected
    ]


async def test_yields_in_other_units(
    hass: HomeAssistant, wait: Pass, phone: list[ServiceCall]
) -> None:
    """The sensors may have another unit."""
    _yield(hass, 7900, unit="Wh")
    _show(hass, OTHERS[0], 0.01, unit_of_measurement="MWh")
    await _automate(
        hass, "low_yield", inverter=INVERTER, others=OTHERS, notification=PHONE
    )
    await wait(hours=12)
    assert len(phone) == 1


def _import(hass: HomeAssistant, yields: list[float]) -> None:
    """Record the yields of the past days."""
    midnight = dt_util.start_of_local_day()
    rows: list[StatisticData] = []
    for ago, day in enumerate(reversed(yields), 1):
        start = midnight - timedelta(days=ago)
        rows = [
            {"start": start + timedelta(hours=12), "state": day, "sum": 0},
            *rows,
        ]
    total = 1000.0
    for row in rows:
        total += row["state"] or 0
        row["sum"] = total
    first: StatisticData = {
        "start": midnight - timedelta(days=20),
        "state": 0,
        "sum": 1000,
    }
    metadata = StatisticMetaData(
        mean_type=StatisticMeanType.NONE,
        unit_class="energy",
        has_sum=True,
        name=None,
        source="recorder",
        statistic_id=INVERTER,
        unit_of_measurement="kWh",
    )
    async_import_statistics(hass, metadata, [first, *rows])


@pytest.mark.parametrize(
    ("past", "today", "inputs", "expected"),
    [
        ([10, 12, 11, 30], 2.2, {}, ["2.2 kWh today, 11.5 kWh usual"]),
        ([10, 12, 11, 30], 2.4, {}, []),
        (
            [10, 12, 11, 30],
            2.4,
            {"least_of_usual": 50},
            ["2.4 kWh today, 11.5 kWh usual"],
        ),
        ([10, 12, 11, 30], 0, {"days": 0}, []),
        # Two days are not enough.
        ([10, 12, 11, 30], 0, {"days": 2}, []),
        ([10, 12], 0, {}, []),
        ([], 0, {}, []),
        ([1, 1, 1, 1], 0, {"minimum": 1.5}, []),
    ],
)
async def test_usual_yield(
    recorder_mock: Recorder,
    hass: HomeAssistant,
    wait: Pass,
    phone: list[ServiceCall],
    past: list[float],
    today: float,
    inputs: dict[str, Any],
    expected: list[str],
) -> None:
    """A yield is low if it is far below the usual yield of the past days."""
    _import(hass, past)
    _yield(hass, today)
    choices = {"days": 14, **inputs}
    await _automate(hass, "low_yield", inverter=INVERTER, notification=PHONE, **choices)
    await async_wait_recording_done(hass)
    await wait(hours=11, minutes=1)
    await hass.async_block_till_done(wait_background_tasks=True)
    assert _messages(phone) == [
        f"{INVERTER}: {text} in the past days" for text in expected
    ]
