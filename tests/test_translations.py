"""Tests of the texts: all keys in the code exist, and no others."""

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib import import_module
import inspect
import json
from pathlib import Path
import re
from types import ModuleType
from typing import Any, Final

import hass_frontend
from PIL import ImageFont
import pytest
import voluptuous as vol

from custom_components.smartpvms import config_flow
from custom_components.smartpvms.config_flow import (
    SmartPvmsConfigFlow,
    SmartPvmsOptionsFlow,
)
from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.counter_filter import Period
from custom_components.smartpvms.descriptions import (
    BINARY_SENSORS,
    DEVICE_SENSORS,
    FLOW_SENSORS,
    PLANT_SENSORS,
    REPORT_SENSORS,
    ItemSensorDescription,
)
from custom_components.smartpvms.errors import INTERFACES, as_update_error, explain
from custom_components.smartpvms.northbound import (
    HOSTS,
    AccountLimited,
    AccountLocked,
    Confidence,
    ConnectionFailed,
    DeviceType,
    HttpUnauthorized,
    InterfaceMissing,
    InvalidCredentials,
    MalformedResponse,
    MembersRefused,
    NorthboundError,
    PermissionDenied,
    RateLimited,
    RequestRejected,
    ServerBusy,
    ServerMoved,
    SessionTaken,
)
from custom_components.smartpvms.repairs import (
    MovedFlow,
    OpenDialogFlow,
    StatisticsFlow,
)
from custom_components.smartpvms.sensor import HISTORY_SENSORS
from custom_components.smartpvms.system_health import CALLS
from homeassistant.components import sensor
from homeassistant.components.sensor import SensorDeviceClass, SensorEntityDescription
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError, Unauthorized
from homeassistant.setup import async_setup_component
from homeassistant.util.yaml import load_yaml_dict

from .component import COMPONENT, ENGLISH, fields, leaves, read_json, sensors

pytestmark = pytest.mark.fast

FONT_SIZE: Final = 14
FONT: Final = ImageFont.truetype(
    hass_frontend.where() / "static" / "fonts" / "roboto" / "Roboto-Regular.woff2",
    FONT_SIZE,
)
# Space between letters in the frontend.
SPACING: Final = 0.13125
# Pixels of an option in a list on a phone.
WIDTH_OF_OPTION: Final = 328
# Pixels beside the value, as measured in Home Assistant's frontend without the padding:
# most values, 474.12 kWh, and 34,474.12 kWh.
WIDTH: Final = 183
WIDTH_BESIDE_ENERGY: Final = 164
WIDTH_BESIDE_TOTAL: Final = 144
# Beside the energy of many years, and the specific yield of a day.
WIDTHS_BESIDE_REPORT: Final = {"kWh": 157, "kWh/kWp": 146}

LANGUAGES: Final = sorted(
    path.name for path in (COMPONENT / "translations").glob("*.json")
)
SOURCES: Final = {
    path.stem: ast.parse(path.read_text()) for path in COMPONENT.glob("*.py")
}

ERRORS: Final[list[NorthboundError]] = [
    AccountLimited(61),
    AccountLocked(),
    ConnectionFailed(),
    InterfaceMissing(),
    InvalidCredentials(20400),
    InvalidCredentials(20002),
    MalformedResponse(),
    MembersRefused(20006),
    MembersRefused(20056),
    *map(PermissionDenied, INTERFACES),
    PermissionDenied("login"),
    RateLimited(61),
    RequestRejected(20009),
    ServerBusy(),
    ServerMoved("HTTP 301", "example.com"),
    SessionTaken(),
    HttpUnauthorized(),
]
# Default names of sensors without their own name.
DEVICE_CLASSES: Final[dict[str, Any]] = json.loads(
    (Path(sensor.__path__[0]) / "translations" / "en.json").read_text()
)["entity_component"]

EXPLAINED: Final = {explain(error)[0] for error in ERRORS}

# Abort reasons of Home Assistant's own flow methods.
ABORTS: Final = {
    "_abort_if_unique_id_configured": "already_configured",
    "_abort_if_unique_id_mismatch": "unique_id_mismatch",
}

TRANSLATION_KEY: Final = re.compile(r"(?!.+[_-]{2})(?![_-])[a-z0-9-_]+(?<![_-])")
# An account in the quotation marks of any language.
QUOTED: Final = re.compile(r"[“”„«「‘]\s?\{account\}\s?[“”»」’]")
# Text that hassfest rejects.
NOT_IN_TEXTS: Final = re.compile(r"<|'\{\w+\}'|\[%|\w+://|www\.", re.IGNORECASE)


def _repeated(texts: Iterable[str]) -> list[str]:
    """Return the texts that occur several times."""
    return [text for text, count in Counter(texts).items() if count > 1]


def _subclasses(of: type[NorthboundError]) -> Iterator[type[NorthboundError]]:
    for each in of.__subclasses__():
        yield each
        yield from _subclasses(each)


# Entities.


def test_every_sensor_has_a_name() -> None:
    """Sensors and their translations have the same keys and placeholders."""
    translated = ENGLISH["entity"]["sensor"]
    own = [item for item in sensors() if item.translation_key]
    assert {item.translation_key for item in own} == set(translated)
    for item in own:
        name = translated[item.translation_key]["name"]
        assert fields(name) == set(item.translation_placeholders or {})


def test_every_binary_sensor_has_a_name() -> None:
    """Binary sensors and their translations have the same keys."""
    assert {
        item.translation_key for item in BINARY_SENSORS.values() if item.translation_key
    } == set(ENGLISH["entity"]["binary_sensor"])
    assert all(
        item.translation_key or item.device_class for item in BINARY_SENSORS.values()
    )


@pytest.mark.parametrize("item", sensors(), ids=lambda item: item.key)
def test_no_name_repeats_the_device_class(item: ItemSensorDescription) -> None:
    """A sensor with the name of its device class has no own translation."""
    names = {
        device_class: texts["name"]
        for device_class, texts in DEVICE_CLASSES.items()
        if device_class != SensorDeviceClass.ENUM
    }
    own = ENGLISH["entity"]["sensor"].get(item.translation_key, {}).get("name")
    of_class = names.get(str(item.device_class))
    assert (own is None) == (item.translation_key is None)
    assert own or of_class
    assert own != of_class


def _width(text: str) -> float:
    """Return the pixels of a text, without space between its letters."""
    return sum(
        # The font has no Chinese, Japanese and Korean characters.
        FONT_SIZE if character >= "\u2e80" else FONT.getlength(character)
        for character in text
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_fit_on_a_phone(language: str) -> None:
    """Names are not cut on a device's page that is 360 pixels wide."""
    energies = [
        item
        for item in sensors()
        if isinstance(item, ItemSensorDescription)
        and item.device_class == SensorDeviceClass.ENERGY
    ]
    widths: dict[str | None, int] = {
        item.translation_key: WIDTH_BESIDE_ENERGY for item in energies
    }
    # The other energies begin with 0 when the account is added.
    widths |= {
        item.translation_key: WIDTH_BESIDE_TOTAL
        for item in energies
        if item.period is Period.LIFETIME and item.entity_registry_enabled_default
    }
    widths |= {
        key: WIDTHS_BESIDE_REPORT[item.native_unit_of_measurement]
        for key, item in REPORT_SENSORS.items()
        if item.native_unit_of_measurement in WIDTHS_BESIDE_REPORT
    }
    cut = {}
    for path, name in leaves(read_json(f"translations/{language}")["entity"]):
        _, key, field, *_ = path.removeprefix(".").split(".")
        if field == "name":
            text = name.replace("{number}", "10")
            width = SPACING * len(text) + _width(text)
            if width > widths.get(key, WIDTH):
                cut[key] = name, round(width)
    assert not cut, "Shorten these names."


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_differ(language: str) -> None:
    """No two entities of a plant or a device have the same name."""
    names = read_json(f"translations/{language}")["entity"]["sensor"]
    of_classes = (
        DEVICE_CLASSES
        | json.loads(
            (Path(sensor.__path__[0]) / "translations" / language).read_text()
        )["entity_component"]
    )

    def name(item: SensorEntityDescription) -> str:
        text: str = (
            names[item.translation_key]["name"]
            if item.translation_key
            else of_classes[item.device_class]["name"]
        )
        return text.format(**(item.translation_placeholders or {}))

    plant = {**PLANT_SENSORS, **FLOW_SENSORS}
    for items in (plant, *DEVICE_SENSORS.values()):
        assert _repeated(map(name, items.values())) == []
    assert _repeated(map(name, HISTORY_SENSORS)) == []


def test_every_state_has_a_name() -> None:
    """States of enum sensors and their translations are the same."""
    options = {
        item.translation_key: set(item.options) for item in sensors() if item.options
    }
    assert options == {
        key: set(texts["state"])
        for key, texts in ENGLISH["entity"]["sensor"].items()
        if "state" in texts
    }


def test_units_of_their_own() -> None:
    """Only units that Home Assistant lacks are translated."""
    translated = ENGLISH["entity"]["sensor"]
    for item in sensors():
        assert (
            "unit_of_measurement" not in translated.get(item.translation_key, {})
            or item.native_unit_of_measurement is None
        )


def test_every_type_with_kpis_has_a_table() -> None:
    """The tables cover the device types that are polled."""
    assert set(DEVICE_SENSORS) == set(DeviceType)


# Flows.


def _tree(of: type) -> ast.Module:
    return ast.parse(inspect.getsource(of))


def _strings(tree: ast.AST) -> set[str]:
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def _calls(tree: ast.AST) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the called methods with their literal keyword arguments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield (
                node.func.attr,
                {
                    str(keyword.arg): keyword.value.value
                    for keyword in node.keywords
                    if isinstance(keyword.value, ast.Constant)
                },
            )


def _error_keys(tree: ast.AST) -> Iterator[str]:
    """Return the errors in the code of a flow."""
    for node in ast.walk(tree):
        match node:
            case (
                ast.Assign(
                    targets=[
                        ast.Subscript(
                            value=ast.Name("errors") | ast.Attribute(attr="_errors")
                        )
                    ],
                    value=ast.Constant(str(key)),
                )
                | ast.Dict(keys=[ast.Constant("base")], values=[ast.Constant(str(key))])
                | ast.Assign(
                    targets=[ast.Tuple(elts=[ast.Name("key"), *_])],
                    value=ast.Tuple(elts=[ast.Constant(str(key)), *_]),
                )
            ):
                yield key


def _aborts(tree: ast.AST) -> Iterator[str]:
    for method in ast.walk(tree):
        if not isinstance(method, ast.AsyncFunctionDef):
            continue
        source, *_ = method.name.removeprefix("async_step_").split("_")
        for name, arguments in _calls(method):
            if name == "async_abort":
                yield arguments["reason"]
            elif name == "async_update_reload_and_abort":
                yield arguments.get("reason", f"{source}_successful")
            elif name in ABORTS:
                yield ABORTS[name]


FLOWS: Final = [
    pytest.param("config", SmartPvmsConfigFlow, EXPLAINED, id="config"),
    pytest.param("options", SmartPvmsOptionsFlow, set(), id="options"),
]


@pytest.mark.parametrize(("section", "flow", "explained"), FLOWS)
def test_flow(section: str, flow: type, explained: set[str]) -> None:
    """The texts of a flow are its steps, errors and aborts."""
    tree, texts = _tree(flow), ENGLISH[section]
    steps = {
        arguments["step_id"]
        for name, arguments in _calls(tree)
        if name in ("async_show_form", "async_show_menu")
    }
    assert steps == set(texts["step"])
    assert all(hasattr(flow, f"async_step_{step}") for step in steps)
    assert {*_error_keys(tree), *explained} == set(texts["error"])
    assert set(_aborts(tree)) == set(texts["abort"])


@pytest.mark.parametrize(("section", "flow", "explained"), FLOWS)
def test_flow_placeholders(section: str, flow: type, explained: set[str]) -> None:
    """A flow provides every placeholder of its texts."""
    named = {
        name
        for node in ast.walk(_tree(flow))
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
        for name in _strings(key)
    }
    own = {
        path: text
        for path, text in leaves(ENGLISH[section])
        if path.rsplit(".", 1)[-1] not in explained
    }
    for path, text in own.items():
        assert fields(text) <= named, path


def test_flow_fields() -> None:
    """Every field of a form has a label, and every text has a field."""
    marked = {
        getattr(config_flow, node.args[0].id)
        for node in ast.walk(SOURCES["config_flow"])
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("Required", "Optional")
        and isinstance(node.args[0], ast.Name)
    }
    steps = [
        step
        for section in ("config", "options")
        for step in ENGLISH[section]["step"].values()
    ]
    assert marked == {label for step in steps for label in step.get("data", ())}
    for step in steps:
        assert set(step.get("data", ())) == set(step.get("data_description", ()))


# Errors and exceptions.


def test_every_error_is_listed() -> None:
    """The errors in these tests are those of the client."""
    assert {type(error) for error in ERRORS} == set(_subclasses(NorthboundError))


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_every_error_has_its_texts(error: NorthboundError) -> None:
    """An error has a text in the flow and as an exception, with its placeholders."""
    key, placeholders = explain(error)
    for text in (
        ENGLISH["config"]["error"][key],
        ENGLISH["exceptions"][key]["message"],
    ):
        assert text.format(**placeholders)
        assert fields(text) == set(placeholders)
    assert as_update_error(error).translation_key == key


def test_error_of_a_new_class() -> None:
    """A class of error without a text of its own has the generic one."""
    error = NorthboundError("new")
    assert explain(error) == ("unknown", {})
    assert as_update_error(error).translation_key == "unknown"


def _is_exception(module: ModuleType, node: ast.expr | None) -> bool:
    """Return whether a name is an exception whose text Home Assistant shows."""
    named = getattr(module, node.id, None) if isinstance(node, ast.Name) else None
    return (
        isinstance(named, type)
        and issubclass(named, HomeAssistantError)
        # Home Assistant has its own text.
        and named is not Unauthorized
    )


def _exceptions() -> Iterator[tuple[str, ast.Call]]:
    """Return the calls that create exceptions shown by Home Assistant."""
    for name, tree in SOURCES.items():
        module = import_module(
            f"custom_components.{DOMAIN}.{name}".removesuffix(".__init__")
        )
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _is_exception(module, node.func):
                yield f"{name}:{node.lineno}", node
            # Without arguments, no message is shown.
            assert not (isinstance(node, ast.Raise) and _is_exception(module, node.exc))


EXCEPTIONS: Final = dict(_exceptions())


def _keywords(call: ast.Call) -> dict[str, ast.expr]:
    return {str(keyword.arg): keyword.value for keyword in call.keywords}


@pytest.mark.parametrize("where", EXCEPTIONS)
def test_every_exception_is_translated(where: str) -> None:
    """An exception has a translation, and no message in its place."""
    call = EXCEPTIONS[where]
    keywords = _keywords(call)
    assert not call.args
    assert ast.unparse(keywords["translation_domain"]) == "DOMAIN"
    assert "translation_key" in keywords


def _literal_exceptions() -> Iterator[tuple[str, set[str]]]:
    """Return the keys and placeholders of exceptions with a literal key."""
    for call in EXCEPTIONS.values():
        keywords = _keywords(call)
        placeholders = keywords.get("translation_placeholders")
        for key in _strings(keywords["translation_key"]):
            named = placeholders.keys if isinstance(placeholders, ast.Dict) else []
            yield key, {name for node in named if node for name in _strings(node)}


def test_exceptions() -> None:
    """Exceptions and their texts have the same keys and placeholders."""
    named = dict(_literal_exceptions())
    assert named
    texts = ENGLISH["exceptions"]
    assert set(texts) == {*named, *EXPLAINED}
    for key, placeholders in named.items():
        assert fields(texts[key]["message"]) == placeholders


# Repairs, actions and system health.


def test_issues() -> None:
    """Issues and their texts have the same keys and placeholders."""
    raised: dict[str, set[str]] = {}
    for node in ast.walk(SOURCES["repairs"]):
        match node:
            case ast.Yield(ast.Tuple([_, ast.Constant(str(key)), ast.Dict(keys)])):
                raised[key] = {
                    "account",
                    *(name for each in keys if each for name in _strings(each)),
                }
    raised |= {
        f"{key}_{name}": {"account"}
        for key in ("no_permission", "used_up")
        for name in INTERFACES.values()
    }
    assert raised == {
        key: {"account"} | {name for _, text in leaves(texts) for name in fields(text)}
        for key, texts in ENGLISH["issues"].items()
    }


def test_fix_flows() -> None:
    """The fixable issues have the steps of their flows."""
    steps = {
        arguments["step_id"]
        for name, arguments in _calls(_tree(OpenDialogFlow))
        if name == "async_show_form"
    }
    menu = ENGLISH["issues"]["statistics_differ"]["fix_flow"]["step"]["init"]
    assert {f"async_step_{each}" for each in ("init", *menu["menu_options"])} == {
        name for name in vars(StatisticsFlow) if name.startswith("async_step_")
    }
    fixable = {
        key: set(texts["fix_flow"]["step"])
        for key, texts in ENGLISH["issues"].items()
        if "fix_flow" in texts
    }
    moved = {
        name.removeprefix("async_step_")
        for name in vars(MovedFlow)
        if name.startswith("async_step_")
    }
    assert fixable == {
        "open_dialog": steps,
        "server_moved": moved - {"init"},
        "statistics_differ": {"init"},
    }


async def test_actions(hass: HomeAssistant, enable_custom_integrations: None) -> None:
    """Actions, their form and their texts have the same keys."""
    assert await async_setup_component(hass, DOMAIN, {})
    registered = {
        name: {str(field) for field in action.schema.schema}
        for name, action in hass.services.async_services_for_domain(DOMAIN).items()
        if isinstance(action.schema, vol.Schema)
    }
    forms = load_yaml_dict(COMPONENT / "services.yaml")
    assert registered == {name: set(form["fields"]) for name, form in forms.items()}
    assert registered == {
        name: set(texts["fields"]) for name, texts in ENGLISH["services"].items()
    }
    for texts in ENGLISH["services"].values():
        for described in (texts, *texts["fields"].values()):
            assert described["name"]
            assert described["description"]


def test_system_health() -> None:
    """All values of the system health have a label, and all labels a value."""
    shown = set(CALLS.values()) | {
        key.value
        for name, tree in SOURCES.items()
        for function in ast.walk(tree)
        if name == "system_health" and isinstance(function, ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant)
    }
    assert shown == set(ENGLISH.get("system_health", {}).get("info", {}))


# Languages.


@pytest.mark.parametrize("language", LANGUAGES)
def test_language(language: str) -> None:
    """Every language has the texts of English, with the same placeholders."""
    assert {
        path: fields(text)
        for path, text in leaves(read_json(f"translations/{language}"))
    } == {path: fields(text) for path, text in leaves(ENGLISH)}


@pytest.mark.parametrize("language", LANGUAGES)
def test_hosts(language: str) -> None:
    """Every region has a label of its own, with its host, which fits on a phone."""
    labels = read_json(f"translations/{language}")["selector"]["host"]["options"]
    assert set(labels) == set(HOSTS)
    for region, host in HOSTS.items():
        assert re.fullmatch(rf"[^.]+ - {re.escape(host.name)}\b.*", labels[region])
        assert _width(labels[region]) <= WIDTH_OF_OPTION, labels[region]
    assert _repeated(label.split(" - ")[0] for label in labels.values()) == []
    unverified = {region for region in labels if labels[region][-1] in ")）"}
    assert unverified == {
        region for region in HOSTS if HOSTS[region].confidence is Confidence.LOW
    }


@pytest.mark.parametrize("language", LANGUAGES)
def test_accounts_are_quoted(language: str) -> None:
    """Repairs quote the name of an account, which is no person's name."""
    for path, text in leaves(read_json(f"translations/{language}")["issues"]):
        assert "{account}" not in QUOTED.sub("", text), path


@pytest.mark.parametrize("language", LANGUAGES)
def test_interfaces_have_names(language: str) -> None:
    """No text contains the name of an interface of the API."""
    for path, text in leaves(read_json(f"translations/{language}")):
        assert not re.search(r"\bget[A-Z]|\{interface\}|\bstations\b", text), path


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_are_valid(language: str) -> None:
    """Texts and keys follow the rules of hassfest."""
    for path, text in leaves(read_json(f"translations/{language}")):
        assert text, path
        assert text == text.strip(), path
        assert not NOT_IN_TEXTS.search(text), path
        for key in path.removeprefix(".").split("."):
            assert TRANSLATION_KEY.fullmatch(key), path


@pytest.mark.parametrize("language", LANGUAGES)
def test_language_is_sorted(language: str) -> None:
    """Keys are sorted, so that the files of all languages can be compared."""
    paths = [path for path, _ in leaves(read_json(f"translations/{language}"))]
    assert paths == sorted(paths)
