"""Polls for days a server whose collections have a lag, and measures the age of values."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
import os
from random import Random
from typing import Final

from freezegun.api import FrozenDateTimeFactory
import pytest

from custom_components import smartpvms
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from scripts.benchmarks.distance import DistantSimulator
from tests import conftest
from tests.conftest import NOON, Account
from tests.simulator import DeviceType, Home, Simulator, faults, homes
from tests.simulator.items import has_kpis
from tests.timeline import pass_time

from .limits import add_all

account = conftest.account

DAYS: Final = float(os.environ.get("BENCHMARK_DAYS", "7"))
LAGS: Final = os.environ.get("BENCHMARK_LAGS", "10 60 200").split()
SEED: Final = int(os.environ.get("BENCHMARK_SEED", "1"))

HEADING: Final = (
    f"{'Home':<8}{'Lag':>4}{'passes':>8}{'history':>9}{'refused':>9}{'mean':>7}"
    f"{'limit':>7}{'worst':>7}{'old':>7}  Missed"
)

# Seconds by which a lag is longer at most.
JITTER: Final = 8.0
# Goals in seconds, without the lag.
LIMIT: Final = 160.0
GOAL: Final = 200.0
OLD: Final = 360.0
MAX_OLD: Final = 0.06
# Values are shown for 15 minutes.
SHOWN: Final = 900.0


def _family(types: set[DeviceType]) -> Home:
    home = homes.family()
    [plant] = home.plants
    plant.devices = [each for each in plant.devices if each.type_id in types]
    return home


def one() -> Home:
    """Return a home with an inverter."""
    return _family({DeviceType.RESIDENTIAL_INVERTER})


def two() -> Home:
    """Return a home with an inverter and a meter."""
    return _family({DeviceType.RESIDENTIAL_INVERTER, DeviceType.POWER_SENSOR})


def five() -> Home:
    """Return a farm and a flat with devices of five types."""
    home = Home([*homes.farm().plants, *homes.apartment().plants])
    types = {device.type_id for _, device in home.devices()}
    assert sum(map(has_kpis, types)) >= 5, types
    return home


HOMES: Final[dict[str, Callable[[], Home]]] = {
    "five": five,
    "farm": homes.farm,
    "three": homes.family,
    "two": two,
    "one": one,
}


@pytest.fixture(params=os.environ.get("BENCHMARK_HOMES", " ".join(HOMES)).split())
def home(request: pytest.FixtureRequest) -> Home:
    """Return the home to read."""
    return HOMES[request.param]()


@pytest.fixture(params=LAGS)
def lag(request: pytest.FixtureRequest) -> float:
    """Return the lag of the server."""
    return float(request.param)


@pytest.fixture
async def simulator(
    home: Home, lag: float, socket_enabled: None, freezer: FrozenDateTimeFactory
) -> AsyncIterator[Simulator]:
    """Serve the home. Its collections move once a day."""
    freezer.move_to(NOON)
    simulator = DistantSimulator(freezer, SEED, home, quotas="per type")
    dice = Random(f"{SEED}/moves")
    begin = simulator.clock.now().timestamp()
    simulator.collection.lag, simulator.collection.jitter = lag, JITTER
    simulator.collection.moves = [
        (begin + 86400 * (day + dice.random()), dice.choice((-60, 60)))
        for day in range(int(DAYS))
    ]
    async with simulator.serve():
        yield simulator


@pytest.fixture(autouse=True)
def few_entities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Create one entity per device, because most of the time is taken by states."""
    monkeypatch.setattr(smartpvms, "PLATFORMS", [Platform.BINARY_SENSOR])


@dataclass(slots=True)
class Ages:
    """Ages of shown values in seconds, over time."""

    worst: float = 0.0
    _seconds: float = 0.0
    _total: float = 0.0
    _old: float = 0.0

    def add(self, start: float, duration: float, limit: float) -> None:
        """Add a value with an age at its start; above the limit it is old."""
        end = start + duration
        self.worst = max(self.worst, end)
        self._seconds += duration
        self._total += duration * (start + end) / 2
        self._old += min(max(end - limit, 0.0), duration)

    @property
    def mean(self) -> float:
        """Return the mean age."""
        return self._total / self._seconds

    @property
    def old(self) -> float:
        """Return the share of the time in which values are old."""
        return self._old / self._seconds


def _reads(simulator: Simulator) -> Iterator[list[datetime]]:
    """Yield the times at which each device was read."""
    for _, device in simulator.home.devices():
        if has_kpis(device.type_id):
            yield [
                call.at
                for call in simulator.calls_to("getDevRealKpi")
                if call.fail_code == 0
                and str(device.id) in call.body["devIds"].split(",")
            ]


def ages(simulator: Simulator, end: datetime) -> Ages:
    """Return the ages of all devices' values, as long as they are shown."""
    collection = simulator.collection
    result = Ages()
    for reads in _reads(simulator):
        for at, following in pairwise([*reads, end]):
            read = at.timestamp()
            shown = min(following.timestamp() - read, SHOWN)
            result.add(read - collection.last(read), shown, OLD + collection.lag)
    return result


async def _with_outages(
    hass: HomeAssistant,
    freezer: FrozenDateTimeFactory,
    simulator: Simulator,
    end: datetime,
) -> None:
    """Let days pass with an outage of the server on every second one."""
    dice = Random(f"{SEED}/outages")
    while (now := simulator.clock.now()) < end:
        begin = now + timedelta(hours=dice.uniform(4, 44))
        await pass_time(hass, freezer, min(begin, end))
        outage = simulator.faults.add(faults.HttpStatus(503))
        over = begin + timedelta(minutes=dice.choice((4, 20, 180)))
        await pass_time(hass, freezer, min(over, end))
        outage.remove()
        await pass_time(hass, freezer, min(now + timedelta(days=2), end))


async def test_days(
    request: pytest.FixtureRequest,
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    freezer: FrozenDateTimeFactory,
    lag: float,
    record_property: Callable[[str, object], None],
) -> None:
    """Values are as young as the quota allows, and no call is refused."""
    end = simulator.clock.now() + timedelta(days=DAYS)
    adding = hass.async_create_task(add_all(hass, account, simulator.home))
    await _with_outages(hass, freezer, simulator, end)
    adding.result()

    result = ages(simulator, end)
    met = {
        "refusals": not simulator.refusals,
        "mean": result.mean <= GOAL + lag,
        "old": result.old <= MAX_OLD,
    }
    missed = [name for name, is_met in met.items() if not is_met]
    name = request.node.callspec.params["home"]
    row = (
        f"{name:<8}{lag:>4.0f}{len(simulator.calls_to('getStationRealKpi')):>8}"
        f"{len(simulator.calls_to('getDevHistoryKpi')):>9}"
        f"{len(simulator.refusals):>9}{result.mean:>7.1f}{LIMIT + lag:>7.0f}"
        f"{result.worst:>7.0f}{result.old:>7.1%}  {', '.join(missed)}"
    )
    record_property("row", (HEADING, row))
    assert not missed
