"""Tests of the configurations for cards and optimizers in docs."""

from collections.abc import Callable, Iterator
from datetime import timedelta
import json
import re
from typing import Any, Final

import pytest

from homeassistant.const import UnitOfPower
from homeassistant.core import HomeAssistant
from homeassistant.util import dt as dt_util
from homeassistant.util.yaml import parse_yaml
from tests.simulator import Simulator
from tests.simulator.truth import Flows, flows

from .component import ROOT
from .conftest import Account
from .test_docs import IDS, PLACEHOLDER

PAGES: Final = ("docs/optimizers.md", "docs/cards.md")
BLOCK: Final = re.compile(r"^```(yaml|json)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

type Truth = Callable[[Flows], float]
"""Returns a power in the direction that a program expects."""


def _pv(true: Flows) -> float:
    return true.pv


def _home(true: Flows) -> float:
    return true.load


def _import(true: Flows) -> float:
    return true.grid_import - true.grid_export


def _export(true: Flows) -> float:
    return -_import(true)


def _discharge(true: Flows) -> float:
    return true.discharge - true.charge


def _charge(true: Flows) -> float:
    return -_discharge(true)


def _parsed(kind: str, text: str) -> Any:
    return json.loads(text) if kind == "json" else parse_yaml(text)


def _blocks(page: str) -> dict[str, list[Any]]:
    """Return the configurations of a page, by heading."""
    text = PLACEHOLDER.sub(lambda match: IDS[match[0]], (ROOT / page).read_text())
    return {
        section.partition("\n")[0]: [
            _parsed(*block) for block in BLOCK.findall(section)
        ]
        for section in text.split("\n## ")[1:]
    }


def _uses() -> Iterator[tuple[str, str, bool, Truth]]:
    """Yield the program, entity and inversion of each power, with what it expects.

    The directions are those of the documentation and the code of the programs.
    """
    optimizers, cards = map(_blocks, PAGES)
    [predbat] = optimizers["Predbat"]
    predbat = predbat["pred_bat"]
    for power, expected in (("grid", _export), ("battery", _discharge)):
        [entity_id], [inverted] = (
            predbat[f"{power}_power"],
            predbat[f"{power}_power_invert"],
        )
        yield "predbat", entity_id, inverted, expected
    for power, expected in (("pv", _pv), ("load", _home)):
        [entity_id] = predbat[f"{power}_power"]
        yield "predbat", entity_id, False, expected

    emhass, _ = optimizers["EMHASS"]
    yield "emhass", emhass["sensor_power_photovoltaics"], False, _pv
    load = emhass["sensor_power_load_no_var_loads"]
    yield "emhass", load, emhass["load_negative"], _home

    directions = {"pv": _pv, "grid": _import, "battery": _discharge}
    for block in optimizers["evcc"]:
        for meter in block["meters"]:
            yield "evcc", meter["power"], False, directions[meter["usage"]]

    [card] = cards["power-flow-card-plus"]
    entities = card["entities"]
    for power, expected in (("grid", _import), ("battery", _discharge)):
        entity = entities[power]
        yield card["type"], entity["entity"], entity["invert_state"], expected
    yield card["type"], entities["solar"]["entity"], False, _pv
    yield card["type"], entities["home"]["entity"], False, _home

    [card] = cards["sunsynk-power-flow-card"]
    entities = card["entities"]
    grid, battery = card["grid"]["invert_grid"], card["battery"]["invert_power"]
    yield card["type"], entities["grid_ct_power_172"], grid, _import
    yield card["type"], entities["battery_power_190"], battery, _discharge
    yield card["type"], entities["pv_total"], False, _pv
    yield card["type"], entities["essential_power"], False, _home

    card, _ = cards["ApexCharts"]
    # As the text says.
    drawn = (_pv, _home, _export, _charge)
    for series, expected in zip(card["series"], drawn, strict=True):
        yield card["type"], series["entity"], series.get("invert", False), expected


USES: Final = [*_uses()]

# Moments at which each direction has a power.
MOMENTS: Final[dict[str, Callable[[Flows], bool]]] = {
    "export": lambda true: true.grid_export > 800,
    "import": lambda true: true.grid_import > 250,
    "charge": lambda true: true.charge > 800,
    "discharge": lambda true: true.discharge > 250,
}


@pytest.mark.fast
def test_each_program_is_checked() -> None:
    """The powers of each program are checked."""
    assert {program for program, *_ in USES} == {
        "predbat",
        "emhass",
        "evcc",
        "custom:power-flow-card-plus",
        "custom:sunsynk-power-flow-card",
        "custom:apexcharts-card",
    }


@pytest.mark.parametrize("page", PAGES)
async def test_entities(hass: HomeAssistant, added: Account, page: str) -> None:
    """All entities of a page exist."""
    await added.poll()
    named = {IDS[name] for name in PLACEHOLDER.findall((ROOT / page).read_text())}
    assert named
    assert named <= set(hass.states.async_entity_ids())


@pytest.mark.parametrize("moment", MOMENTS)
async def test_signs(
    hass: HomeAssistant, added: Account, simulator: Simulator, moment: str
) -> None:
    """Each program gets the powers in its direction and in W."""
    [plant] = simulator.home.plants
    step = timedelta(minutes=10)
    start = dt_util.utcnow()
    # The values are some minutes old.
    number = next(
        number
        for number in range(1, 300)
        if all(
            MOMENTS[moment](flows(plant, start + (number - past) * step))
            for past in range(3)
        )
    )
    await added.poll(number * step)
    true = flows(plant, dt_util.utcnow() - timedelta(minutes=5))
    assert MOMENTS[moment](true)
    for program, entity_id, inverted, expected in USES:
        state = hass.states.get(entity_id)
        assert state
        assert state.attributes["unit_of_measurement"] == UnitOfPower.WATT
        value = -float(state.state) if inverted else float(state.state)
        # The load changes within minutes.
        tolerance = 0.4 * abs(expected(true)) + true.losses + 150
        assert value == pytest.approx(expected(true), abs=tolerance), program
