"""Tests of README and docs: complete, correct and up to date."""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
import json
from pathlib import Path
import re
from typing import Any, Final

import pytest
from pytest_homeassistant_custom_component.common import async_mock_service

from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.descriptions import BINARY_SENSORS
from custom_components.smartpvms.errors import INTERFACES
from custom_components.smartpvms.northbound.errors import RequestRejected, error_for
from homeassistant.components.recorder import Recorder
from homeassistant.const import STATE_ON
from homeassistant.core import HomeAssistant, State
from homeassistant.setup import async_setup_component
from homeassistant.util.yaml import load_yaml_dict, parse_yaml
from scripts import tables
from tests.simulator import Simulator

from .component import ENGLISH, ROOT
from .conftest import Account

# Pages by their path.
PAGES: Final = {
    page.relative_to(ROOT).as_posix(): page.read_text()
    for page in (
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *sorted((ROOT / "docs").glob("*.md")),
    )
}
README: Final = PAGES["README.md"]

# Sections required by the quality scale.
SECTIONS: Final = {
    "docs-actions": ("docs/actions.md", "Actions"),
    "docs-configuration-parameters": ("docs/options.md", "Options"),
    "docs-data-update": ("README.md", "How values are refreshed"),
    "docs-examples": ("docs/examples.md", "Automations without a blueprint"),
    "docs-installation-instructions": ("README.md", "Installation"),
    "docs-installation-parameters": ("README.md", "Setup"),
    "docs-known-limitations": ("docs/limits.md", "Known limitations"),
    "docs-removal-instructions": ("README.md", "Removal"),
    "docs-supported-devices": ("docs/entities.md", "Supported devices"),
    "docs-supported-functions": ("README.md", "What you get"),
    "docs-troubleshooting": ("README.md", "Troubleshooting"),
    "docs-use-cases": ("README.md", "What you can do with it"),
}


RULES: Final = load_yaml_dict(
    ROOT / "custom_components" / DOMAIN / "quality_scale.yaml"
)["rules"]


# IDs in examples, which differ from language to language.
PLACEHOLDER: Final = re.compile(
    r"\b(?:binary_sensor|event|sensor|switch)\.[A-Z][A-Z_]+\b"
)
IDS: Final = {
    "binary_sensor.INVERTER_PROBLEM": "binary_sensor.inverter_1_problem",
    "event.ALARM": "event.lindenweg_12_alarm",
    "sensor.BATTERY_CHARGE_TOTAL": "sensor.lindenweg_12_battery_charge_total",
    "sensor.BATTERY_DISCHARGE_TOTAL": "sensor.lindenweg_12_battery_discharge_total",
    "sensor.BATTERY_POWER": "sensor.lindenweg_12_battery_power",
    "sensor.CHARGE_TODAY": "sensor.battery_1_charge_today",
    "sensor.DISCHARGE_TODAY": "sensor.battery_1_discharge_today",
    "sensor.EXPORT_POWER": "sensor.meter_1_export_power",
    "sensor.GRID_EXPORT_TODAY": "sensor.lindenweg_12_grid_export_today",
    "sensor.GRID_EXPORT_TOTAL": "sensor.lindenweg_12_grid_export_total",
    "sensor.GRID_IMPORT_TODAY": "sensor.lindenweg_12_grid_import_today",
    "sensor.GRID_IMPORT_TOTAL": "sensor.lindenweg_12_grid_import_total",
    "sensor.GRID_POWER": "sensor.lindenweg_12_grid_power",
    "sensor.HEALTH": "sensor.lindenweg_12_health",
    "sensor.HOME_CONSUMPTION_TODAY": "sensor.lindenweg_12_home_consumption_today",
    "sensor.HOME_POWER": "sensor.lindenweg_12_home_power",
    "sensor.INVERTER_STATE": "sensor.inverter_1_state",
    "sensor.PV_POWER": "sensor.lindenweg_12_pv_power",
    "sensor.PV_PRODUCTION_TODAY": "sensor.lindenweg_12_pv_production_today",
    "sensor.PV_PRODUCTION_TOTAL": "sensor.lindenweg_12_pv_production_total",
    "sensor.STATE_OF_CHARGE": "sensor.battery_1_state_of_charge",
    "switch.LOAD": "switch.boiler",
}
# An ID of an entity of this integration, in a certain language.
OWN_ID: Final = re.compile(r"\b(?:binary_sensor|button|event|sensor)\.[a-z]\w*")


def _sections(page: str) -> dict[str, str]:
    """Return the text of every section and its subsections, by heading."""
    # A comment in an example is not a heading.
    prose = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    assert prose.count("```") == 0
    headings = [
        (len(match[1]), match[2], match.start())
        for match in re.finditer(r"^(#+) (.+)$", page, re.MULTILINE)
        if match[0] in prose
    ]
    return {
        heading: page[start:end]
        for index, (level, heading, start) in enumerate(headings)
        for end in [
            next(
                (at for other, _, at in headings[index + 1 :] if other <= level),
                len(page),
            )
        ]
    }


HEADINGS: Final = {path: _sections(page) for path, page in PAGES.items()}


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")


def _rows(text: str) -> dict[str, list[str]]:
    """Return the cells of the rows of a section's tables, by their first cell."""
    rows = [
        [cell.strip(" `") for cell in line.strip().strip("|").split("|")]
        for line in text.splitlines()
        if line.lstrip().startswith("|")
    ]
    return {first: cells for first, *cells in rows}


def _examples(page: str) -> Iterator[Any]:
    for block in re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        yield parse_yaml(block)


def _with_ids(text: str) -> str:
    """Return a text with the IDs of entities in place of its placeholders."""
    return PLACEHOLDER.sub(lambda match: IDS[match[0]], text)


AUTOMATIONS: Final = [
    example
    for page in ("docs/examples.md", "docs/alarms.md")
    for example in _examples(_with_ids(PAGES[page]))
]
CALLS: Final = list(_examples(PAGES["docs/actions.md"]))


def test_tables() -> None:
    """The page of all entities is the output of scripts/tables."""
    assert PAGES["docs/entities.md"] == tables.entities()


@pytest.mark.parametrize(("page", "heading"), sorted(set(SECTIONS.values())))
def test_sections(page: str, heading: str) -> None:
    """Every documentation rule is met by a section of some length."""
    assert len(HEADINGS[page][heading].split()) > 40


def test_every_docs_rule_has_a_section() -> None:
    """All documentation rules except the introduction's have a section."""
    assert set(SECTIONS) | {
        "docs-high-level-description",
        "docs-conditions",
        "docs-triggers",
    } == {rule for rule in RULES if rule.startswith("docs-")}
    introduction = README[: README.index("\n## ")]
    assert "https://solar.huawei.com" in introduction


def _links(page: str) -> list[str]:
    """Return the link and image targets of a page, except those in code."""
    prose = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", prose)


def _anchors(page: str) -> set[str]:
    """Return the anchors of a page as named by GitHub; headings must be unique."""
    anchors = [_anchor(heading) for heading in _sections(page)]
    assert len(anchors) == len(set(anchors))
    return set(anchors)


@pytest.mark.parametrize("path", PAGES)
def test_links(path: str) -> None:
    """Links within the repository have existing targets."""
    folder = (ROOT / path).parent
    for link in _links(PAGES[path]):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        file = (folder / target).resolve() if target else ROOT / path
        assert file.is_relative_to(ROOT), link
        assert file.exists(), link
        assert not anchor or anchor in _anchors(file.read_text()), link


@pytest.mark.parametrize("path", [path for path in PAGES if path.startswith("docs/")])
def test_every_page_is_linked(path: str) -> None:
    """Every page of docs is linked from README."""
    assert path in [link.partition("#")[0] for link in _links(README)]


@pytest.mark.parametrize(
    "path", [image.name for image in (ROOT / "docs" / "images").iterdir()]
)
def test_images(path: str) -> None:
    """Every picture is used, and small enough for a repository."""
    shown = {Path(link).name for page in PAGES.values() for link in _links(page)}
    assert path in shown
    assert (ROOT / "docs" / "images" / path).stat().st_size < 200_000


GUIDES: Final = [
    path for path in PAGES if path == "README.md" or path.startswith("docs/")
]


@pytest.mark.parametrize("path", GUIDES)
def test_no_language(path: str) -> None:
    """IDs of entities are placeholders, since they depend on the language."""
    # Home Assistant's own trigger looks like an ID.
    page = PAGES[path].replace("trigger: event.received", "")
    assert OWN_ID.findall(page) == []


@pytest.mark.parametrize("name", ["examples", "optimizers", "cards"])
def test_placeholders(name: str) -> None:
    """Every placeholder of a page is explained in its table."""
    page = PAGES[f"docs/{name}.md"]
    explained = {cell for cell in _rows(page) if PLACEHOLDER.fullmatch(cell)}
    assert explained == set(PLACEHOLDER.findall(page))


@pytest.mark.parametrize("command", ["scripts/demo", "scripts/test"])
def test_commands(command: str) -> None:
    """The commands of a developer exist, and are named near the top of README."""
    assert (ROOT / command).is_file()
    assert f"`{command}`" in README[: README.index("\n## ")]


def _blocks(path: Path) -> list[str]:
    """Return the YAML of a file, or of the examples in a page."""
    text = path.read_text()
    if path.suffix == ".yaml":
        return [text]
    return re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "path",
    [
        path.relative_to(ROOT).as_posix()
        for folder in ("docs", "blueprints")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".md", ".yaml")
    ],
)
def test_yaml(path: str) -> None:
    """Every YAML in docs and blueprints is valid."""
    for block in _blocks(ROOT / path):
        assert parse_yaml(block)


@pytest.mark.parametrize(
    "path",
    ["docs/cards.md", "docs/moving.md", "docs/optimizers.md", "docs/which-entity.md"],
)
def test_names(path: str) -> None:
    """The new entities in the tables of a page exist under these names."""
    names = {
        tables.name_of(item)
        for table in (
            *(items for *_, items in tables.described()),
            BINARY_SENSORS.values(),
        )
        for item in table
    }
    rows = [line for line in PAGES[path].splitlines() if line.startswith("| ")]
    # Old names are in the first column.
    used = set(re.findall(r"\*(.+?)\*", "".join(row.split("|", 2)[2] for row in rows)))
    assert used
    # The type of a power in the form of the Energy dashboard.
    assert used - {"Standard"} <= names


def test_repairs_lead_to_troubleshooting() -> None:
    """The documentation link of repairs has an existing anchor."""
    source = (ROOT / "custom_components" / DOMAIN / "repairs.py").read_text()
    [anchor] = re.findall(r"\{documentation\}#([\w-]+)", source)
    assert anchor in _anchors(README)


def test_fields() -> None:
    """Every field of the setup and every option is explained."""
    steps = ENGLISH["config"]["step"]
    explained = _rows(HEADINGS["README.md"]["Setup"])
    for label in (*steps["user"]["data"].values(), *steps["plants"]["data"].values()):
        assert explained[label]
    options = _rows(HEADINGS["docs/options.md"]["Options"])
    for label in ENGLISH["options"]["step"]["init"]["menu_options"].values():
        assert options[label]


def test_actions() -> None:
    """Every action is explained, with all its parameters."""
    for action, texts in ENGLISH["services"].items():
        section = HEADINGS["docs/actions.md"][f"`{DOMAIN}.{action}`"]
        for field in texts["fields"]:
            assert _rows(section)[field]
    assert {call["action"] for call in CALLS} == {
        f"{DOMAIN}.{action}" for action in ENGLISH["services"]
    }


def test_fail_codes() -> None:
    """Every failCode with a meaning for the client is explained."""
    explained = {
        int(code)
        for codes in _rows(HEADINGS["docs/troubleshooting.md"]["failCodes"])
        for code in re.findall(r"\b\d{3,5}\b", codes)
    }
    known = {
        code
        for code in range(300, 31000)
        if not isinstance(error_for("getDevList", code, None), RequestRejected)
    }
    assert known
    assert known <= explained


def test_permissions() -> None:
    """README asks for the permissions that repairs name."""
    section = HEADINGS["README.md"]["A Northbound account"]
    needed = " ".join(section.replace("\n>", " ").split()).lower()
    for name in INTERFACES.values():
        title = ENGLISH["issues"][f"no_permission_{name}"]["title"]
        assert title.rpartition(": ")[2] in needed


@pytest.fixture
async def automations(
    hass: HomeAssistant, added: Account
) -> AsyncIterator[list[State]]:
    """Return the examples as automations in Home Assistant."""
    await added.poll()
    assert await async_setup_component(hass, "automation", {"automation": AUTOMATIONS})
    await hass.async_block_till_done()
    yield hass.states.async_all("automation")
    # Otherwise their timers keep running.
    await hass.services.async_call(
        "automation", "turn_off", {"entity_id": "all"}, blocking=True
    )


async def test_examples(hass: HomeAssistant, automations: list[State]) -> None:
    """Home Assistant accepts the examples, and their entities exist."""
    assert len(automations) == len(AUTOMATIONS) >= 3
    assert {state.state for state in automations} == {STATE_ON}
    pages = PAGES["docs/examples.md"] + PAGES["docs/alarms.md"]
    named = set(PLACEHOLDER.findall(pages)) - {"switch.LOAD"}
    assert named
    assert {IDS[name] for name in named} <= set(hass.states.async_entity_ids())


async def test_examples_act(
    hass: HomeAssistant, added: Account, automations: list[State]
) -> None:
    """The examples have the documented effects."""
    notifications = async_mock_service(hass, "persistent_notification", "create")
    switched = async_mock_service(hass, "switch", "turn_on")
    hass.states.async_set("sensor.inverter_1_state", "shutdown_on_fault")
    hass.states.async_set("sensor.meter_1_export_power", "0")
    await hass.async_block_till_done()
    [broken] = notifications
    assert broken.data["message"] == "Plant: Healthy, inverter: Shutdown: on fault."
    hass.states.async_set("sensor.meter_1_export_power", "2500")
    await added.poll(timedelta(minutes=10))
    assert [call.data["entity_id"] for call in switched] == [["switch.boiler"]]
    await hass.services.async_call(
        "automation",
        "trigger",
        {"entity_id": "automation.the_yield_of_the_day"},
        blocking=True,
    )
    assert re.search(
        r"\d kWh produced, .*\d kWh of it .* \d+ %", notifications[-1].data["message"]
    )


@pytest.mark.parametrize(
    "trigger",
    [
        trigger
        for automation in AUTOMATIONS
        for trigger in automation["triggers"]
        if "to" in trigger and trigger["entity_id"].startswith("sensor.")
    ],
    ids=lambda trigger: trigger["entity_id"],
)
async def test_examples_wait_for_states(
    hass: HomeAssistant, added: Account, trigger: dict[str, Any]
) -> None:
    """The states in the triggers of the examples exist."""
    state = hass.states.get(trigger["entity_id"])
    assert state
    awaited = trigger["to"]
    assert set(state.attributes["options"]) >= {
        *([awaited] if isinstance(awaited, str) else awaited)
    }


def _answers(section: str) -> list[Any]:
    """Return the responses in a section: after the call, or below it."""
    short = re.findall(r"^response_variable: .*# (\{.*\})$", section, re.MULTILINE)
    long = re.findall(r"^```json\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [json.loads(_with_ids(answer)) for answer in (*short, *long)]


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call["action"])
async def test_calls(
    recorder_mock: Recorder,
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    call: dict[str, Any],
) -> None:
    """The examples of actions return the documented responses."""
    if call["action"] == f"{DOMAIN}.get_alarms":
        [plant] = simulator.home.plants
        simulator.alarms.start(plant.devices[1])
        await added.poll(timedelta(minutes=2))
    assert await async_setup_component(hass, "energy", {})
    domain, action = call["action"].split(".")
    data = {**call["data"], "config_entry_id": added.entry.entry_id}
    answer = await hass.services.async_call(
        domain, action, data, blocking=True, return_response=True
    )
    if call["action"] == f"{DOMAIN}.suggest_dashboard":
        # The response is long, and tested with the dashboards.
        assert answer
        return
    assert answer in _answers(HEADINGS["docs/actions.md"][f"`{call['action']}`"])
