"""Compares the long-term statistics of the real recorder with what was true."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
import logging
import math

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

_PERIOD = timedelta(minutes=5)
_HOUR = timedelta(hours=1)
_NEVER = datetime.max.replace(tzinfo=UTC)

# What rounding and jitter may amount to, in kWh.
HOUR_TOLERANCE = 0.05
SUM_TOLERANCE = 0.02


def _start_of_period(at: datetime) -> datetime:
    return at.replace(minute=at.minute // 5 * 5, second=0, microsecond=0)


@dataclass(slots=True)
class Told:
    """What a counter told until now that was true, added up over all its periods.

    No client can know more: while the server tells nothing true, nothing is added, and
    what was not told by the end of a period is lost.
    """

    counter: Counter
    hours: dict[datetime, float] = field(default_factory=lambda: defaultdict(float))
    # The largest step that the true value made in an hour: one reading.
    steps: dict[datetime, float] = field(default_factory=lambda: defaultdict(float))
    lies: int = 0
    shifted: bool = False
    """Whether the counter starts over at another moment, and tells all it counts."""
    _base: float = 0.0
    _doubted: tuple[datetime, datetime] = (_NEVER, _NEVER)
    _last: float | None = None
    _seen: datetime | None = None
    _before: float | None = None

    def start_again(self, at: datetime, proved: datetime, base: float = 0.0) -> None:
        """Start again at 0, which nobody has to believe before it is proved."""
        self._base = base
        self._doubted = at, proved

    def hear(self, reported: object, true: float, at: datetime) -> None:
        """Take what was reported at a moment, and what would have been true."""
        hour = at.replace(minute=0, second=0, microsecond=0)
        again, proved = self._doubted
        if self._starts_over(at):
            self._last = self._before = 0.0
            self._base *= at < again
        elif self._base and self._seen and self._seen < again <= at:
            # What was counted before, after the last reading, is not told any more.
            self._last = self._base
        self._seen = at
        if self._before is not None:
            self.steps[hour] = max(self.steps[hour], true - self._before)
        self._before = true
        base = self._base if at >= again else 0.0
        honest = isinstance(reported, int | float) and math.isclose(
            reported, true - base, abs_tol=JITTER + 0.011
        )
        doubted = again <= at < proved
        self.lies += doubted or not honest
        if doubted or not (honest or self.shifted):
            return
        if self._last is not None:
            self.hours[hour] += true - self._last
        self._last = true

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
        """Return all that was told."""
        return math.fsum(self.hours.values())


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the statistics hold of a counter, and what was told, in its unit."""

    told: Told
    hours: dict[datetime, float]
    """The changes that the recorder compiled, by hour."""

    @property
    def difference(self) -> float:
        """Return how much the statistics' sum exceeds the truth."""
        return math.fsum(self.hours.values()) - self.told.total

    def error(self, hour: datetime) -> float:
        """Return how much an hour of the statistics exceeds the truth."""
        return self.hours.get(hour, 0.0) - self.told.hours.get(hour, 0.0)

    def excess(self, hour: datetime) -> float:
        """Return by how much an hour is wrong beyond what one reading holds.

        A reading of the end of an hour may arrive in the next.
        """
        around = (hour - _HOUR, hour, hour + _HOUR)
        reading = max(self.told.steps.get(near, 0.0) for near in around)
        return abs(self.error(hour)) - reading

    @property
    def worst(self) -> datetime:
        """Return the hour that is wrong most."""
        return max(self.hours | self.told.hours, key=lambda hour: abs(self.error(hour)))

    @property
    def worst_excess(self) -> float:
        """Return by how much an hour is wrong at most, beyond what one reading holds."""
        return max(self.excess(hour) for hour in self.hours | self.told.hours)


@pytest.fixture
def recorder_config() -> dict[str, int]:
    """Commit when statistics are compiled, and not after every state."""
    # Logging every statement, as the test framework does, takes half of the time.
    logging.getLogger("sqlalchemy.engine").setLevel(logging.WARNING)
    # Frozen time makes asyncio believe that everything is slow.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    return {"commit_interval": 0}


class Run:
    """Some simulated hours or days of an account in a Home Assistant that records."""

    def __init__(
        self,
        hass: HomeAssistant,
        account: Account,
        simulator: Simulator,
        freezer: FrozenDateTimeFactory,
    ) -> None:
        """Belong to an account that is not added yet."""
        self._hass = hass
        self._freezer = freezer
        self.account = account
        self.simulator = simulator
        self.begin = self.now
        self._open = _start_of_period(self.begin)
        self._polled = {self._open}
        self.told = {
            counter: Told(counter)
            for counter in counters_of(simulator.home, self.begin)
        }

    @property
    def now(self) -> datetime:
        """Return the simulated moment."""
        return self.simulator.clock.now()

    def at(self, text: str) -> datetime:
        """Return a moment of the first plant's local time."""
        zone = self.simulator.home.plants[0].time_zone
        return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)

    def counter(self, key: str) -> Counter:
        """Return the first counter of an item."""
        return next(counter for counter in self.told if counter.key == key)

    async def start(self) -> None:
        """Add the account, where the first plant is."""
        # Remembering where every callback came from takes half of the time.
        self._hass.loop.set_debug(False)
        zone = self.simulator.home.plants[0].time_zone
        await self._hass.config.async_set_time_zone(str(zone))
        await self.account.add()
        # As if the person had excluded everything else: compiling takes most time.
        counters = self._counters()
        get_instance(self._hass).entity_filter = counters.__contains__
        self._hear()

    async def poll(self, passed: timedelta = POLL) -> None:
        """Let time pass, and let the recorder compile what is over."""
        await self.account.poll(passed)
        self._hear()
        self._compile()

    async def until(self, moment: datetime | str, passed: timedelta = POLL) -> None:
        """Poll until a moment has come."""
        end = self.at(moment) if isinstance(moment, str) else moment
        while self.now < end:
            await self.poll(passed)

    async def restart(self) -> None:
        """Unload the account, and set it up again."""
        entries = self._hass.config_entries
        assert await entries.async_unload(self.account.entry.entry_id)
        assert await entries.async_setup(self.account.entry.entry_id)
        await self._hass.async_block_till_done(wait_background_tasks=True)

    def _hear(self) -> None:
        true: dict[int | str, dict[str, float]] = {}
        reported: dict[int | str, dict[str, object]] = {}
        for counter, told in self.told.items():
            name = counter.name
            if name not in true:
                true[name] = (
                    self.simulator.plant_items(name)
                    if isinstance(name, str)
                    else self.simulator.device_items(name)
                )
                reported[name] = self.simulator.reported_items(name) or {}
            told.hear(
                reported[name].get(counter.key),
                true[name][counter.key],
                self.now,
            )

    def _compile(self) -> None:
        """Compile what is over, as the recorder does every five minutes.

        Where nothing was polled, only the end of each hour is compiled: the hours are
        made of their ends, and what did not change adds nothing.
        """
        recorder = get_instance(self._hass)
        while self._open + _PERIOD <= self.now:
            if self._open in self._polled or self._open.minute == 55:
                recorder.queue_task(StatisticsTask(self._open, False))
            self._open += _PERIOD
        self._polled = {_start_of_period(self.now)}

    def _counters(self) -> dict[str, Told]:
        """Return the counters that have an entity, by its id."""
        return {
            state.entity_id: told
            for counter, told in self.told.items()
            if (state := self.account.state(counter.name, counter.key))
        }

    async def compare(self) -> list[Comparison]:
        """Wait for the full hour, and compare all counters that have an entity."""
        hour = self.now.replace(minute=0, second=0, microsecond=0)
        self._freezer.move_to(hour + _HOUR)
        self._compile()
        recorder = get_instance(self._hass)
        await recorder.async_block_till_done()
        counters = self._counters()
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
                told,
                {
                    datetime.fromtimestamp(row["start"], UTC): row["change"] or 0.0
                    for row in rows.get(entity_id, [])
                },
            )
            for entity_id, told in counters.items()
        ]


@pytest.fixture
async def run(
    simulator: Simulator,
    recorder_mock: Recorder,
    hass: HomeAssistant,
    account: Account,
    freezer: FrozenDateTimeFactory,
) -> Run:
    """Return a run that begins now."""
    run = Run(hass, account, simulator, freezer)
    await run.start()
    return run


def assert_true(
    comparisons: Iterable[Comparison], sum_tolerance: float = SUM_TOLERANCE
) -> None:
    """Check that the statistics are the truth, hour by hour and as a whole."""
    problems = []
    for comparison in comparisons:
        told = comparison.told
        name = f"{told.counter.name} {told.counter.key}"
        last = max(told.steps.values(), default=0.0)
        if abs(comparison.difference) > sum_tolerance + last:
            problems.append(f"{name}: {comparison.difference:+.2f} in all")
        for hour in sorted(comparison.hours | told.hours):
            if comparison.excess(hour) > HOUR_TOLERANCE:
                problems.append(f"{name}: {comparison.error(hour):+.2f} in {hour}")
            if comparison.hours.get(hour, 0.0) < -1e-6:
                problems.append(f"{name}: {comparison.hours[hour]:.2f} kWh in {hour}")
    assert not problems, "\n".join(problems)
