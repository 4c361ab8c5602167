"""Compares weeks of statistics, with all faults of the API, with the true energies."""

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

# Relative to the true energy, with a minimum in the counter's unit.
RELATIVE_TOLERANCE = 0.001
ENERGY_TOLERANCE = 0.003
LEAST_TOLERANCE = 0.05


@pytest.fixture
def persistent_database() -> bool:
    """Use a file as database, which can be read while it is written."""
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
    """Return the row of a counter in the table."""
    expected, worst = comparison.expected, comparison.worst
    true, difference = expected.total, comparison.difference
    share = 100 * difference / true if true else 0.0
    return (
        f"{name_of(expected.counter):<40}{true:>12.2f}{true + difference:>12.2f}"
        f"{share:>+9.3f}{comparison.worst_error:>+9.3f}"
        f"{comparison.error(worst):>+9.3f}{comparison.reading(worst):>9.3f}"
        f"{max(comparison.worst_excess, 0.0):>8.3f}  {worst:%m-%d %H:%M}"
        f"{expected.false_readings:>7}"
    )


def is_wrong(comparison: Comparison) -> bool:
    """Return whether a sum or an hour exceeds its tolerance."""
    expected = comparison.expected
    share = RELATIVE_TOLERANCE
    if isinstance(expected.counter, Energy):
        share = ENERGY_TOLERANCE
    allowed = max(share * expected.total, LEAST_TOLERANCE)
    return (
        abs(comparison.difference) > allowed or comparison.worst_excess > HOUR_TOLERANCE
    )


async def test_weeks_of_faults(run: Run) -> None:
    """The statistics of all counters are correct after weeks of faults."""
    chaos = Chaos(run.simulator, SEED)
    for counter, expected in run.expected.items():
        expected.has_history = counter.device is not None
        if at := chaos.replacement(counter):
            expected.start_again(at, counter.true(at))
    await run.until(run.begin + timedelta(days=DAYS))
    comparisons = await run.compare(energies=True)
    print(
        f"\n{'Counter':<40}{'true':>12}{'statistics':>12}{'%':>9}{'worst h':>9}"
        f"{'error':>9}{'reading':>9}{'excess':>8}  {'when, UTC':<11}{'false':>7}"
    )
    for comparison in comparisons:
        print(row(comparison))
    wrong = [name_of(each.expected.counter) for each in comparisons if is_wrong(each)]
    assert not wrong
