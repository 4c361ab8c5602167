"""Compare weeks of real statistics, with every fault of the API, with the truth."""

from datetime import timedelta
import os

import pytest

from tests import conftest, statistics
from tests.simulator import homes
from tests.simulator.chaos import Chaos
from tests.simulator.counters import Counter
from tests.simulator.plants import Home
from tests.statistics import HOUR_TOLERANCE, Comparison, Run

account = conftest.account
simulator = conftest.simulator
recorder_config = statistics.recorder_config
run = statistics.run

HOMES = os.environ.get("BENCHMARK_HOMES", "family farm").split()
DAYS = float(os.environ.get("BENCHMARK_DAYS", "30"))
SEED = int(os.environ.get("BENCHMARK_SEED", "1"))

# Of the true energy, and at least in the counter's unit.
RELATIVE_TOLERANCE = 0.001
LEAST_TOLERANCE = 0.05

PROOF_TIME = timedelta(hours=2)


@pytest.fixture(params=HOMES)
def home(request: pytest.FixtureRequest) -> Home:
    """Return the home to measure."""
    return homes.HOMES[request.param]()


def name_of(counter: Counter) -> str:
    """Return what a person calls a counter."""
    return f"{counter.device.name if counter.device else 'Plant'} {counter.key}"


def row(comparison: Comparison) -> str:
    """Return the line of a counter in the table."""
    told = comparison.told
    worst = comparison.worst
    true, difference = told.total, comparison.difference
    share = 100 * difference / true if true else 0.0
    return (
        f"{name_of(told.counter):<40}{true:>12.2f}{true + difference:>12.2f}"
        f"{share:>+9.3f}{comparison.error(worst):>+9.3f}"
        f"{max(comparison.worst_excess, 0.0):>8.3f}  {worst:%m-%d %H:%M}{told.lies:>7}"
    )


def is_wrong(comparison: Comparison) -> bool:
    """Return whether a sum or an hour is off by more than is tolerable."""
    allowed = max(RELATIVE_TOLERANCE * comparison.told.total, LEAST_TOLERANCE)
    return (
        abs(comparison.difference) > allowed or comparison.worst_excess > HOUR_TOLERANCE
    )


async def test_weeks_of_chaos(run: Run) -> None:
    """Every counter's statistics are the truth after weeks of faults."""
    chaos = Chaos(run.simulator, SEED)
    for counter, told in run.told.items():
        if at := chaos.replacement(counter):
            told.start_again(at, at + PROOF_TIME, counter.true(at))
    await run.until(run.begin + timedelta(days=DAYS))
    comparisons = await run.compare()
    print(
        f"\n{'Counter':<40}{'true':>12}{'statistics':>12}{'%':>9}"
        f"{'worst h':>9}{'excess':>8}  {'when, UTC':<11}{'lies':>7}"
    )
    for comparison in comparisons:
        print(row(comparison))
    wrong = [name_of(each.told.counter) for each in comparisons if is_wrong(each)]
    assert not wrong
