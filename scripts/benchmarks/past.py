"""Imports years of a plant's hour reports while Home Assistant is killed at random.

Every hour is compared with the reports, and importing again must change nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, timedelta
import os
from random import Random

from freezegun.api import FrozenDateTimeFactory
import pytest

from homeassistant.components.recorder import Recorder, get_instance
from homeassistant.core import HomeAssistant
from homeassistant.util import dt as dt_util
from tests import conftest, history, statistics
from tests.conftest import Account
from tests.history import HOUR, Past, full_hour
from tests.simulator import Simulator, homes
from tests.simulator.plants import Home
from tests.simulator.sun import Place
from tests.statistics import Run
from tests.test_history import request
from tests.test_plant_reports import ENERGIES, QUARTER, reported

account = conftest.account
recorder_config = statistics.recorder_config
simulator = history.simulator
start = history.start

DAYS = int(os.environ.get("BENCHMARK_DAYS", "1096"))
KILLS_A_DAY = 20
ACTION_REACH = timedelta(days=364)
SEED = int(os.environ.get("BENCHMARK_SEED", "1"))


@dataclass(frozen=True, slots=True)
class Case:
    """A plant's zone and place, and the day of its grid connection."""

    time_zone: str
    place: Place
    commissioned: date


CASES = {
    "family": Case("Europe/Berlin", Place(52.52, 13.405), date(2023, 6, 21)),
    # In another zone than Home Assistant, with a year before the grid connection.
    "abroad": Case("America/New_York", Place(40.71, -74.01), date(2024, 7, 3)),
}
NAMES = os.environ.get("BENCHMARK_HOMES", " ".join(CASES)).split()

HEADING = (
    f"{'Home':<8}{'seed':>5}{'hours':>8}{'energies':>10}{'days':>6}{'kills':>7}"
    f"{'calls':>7}{'refused':>9}{'again':>7}{'wrong hours':>13}{'worst kWh':>11}"
)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    """Return the name of the case."""
    name: str = request.param
    return name


@pytest.fixture
def home(name: str) -> Home:
    """Return a home with a battery and years of reports."""
    case = CASES[name]
    home = homes.family(SEED, case.time_zone)
    [plant] = home.plants
    plant.site = replace(plant.site, place=case.place, commissioned=case.commissioned)
    return home


@pytest.fixture
def persistent_database() -> bool:
    """Keep the statistics in a file."""
    return True


@pytest.fixture
async def past(
    simulator: Simulator,
    recorder_mock: Recorder,
    hass: HomeAssistant,
    account: Account,
    freezer: FrozenDateTimeFactory,
) -> Past:
    """Return a run of an account that is added now."""
    # A year of all devices would take longer than the reports.
    simulator.withdraw_permission("getDevHistoryKpi")
    account.history = DAYS
    run = Run(hass, account, simulator, freezer)
    await hass.config.async_set_time_zone("Europe/Berlin")
    hass.loop.set_debug(False)
    await account.add()
    get_instance(hass).entity_filter = lambda entity_id: True
    return Past(hass, run, full_hour(run.begin - timedelta(days=DAYS)))


async def _import(past: Past) -> tuple[int, int]:
    """Return the days and the kills until everything is imported."""
    account, begin, dice, kills = past.run.account, past.run.now, Random(SEED), 0
    while account.entry.runtime_data.history.plants.days_left:
        await past.run.poll(QUARTER)
        if dice.random() < KILLS_A_DAY * QUARTER / timedelta(days=1):
            kills += 1
            await account.kill(off=timedelta(seconds=dice.uniform(5, 900)))
        assert past.run.now < begin + timedelta(days=5 + DAYS / 12)
    return (past.run.now - begin).days, kills


async def test_past(
    name: str, past: Past, record_property: Callable[[str, object], None]
) -> None:
    """Every hour has the energy of its report, and importing again changes nothing."""
    run = past.run
    [plant] = run.simulator.home.plants
    set_up = full_hour(run.begin) + HOUR
    await run.poll(QUARTER)
    days, kills = await _import(past)
    # The hour of the set-up and those of the kills follow.
    await run.until(run.now + 12 * HOUR, QUARTER)
    calls = len(run.simulator.calls_to("getKpiStationHour"))
    rows, changes = await past.rows(), await past.changes()
    first = full_hour(plant.connected_to_grid.astimezone(UTC))
    hours, wrong, worst = 0, 0, 0.0
    expected = reported(past, max(past.begin, first), set_up)
    for key, energies in expected.items():
        state = run.account.state(plant.code, key)
        assert state is not None, key
        shown = changes[state.entity_id]
        # Sums go on after the past, and nothing precedes the grid connection.
        assert min(shown.values()) > -1e-6
        early = [hour for hour in shown if hour < min(energies)]
        assert not early, (key, early[:3])
        for hour, energy in energies.items():
            error = abs(shown.get(hour, 0.0) - energy)
            hours += 1
            wrong += error > 0.01
            worst = max(worst, error)
    # The action reaches back as far as the history of devices.
    local = dt_util.as_local(max(past.begin, full_hour(run.now - ACTION_REACH)))
    await request(past, f"{local:%Y-%m-%d %H:%M:%S}")
    await run.poll(QUARTER)
    await _import(past)
    again = await past.rows()
    changed = sum(again[key] != row for key, row in rows.items())
    print("REFUSED", [(str(r)) for r in run.simulator.refusals][:60])
    refused = len(run.simulator.refusals)
    row = (
        f"{name:<8}{SEED:>5}{hours:>8}{len(expected):>10}{days:>6}{kills:>7}"
        f"{calls:>7}{refused:>9}{changed:>7}{wrong:>13}{worst:>11.4f}"
    )
    record_property("row", (HEADING, row))
    assert (wrong, changed, refused) == (0, 0, 0)
    assert expected.keys() == ENERGIES.keys()
