"""Compares the long-term statistics of the real recorder with what was true."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
import math

from freezegun.api import FrozenDateTimeFactory

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

# What rounding and jitter may amount to, in kWh.
HOUR_TOLERANCE = 0.05
SUM_TOLERANCE = 0.02

type Unknowable = Callable[[Counter, datetime], bool]


def _never(counter: Counter, at: datetime) -> bool:
    return False


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
    base: float = 0.0
    _last: float | None = None
    _seen: datetime | None = None
    _before: float | None = None

    def hear(
        self, reported: object, true: float, at: datetime, *, knowable: bool
    ) -> None:
        """Take what was reported at a moment, and what would have been true."""
        hour = at.replace(minute=0, second=0, microsecond=0)
        if self._starts_over(at):
            self._last = self._before = 0.0
        self._seen = at
        if self._before is not None:
            self.steps[hour] = max(self.steps[hour], true - self._before)
        self._before = true
        honest = isinstance(reported, int | float) and math.isclose(
            reported, true - self.base, abs_tol=JITTER + 0.011
        )
        if not (honest and knowable):
            self.lies += not honest
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
        return max(self.hours | self.told.hours, key=self.excess)


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
        self._compiled: datetime | None = None
        self.account = account
        self.simulator = simulator
        self.begin = self.now
        self.told = {
            counter: Told(counter)
            for counter in counters_of(simulator.home, self.begin)
        }
        self.unknowable: Unknowable = _never

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
        """Add the account."""
        await self.account.add()
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
                knowable=not self.unknowable(counter, self.now),
            )

    def _compile(self) -> None:
        """Compile every five minutes that are over, as the recorder does on time."""
        start = self._compiled or self.begin.replace(
            minute=self.begin.minute // 5 * 5, second=0, microsecond=0
        )
        while start + _PERIOD <= self.now:
            get_instance(self._hass).queue_task(StatisticsTask(start, False))
            start += _PERIOD
        self._compiled = start

    async def compare(self, keys: Iterable[str] | None = None) -> list[Comparison]:
        """Wait for the full hour, and compare all counters that have an entity."""
        hour = self.now.replace(minute=0, second=0, microsecond=0)
        self._freezer.move_to(hour + _HOUR)
        self._compile()
        recorder = get_instance(self._hass)
        await recorder.async_block_till_done()
        chosen = {
            state.entity_id: told
            for counter, told in self.told.items()
            if (keys is None or counter.key in keys)
            and (state := self.account.state(counter.name, counter.key))
        }
        rows = await recorder.async_add_executor_job(
            statistics_during_period,
            self._hass,
            self.begin - _HOUR,
            None,
            set(chosen),
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
            for entity_id, told in chosen.items()
        ]


def assert_true(comparisons: Iterable[Comparison]) -> None:
    """Check that the statistics are the truth, hour by hour and as a whole."""
    problems = []
    for comparison in comparisons:
        told = comparison.told
        name = f"{told.counter.name} {told.counter.key}"
        last = max(told.steps.values(), default=0.0)
        if abs(comparison.difference) > SUM_TOLERANCE + last:
            problems.append(f"{name}: {comparison.difference:+.2f} in all")
        for hour in sorted(comparison.hours | told.hours):
            if comparison.excess(hour) > HOUR_TOLERANCE:
                problems.append(f"{name}: {comparison.error(hour):+.2f} in {hour}")
            if comparison.hours.get(hour, 0.0) < -1e-6:
                problems.append(f"{name}: {comparison.hours[hour]:.2f} kWh in {hour}")
    assert not problems, "\n".join(problems)


__all__ = ["Comparison", "Recorder", "Run", "Told", "assert_true"]
