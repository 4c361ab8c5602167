"""Tests of the recorder's statistics: faults of the API add no energy.

A real recorder compiles long-term statistics of simulated days, and every hour of
every counter is compared with the true energy. Tests that are named after a fault run
twice: the second time with a restart in the middle of the fault.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from freezegun.api import FrozenDateTimeFactory
import pytest

from homeassistant.components.sensor import SensorStateClass
from tests.simulator import Simulator, faults, homes
from tests.simulator.chaos import Chaos, Rates
from tests.simulator.cloud import Change
from tests.simulator.counter_faults import (
    ALL_ONES,
    JITTER,
    flipping,
    jittering,
    multiplied,
    offline,
    reads,
    replaced,
    still_yesterday,
    with_days_of,
    without_yesterday,
)
from tests.simulator.counters import Counter, Kind, counters_of
from tests.simulator.plants import Home
from tests.simulator.sun import Place

from . import statistics
from .conftest import POLL
from .statistics import Run, assert_true

QUARTER = timedelta(minutes=15, seconds=2)
HOUR = timedelta(hours=1)

# Between the lowest first value and the highest last value.
TREMBLING = 2 * JITTER + 0.02
# More kWh than any home counts in five minutes.
ABSURD = 3.0

recorder_config = statistics.recorder_config
run = statistics.run

type Midway = Callable[[], Awaitable[None]]


@pytest.fixture
def start() -> str:
    """Return when the account is added."""
    return "2026-06-21 22:30:30+02:00"


@pytest.fixture
async def simulator(
    home: Home, start: str, socket_enabled: None, freezer: FrozenDateTimeFactory
) -> AsyncIterator[Simulator]:
    """Serve a home with the frozen clock of the test."""
    freezer.move_to(start)
    simulator = Simulator(home)
    # History would add the energy that the counter filter shows late.
    simulator.faults.add(faults.FailCode(20013), "getDevHistoryKpi")
    async with simulator.serve():
        yield simulator


@pytest.fixture(params=["running", "restarted"])
def midway(run: Run, request: pytest.FixtureRequest) -> Midway:
    """Return an action for the middle of a fault: none, or a restart."""
    happening: dict[str, Midway] = {"running": run.poll, "restarted": run.restart}
    return happening[request.param]


def add_faults(
    run: Run, fault: Callable[[Counter], Change], *kinds: Kind, money: bool = True
) -> None:
    """Apply a fault to all counters of some kinds, or to all except revenue."""
    for counter in run.expected:
        if counter.kind in kinds and (money or not counter.is_money):
            run.simulator.distort(counter.name, counter.key, fault(counter))


async def assert_statistics_are_true(run: Run, *spoiled: Kind) -> None:
    """Check all counters, and that the fault was reported."""
    comparisons = await run.compare()
    for kind in spoiled:
        assert any(
            comparison.expected.false_readings
            for comparison in comparisons
            if comparison.expected.counter.kind is kind
        )
    assert_true(comparisons)


def daytime(function: Any) -> Any:
    """Start the test in the morning of a sunny day."""
    morning = "2026-06-21 09:30:30+02:00"
    return pytest.mark.parametrize("start", [morning])(function)


# Faults of the API.


@daytime
async def test_reading_nothing_once(run: Run, midway: Midway) -> None:
    """T#138, T#43: one reading of 0, or none, is not a reset."""
    at = run.at("2026-06-21 10:30")
    for count, wrong in enumerate((0, None, 0.0, "N/A")):
        later = at + count * QUARTER
        add_faults(run, lambda counter: reads(wrong, later), *Kind)  # noqa: B023
    await run.until(at)
    await midway()
    await run.until("2026-06-21 12:00")
    await assert_statistics_are_true(run, *Kind)


@daytime
@pytest.mark.parametrize("wrong", [0.0, None])
async def test_reading_nothing_for_an_hour(
    run: Run, midway: Midway, wrong: object
) -> None:
    """T#129, T#135: an hour of 0, or of no value, neither adds nor loses energy."""
    at = run.at("2026-06-21 10:30")
    add_faults(run, lambda counter: reads(wrong, at, HOUR), *Kind)
    await run.until("2026-06-21 11:00")
    await midway()
    await run.until("2026-06-21 13:00")
    await assert_statistics_are_true(run, *Kind)


# Early in a month, yesterday is more than the tenth that the recorder accepts.
@pytest.mark.parametrize("start", ["2026-06-03 22:30:30+02:00"])
@pytest.mark.parametrize("minutes", [20, 60])
async def test_yesterdays_yield_is_missing(
    run: Run, midway: Midway, minutes: int
) -> None:
    """T#300: month and total fall by yesterday's yield after midnight for a while."""
    at = run.at("2026-06-04 00:10")
    lasting = timedelta(minutes=minutes)
    spoiled = (Kind.LIFETIME, Kind.MONTHLY)
    # A fall of revenue is shown, since prices may be negative.
    add_faults(
        run,
        lambda counter: without_yesterday(counter, at, lasting),
        *spoiled,
        money=False,
    )
    await run.until(at + lasting / 2)
    await midway()
    await run.until("2026-06-04 03:00")
    await assert_statistics_are_true(run, *spoiled)


async def test_value_of_yesterday_until_sunrise(run: Run, midway: Midway) -> None:
    """P#93, P#108: yesterday's yield until sunrise is not counted today."""
    at = run.at("2026-06-22 00:00")
    add_faults(
        run, lambda counter: still_yesterday(counter, at, 6 * HOUR, 99), Kind.DAILY
    )
    await run.until("2026-06-22 01:00")
    values = {
        run.account.value(counter.name, counter.key)
        for counter in run.expected
        if counter.kind is Kind.DAILY
    }
    assert {float(value) for value in values if value} == {0.0}
    await midway()
    await run.until("2026-06-22 08:00")
    await assert_statistics_are_true(run, Kind.DAILY)


async def test_flipping_after_midnight(run: Run, midway: Midway) -> None:
    """T#240: values that alternate between 0 and yesterday's 30 kWh add nothing."""
    at = run.at("2026-06-22 00:00")
    add_faults(run, lambda counter: flipping(counter, at, HOUR), Kind.DAILY)
    await run.until("2026-06-22 00:30")
    await midway()
    await run.until("2026-06-22 03:00")
    await assert_statistics_are_true(run, Kind.DAILY)


@daytime
async def test_jitter(run: Run, midway: Midway) -> None:
    """T#159: jitter of a few hundredths does not add up."""
    at = run.at("2026-06-21 10:00")
    add_faults(run, lambda counter: jittering(counter.key, at, 3 * HOUR), *Kind)
    await run.until("2026-06-21 11:00")
    await midway()
    await run.until("2026-06-21 14:00")
    assert_true(await run.compare(), TREMBLING)


async def test_jitter_at_night(run: Run, midway: Midway) -> None:
    """T#159: jitter does not add up at night and over midnight."""
    add_faults(run, lambda counter: jittering(counter.key, run.now, 9 * HOUR), *Kind)
    await run.until("2026-06-22 00:00")
    await midway()
    await run.until("2026-06-22 03:00")
    assert_true(await run.compare(), TREMBLING)


@daytime
async def test_absurd_jump(run: Run, midway: Midway) -> None:
    """T#217: a jump and its return add no energy."""
    at = run.at("2026-06-21 10:30")
    # The jump must be implausible.
    run.expected = {
        counter: expected
        for counter, expected in run.expected.items()
        if counter.true(at) * 9 > ABSURD
    }
    add_faults(run, lambda counter: multiplied(10, at), *Kind)
    add_faults(run, lambda counter: reads(ALL_ONES[0], at + QUARTER), *Kind)
    add_faults(run, lambda counter: reads(ALL_ONES[1], at + 2 * QUARTER), *Kind)
    await run.until(at)
    await midway()
    await run.until("2026-06-21 12:30")
    await assert_statistics_are_true(run, *Kind)


@pytest.mark.parametrize("silence", ["zeros", "nulls"])
async def test_disconnected_over_midnight(
    run: Run, midway: Midway, silence: Any
) -> None:
    """T#172, T#197: the zeros of a disconnected device are ignored."""
    for _, device in run.simulator.home.devices():
        device.disconnected_style = silence
        device.connected = False
    await run.until("2026-06-22 00:10")
    await midway()
    await run.until("2026-06-22 02:00")
    for _, device in run.simulator.home.devices():
        device.connected = True
    await run.until("2026-06-22 04:00")
    await assert_statistics_are_true(run, Kind.LIFETIME, Kind.DAILY)


@daytime
async def test_disconnected_by_day(run: Run, midway: Midway) -> None:
    """A disconnected device keeps counting, and reports the energy afterwards."""
    for _, device in run.simulator.home.devices():
        device.connected = False
    await run.until("2026-06-21 10:30")
    await midway()
    await run.until("2026-06-21 11:30")
    for _, device in run.simulator.home.devices():
        device.connected = True
    await run.until("2026-06-21 13:00")
    await assert_statistics_are_true(run, Kind.LIFETIME, Kind.DAILY)


@daytime
async def test_missing_for_a_day(run: Run, midway: Midway) -> None:
    """T#145: devices without a row for a day continue at their new values."""
    for _, device in run.simulator.home.devices():
        device.disconnected_style = "missing"
        device.connected = False
    await run.until("2026-06-21 21:00", QUARTER)
    await midway()
    await run.until("2026-06-22 09:30", QUARTER)
    for _, device in run.simulator.home.devices():
        device.connected = True
    await run.until("2026-06-22 11:00")
    await assert_statistics_are_true(run, Kind.LIFETIME, Kind.DAILY)


@pytest.fixture
def days_of_shanghai(simulator: Simulator) -> None:
    """Reset all days at the server's midnight, before the first reading."""
    shanghai = ZoneInfo("Asia/Shanghai")
    for counter in counters_of(simulator.home, simulator.clock.now()):
        fault = with_days_of(counter, shanghai)
        simulator.distort(counter.name, counter.key, fault)


@pytest.mark.parametrize("start", ["2026-06-21 16:30:30+02:00"])
async def test_days_of_the_server(
    days_of_shanghai: None, run: Run, midway: Midway
) -> None:
    """T#18: days that begin at Shanghai's midnight, six hours early, are complete."""
    for expected in run.expected.values():
        expected.shifted = expected.counter.kind is Kind.DAILY
    await run.until("2026-06-21 18:30")
    await midway()
    await run.until("2026-06-22 19:30", QUARTER)
    await assert_statistics_are_true(run, Kind.DAILY)


@pytest.mark.parametrize(
    ("start", "day"),
    [
        ("2026-03-28 22:30:30+01:00", "2026-03-29"),
        ("2026-10-24 22:30:30+02:00", "2026-10-25"),
    ],
    ids=["spring", "autumn"],
)
async def test_clock_change(run: Run, midway: Midway, day: str) -> None:
    """Faults on days of 23 or 25 hours add no energy."""
    at = run.at(f"{day} 00:00")
    add_faults(
        run, lambda counter: still_yesterday(counter, at, 5 * HOUR, 99), Kind.DAILY
    )
    add_faults(
        run,
        lambda counter: without_yesterday(counter, at, HOUR),
        Kind.LIFETIME,
        money=False,
    )
    await run.until(at + HOUR / 2)
    await midway()
    await run.until(f"{day} 06:00")
    await run.until(f"{day} 23:00", 2 * QUARTER)
    # The day before had 23 or 25 hours.
    midnight = run.counter("day_power").midnight(run.at(f"{day} 23:59") + HOUR)
    add_faults(run, lambda counter: flipping(counter, midnight, HOUR), Kind.DAILY)
    await run.until(midnight + 2 * HOUR)
    await assert_statistics_are_true(run, Kind.LIFETIME, Kind.DAILY)


@pytest.mark.parametrize("start", ["2026-06-21 20:30:30+02:00"])
async def test_all_faults_together(run: Run) -> None:
    """All faults on all counters, at ten times the realistic rate."""
    rates = Rates(at_midnight=0.9, by_day=0.4, disconnected=0.2, missing=0.1)
    Chaos(run.simulator, 1, rates)
    for moment in ("2026-06-21 22:00", "2026-06-22 00:30", "2026-06-22 10:00"):
        await run.until(moment)
        await run.restart()
    await run.until("2026-06-22 18:00")
    await assert_statistics_are_true(run, *Kind)


# True values.


@pytest.mark.parametrize("home", [homes.apartment()])
@pytest.mark.parametrize("start", ["2026-06-21 06:30:30+02:00"])
async def test_clear_day(run: Run) -> None:
    """From sunrise to sunset, no hundredth of a kWh is lost or held back."""
    await run.until("2026-06-21 22:00")
    comparisons = await run.compare()
    [yielded] = [
        comparison
        for comparison in comparisons
        if comparison.expected.counter.key == "total_power"
    ]
    assert yielded.expected.total > 15
    for comparison in comparisons:
        assert abs(comparison.difference) < 0.005
        assert all(abs(comparison.error(hour)) < 0.005 for hour in comparison.hours)


@pytest.mark.parametrize("start", ["2026-06-30 20:30:30+02:00"])
async def test_two_days_without_a_fault(run: Run) -> None:
    """Without faults, every state equals the reported value at every poll."""
    # At night and in the morning as often as possible, then less often.
    for step in (*[POLL] * 180, *[QUARTER] * 48, *[POLL] * 60, *[QUARTER] * 64):
        await run.poll(step)
        for counter in run.expected:
            reported = run.simulator.reported_items(counter.name)
            assert reported is not None
            state = run.account.state(counter.name, counter.key)
            assert state is None or float(state.state) == reported[counter.key]
    assert run.now > run.begin + timedelta(days=2)
    comparisons = await run.compare()
    for comparison in comparisons:
        assert abs(comparison.difference) < 0.005
        assert all(abs(comparison.error(hour)) < 0.005 for hour in comparison.hours)


async def test_last_reset(run: Run) -> None:
    """Days and months are reset at the plant's midnight, lifetime counters never."""
    await run.until("2026-06-22 00:30")
    expected = {
        Kind.LIFETIME: (SensorStateClass.TOTAL_INCREASING, None),
        Kind.DAILY: (SensorStateClass.TOTAL, "2026-06-21T22:00:00+00:00"),
        Kind.MONTHLY: (SensorStateClass.TOTAL, "2026-05-31T22:00:00+00:00"),
    }
    for key in ("total_power", "total_cap", "active_cap", "day_power", "month_power"):
        counter = run.counter(key)
        state = run.account.state(counter.name, key)
        assert state is not None
        attributes = state.attributes
        assert expected[counter.kind] == (
            attributes["state_class"],
            attributes.get("last_reset"),
        )


@pytest.mark.parametrize("start", ["2026-06-21 11:30:30+02:00"])
async def test_back_after_three_days(run: Run) -> None:
    """T#123: energy produced while the plant was offline is added at once."""
    plant = run.simulator.home.plants[0]
    silence = run.at("2026-06-21 13:00"), run.at("2026-06-24 13:00")
    for counter in run.expected:
        if counter.device is None:
            run.simulator.distort(
                counter.name,
                counter.key,
                offline(counter, silence[0], silence[1] - silence[0]),
            )
    for device in plant.devices:
        run.simulator.interrupt(
            device.id, lambda at: "zeros" if silence[0] <= at < silence[1] else None
        )
    await run.until("2026-06-21 13:30")
    await run.until("2026-06-24 12:30", QUARTER)
    await run.until("2026-06-24 15:00")
    total = run.counter("total_cap")
    state = run.account.state(total.name, total.key)
    assert state is not None
    assert float(state.state) == pytest.approx(total.true(run.now), abs=0.01)
    await assert_statistics_are_true(run, Kind.LIFETIME, Kind.DAILY)


@pytest.mark.parametrize("start", ["2026-06-21 13:30:30+02:00"])
async def test_replaced_inverter(run: Run, midway: Midway) -> None:
    """T#51: a new inverter starts at 0, and its energy counts within minutes."""
    at = run.at("2026-06-21 14:20")
    total = run.counter("total_cap")
    for key in ("total_cap", "day_cap"):
        counter = run.counter(key)
        run.expected[counter].start_again(at, counter.true(at))
        run.simulator.distort(counter.name, key, replaced(counter, at))
    await run.until(at - POLL)
    before = float(run.account.value(total.name, total.key) or 0)
    await run.until(at + POLL)
    await midway()
    # No value of the new device is added to values of the old device.
    shown = float(run.account.value(total.name, total.key) or 0)
    assert before <= shown < before + ABSURD
    # From the fourth reading on, only the interval of the exchange is estimated.
    await run.until(at + 5 * POLL)
    shown = float(run.account.value(total.name, total.key) or 0)
    reading = max(run.expected[total].steps.values())
    assert abs(shown - total.true(run.now)) <= reading
    await run.until("2026-06-21 18:00")
    await assert_statistics_are_true(run)


def in_the_north() -> Home:
    """Return a family home in Tromsø, where December has no sun."""
    home = homes.family()
    plant = home.plants[0]
    plant.site = replace(
        plant.site, place=Place(69.65, 18.96, 10.0), commissioned=date(2026, 11, 1)
    )
    return home


@pytest.mark.parametrize("home", [in_the_north()])
@pytest.mark.parametrize("start", ["2026-12-08 10:00:30+01:00"])
async def test_week_without_sun(run: Run) -> None:
    """A counter that stands still for a week neither falls nor is replaced."""
    yielded = run.counter("total_cap")
    before = run.account.value(yielded.name, yielded.key)
    await run.until("2026-12-15 10:00", 2 * HOUR)
    assert run.account.value(yielded.name, yielded.key) == before
    await assert_statistics_are_true(run)


@pytest.mark.parametrize("home", [homes.family(time_zone="America/Los_Angeles")])
@pytest.mark.parametrize("start", ["2026-06-21 22:00:30-07:00"])
async def test_battery_charges_at_midnight(run: Run) -> None:
    """T#13, T#14: energy counted in the first minutes of a day is included."""
    await run.until("2026-06-22 00:12")
    charged = run.counter("charge_cap")
    state = run.account.state(charged.name, charged.key)
    assert state is not None
    assert 0 < float(state.state) == charged.true(run.now)
    await run.until("2026-06-22 02:00")
    await assert_statistics_are_true(run)
