"""Comparison of imported and live statistics with the true energies."""

from bisect import bisect_right
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
import math
from typing import Any

from freezegun.api import FrozenDateTimeFactory
import pytest

from homeassistant.components.recorder import Recorder, get_instance
from homeassistant.components.recorder.statistics import (
    StatisticsRow,
    statistics_during_period,
)
from homeassistant.core import HomeAssistant
from tests.simulator import Simulator
from tests.simulator.counters import COLLECTION, Counter, Kind, counters_of
from tests.simulator.plants import Home
from tests.statistics import Run

from .conftest import Account

HOUR = timedelta(hours=1)

# Largest error of rounding, in kWh.
TOLERANCE = 0.01


def full_hour(at: datetime) -> datetime:
    """Return the last full hour."""
    return at.replace(minute=0, second=0, microsecond=0)


class Truth:
    """Energy of a counter, as far as it could be known at each moment.

    A running client has each reading of the server, and the import has every
    collection. Energy that is not known by the end of a day is lost to a daily counter.
    """

    def __init__(self, counter: Counter) -> None:
        """Start without values."""
        self.counter = counter
        self._at: list[datetime] = []
        self._sums: list[float] = []
        self._last: tuple[datetime, float] | None = None

    def is_of(self, name: int | str, key: str) -> bool:
        """Return whether this is the energy of a certain counter."""
        return (self.counter.name, self.counter.key) == (name, key)

    def record(self, at: datetime, true: float | None = None) -> None:
        """Add the true value of a moment, by default that of a faultless server."""
        value = self.counter.true(at) if true is None else true
        sum_ = 0.0
        if self._last is not None:
            before, last = self._last
            sum_ = self._sums[-1]
            sum_ += value if self._starts_over(before, at) else value - last
        self._last = at, value
        self._at.append(at)
        self._sums.append(sum_)

    def _starts_over(self, before: datetime, at: datetime) -> bool:
        zone = self.counter.plant.time_zone
        then, now = before.astimezone(zone).date(), at.astimezone(zone).date()
        if self.counter.kind is Kind.MONTHLY:
            return then.month != now.month
        return self.counter.kind is Kind.DAILY and then != now

    def record_past(self, start: datetime, end: datetime) -> None:
        """Add the relevant moments of a period: full hours, and the ends of days."""
        moments = set()
        hour = start
        while hour <= end:
            moments.add(hour)
            last = self.counter.midnight(hour) - COLLECTION
            if last > start:
                moments.add(last)
            hour += HOUR
        for moment in sorted(moments):
            if not self._at or moment > self._at[-1]:
                self.record(moment)

    def between(self, start: datetime, end: datetime) -> float:
        """Return the energy counted between two moments."""
        return self._until(end) - self._until(start)

    def _until(self, moment: datetime) -> float:
        index = bisect_right(self._at, moment)
        return self._sums[index - 1] if index else 0.0


class Past:
    """A run with the true energies before its start and during outages."""

    def __init__(self, hass: HomeAssistant, run: Run, begin: datetime) -> None:
        """Follow a run."""
        self.hass = hass
        self.run = run
        self.begin = begin
        at = run.begin
        self.truths = [
            Truth(counter) for counter in counters_of(run.simulator.home, at)
        ]

    def record_past(self, start: datetime, end: datetime) -> None:
        """Add the true energies between two moments."""
        for truth in self.truths:
            truth.record_past(start, end)

    def record(self) -> None:
        """Add the current true energies."""
        for truth in self.truths:
            truth.record(self.run.now)

    async def poll(self, passed: timedelta) -> None:
        """Advance the time, and add the true energies then."""
        await self.run.poll(passed)
        self.record()

    async def off(self, until: str) -> None:
        """Stop Home Assistant from now until a moment.

        It writes no unavailable states, and compiles the missed periods from the last
        states.
        """
        recorder = get_instance(self.hass)
        await recorder.async_block_till_done()
        recorder.set_enable(False)
        now, end = full_hour(self.run.now), self.run.at(until)
        await self.run.account.kill(off=end - self.run.now)
        recorder.set_enable(True)
        self.record_past(now + HOUR, full_hour(end))
        await self.poll(timedelta(seconds=5))

    async def until(self, moment: datetime | str, passed: timedelta) -> None:
        """Poll until a moment."""
        end = self.run.at(moment) if isinstance(moment, str) else moment
        while self.run.now < end:
            await self.poll(passed)

    @property
    def history_state(self) -> str | None:
        """Return the state of the import."""
        return self.run.account.value(self.run.account.entry.entry_id, "history")

    async def changes(self) -> dict[str, dict[datetime, float]]:
        """Return the changes of all hours by entity, as Home Assistant shows them."""
        return {
            entity_id: {
                datetime.fromtimestamp(row["start"], UTC): row["change"] or 0.0
                for row in of_entity
            }
            for entity_id, of_entity in (await self._statistics({"change"})).items()
        }

    async def rows(self) -> dict[tuple[str, float], StatisticsRow]:
        """Return all hours of all entities."""
        statistics = await self._statistics({"state", "sum", "mean", "min", "max"})
        return {
            (entity_id, row["start"]): row
            for entity_id, of_entity in statistics.items()
            for row in of_entity
        }

    async def _statistics(self, types: Any) -> dict[str, list[StatisticsRow]]:
        recorder = get_instance(self.hass)
        await recorder.async_block_till_done()
        return await recorder.async_add_executor_job(
            statistics_during_period,
            self.hass,
            datetime.fromtimestamp(0, UTC),
            None,
            None,
            "hour",
            None,
            types,
        )

    async def problems(
        self,
        start: datetime,
        end: datetime,
        *,
        plants: bool = False,
        untold: tuple[datetime, datetime] | None = None,
    ) -> list[str]:
        """Return the hours and the sums that differ from the true energies.

        The yields of plants have a history only where it is exact. In hours without a
        value of the server, only the sum is compared.
        """
        untold = untold or (end, end)
        changes = await self.changes()
        problems = []
        compared = 0
        for truth in self.truths:
            counter = truth.counter
            state = self.run.account.state(counter.name, counter.key)
            if state is None or (isinstance(counter.name, str) and not plants):
                continue
            compared += 1
            hours = changes.get(state.entity_id, {})
            name = f"{counter.device and counter.device.name} {counter.key}"
            # Yields of a plant and of its inverter are rounded separately.
            tolerance = TOLERANCE + 0.005 * isinstance(counter.name, str)
            hour = start
            while hour < end:
                true = truth.between(hour, hour + HOUR)
                if full_hour(untold[0]) <= hour < untold[1]:
                    pass
                elif hour not in hours:
                    problems.append(f"{name}: no {hour}")
                elif abs(hours[hour] - true) > tolerance:
                    problems.append(f"{name}: {hours[hour]:.3f} {true:.3f} in {hour}")
                hour += HOUR
            # The Energy dashboard would otherwise show "-0 kWh".
            problems += [
                f"{name}: {change} in {hour}"
                for hour, change in hours.items()
                if change < 0
            ]
            total = math.fsum(hours.values())
            if early := sorted(hour for hour in hours if hour < start):
                problems.append(f"{name}: {len(early)} hours before {start}")
            if abs(total - truth.between(start, end)) > tolerance:
                problems.append(
                    f"{name}: {total:.3f} {truth.between(start, end):.3f} in all"
                )
        if not compared:
            problems.append("nothing was compared")
        return problems


@pytest.fixture
def start() -> str:
    """Return when the account is added."""
    return "2026-06-21 10:20:30+02:00"


@pytest.fixture
def days() -> int:
    """Return the number of days to import when the account is added."""
    return 1


@pytest.fixture
async def simulator(
    home: Home, start: str, socket_enabled: None, freezer: FrozenDateTimeFactory
) -> AsyncIterator[Simulator]:
    """Serve a home with the frozen clock of the test."""
    freezer.move_to(start)
    simulator = Simulator(home)
    async with simulator.serve():
        yield simulator


@pytest.fixture
async def past(
    simulator: Simulator,
    recorder_mock: Recorder,
    hass: HomeAssistant,
    account: Account,
    freezer: FrozenDateTimeFactory,
    days: int,
) -> Past:
    """Return a run that starts now, with at least one day of history."""
    account.history = days
    run = Run(hass, account, simulator, freezer)
    past = Past(hass, run, full_hour(run.begin - timedelta(days=max(days, 1))))
    past.record_past(past.begin, full_hour(run.begin))
    await run.start()
    past.record()
    return past
