"""Comparison of the real recorder's long-term statistics with the true energies."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
import logging
import math
import re

from freezegun.api import FrozenDateTimeFactory
import pytest

from homeassistant.components.recorder import Recorder, get_instance
from homeassistant.components.recorder.statistics import statistics_during_period
from homeassistant.components.recorder.tasks import StatisticsTask
from homeassistant.core import HomeAssistant
from tests.conftest import POLL, Account
from tests.simulator import Simulator
from tests.simulator.counter_faults import JITTER
from tests.simulator.counters import Counter, Kind, counters_of
from tests.simulator.energy import Row
from tests.simulator.moment import Moment, last_collection
from tests.simulator.plants import DeviceType, Plant

_PERIOD = timedelta(minutes=5)
_HOUR = timedelta(hours=1)
_NEVER = datetime.max.replace(tzinfo=UTC)

# Largest error of rounding and jitter, in kWh.
HOUR_TOLERANCE = 0.05
SUM_TOLERANCE = 0.02


def _start_of_period(at: datetime) -> datetime:
    return at.replace(minute=at.minute // 5 * 5, second=0, microsecond=0)


@dataclass(frozen=True)
class Energy:
    """An energy of a plant, calculated from counters of its devices."""

    plant: Plant
    key: str
    gains: tuple[int, ...]
    """The energy rows of the site that are added."""
    losses: tuple[int, ...]
    added: tuple[Counter, ...]
    """The counters that are added."""
    subtracted: tuple[Counter, ...] = ()
    integrals: tuple[int, ...] = ()
    """The energy rows without a counter."""
    device: None = None
    kind: Kind = Kind.LIFETIME
    is_money: bool = False

    @property
    def name(self) -> str:
        """Return the code of the plant."""
        return self.plant.code

    def true(self, at: datetime) -> float:
        """Return the energy at the last collection."""
        return self._sum(at, self.gains) - self._sum(at, self.losses)

    @property
    def parts(self) -> tuple[Counter, ...]:
        """Return the counters of the energy."""
        return self.added + self.subtracted

    def integrated(self, at: datetime) -> float:
        """Return the part of the energy without a counter, at the last collection."""
        return self._sum(at, self.integrals)

    def _sum(self, at: datetime, rows: Iterable[int]) -> float:
        moment = Moment(self.plant, last_collection(at.timestamp()))
        return math.fsum(moment.lifetime(row) for row in rows)


def energies_of(plant: Plant, counters: Collection[Counter]) -> list[Energy]:
    """Return the energies of a plant, depending on its counters."""

    def parts(*alternatives: str) -> tuple[Counter, ...]:
        return next(
            found
            for key in alternatives
            if (
                found := tuple(
                    each
                    for each in counters
                    if each.plant is plant
                    and each.key == key
                    and (each.device is None or each.device.measures == "grid")
                )
            )
            or key == alternatives[-1]
        )

    yields = parts("total_cap")
    charged = parts("total_charged_energy", "charge_cap")
    discharged = parts("total_discharged_energy", "discharge_cap")
    dc = tuple(
        each
        for each in counters
        if each.plant is plant and re.fullmatch(r"mppt_\d+_cap", each.key)
    )
    battery = plant.site.battery
    outside = battery is not None and battery.side == "ac"
    panels = tuple(Row.PV + roof for roof in range(len(plant.site.roofs)))
    if battery is None or battery.side == "ac":
        pv = Energy(plant, "pv_energy", (Row.OUTPUT,), (), yields)
    elif dc:
        pv = Energy(plant, "pv_energy", panels, (), dc)
    else:
        pv = Energy(
            plant,
            "pv_energy",
            (Row.OUTPUT, Row.CHARGE),
            (Row.DISCHARGE, Row.STANDBY),
            yields + charged,
            discharged,
            (Row.STANDBY,),
        )
    imported, exported = parts("reverse_active_cap"), parts("active_cap")
    if any(each.device and each.device.type_id == DeviceType.EMMA for each in exported):
        imported, exported = exported, imported
    return [
        pv,
        Energy(
            plant,
            "home_energy",
            (Row.LOAD,),
            (),
            yields + imported + (discharged if outside else ()),
            exported + (charged if outside else ()),
            (Row.STANDBY,),
        ),
        Energy(plant, "charged_energy", (Row.CHARGE,), (), charged),
        Energy(plant, "discharged_energy", (Row.DISCHARGE,), (), discharged),
    ]


@dataclass(slots=True)
class ExpectedEnergy:
    """Expected energy of a counter by hour: when it was counted, and when reported.

    Two energies are lost: those not reported by the end of a period, unless they are in
    the history, and those between the last reading of a replaced device and its end.
    """

    counter: Counter | Energy
    hours: dict[datetime, float] = field(default_factory=lambda: defaultdict(float))
    """Energy by the hour in which it was reported."""
    counted: dict[datetime, float] = field(default_factory=lambda: defaultdict(float))
    """Energy by the hour in which it was counted."""
    # The largest step of the true value in an hour: one reading.
    steps: dict[datetime, float] = field(default_factory=lambda: defaultdict(float))
    false_readings: int = 0
    shifted: bool = False
    """Whether the counter starts over at another time, and reports all it counts."""
    has_history: bool = False
    """Whether history may contain the energy that was not reported."""
    is_honest: bool = True
    """Whether the last reading was true."""
    late: dict[datetime, float] = field(default_factory=dict)
    """Energy that was not reported by the beginning of an hour."""
    _base: float = 0.0
    _again: datetime = _NEVER
    _last: float | None = None
    _seen: datetime | None = None
    _before: float | None = None
    _integrated: float = 0.0
    _unreported: dict[datetime, float] = field(
        default_factory=lambda: defaultdict(float)
    )

    def start_again(self, at: datetime, base: float = 0.0) -> None:
        """Start again at 0, like the counter of a new device."""
        self._base, self._again = base, at

    def add_reading(self, reported: object, true: float, at: datetime) -> None:
        """Add a reported value and the true value."""
        base = self._base if at >= self._again else 0.0
        honest = isinstance(reported, int | float) and math.isclose(
            reported, true - base, abs_tol=JITTER + 0.011
        )
        self.take(true, at, honest=honest)

    def take(
        self, true: float, at: datetime, *, honest: bool, integrated: float = 0.0
    ) -> None:
        """Add a true value, whether it was reported, and the energy of integrals."""
        hour = at.replace(minute=0, second=0, microsecond=0)
        self.late.setdefault(hour, math.fsum(self._unreported.values()))
        self.is_honest = honest
        if self._starts_over(at):
            self._last = self._before = 0.0
            self._base *= at < self._again
            if not self.has_history:
                for late, energy in self._unreported.items():
                    self.counted[late] -= energy
            self._unreported.clear()
        elif self._base and self._seen and self._seen < self._again <= at:
            # No counter contains the energy between the last reading and this one.
            self._last = self._before = self._base
        self._seen = at
        if self._before is not None:
            step = true - self._before + integrated - self._integrated
            self.steps[hour] = max(self.steps[hour], step)
            self.counted[hour] += true - self._before
            self._unreported[hour] += true - self._before
        self._before, self._integrated = true, integrated
        self.false_readings += not honest
        if not (honest or self.shifted):
            return
        if self._last is not None:
            self.hours[hour] += true - self._last
        self._last = true
        self._unreported.clear()

    def _starts_over(self, at: datetime) -> bool:
        if self._seen is None or self.counter.kind is Kind.LIFETIME:
            return False
        zone = self.counter.plant.time_zone
        before, now = self._seen.astimezone(zone).date(), at.astimezone(zone).date()
        if self.counter.kind is Kind.MONTHLY:
            return before.month != now.month
        return before != now

    @property
    def total(self) -> float:
        """Return the energy that was reported."""
        return math.fsum(self.hours.values())


@dataclass(frozen=True, slots=True)
class Comparison:
    """The statistics of a counter, and its true energy, in its unit."""

    expected: ExpectedEnergy
    hours: dict[datetime, float]
    """The changes compiled by the recorder, by hour."""

    @property
    def difference(self) -> float:
        """Return the excess of the statistics' sum over the true energy.

        The sum may contain energy that was counted and is not reported yet.
        """
        total = math.fsum(self.hours.values())
        reported, counted = (
            self.expected.total,
            math.fsum(self.expected.counted.values()),
        )
        return _outside(total, min(reported, counted), max(reported, counted))

    def error(self, hour: datetime) -> float:
        """Return the excess of an hour of the statistics over the true energy.

        While readings are wrong, energy may be in the hour in which it was counted or
        in the hour in which it was reported. The counters of an energy are reported
        separately, so that a part of what was not reported can arrive in any hour.
        """
        expected = self.expected
        reported, counted = (
            expected.hours.get(hour, 0.0),
            expected.counted.get(hour, 0.0),
        )
        is_sum = isinstance(expected.counter, Energy)
        late = expected.late.get(hour, 0.0) if is_sum else 0.0
        return _outside(
            self.hours.get(hour, 0.0),
            min(reported, counted),
            max(reported, counted + late),
        )

    def reading(self, hour: datetime) -> float:
        """Return the energy of one reading.

        A reading of the end of an hour may arrive in the next.
        """
        around = (hour - _HOUR, hour, hour + _HOUR)
        return max(self.expected.steps.get(near, 0.0) for near in around)

    def excess(self, hour: datetime) -> float:
        """Return the error of an hour beyond one reading."""
        return abs(self.error(hour)) - self.reading(hour)

    @property
    def worst(self) -> datetime:
        """Return the hour with the largest error beyond one reading."""
        hours = self.hours | self.expected.hours
        return max(hours, key=lambda hour: (self.excess(hour), abs(self.error(hour))))

    @property
    def worst_error(self) -> float:
        """Return the largest error of an hour."""
        errors = [self.error(hour) for hour in self.hours | self.expected.hours]
        return max(errors, key=abs)

    @property
    def worst_excess(self) -> float:
        """Return the largest error of an hour beyond one reading."""
        return self.excess(self.worst)


def _outside(value: float, least: float, most: float) -> float:
    """Return the distance of a value from a range."""
    return value - min(max(value, least), most)


def quieten() -> None:
    """Turn off the recorder's log and the warnings of the event loop."""
    # Logging every statement, as the test framework does, takes half of the time.
    logging.getLogger("sqlalchemy.engine").setLevel(logging.WARNING)
    # All callbacks seem slow in frozen time.
    logging.getLogger("asyncio").setLevel(logging.ERROR)


@pytest.fixture
def recorder_config() -> dict[str, int]:
    """Return a configuration that writes each state at once."""
    quieten()
    return {"commit_interval": 0}


class Run:
    """A simulated period of an account in a Home Assistant that records statistics."""

    def __init__(
        self,
        hass: HomeAssistant,
        account: Account,
        simulator: Simulator,
        freezer: FrozenDateTimeFactory,
    ) -> None:
        """Store the account, which is not added yet."""
        self._hass = hass
        self._freezer = freezer
        self.account = account
        self.simulator = simulator
        self.begin = self.now
        self._open = _start_of_period(self.begin)
        self._polled = {self._open}
        self.expected = {
            counter: ExpectedEnergy(counter)
            for counter in counters_of(simulator.home, self.begin)
        }
        self.energies = {
            energy: ExpectedEnergy(energy)
            for plant in simulator.home.plants
            for energy in energies_of(plant, self.expected)
        }

    @property
    def now(self) -> datetime:
        """Return the simulated time."""
        return self.simulator.clock.now()

    def at(self, text: str) -> datetime:
        """Return a time in the first plant's time zone."""
        zone = self.simulator.home.plants[0].time_zone
        return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)

    def counter(self, key: str) -> Counter:
        """Return the first counter of a data item."""
        return next(counter for counter in self.expected if counter.key == key)

    async def start(self) -> None:
        """Add the account in the time zone of the first plant."""
        # Storing the origin of every callback takes half of the time.
        self._hass.loop.set_debug(False)
        zone = self.simulator.home.plants[0].time_zone
        await self._hass.config.async_set_time_zone(str(zone))
        await self.account.add()
        # Compiling takes most of the time, so all other entities are excluded.
        recorded = self._recorded()
        get_instance(self._hass).entity_filter = recorded.__contains__
        self._read_values()

    async def poll(self, passed: timedelta = POLL) -> None:
        """Advance the time, and compile the finished periods."""
        await self.account.poll(passed)
        self._read_values()
        self._compile()

    async def until(self, moment: datetime | str, passed: timedelta = POLL) -> None:
        """Poll until a time."""
        end = self.at(moment) if isinstance(moment, str) else moment
        while self.now < end:
            await self.poll(passed)

    async def restart(self) -> None:
        """Unload the account and set it up again."""
        entries = self._hass.config_entries
        assert await entries.async_unload(self.account.entry.entry_id)
        assert await entries.async_setup(self.account.entry.entry_id)
        await self._hass.async_block_till_done(wait_background_tasks=True)

    def _read_values(self) -> None:
        true: dict[int | str, dict[str, float]] = {}
        reported: dict[int | str, dict[str, object]] = {}
        for counter, expected in self.expected.items():
            name = counter.name
            if name not in true:
                true[name] = (
                    self.simulator.plant_items(name)
                    if isinstance(name, str)
                    else self.simulator.device_items(name)
                )
                reported[name] = self.simulator.reported_items(name) or {}
            expected.add_reading(
                reported[name].get(counter.key),
                true[name][counter.key],
                self.now,
            )
        for energy, expected in self.energies.items():
            honest = all(self.expected[part].is_honest for part in energy.parts)
            expected.take(
                energy.true(self.now),
                self.now,
                honest=honest,
                integrated=energy.integrated(self.now),
            )

    def _compile(self) -> None:
        """Compile the finished periods, as the recorder does every five minutes.

        In periods without a poll, only the end of each hour is compiled: the statistics
        of an hour depend on its end, and an unchanged state adds nothing.
        """
        recorder = get_instance(self._hass)
        while self._open + _PERIOD <= self.now:
            if self._open in self._polled or self._open.minute == 55:
                recorder.queue_task(StatisticsTask(self._open, False))
            self._open += _PERIOD
        self._polled = {_start_of_period(self.now)}

    def _recorded(self) -> dict[str, ExpectedEnergy]:
        """Return the counters and energies that have an entity, by entity ID."""
        return {
            state.entity_id: expected
            for expected in (*self.expected.values(), *self.energies.values())
            if (
                state := self.account.state(expected.counter.name, expected.counter.key)
            )
        }

    async def compare(self, *, energies: bool = False) -> list[Comparison]:
        """Wait for the full hour, and compare all counters that have an entity.

        If requested, the energies that are calculated from counters are added.
        """
        hour = self.now.replace(minute=0, second=0, microsecond=0)
        self._freezer.move_to(hour + _HOUR)
        self._compile()
        recorder = get_instance(self._hass)
        await recorder.async_block_till_done()
        counters = {
            entity_id: expected
            for entity_id, expected in self._recorded().items()
            if energies or isinstance(expected.counter, Counter)
        }
        rows = await recorder.async_add_executor_job(
            statistics_during_period,
            self._hass,
            self.begin - _HOUR,
            None,
            set(counters),
            "hour",
            None,
            {"change", "state", "sum"},
        )
        return [
            Comparison(
                expected,
                {
                    datetime.fromtimestamp(row["start"], UTC): row["change"] or 0.0
                    for row in rows.get(entity_id, [])
                },
            )
            for entity_id, expected in counters.items()
        ]


@pytest.fixture
async def run(
    simulator: Simulator,
    recorder_mock: Recorder,
    hass: HomeAssistant,
    account: Account,
    freezer: FrozenDateTimeFactory,
) -> Run:
    """Return a run that starts now."""
    run = Run(hass, account, simulator, freezer)
    await run.start()
    return run


def assert_true(
    comparisons: Iterable[Comparison], sum_tolerance: float = SUM_TOLERANCE
) -> None:
    """Check the statistics against the true energies, by hour and in total.

    Revenue may fall, so its hours include the jitter.
    """
    problems = []
    for comparison in comparisons:
        expected = comparison.expected
        name = f"{expected.counter.name} {expected.counter.key}"
        last = max(expected.steps.values(), default=0.0)
        if abs(comparison.difference) > sum_tolerance + last:
            problems.append(f"{name}: {comparison.difference:+.2f} in all")
        is_money = expected.counter.is_money
        tolerance = max(HOUR_TOLERANCE, sum_tolerance) if is_money else HOUR_TOLERANCE
        for hour in sorted(comparison.hours | expected.hours):
            if comparison.excess(hour) > tolerance:
                problems.append(f"{name}: {comparison.error(hour):+.2f} in {hour}")
            if comparison.hours.get(hour, 0.0) < -(tolerance if is_money else 1e-6):
                problems.append(f"{name}: {comparison.hours[hour]:.2f} kWh in {hour}")
    assert not problems, "\n".join(problems)
