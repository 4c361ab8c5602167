"""Tests of the suggested dashboards: their entities and cards exist."""

from collections.abc import Iterator
from datetime import timedelta
import inspect
import json
from pathlib import Path
import re
from typing import Any, Final

import hass_frontend
import pytest

from custom_components.smartpvms import dashboard
from custom_components.smartpvms.const import DOMAIN
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import entity_registry as er
from homeassistant.setup import async_setup_component
from tests.simulator import Simulator, faults, homes
from tests.simulator.plants import Home, Plant

from .component import ENGLISH, read_json
from .conftest import Account

FRONTEND: Final = Path(hass_frontend.__file__).parent / "frontend_latest"

# Cards that are loaded at once, and cards that are loaded on demand.
EAGER: Final = re.compile(r'new Set\(\[((?:"[a-z-]+",?)+)\]\)')
LAZY: Final = re.compile(r'[{,]"?([a-z-]+)"?:\(\)=>')
ENTITY_ID: Final = re.compile(r'"((?:event|binary_sensor|sensor)\.\w+)"')

type Config = dict[str, Any]


async def _suggest(hass: HomeAssistant, **data: Any) -> Config:
    answer = await hass.services.async_call(
        DOMAIN, "suggest_dashboard", data, blocking=True, return_response=True
    )
    assert answer is not None
    return dict(answer)


def _sections(config: Config) -> Iterator[list[Config]]:
    for view in config["views"]:
        for section in view["sections"]:
            yield section["cards"]


def _cards(config: Config, kind: str | None = None) -> list[Config]:
    return [
        card
        for section in _sections(config)
        for card in section
        if kind in (None, card["type"])
    ]


def _entity_ids(config: Config) -> set[str]:
    """Return the entities of a dashboard."""
    return set(ENTITY_ID.findall(json.dumps(config)))


def _entity_id(account: Account, source_id: str | int, key: str) -> str:
    entry = account.registered(source_id, key)
    assert entry
    return entry.entity_id


async def _read_alarms(account: Account) -> None:
    await account.pass_time(timedelta(minutes=2))


@pytest.fixture(scope="module")
def known_cards() -> set[str]:
    """Return the card types of the installed frontend."""
    [script, *_] = [
        text
        for path in FRONTEND.glob("*.js")
        if '"energy-sources-table":()=>' in (text := path.read_text())
    ]
    eager = [cards for cards in EAGER.findall(script) if '"heading"' in cards]
    return {*re.findall(r'"([a-z-]+)"', "".join(eager)), *LAZY.findall(script)}


@pytest.fixture
def plant(simulator: Simulator) -> Plant:
    """Return the simulated plant."""
    return simulator.home.plants[0]


@pytest.fixture
async def with_energy(hass: HomeAssistant, added: Account) -> Account:
    """Return the account with its sources in the Energy dashboard."""
    assert await async_setup_component(hass, "energy", {})
    await added.poll()
    await hass.services.async_call(
        DOMAIN,
        "suggest_energy_dashboard",
        {"apply": True},
        blocking=True,
        return_response=True,
    )
    return added


@pytest.mark.usefixtures("recorder_mock")
@pytest.mark.parametrize(
    "home", [homes.family(), homes.farm(), homes.emma()], ids=["family", "farm", "emma"]
)
async def test_home(
    hass: HomeAssistant, with_energy: Account, plant: Plant, known_cards: set[str]
) -> None:
    """A home has cards of Home Assistant's own, with existing entities."""
    await _read_alarms(with_energy)
    config = await _suggest(hass)
    assert config["title"] == plant.name
    assert [view["title"] for view in config["views"]] == ["Now", "Energy"]
    assert {card["type"] for card in _cards(config)} <= known_cards
    named = _entity_ids(config)
    assert named <= set(hass.states.async_entity_ids())
    for key in ("pv_power", "grid_power", "battery_power", "alarm", "active_alarms"):
        assert _entity_id(with_energy, plant.code, key) in named


async def test_powers(hass: HomeAssistant, added: Account, plant: Plant) -> None:
    """Tiles and graph have the same colors, and charging differs from discharging."""
    await added.poll(timedelta(days=1))
    config = await _suggest(hass)
    [graph] = _cards(config, "history-graph")
    colors = {each["entity"]: each["color"] for each in graph["entities"]}
    assert colors.keys() == {
        _entity_id(added, plant.code, key)
        for key in ("pv_power", "home_power", "battery_power", "grid_power")
    }
    assert len(set(colors.values())) == 4
    tiles = _cards(config, "tile")
    for entity_id, color in colors.items():
        assert {tile["color"] for tile in tiles if tile["entity"] == entity_id} == {
            color
        }
    battery = _entity_id(added, plant.code, "battery_power")
    assert {
        (tile["name"][1]["text"], tile["icon"], *tile["visibility"][0].items())
        for tile in tiles
        if tile["entity"] == battery and "icon" in tile
    } == {
        (
            "Charging",
            "mdi:battery-arrow-up",
            ("condition", "numeric_state"),
            ("entity", battery),
            ("below", 0),
        ),
        (
            "Discharging",
            "mdi:battery-arrow-down",
            ("condition", "numeric_state"),
            ("entity", battery),
            ("above", 0),
        ),
    }
    today = {
        tile["color"]
        for tile in tiles
        for key in ("charge_cap", "discharge_cap")
        if tile["entity"] == _entity_id(added, plant.devices[2].id, key)
    }
    assert len(today) == 2


@pytest.mark.parametrize("home", [homes.apartment()], ids=["apartment"])
async def test_home_without_more(
    hass: HomeAssistant, added: Account, simulator: Simulator, plant: Plant
) -> None:
    """An inverter alone has no cards of a battery, a meter or alarms."""
    simulator.faults.add(faults.FailCode(407), "getAlarmList")
    await added.poll()
    await _read_alarms(added)
    config = await _suggest(hass)
    named = _entity_ids(config)
    assert _entity_id(added, plant.code, "pv_power") in named
    assert not _cards(config, "gauge")
    states = [hass.states.get(entity_id) for entity_id in named]
    names = {state.name for state in states if state}
    assert not [
        name for name in names if re.search("(?i)battery|power flow|alarm|meter", name)
    ]
    assert _entity_id(added, plant.code, "day_power") in named
    assert all(_sections(config))
    # The Energy dashboard is not set up.
    assert [view["path"] for view in config["views"]] == ["now"]


async def test_home_in_german(
    hass: HomeAssistant, account: Account, plant: Plant
) -> None:
    """Texts and entities are those of Home Assistant's language."""
    await hass.config.async_update(language="de")
    await account.add()
    await account.poll()
    config = await _suggest(hass)
    assert "sensor.lindenweg_12_pv_leistung" in _entity_ids(config)
    assert _entity_ids(config) <= set(hass.states.async_entity_ids())
    german = read_json("translations/de.json")
    english = {*ENGLISH["common"].values()} - {*german["common"].values()}
    text = json.dumps(config, ensure_ascii=False)
    assert '"Leistung"' in text
    assert '"Wird geladen"' in text
    assert not [each for each in english if f'"{each}"' in text]


async def test_other_language(hass: HomeAssistant, added: Account) -> None:
    """Texts are those of a language that was chosen after the start."""
    await added.poll()
    await hass.config.async_update(language="de")
    text = json.dumps(await _suggest(hass), ensure_ascii=False)
    assert '"Leistung"' in text
    assert '"Wird geladen"' in text


async def test_disabled_and_renamed(
    hass: HomeAssistant, added: Account, plant: Plant
) -> None:
    """Entities are found by their unique ids, and disabled ones are left out."""
    await added.poll()
    registry = er.async_get(hass)
    registry.async_update_entity(
        _entity_id(added, plant.code, "pv_power"), new_entity_id="sensor.roof"
    )
    home_power = _entity_id(added, plant.code, "home_power")
    registry.async_update_entity(home_power, disabled_by=er.RegistryEntryDisabler.USER)
    named = _entity_ids(await _suggest(hass))
    assert "sensor.roof" in named
    assert home_power not in named


async def test_first_day(hass: HomeAssistant, added: Account, plant: Plant) -> None:
    """Until the powers of a plant have a past, those of its devices are shown."""
    await added.poll()
    [graph] = [
        card
        for card in _cards(await _suggest(hass), "statistics-graph")
        if card["title"] == "Last 24 hours"
    ]
    _, inverter, battery, meter = plant.devices
    assert [each["entity"] for each in graph["entities"]] == [
        _entity_id(added, inverter.id, "mppt_power"),
        _entity_id(added, battery.id, "ch_discharge_power"),
        _entity_id(added, meter.id, "active_power"),
    ]
    for each in graph["entities"]:
        state = hass.states.get(each["entity"])
        assert state
        assert state.attributes["state_class"] == "measurement"
    await added.poll(timedelta(days=1))
    assert _cards(await _suggest(hass), "history-graph")


FLEET: Final = pytest.mark.parametrize("home", [homes.fleet()], ids=["fleet"])


@FLEET
async def test_fleet(
    hass: HomeAssistant, account: Account, simulator: Simulator, known_cards: set[str]
) -> None:
    """All plants of an account are in one dashboard, and each has its own."""
    plants = simulator.home.plants
    await account.add_plants(plants)
    await account.poll()
    await _read_alarms(account)
    config = await _suggest(hass)
    assert {card["type"] for card in _cards(config)} <= known_cards
    named = _entity_ids(config)
    assert named <= set(hass.states.async_entity_ids())
    keys = ("pv_power", "real_health_state", "active_alarms", "day_power", "pv_energy")
    for plant in plants:
        assert {_entity_id(account, plant.code, key) for key in keys} <= named
    tiles = _cards(config, "tile")
    assert [tile["name"] for tile in tiles] == [plant.name for plant in plants]
    power = account.registered(plants[3].code, "pv_power")
    assert power
    one = await _suggest(hass, device_id=power.device_id)
    assert one["title"] == "Plant 0004"
    others = {_entity_id(account, plant.code, "pv_power") for plant in plants[4:]}
    assert not _entity_ids(one) & others


@pytest.mark.parametrize(
    "home",
    [Home([*homes.family().plants, *homes.farm(inverters=2).plants])],
    ids=["family and farm"],
)
async def test_compared_plants(
    hass: HomeAssistant, account: Account, simulator: Simulator
) -> None:
    """Lines of a graph have colors of their own, and short names."""
    await account.add_plants(simulator.home.plants)
    await account.poll()
    graphs = _cards(await _suggest(hass), "statistics-graph")
    [powers] = [card for card in graphs if card["title"] == "Last 24 hours"]
    names = ["Lindenweg 12", "Sonnenhof Inverter-1", "Sonnenhof Inverter-2"]
    assert [each["name"] for each in powers["entities"]] == names
    assert not any("color" in each for each in powers["entities"])


async def test_unknown_plant(hass: HomeAssistant, added: Account) -> None:
    """A device that is no plant is refused."""
    with pytest.raises(ServiceValidationError, match="Choose one of the plants"):
        await _suggest(hass, device_id="0")


@pytest.mark.fast
def test_texts() -> None:
    """Each text of the dashboards is used."""
    source = inspect.getsource(dashboard)
    unused = [key for key in ENGLISH["common"] if f'{key}"' not in source]
    assert unused == []
