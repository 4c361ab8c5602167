"""Compares each day of a plant's energies with its report after a month of faults.

All faults of counters are active, and Home Assistant is off, killed, or loses its files,
and the server is down, at random times. The month runs with and without the audit.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
import math
import os
from random import Random
from typing import Any, Final, Literal

from freezegun.api import FrozenDateTimeFactory
import pytest

from custom_components.smartpvms.account import ACCOUNTS
from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.statistics.plant_importer import PlantImporter
from homeassistant.components.recorder import Recorder, get_instance
from homeassistant.core import HomeAssistant
from tests import conftest, history, statistics
from tests.conftest import Account
from tests.history import HOUR, Past
from tests.simulator import Simulator, faults, homes
from tests.simulator.chaos import Chaos
from tests.simulator.counters import counters_of
from tests.simulator.plants import Home
from tests.statistics import Run
from tests.test_plant_reports import reported

account = conftest.account
recorder_config = statistics.recorder_config
simulator = history.simulator
start = history.start

DAYS = int(os.environ.get("BENCHMARK_DAYS", "30"))
SEED = int(os.environ.get("BENCHMARK_SEED", "1"))
DAY: Final = timedelta(days=1)

type Incident = Literal["off", "killed", "file lost", "server down"]
# Probabilities in a day, and the longest time in hours.
INCIDENTS: dict[Incident, tuple[float, float]] = {
    "off": (0.15, 10.0),
    "killed": (0.2, 0.1),
    "file lost": (0.07, 0.1),
    "server down": (0.15, 6.0),
}

# The tolerance of the audit.
SHARE = 0.005
LEAST = 0.1
MIDNIGHT = 1 / 6
# The side of the inverters on which a report counts is not documented.
SIDES = {"pv_energy": 0.05}

HEADING = (
    f"{'Audit':<6}{'seed':>5}{'days':>6}{'energies':>10}{'incidents':>11}"
    f"{'outside':>9}{'worst kWh':>11}{'all kWh':>9}"
    f"{'replaced days':>15}{'without cause':>15}{'refused':>9}"
)


@pytest.fixture
def home() -> Home:
    """Return a home with a battery."""
    return homes.family(SEED)


@pytest.fixture
def persistent_database() -> bool:
    """Keep the statistics in a file."""
    return True


@dataclass(slots=True)
class Month:
    """A month with incidents."""

    hass: HomeAssistant
    run: Run
    storage: dict[str, Any]
    dice: Random = field(default_factory=lambda: Random(SEED))
    incidents: list[tuple[datetime, datetime]] = field(default_factory=list)
    losses: list[datetime] = field(default_factory=list)
    """Times at which the files were lost."""

    async def pass_days(self) -> None:
        """Poll until the end, with all incidents."""
        run = self.run
        for number in range(DAYS):
            begin = run.begin + number * DAY
            planned = sorted(
                (begin + DAY * self.dice.random(), name, longest * self.dice.random())
                for name, (probability, longest) in INCIDENTS.items()
                if self.dice.random() < probability
            )
            for at, name, hours in planned:
                await run.until(at)
                start = run.now
                await self._suffer(name, timedelta(hours=hours))
                self.incidents.append((start, run.now))
            await run.until(begin + DAY)
        # The audit of the last day is repeated a day later if the report differs.
        await run.until(run.now + timedelta(days=2))

    async def _suffer(self, name: Incident, length: timedelta) -> None:
        run = self.run
        if name == "server down":
            fault = run.simulator.faults.add(faults.HttpStatus(502))
            await run.until(run.now + length)
            fault.remove()
            return
        recorder = get_instance(self.hass)
        await recorder.async_block_till_done()
        recorder.set_enable(False)
        if name == "file lost":
            self.losses.append(run.now)
            await self._lose_files()
        else:
            await run.account.kill(off=max(length, timedelta(minutes=1)))
        recorder.set_enable(True)
        await run.poll(timedelta(seconds=5))

    async def _lose_files(self) -> None:
        entry_id = self.run.account.entry.entry_id
        await self.hass.config_entries.async_unload(entry_id)
        self.hass.data.pop(ACCOUNTS)
        for key in [each for each in self.storage if each.startswith(DOMAIN)]:
            del self.storage[key]
        await self.hass.config_entries.async_setup(entry_id)
        await self.hass.async_block_till_done()


@pytest.fixture(params=["off", "on"])
def audit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return whether the audit is on."""
    if request.param == "off":
        monkeypatch.setattr(PlantImporter, "_next_audit", lambda *args: None)
    audit: str = request.param
    return audit


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[datetime, datetime]]:
    """Return the hours that the audit replaces."""
    hours: list[tuple[datetime, datetime]] = []
    use: Callable[..., None] = PlantImporter._use_reports  # noqa: SLF001

    def recording(
        importer: PlantImporter, code: str, start: datetime, end: datetime, keys: Any
    ) -> None:
        hours.append((start, end))
        use(importer, code, start, end, keys)

    monkeypatch.setattr(PlantImporter, "_use_reports", recording)
    return hours


def allowed(key: str, energies: list[float]) -> float:
    """Return the tolerance for the energy of a day, from its hours."""
    share = SHARE + SIDES.get(key, 0.0)
    return share * math.fsum(energies) + LEAST + MIDNIGHT * (energies[0] + energies[-1])


async def test_month(
    audit: str,
    replaced: list[tuple[datetime, datetime]],
    recorder_mock: Recorder,
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    freezer: FrozenDateTimeFactory,
    hass_storage: dict[str, Any],
    record_property: Callable[[str, object], None],
) -> None:
    """Each day has the energies of the report, and no day without a cause changes."""
    account.history = 1
    run = Run(hass, account, simulator, freezer)
    chaos = Chaos(simulator, SEED)
    await run.start()
    get_instance(hass).entity_filter = lambda entity_id: entity_id.endswith("_total")
    month = Month(hass, run, hass_storage)
    await month.pass_days()

    [plant] = simulator.home.plants
    zone = plant.time_zone
    past = Past(hass, run, run.begin)
    changes = await past.changes()
    first = run.begin.astimezone(zone).date()
    outside, worst, total, compared = 0, 0.0, 0.0, set()
    for number in range(1, DAYS):
        start, end = (
            _midnight(first + each * DAY, zone) for each in (number, number + 1)
        )
        for key, hours in reported(past, start, end).items():
            state = account.state(plant.code, key)
            if state is None or not hours:
                continue
            compared.add(key)
            counted = math.fsum(
                changes[state.entity_id].get(each, 0.0) for each in hours
            )
            excess = abs(counted - math.fsum(hours.values())) - allowed(
                key, [*hours.values()]
            )
            if excess > 0:
                outside += 1
                total += excess
                worst = max(worst, excess)
                print(
                    f"  {start:%m-%d} {key}: {counted:.2f}, {sum(hours.values()):.2f}"
                )
    causes = [*month.incidents, *_outages(chaos, simulator, first)]
    uncaused = [
        hours
        for hours in replaced
        if not any(
            start < hours[1] and hours[0] < end + 3 * HOUR for start, end in causes
        )
    ]
    row = (
        f"{audit:<6}{SEED:>5}{DAYS - 1:>6}{len(compared):>10}"
        f"{len(month.incidents):>11}{outside:>9}{worst:>11.2f}{total:>9.2f}"
        f"{len(replaced):>15}{len(uncaused):>15}{len(simulator.refusals):>9}"
    )
    record_property("row", (HEADING, row))
    # The calls of the last minutes are stored in the lost file.
    unexpected = [
        call
        for call in simulator.refusals
        if not any(at <= call.at <= at + HOUR for at in month.losses)
    ]
    assert unexpected == []
    assert audit == "off" or (outside, uncaused) == (0, [])


def _midnight(day: date, zone: Any) -> datetime:
    return datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)


def _outages(
    chaos: Chaos, simulator: Simulator, first: date
) -> list[tuple[datetime, datetime]]:
    """Return the times without a device, and those of replacements."""
    times = []
    for plant, device in simulator.home.devices():
        for number in range(-1, DAYS + 3):
            day = first + number * DAY
            if outage := chaos._plan_outage(plant, device, day):  # noqa: SLF001
                times.append((outage.start, outage.end))
    replacements = map(
        chaos.replacement, counters_of(simulator.home, simulator.clock.now())
    )
    return times + [(at, at) for at in replacements if at]
