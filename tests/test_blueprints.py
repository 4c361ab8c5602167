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


async def _automate_all(
    hass: HomeAssistant, choices: dict[str, dict[str, Any]]
) -> None:
    """Create an automation from each of some blueprints."""
    automations = [
        {
            "id": blueprint,
            "alias": blueprint,
            "use_blueprint": {
                "path": f"{IMPORTED}/{blueprint}.yaml",
                "input": {**inputs, "notification": PHONE},
            },
        }
        for blueprint, inputs in choices.items()
    ]
    assert await async_setup_component(hass, "automation", {"automation": automations})
    await hass.async_block_till_done()
    states = hass.states.async_all("automation")
    assert [state.state for state in states] == [STATE_ON] * len(choices)


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
    assert called - {"Run actions"} <= names


def test_every_section_has_a_blueprint() -> None:
    """Every section of the documentation belongs to a blueprint."""
    assert DOCS.count("\n## ") == DOCS.count("```yaml") == len(FILES) == 9


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
        (each["domain"], device_class)
        for each in filters
        for device_class in _as_list(each.get("device_class"))
        # A load may be of any integration.
        if isinstance(each["domain"], str)
    }
    assert asked
    assert asked <= offered
    assert {each.get("integration", DOMAIN) for each in filters} == {DOMAIN}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


async def _run_actions(hass: HomeAssistant) -> None:
    """Select *Run actions* in the menu of the automation."""
    await hass.services.async_call(
        "automation", "trigger", {"entity_id": "automation.tested"}
    )


@pytest.mark.parametrize(
    ("blueprint", "inputs", "lines"),
    [
        ("alarm", {"plants": ["event.alarm"]}, ["Test message (critical)"]),
        (
            "inverter_problem",
            {
                "inverter_states": ["sensor.state", "sensor.health"],
                "connections": ["binary_sensor.connection"],
            },
            [
                "sensor.state: grid_connected",
                "binary_sensor.connection: on",
                "sensor.health is not the state of an inverter.",
            ],
        ),
        (
            "derating",
            {
                "temperatures": ["sensor.temperature"],
                "inverter_states": ["sensor.state", "sensor.health"],
            },
            [
                "sensor.temperature: 40 °C",
                "sensor.state: grid_connected",
                "sensor.health is not the state of an inverter.",
            ],
        ),
        (
            "no_data",
            {"plants": ["sensor.health", "sensor.state"]},
            ["sensor.health: healthy", "sensor.state is not the health of a plant."],
        ),
        ("battery_level", {"battery": "sensor.level"}, ["sensor.level: 50 %"]),
        ("daily_report", {"yield_today": "sensor.yield"}, ["Yield: 1 kWh"]),
        (
            "monthly_report",
            {"totals": ["sensor.yield"]},
            ["There are no statistics of this month."],
        ),
        (
            "low_yield",
            {"inverters": ["sensor.yield", "sensor.other"]},
            [
                (
                    "sensor.yield: 1 kWh today, "
                    "9.0 kWh to expect from the other inverters"
                ),
                (
                    "sensor.other: 9 kWh today, "
                    "1.0 kWh to expect from the other inverters"
                ),
            ],
        ),
        (
            "surplus_load",
            {
                "power": "sensor.power",
                "positive": "import",
                "load": "switch.load",
                "battery": "sensor.level",
            },
            [
                "sensor.power: 1200 W imported",
                "sensor.level: 50 %",
                "switch.load: off",
            ],
        ),
    ],
)
async def test_run_actions(
    recorder_mock: Recorder,
    hass: HomeAssistant,
    wait: Pass,
    blueprint: str,
    inputs: dict[str, Any],
    lines: list[str],
) -> None:
    """Without a problem, *Run actions* shows a test message in Home Assistant."""
    shown = async_mock_service(hass, "persistent_notification", "create")
    states = ["grid_connected", "grid_connected_self_derating", "shutdown_on_fault"]
    _show(hass, "sensor.state", "grid_connected", options=states)
    _show(hass, "sensor.health", "healthy", options=["disconnected", "healthy"])
    _show(hass, "binary_sensor.connection", STATE_ON)
    _show(hass, "sensor.temperature", "40", unit_of_measurement="°C")
    _show(hass, "sensor.level", "50", unit_of_measurement="%")
    _show(hass, "sensor.yield", "1", unit_of_measurement="kWh")
    _show(hass, "sensor.other", "9", unit_of_measurement="kWh")
    _show(hass, "sensor.power", "1.2", unit_of_measurement="kW")
    _show(hass, "switch.load", STATE_OFF)
    await _automate(hass, blueprint, **inputs)
    await _run_actions(hass)
    await hass.async_block_till_done(wait_background_tasks=True)
    [call] = shown
    assert call.data["title"].startswith("Test: ")
    assert call.data["message"].splitlines() == lines


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
async def test_texts_in_another_language(
    hass: HomeAssistant, phone: list[ServiceCall], file: Path
) -> None:
    """Title and message are inputs, whose templates the user can replace."""
    blueprint = load_yaml_dict(file)["blueprint"]
    assert isinstance(blueprint, dict)
    inputs = dict(_inputs(blueprint["input"]))
    for key in ("title", "message"):
        assert inputs[key]["selector"] == {"template": None}
        assert "{{" in inputs[key]["default"]
    assert " tell" not in TEXTS[file].lower()


# Ten plants


def with_fleet() -> pytest.MarkDecorator:
    """Run a test with ten plants of its own."""
    return pytest.mark.parametrize("home", [homes.fleet()], ids=["fleet"])


@pytest.fixture
async def ten_plants(
    account: Account, simulator: Simulator, phone: list[ServiceCall]
) -> Account:
    """Return an account with ten plants."""
    await account.add_plants(simulator.home.plants)
    await account.poll()
    return account


def _entity_ids(account: Account, simulator: Simulator, key: str) -> list[str]:
    """Return the entities of a data item."""
    sources: list[str | int] = []
    for plant in simulator.home.plants:
        sources += [plant.code, *(device.id for device in plant.devices)]
    entries = [account.registered(source, key) for source in sources]
    return [entry.entity_id for entry in entries if entry and not entry.disabled]


@with_fleet()
async def test_faults_of_ten_plants(
    hass: HomeAssistant,
    ten_plants: Account,
    simulator: Simulator,
    phone: list[ServiceCall],
) -> None:
    """A fault of the third plant, and then one of the seventh, name the plant."""
    _sun(hass, 60)
    states = _entity_ids(ten_plants, simulator, "inverter_state")
    assert len(states) == 10
    await _automate(
        hass, "inverter_problem", inverter_states=states, notification=PHONE
    )
    third, seventh = (simulator.home.plants[index].devices[0] for index in (2, 6))
    fault = _send(simulator, third, inverter_state=768)
    await ten_plants.pass_time(timedelta(minutes=20))
    assert _messages(phone) == ["Plant 0003 Inverter-1: Shutdown: on fault"]
    fault.remove()
    await ten_plants.pass_time(timedelta(minutes=10))
    _send(simulator, seventh, inverter_state=774)
    await ten_plants.pass_time(timedelta(minutes=20))
    assert _messages(phone)[1:] == [
        "Plant 0007 Inverter-1: Shutdown: DC switch disconnected"
    ]
    await _run_actions(hass)
    await ten_plants.pass_time(timedelta(seconds=1))
    lines = phone[-1].data["message"].splitlines()
    assert len(lines) == 10
    assert {line[:10] for line in lines} == {
        plant.name for plant in simulator.home.plants
    }


@with_fleet()
async def test_day_of_ten_plants(
    hass: HomeAssistant,
    ten_plants: Account,
    simulator: Simulator,
    phone: list[ServiceCall],
) -> None:
    """Each message names the plant of a device or of several."""
    account, plants = ten_plants, simulator.home.plants
    # The alarms are read for the first time.
    await account.pass_time(timedelta(minutes=2))
    await hass.async_block_till_done(wait_background_tasks=True)
    states = _entity_ids(account, simulator, "inverter_state")
    choices: dict[str, dict[str, Any]] = {
        "derating": {
            "temperatures": _entity_ids(account, simulator, "temperature"),
            "inverter_states": states,
        },
        "no_data": {
            "plants": _entity_ids(account, simulator, "real_health_state"),
            "hours": 2,
        },
        "low_yield": {
            # Every third plant is in the same town.
            "inverters": _entity_ids(account, simulator, "day_cap")[2::3],
            "capacities": [str(plant.size) for plant in plants[2::3]],
        },
        "alarm": {"plants": _entity_ids(account, simulator, "alarm")},
        "battery_level": {
            "battery": _entity_ids(account, simulator, "battery_soc")[7],
            "notices": ["low"],
        },
        "daily_report": {
            "yield_today": _entity_ids(account, simulator, "day_power")[0],
        },
    }
    assert len(choices["alarm"]["plants"]) == len(states) == 10
    await _automate_all(hass, choices)
    _send(simulator, plants[3].devices[0], temperature=81.26)
    _send(simulator, plants[4].devices[0], inverter_state=514)
    for device in plants[8].devices:
        device.connected = False
    simulator.alarms.start(plants[5].devices[0])
    _send(simulator, plants[7].devices[2], battery_soc=9)
    await account.pass_time(timedelta(hours=3))
    by_title = {call.data["title"]: call.data["message"] for call in phone}
    assert len(by_title) == len(phone)
    assert by_title.pop("Plant 0006: alarm raised").startswith("Inverter-1: ")
    assert by_title == {
        "Overheating or derating": (
            "Plant 0004 Inverter-1: 81.3 °C\n"
            "Plant 0005 Inverter-1: Grid-connected: self-derating"
        ),
        "No data for 2 hours": "Plant 0009: Disconnected",
        "Battery low": "Plant 0008 Battery-1: 9 %",
    }
    phone.clear()
    await account.pass_time(timedelta(hours=9))
    [low, report] = phone
    assert low.data["message"].startswith("Plant 0009 Inverter-1: ")
    assert len(low.data["message"].splitlines()) == 1
    assert report.data["title"] == "Plant 0001 today"


async def test_outage_of_ten_plants(
    hass: HomeAssistant, wait: Pass, phone: list[ServiceCall]
) -> None:
    """Plants without data are reported once and together."""
    plants = [f"sensor.plant_{number}" for number in range(10)]
    for entity_id in plants:
        _show(hass, entity_id, "healthy")
    await _automate(hass, "no_data", plants=plants, hours=6, notification=PHONE)
    _show(hass, plants[3], "disconnected")
    _show(hass, plants[4], STATE_UNAVAILABLE)
    await wait(hours=5, minutes=59)
    assert phone == []
    await wait(minutes=17)
    assert _messages(phone) == [f"{plants[3]}: disconnected\n{plants[4]}: unavailable"]
    await wait(hours=12)
    assert len(phone) == 1
    _show(hass, plants[3], "healthy")
    _show(hass, plants[5], STATE_UNKNOWN)
    await wait(hours=6, minutes=15)
    assert _messages(phone)[1:] == [f"{plants[4]}: unavailable\n{plants[5]}: unknown"]


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
    message = "{{ alarm.name }} {{ event }}"
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
        message="{{ alarm.name }}",
        quiet_from=quiet_from,
        quiet_until=quiet_until,
    )
    simulator.alarms.start(plant.devices[1])
    simulator.alarms.start(plant.devices[1], alarms.GRID_LOSS)
    await _next_alarms(alarmed)
    assert len(phone) == (0 if waits else 2)
    await _next_alarms(alarmed)
    assert sorted(_messages(phone)) == ["Device abnormal", "Grid loss"]


QUIET: Final = {
    "plants": [ALARM],
    "notification": PHONE,
    "message": "{{ alarm.name }} {{ event }}",
    "quiet_from": "12:20:00",
    "quiet_until": "13:25:00",
}


async def _turn(hass: HomeAssistant, state: str) -> None:
    """Turn the automation on, or off with the runs that wait."""
    await hass.services.async_call(
        "automation", f"turn_{state}", {"entity_id": "automation.tested"}, blocking=True
    )


@pytest.mark.parametrize("is_reloaded", [False, True])
async def test_alarms_of_quiet_hours(
    hass: HomeAssistant,
    alarmed: Account,
    simulator: Simulator,
    plant: Plant,
    phone: list[ServiceCall],
    is_reloaded: bool,
) -> None:
    """Alarms that are active after the quiet hours are reported once, with a reload."""
    inverter, battery = plant.devices[1:3]
    simulator.alarms.start(battery, alarms.DISCONNECTED)
    before = simulator.alarms.start(battery)
    await _automate(hass, "alarm", **QUIET)
    await _next_alarms(alarmed)
    assert _messages(phone) == [
        "Network Connection Error raised",
        "Device abnormal raised",
    ]
    phone.clear()
    over = simulator.alarms.start(inverter)
    simulator.alarms.start(inverter, alarms.GRID_LOSS)
    simulator.alarms.start(battery, alarms.UNDERVOLTAGE)
    simulator.alarms.clear(before)
    await _next_alarms(alarmed)
    simulator.alarms.clear(over)
    await _next_alarms(alarmed)
    await _next_alarms(alarmed)
    if is_reloaded:
        await _turn(hass, STATE_OFF)
        await alarmed.restart()
        await _turn(hass, STATE_ON)
    assert phone == []
    await _next_alarms(alarmed)
    await _next_alarms(alarmed)
    cleared = [] if is_reloaded else ["Device abnormal cleared"] * 2
    assert sorted(_messages(phone)) == [*cleared, "Grid loss raised"]
    await alarmed.pass_time(timedelta(days=1))
    assert _messages(phone).count("Grid loss raised") == 1


async def test_start_after_quiet_hours(
    hass: HomeAssistant,
    alarmed: Account,
    simulator: Simulator,
    plant: Plant,
    phone: list[ServiceCall],
) -> None:
    """Alarms are reported at the start if the quiet hours have ended before it."""
    inverter, battery = plant.devices[1:3]
    simulator.alarms.start(battery)
    await _automate(hass, "alarm", **QUIET)
    await _next_alarms(alarmed)
    phone.clear()
    simulator.alarms.start(inverter, alarms.GRID_LOSS)
    await _next_alarms(alarmed)
    await _turn(hass, STATE_OFF)
    await alarmed.pass_time(timedelta(hours=1))
    hass.set_state(CoreState.not_running)
    await _turn(hass, STATE_ON)
    assert phone == []
    await hass.async_start()
    await alarmed.pass_time(timedelta(minutes=6))
    assert _messages(phone) == ["Grid loss raised"]
    await alarmed.pass_time(timedelta(days=1))
    assert len(phone) == 1


async def test_names_like_numbers(
    hass: HomeAssistant,
    alarmed: Account,
    simulator: Simulator,
    plant: Plant,
    phone: list[ServiceCall],
) -> None:
    """Names of devices and alarms stay as they are."""
    await _automate(hass, "alarm", plants=[ALARM], notification=PHONE)
    simulator.alarms.start(
        plant.devices[1],
        devName="1.10",
        alarmName="0x10",
        alarmCause="[1, 2]",
        repairSuggestion="+1.0",
    )
    await _next_alarms(alarmed)
    assert _messages(phone) == ["1.10: 0x10 (major)\n[1, 2]\n+1.0"]


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
    assert _messages(phone) == ["Inverter-1: Disconnected"]


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
    assert _messages(phone) == ["Inverter-1: Disconnected"]


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
        "sensor.state_1: shutdown_on_fault\nbinary_sensor.connection_2: off"
    )


async def test_problems_of_one_day(
    hass: HomeAssistant,
    wait: Pass,
    phone: list[ServiceCall],
    two_inverters: dict[str, list[str]],
) -> None:
    """A fault after an outage is reported, also on the day of another one."""
    await _automate(hass, "inverter_problem", **two_inverters, notification=PHONE)
    _show(hass, "sensor.state_1", "shutdown_on_fault")
    await wait(minutes=15)
    assert _messages(phone) == ["sensor.state_1: shutdown_on_fault"]
    _show(hass, "sensor.state_1", "grid_connected")
    _show(hass, "sensor.state_2", STATE_UNAVAILABLE)
    await wait(hours=1)
    _show(hass, "sensor.state_2", "shutdown_on_fault")
    await wait(minutes=15)
    assert _messages(phone)[1:] == ["sensor.state_2: shutdown_on_fault"]


async def test_problem_at_start(
    hass: HomeAssistant,
    wait: Pass,
    phone: list[ServiceCall],
    two_inverters: dict[str, list[str]],
) -> None:
    """A problem that began before the start is reported if it lasts."""
    _last_triggered(hass, timedelta(hours=2))
    hass.set_state(CoreState.not_running)
    _show(hass, "sensor.state_1", "shutdown_on_fault")
    _show(hass, "binary_sensor.connection_1", STATE_OFF)
    await _automate(hass, "inverter_problem", **two_inverters, notification=PHONE)
    await hass.async_start()
    await wait(minutes=20)
    _show(hass, "binary_sensor.connection_1", STATE_ON)
    assert phone == []
    await wait(minutes=11)
    assert _messages(phone) == ["sensor.state_1: shutdown_on_fault"]


async def test_other_automation(
    hass: HomeAssistant,
    wait: Pass,
    phone: list[ServiceCall],
    two_inverters: dict[str, list[str]],
) -> None:
    """A known problem is not reported again when another automation is saved."""
    await _automate(hass, "inverter_problem", **two_inverters, notification=PHONE)
    _show(hass, "sensor.state_1", "shutdown_on_fault")
    await wait(minutes=15)
    assert len(phone) == 1
    hass.bus.async_fire("automation_reloaded")
    await wait(hours=1)
    assert len(phone) == 1


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
SURPLUS: Final = {"power": POWER, "positive": "export", "load": LOAD}


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
    await _automate(hass, "surplus_load", **SURPLUS)


@pytest.fixture
async def running(hass: HomeAssistant, surplus: None, wait: Pass) -> None:
    """Run the load for its minimum time, without surplus or shortage."""
    _export(hass, 1600)
    await wait(minutes=10)
    _export(hass, 0)
    await wait(minutes=31)
    assert _is_on(hass)


@pytest.mark.parametrize(
    ("is_plant", "key", "positive"),
    [(True, "grid_power", "import"), (False, "active_power", "export")],
)
async def test_surplus_of_the_account(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    plant: Plant,
    load: None,
    is_plant: bool,
    key: str,
    positive: str,
) -> None:
    """The power of the plant or of its meter switches a load on while exporting."""
    meter = plant.devices[3]
    imported = _send(simulator, meter, active_power=-2500)
    await added.poll()
    power = added.registered(plant.code if is_plant else meter.id, key)
    assert power
    inputs = {"power": power.entity_id, "positive": positive}
    await _automate(hass, "surplus_load", **inputs, load=LOAD)
    await added.pass_time(timedelta(minutes=20))
    assert not _is_on(hass)
    imported.remove()
    _send(simulator, meter, active_power=2500)
    await added.pass_time(timedelta(minutes=9))
    assert not _is_on(hass)
    await added.pass_time(timedelta(minutes=8))
    assert _is_on(hass)


async def test_sign_is_asked_for(
    hass: HomeAssistant, load: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The sign of the power is not assumed."""
    use = {
        "path": f"{IMPORTED}/surplus_load.yaml",
        "input": {"power": POWER, "load": LOAD},
    }
    config = {"automation": {"alias": "Tested", "use_blueprint": use}}
    await async_setup_component(hass, "automation", config)
    assert "Missing input positive" in caplog.text


@pytest.mark.parametrize(
    ("level", "after"), [(79, False), (80, True), (STATE_UNKNOWN, False)]
)
async def test_battery_reserve(
    hass: HomeAssistant, load: None, wait: Pass, level: object, after: bool
) -> None:
    """The load waits for the battery, and leaves it its reserve."""
    _charge(hass, level)
    await _automate(hass, "surplus_load", **SURPLUS, battery=LEVEL)
    _export(hass, 3000)
    await wait(minutes=15)
    assert _is_on(hass) is after
    if after:
        _export(hass, 0)
        _charge(hass, 75)
        await wait(hours=1)
        assert _is_on(hass)
        _charge(hass, 74)
        await wait(minutes=11)
        assert not _is_on(hass)


@pytest.mark.parametrize("domain", ["climate", "water_heater"])
async def test_load_with_modes(
    hass: HomeAssistant, load: None, wait: Pass, domain: str
) -> None:
    """A climate device and a water heater are on in all modes but off."""
    turned_on = async_mock_service(hass, domain, "turn_on")
    turned_off = async_mock_service(hass, domain, "turn_off")
    thing = f"{domain}.pool"
    _show(hass, thing, STATE_OFF)
    await _automate(hass, "surplus_load", **SURPLUS | {"load": thing})
    _export(hass, 3000)
    await wait(minutes=11)
    assert [call.data["entity_id"] for call in turned_on] == [[thing]]
    _show(hass, thing, "heat")
    _export(hass, -500)
    await wait(minutes=31)
    assert [call.data["entity_id"] for call in turned_off] == [[thing]]
    assert len(turned_on) == 1


async def test_load_with_a_number(hass: HomeAssistant, load: None, wait: Pass) -> None:
    """A charging current has one value with a surplus, and another without."""
    current = {"current": {"min": 0, "max": 32, "initial": 6}}
    assert await async_setup_component(hass, "input_number", {"input_number": current})
    number = "input_number.current"
    await _automate(
        hass,
        "surplus_load",
        **SURPLUS | {"load": number},
        on_value=16,
        off_value=6,
    )
    _export(hass, 3000)
    await wait(minutes=9)
    assert hass.states.is_state(number, "6.0")
    await wait(minutes=2)
    assert hass.states.is_state(number, "16.0")
    _export(hass, -500)
    await wait(minutes=31)
    assert hass.states.is_state(number, "6.0")


async def test_test_message_while_waiting(
    hass: HomeAssistant, load: None, wait: Pass, phone: list[ServiceCall]
) -> None:
    """A test message does not stop the load from being switched on."""
    await _automate(hass, "surplus_load", **SURPLUS, notification=PHONE)
    _export(hass, 3000)
    await wait(minutes=5)
    await _run_actions(hass)
    await wait(seconds=1)
    assert _messages(phone) == [
        "sensor.power: 3000 W exported\ninput_boolean.heater: Off",
    ]
    await wait(minutes=11)
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
    await _automate(hass, "surplus_load", **SURPLUS | {"positive": positive})
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
    await _automate(hass, "surplus_load", **SURPLUS)
    await hass.async_start()
    await wait(minutes=5)
    assert hass.states.is_state(LOAD, before)
    await wait(minutes=26)
    assert _is_on(hass) is after


async def test_surplus_at_creation(hass: HomeAssistant, load: None, wait: Pass) -> None:
    """A new automation acts on an existing surplus."""
    _export(hass, 3000)
    await _automate(hass, "surplus_load", **SURPLUS)
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
    await _automate(hass, "surplus_load", **SURPLUS, on_above=1000, off_below=2000)
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


async def test_test_message_of_a_low_battery(
    hass: HomeAssistant, wait: Pass, phone: list[ServiceCall]
) -> None:
    """A test message is sent while a battery is low, and changes nothing."""
    _charge(hass, 50)
    await _automate(hass, "battery_level", battery=LEVEL, notification=PHONE)
    await _charge_to(hass, wait, 8)
    await _run_actions(hass)
    await _charge_to(hass, wait, 7, 50)
    assert [call.data["title"] for call in phone] == [
        "Battery low",
        "Test: Battery low",
    ]


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
        f"Yield: {yielded:.2f} kWh",
        f"Self-consumption: {used:.2f} kWh ({used / yielded * 100:.0f} % of the yield)",
        f"Exported: {exported:.2f} kWh",
        f"Consumed: {consumed:.2f} kWh",
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
                "Yield: 20 kWh|Self-consumption: 8.00 kWh (40 % of the yield)"
                "|Exported: 12000 Wh|Consumed: 0.015 MWh|Revenue: 3.456 EUR"
            ),
        ),
        (
            ["yield_today"],
            "Exported: 12000 Wh|Consumed: 0.015 MWh|Revenue: 3.456 EUR",
        ),
        (
            ["exported_today", "revenue_today"],
            "Yield: 20 kWh|Consumed: 0.015 MWh",
        ),
        (["yield_today", "exported_today", "consumed_today"], "Revenue: 3.456 EUR"),
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
    assert _messages(phone) == ["Yield: 0 kWh"]


async def test_dark_day(
    hass: HomeAssistant, wait: Pass, phone: list[ServiceCall], day: dict[str, str]
) -> None:
    """Without a yield, the report has no share of the yield."""
    _show(hass, day["yield_today"], 0, unit_of_measurement="kWh")
    await _automate(hass, "daily_report", **day, notification=PHONE)
    await wait(hours=12)
    [message] = _messages(phone)
    assert "Self-consumption: 0.00 kWh\n" in message


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
        inverters=entity_ids,
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
        ([0, 0.9, 0.9], {"minimum": 0.5}, ["0 kWh today, 0.9 kWh"]),
        ([4.1, 10, 10], {"capacities": ["5", "10", "10"]}, []),
        ([3.9, 10, 10], {"capacities": ["5", "10", "10"]}, ["3.9 kWh today, 5.0 kWh"]),
        (
            [3.9, 10, 10],
            {"capacities": ["5,0", "10", "10"]},
            ["3.9 kWh today, 5.0 kWh"],
        ),
        ([4.1, 10, 10], {"capacities": ["5", "10"]}, ["4.1 kWh today, 10.0 kWh"]),
        ([7.9, 10, 10], {"least_of_others": 75}, []),
        ([0, 10, 10], {"inverters": [INVERTER]}, []),
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
    choices = {"inverters": [INVERTER, *OTHERS], **inputs}
    await _automate(hass, "low_yield", notification=PHONE, **choices)
    await wait(hours=24)
    assert _messages(phone) == [
        f"{INVERTER}: {text} to expect from the other inverters" for text in expected
    ]


async def test_several_low_yields(
    hass: HomeAssistant, wait: Pass, phone: list[ServiceCall]
) -> None:
    """All inverters with a low yield are reported in one message."""
    inverters = [f"sensor.inverter_{number}" for number in range(1, 6)]
    for entity_id, value in zip(inverters, [10, 2, 10, 0, 10], strict=True):
        _show(hass, entity_id, value, unit_of_measurement="kWh")
    await _automate(hass, "low_yield", inverters=inverters, notification=PHONE)
    await wait(hours=12)
    [message] = _messages(phone)
    assert message.splitlines() == [
        f"{entity_id}: {value} kWh today, 10.0 kWh to expect from the other inverters"
        for entity_id, value in ((inverters[1], 2), (inverters[3], 0))
    ]


async def test_yields_in_other_units(
    hass: HomeAssistant, wait: Pass, phone: list[ServiceCall]
) -> None:
    """The sensors may have another unit."""
    _yield(hass, 7900, unit="Wh")
    _show(hass, OTHERS[0], 0.01, unit_of_measurement="MWh")
    await _automate(
        hass, "low_yield", inverters=[INVERTER, OTHERS[0]], notification=PHONE
    )
    await wait(hours=12)
    assert len(phone) == 1


def _import(hass: HomeAssistant, yields: list[float]) -> None:
    """Record the yields of the past days, and one of today."""
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
    rows.append({"start": midnight, "state": 11, "sum": total + 11})
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
    await _automate(
        hass, "low_yield", inverters=[INVERTER], notification=PHONE, **choices
    )
    await async_wait_recording_done(hass)
    await wait(hours=11, minutes=1)
    await hass.async_block_till_done(wait_background_tasks=True)
    assert _messages(phone) == [
        f"{INVERTER}: {text} in the past days" for text in expected
    ]


# Monthly report


@with_fleet()
async def test_month_of_ten_plants(
    recorder_mock: Recorder,
    hass: HomeAssistant,
    ten_plants: Account,
    simulator: Simulator,
    phone: list[ServiceCall],
) -> None:
    """The report of the month before names the plant of every total."""
    await ten_plants.pass_time(timedelta(minutes=5))
    totals = [
        *_entity_ids(ten_plants, simulator, "pv_energy"),
        *_entity_ids(ten_plants, simulator, "total_income")[:1],
    ]
    units = ["kWh"] * 10 + ["EUR"] * (len(totals) - 10)
    for number, (entity_id, unit) in enumerate(zip(totals, units, strict=True)):
        _import_month(hass, entity_id, unit, 100.0 + number)
    await async_wait_recording_done(hass)
    await _automate(hass, "monthly_report", totals=totals, notification=PHONE)
    await _run_actions(hass)
    await hass.async_block_till_done(wait_background_tasks=True)
    [call] = phone
    assert call.data["title"] == "Test: Report of 05/2026"
    lines = call.data["message"].splitlines()
    assert lines[:10] == [
        f"{plant.name} PV production total: {100 + number}.0 kWh"
        for number, plant in enumerate(simulator.home.plants)
    ]
    assert len(lines) == len(totals)


@pytest.mark.parametrize(("day", "reports"), [(1, 1), (2, 0)])
async def test_day_of_the_month(
    recorder_mock: Recorder,
    hass: HomeAssistant,
    freezer: FrozenDateTimeFactory,
    wait: Pass,
    phone: list[ServiceCall],
    day: int,
    reports: int,
) -> None:
    """The report is sent on the chosen day only."""
    freezer.move_to("2026-06-30 12:00:00+02:00")
    _import_month(hass, INVERTER, "kWh", 310.0)
    await async_wait_recording_done(hass)
    _show(hass, INVERTER, 1, unit_of_measurement="kWh", device_class="energy")
    await _automate(
        hass, "monthly_report", totals=[INVERTER], day=day, notification=PHONE
    )
    await wait(hours=19)
    assert phone == []
    await wait(hours=2)
    await hass.async_block_till_done(wait_background_tasks=True)
    assert len(phone) == reports


@pytest.mark.parametrize(
    ("now", "title", "value"),
    [
        # The clocks go forward in March and back in October.
        ("2026-04-01 07:59:00+02:00", "Report of 03/2026", "31.0"),
        ("2026-11-01 07:59:00+01:00", "Report of 10/2026", "31.0"),
        ("2027-01-01 07:59:00+01:00", "Report of 12/2026", "31.0"),
        # The statistics have begun this month.
        ("2026-02-01 07:59:00+01:00", "Report of 01/2026", None),
    ],
)
async def test_month_before(
    recorder_mock: Recorder,
    hass: HomeAssistant,
    freezer: FrozenDateTimeFactory,
    wait: Pass,
    phone: list[ServiceCall],
    now: str,
    title: str,
    value: str | None,
) -> None:
    """Each day adds 1 kWh, and the report has the days of the month before."""
    await hass.config.async_set_time_zone("Europe/Berlin")
    freezer.move_to(now)
    begin = dt_util.parse_datetime("2026-02-01 00:00:00+01:00", raise_on_error=True)
    local = begin.astimezone(dt_util.DEFAULT_TIME_ZONE)
    _import_sums(
        hass,
        INVERTER,
        "kWh",
        [
            {"start": local + timedelta(days=day), "state": day, "sum": float(day)}
            for day in range(365)
            if local + timedelta(days=day) <= dt_util.now()
        ],
    )
    await async_wait_recording_done(hass)
    _show(hass, INVERTER, 1, unit_of_measurement="kWh", device_class="energy")
    await _automate(
        hass, "monthly_report", totals=[INVERTER], time="08:00:00", notification=PHONE
    )
    await wait(minutes=2)
    await hass.async_block_till_done(wait_background_tasks=True)
    [call] = phone
    assert call.data["title"] == title
    expected = "There are no statistics of this month."
    if value is not None:
        expected = f"{INVERTER}: {value} kWh"
    assert call.data["message"].strip() == expected


def _import_month(
    hass: HomeAssistant, entity_id: str, unit: str, change: float
) -> None:
    """Record a total that grows on two days of May."""
    start = dt_util.parse_datetime("2026-04-30 12:00:00+02:00", raise_on_error=True)
    middle = dt_util.parse_datetime("2026-05-15 12:00:00+02:00", raise_on_error=True)
    rows: list[StatisticData] = [
        {"start": start, "state": 0, "sum": 50.0},
        {"start": middle - timedelta(days=9), "state": 20.0, "sum": 70.0},
        {"start": middle, "state": change, "sum": 50.0 + change},
    ]
    _import_sums(hass, entity_id, unit, rows)


def _import_sums(
    hass: HomeAssistant, entity_id: str, unit: str, rows: list[StatisticData]
) -> None:
    """Record hours of a total."""
    metadata = StatisticMetaData(
        mean_type=StatisticMeanType.NONE,
        unit_class="energy" if unit == "kWh" else None,
        has_sum=True,
        name=None,
        source="recorder",
        statistic_id=entity_id,
        unit_of_measurement=unit,
    )
    async_import_statistics(hass, metadata, rows)
