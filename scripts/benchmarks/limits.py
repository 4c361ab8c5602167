"""Polls for a day with every kind of flow control, and measures the age of values."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
import math
import os
from statistics import fmean
from typing import Literal, override

from freezegun.api import FrozenDateTimeFactory
import pytest

from custom_components import smartpvms
from custom_components.smartpvms.const import DOMAIN
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from scripts.benchmarks.distance import DistantSimulator
from tests import conftest
from tests.conftest import NOON, Account
from tests.simulator import DeviceType, Home, Simulator, homes
from tests.simulator.items import has_kpis
from tests.timeline import pass_time

account = conftest.account

HOURS = float(os.environ.get("BENCHMARK_HOURS", "24"))
SEED = int(os.environ.get("BENCHMARK_SEED", "1"))

HEADING = (
    f"{'Home':<11}{'Policy':<25}{'calls':>6}{'refused':>9}{'logins':>7}"
    f"{'305':>5}{'mean':>7}{'worst':>8}  Missed"
)

# Time to recognize an account with the old quotas.
LEARNING = timedelta(hours=1)


def types() -> Home:
    """Return a farm and a flat with devices of five types."""
    return Home([*homes.farm().plants, *homes.apartment().plants])


def inverters() -> Home:
    """Return 120 inverters with a storage and a meter."""
    home = homes.farm(inverters=120)
    [plant] = home.plants
    plant.devices = [
        device for device in plant.devices if device.type_id != DeviceType.EMI
    ]
    return home


def fleet() -> Home:
    """Return 250 plants with 1,000 devices."""
    return homes.fleet(plants=250, devices=1000)


HOMES: dict[str, Callable[[], Home]] = {
    # The slowest first, so that the processes end together.
    "fleet": fleet,
    "inverters": inverters,
    "types": types,
    "family": homes.family,
    "apartment": homes.apartment,
}


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits of a server."""

    quotas: Literal["pooled", "per type", "old"]
    windows: Literal["fixed", "sliding"]
    session: Literal["fixed", "sliding"] = "sliding"

    @override
    def __str__(self) -> str:
        """Return a readable name."""
        token = "" if self.session == "sliding" else ", 30 min"
        return f"{self.quotas}, {self.windows}{token}"


POLICIES = [
    Policy("pooled", "fixed"),
    Policy("pooled", "sliding"),
    Policy("per type", "fixed"),
    Policy("per type", "sliding"),
    Policy("old", "sliding"),
    Policy("pooled", "sliding", session="fixed"),
]


@pytest.fixture(params=os.environ.get("BENCHMARK_HOMES", " ".join(HOMES)).split())
def home(request: pytest.FixtureRequest) -> Home:
    """Return the home to read."""
    return HOMES[request.param]()


@pytest.fixture(params=POLICIES, ids=str)
def policy(request: pytest.FixtureRequest) -> Policy:
    """Return the policy of the server."""
    policy: Policy = request.param
    return policy


@pytest.fixture
async def simulator(
    home: Home, policy: Policy, socket_enabled: None, freezer: FrozenDateTimeFactory
) -> AsyncIterator[Simulator]:
    """Serve the home with the policy."""
    freezer.move_to(NOON)
    simulator = DistantSimulator(
        freezer,
        SEED,
        home,
        quotas=policy.quotas,
        windows=policy.windows,
        session=policy.session,
    )
    async with simulator.serve():
        yield simulator


@pytest.fixture(autouse=True)
def few_entities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Create one entity per device, because most of the time is taken by states."""
    monkeypatch.setattr(smartpvms, "PLATFORMS", [Platform.BINARY_SENSOR])


async def add_all(hass: HomeAssistant, account: Account, home: Home) -> None:
    """Add the account with all its plants, if the server allows it."""
    result = await account.add()
    if result.get("step_id") == "plants":
        codes = [plant.code for plant in home.plants]
        await hass.config_entries.flow.async_configure(
            result["flow_id"], {"plants": codes}
        )


@dataclass(frozen=True, slots=True)
class Ages:
    """Ages of the devices' values, in seconds."""

    mean: float
    worst: float


def ages(simulator: Simulator, begin: datetime, end: datetime) -> Ages:
    """Return the times that devices were not read between two times."""
    reads: dict[int, list[datetime]] = {
        device.id: []
        for _, device in simulator.home.devices()
        if has_kpis(device.type_id)
    }
    for call in simulator.calls_to("getDevRealKpi"):
        if call.fail_code == 0 and call.at >= begin:
            for device_id in call.body["devIds"].split(","):
                reads[int(device_id)].append(call.at)
    between = [gap for times in reads.values() for gap in gaps(times)]
    everywhere = [gap for times in reads.values() for gap in gaps([begin, *times, end])]
    return Ages(fmean(between) if between else math.inf, max(everywhere))


def gaps(times: list[datetime]) -> list[float]:
    """Return the seconds from each time to the next."""
    return [(later - sooner).total_seconds() for sooner, later in pairwise(times)]


def calls_of_a_round(home: Home) -> int:
    """Return the number of calls that read every device once."""
    types = Counter(
        device.type_id for _, device in home.devices() if has_kpis(device.type_id)
    )
    return sum(math.ceil(number / 100) for number in types.values())


async def test_a_day(
    request: pytest.FixtureRequest,
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    freezer: FrozenDateTimeFactory,
    policy: Policy,
    record_property: Callable[[str, object], None],
) -> None:
    """No call is refused, and no value becomes old."""
    begin = simulator.clock.now()
    end = begin + timedelta(hours=HOURS)
    adding = hass.async_create_task(add_all(hass, account, simulator.home))
    await pass_time(hass, freezer, end)
    adding.result()

    old = policy.quotas == "old"
    learned = begin + LEARNING if old else begin
    refusals = [call for call in simulator.refusals if call.at >= learned]
    logins = len(simulator.calls_to("login"))
    expired = sum(call.fail_code == 305 for call in simulator.calls)
    age = ages(simulator, learned, end)
    if old:
        worst = 60 * calls_of_a_round(simulator.home) + 300
        met = {"refusals": not refusals, "worst": age.worst <= worst}
    else:
        met = {
            "refusals": not refusals,
            "logins": logins <= (3 if policy.session == "sliding" else 50),
            "305": expired <= 1,
            "mean": age.mean <= 305,
            "worst": age.worst <= 330,
        }
    met["added"] = len(hass.config_entries.async_entries(DOMAIN)) == 1
    missed = [name for name, is_met in met.items() if not is_met]
    home_name = request.node.callspec.params["home"]
    row = (
        f"{home_name:<11}{policy!s:<25}{len(simulator.calls):>6}{len(refusals):>9}"
        f"{logins:>7}{expired:>5}{age.mean:>7.1f}{age.worst:>8.1f}  {', '.join(missed)}"
    )
    record_property("row", (HEADING, row))
    assert not missed
