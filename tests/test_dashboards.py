"""Tests of the dashboards in docs: their entities and cards exist."""

from collections.abc import Iterator
from pathlib import Path
import re
from typing import Any, Final

import hass_frontend
import pytest

from homeassistant.core import HomeAssistant
from homeassistant.util.yaml import load_yaml_dict
from tests.simulator import Simulator, homes

from .component import ROOT
from .conftest import Account

DASHBOARDS: Final = ROOT / "docs" / "dashboards"
FRONTEND: Final = Path(hass_frontend.__file__).parent / "frontend_latest"

# Cards that are loaded at once, and cards that are loaded on demand.
EAGER: Final = re.compile(r'new Set\(\[((?:"[a-z-]+",?)+)\]\)')
LAZY: Final = re.compile(r'[{,]"?([a-z-]+)"?:\(\)=>')


def _cards(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for card in node.get("cards", []):
        yield card
        yield from _cards(card)


def _all_cards(name: str) -> list[dict[str, Any]]:
    return [
        card
        for view in load_yaml_dict(DASHBOARDS / name)["views"]
        for section in view["sections"]
        for card in _cards(section)
    ]


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


@pytest.mark.parametrize("name", ["home.yaml", "fleet.yaml"])
def test_cards(name: str, known_cards: set[str]) -> None:
    """Every card is part of Home Assistant."""
    types = {card["type"] for card in _all_cards(name)}
    assert {"heading", "tile"} <= types
    assert types <= known_cards


def test_all_dashboards_are_tested() -> None:
    """Every dashboard is tested."""
    assert {each.name for each in DASHBOARDS.iterdir()} == {"home.yaml", "fleet.yaml"}


def _entities(name: str) -> set[str]:
    """Return the entities of a dashboard."""
    text = (DASHBOARDS / name).read_text()
    return set(re.findall(r"\b(?:event|(?:binary_)?sensor)\.\w+", text))


async def test_home(hass: HomeAssistant, added: Account) -> None:
    """The entities are those of the simulated family home."""
    await added.poll()
    named = _entities("home.yaml")
    assert named
    assert named <= set(hass.states.async_entity_ids())
    assert "event" in {entity_id.partition(".")[0] for entity_id in named}


@pytest.mark.parametrize("home", [homes.fleet()], ids=["fleet"])
async def test_fleet(
    hass: HomeAssistant, account: Account, simulator: Simulator
) -> None:
    """The entities are those of all plants of the simulated fleet."""
    codes = [plant.code for plant in simulator.home.plants]
    await account.add_plants(simulator.home.plants)
    await account.poll()
    named = _entities("fleet.yaml")
    for code in codes:
        power = account.registered(code, "pv_power")
        assert power
        assert power.entity_id in named
    assert named <= set(hass.states.async_entity_ids())
