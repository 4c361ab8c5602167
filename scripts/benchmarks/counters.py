"""Compare weeks of real statistics, with every fault of the API, with the truth."""

from datetime import timedelta
import os

import pytest

from tests import conftest, statistics
from tests.simulator import homes
from tests.simulator.chaos import Chaos
from tests.simulator.counters import Counter
from tests.simulator.plants import Home
from tests.statistics import HOUR_TOLERANCE, Comparison, Energy, Run

account = conftest.account
clock = conftest.clock
simulator = conftest.simulator
run = statistics.run

HOMES = os.environ.get("BENCHMARK_HOMES", "family farm").split()
DAYS = float(os.environ.get("BENCHMARK_DAYS", "30"))
SEED = int(os.environ.get("BENCHMARK_SEED", "1"))

# Of the true energy, and at least in the counter's unit.
RELATIVE_TOLERANCE = 0.001
ENERGY_TOLERANCE = 0.003
LEAST_TOLERANCE = 0.05


@pytest.fixture
def persistent_database() -> bool:
    """Return that the database is a file, which is read while it is written."""
    return True


@pytest.fixture
def recorder_config() -> dict[str, int]:
    """Return a configuration that writes the states of a reading together."""
    statistics.quieten()
    return {"commit_interval": 5}


@pytest.fixture(params=HOMES)
def home(request: pytest.FixtureRequest) -> Home:
    """Return the home to measure."""
    return homes.HOMES[request.param]()


def name_of(counter: Counter | Energy) -> str:
    """Return a readable name of a counter."""
    return f"{counter.device.name if counter.device else 'Plant'} {counter.key}"


def row(comparison: Comparison) -> str:
    """Return the line of a counter in the table."""
    told, worst = comparison.told, comparison.worst
    true, difference = told.total, comparison.difference
    share = 100 * difference / true if true else 0.0
    return (
        f"{name_of(told.counter):<40}{true:>12.2f}{true + difference:>12.2f}"
        f"{share:>+9.3f}{comparison.worst_error:>+9.3f}"
        f"{comparison.error(worst):>+9.3f}{comparison.reading(worst):>9.3f}"
        f"{max(comparison.worst_excess, 0.0):>8.3f}  {worst:%m-%d %H:%M}{told.lies:>7}"
    )


def is_wrong(comparison: Comparison) -> bool:
    """Return whether a sum or an hour is off by more than is tolerable."""
    told = comparison.told
    share = RELATIVE_TOLERANCE
    if isinstance(told.counter, Energy):
        share = ENERGY_TOLERANCE
    allowed = max(share * told.total, LEAST_TOLERANCE)
    return (
        abs(comparison.difference) > allowed or comparison.worst_excess > HOUR_TOLERANCE
    )


async def test_weeks_of_chaos(run: Run) -> None:
    """Every counter's statistics are the truth after weeks of faults."""
    chaos = Chaos(run.simulator, SEED)
    for counter, told in run.told.items():
        told.has_history = counter.device is not None
        if at := chaos.replacement(counter):
            told.start_again(at, counter.true(at))
    await run.until(run.begin + timedelta(days=DAYS))
    comparisons = await run.compare(energies=True)
    print(
        f"\n{'Counter':<40}{'true':>12}{'statistics':>12}{'%':>9}{'worst h':>9}"
        f"{'error':>9}{'reading':>9}{'excess':>8}  {'when, UTC':<11}{'lies':>7}"
    )
    for comparison in comparisons:
        print(row(comparison))
    wrong = [name_of(each.told.counter) for each in comparisons if is_wrong(each)]
    assert not wrong
