"""Tests of the counter filter: single faults, and properties of faultless counters."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property
from itertools import accumulate, pairwise
import math
from random import Random
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from hypothesis import assume, given, settings, strategies as st
import pytest

from custom_components.smartpvms.counter_evidence import JITTER, MARGIN, CounterContext
from custom_components.smartpvms.counter_filter import CounterFilter, Period, Verdict

from .storage import restored

pytestmark = pytest.mark.fast

BERLIN: Final = ZoneInfo("Europe/Berlin")
POLL: Final = timedelta(minutes=5)
# A plant of 10 kWp.
CONTEXT: Final = CounterContext(BERLIN, capacity=11.0)
# The capacity of a plant if none is known.
ANY_CAPACITY: Final = 1100.0
MIDNIGHT: Final = datetime(2026, 6, 21, tzinfo=BERLIN).astimezone(UTC)
MORNING: Final = MIDNIGHT + timedelta(hours=9)


class Feed:
    """Passes readings to a counter filter."""

    def __init__(
        self, period: Period, at: datetime = MORNING, context: CounterContext = CONTEXT
    ) -> None:
        """Start at a time."""
        self.counter = CounterFilter(period)
        self.at = at
        self.context = context
        self.decisions: list[tuple[Verdict, float]] = []

    def __call__(
        self, *raws: float, power: float | None = None, live: bool = True
    ) -> list[float | None]:
        """Pass readings, each five minutes after the previous one."""
        return [self._take(raw, power, live) for raw in raws]

    def _take(self, raw: float, power: float | None, live: bool) -> float | None:
        context = self.context._replace(power=power)
        value = self.counter.update(raw, self.at, context, live=live)
        if self.counter.verdict is not None:
            self.decisions.append((self.counter.verdict, raw))
        self.at += POLL
        return value

    def wait(self, **span: float) -> None:
        """Advance the time without a reading."""
        self.at += timedelta(**span)


def rising(raw: float, kw: float, readings: int) -> list[float]:
    """Return the readings of a counter with a constant power, from a raw value on."""
    return [round(raw + n * kw / 12, 2) for n in range(readings)]


# Single faults.


def test_faultless_counter_is_unchanged() -> None:
    """Readings that the power explains are shown at once and unchanged."""
    feed = Feed(Period.LIFETIME)
    readings = [5000.0, 5000.1, 5000.1, 5000.73, 5001.53]
    assert feed(*readings, power=11.0) == readings
    assert not feed.decisions


def test_faultless_counter_without_a_power() -> None:
    """Without a power, the first two rises are shown with the third."""
    feed = Feed(Period.LIFETIME)
    readings = rising(5000.0, 6.0, 10)
    values = feed(*readings)
    assert values[3:] == readings[3:]
    assert set(values[:3]) <= {5000.0, *readings[:3]}


@pytest.mark.parametrize("power", [None, 6.0])
@pytest.mark.parametrize(
    "fault", [0.0, 4970.0, 5040.0, 50_000.0, 655.35, 65_535.0, 4_294_967.295, -1.0]
)
def test_one_faulty_reading(fault: float, power: float | None) -> None:
    """A zero, a jump and back, a sentinel or a negative value is held back."""
    feed = Feed(Period.LIFETIME)
    readings = rising(5000.0, 6.0, 6)
    assert feed(*readings, power=power)[-1] == 5002.5
    assert feed(fault, 5003.5, power=power) == [5002.5, 5003.5]
    assert feed.counter.offset == 0


def test_absurd_power() -> None:
    """A faulty power far beyond the capacity explains no rise."""
    feed = Feed(Period.LIFETIME)
    feed(*rising(5000.0, 6.0, 6), power=6.0)
    assert feed(5040.0, power=65_535.0) == [5002.5]
    assert feed(5003.5, 5004.0, power=6.0) == [5003.5, 5004.0]


@pytest.mark.parametrize("power", [None, 1.5])
def test_zero_for_hours(power: float | None) -> None:
    """Zeros do not replace the counter, regardless of their duration."""
    feed = Feed(Period.LIFETIME)
    feed(*rising(5000.0, 1.5, 5), power=power)
    assert set(feed(*[0.0] * 100, power=power)) == {5000.5}
    assert feed(5012.5, power=power) == [5012.5]


def test_first_zero_of_a_lifetime_counter() -> None:
    """A lifetime counter that starts with a zero waits for the next reading."""
    assert Feed(Period.LIFETIME)(0.0, 5000.0, 5000.05) == [None, 5000.0, 5000.05]
    assert Feed(Period.LIFETIME)(0.0, 0.0, 0.05) == [None, 0.0, 0.05]
    assert Feed(Period.LIFETIME)(-5.0, 7.0) == [None, 7.0]
    assert Feed(Period.LIFETIME)(65_535.0, 7.0) == [None, 7.0]
    assert Feed(Period.DAY)(0.0, 0.05) == [0.0, 0.05]


@pytest.mark.parametrize("period", [Period.LIFETIME, Period.MONTH])
@pytest.mark.parametrize("readings", [1, 4, 24])
@pytest.mark.parametrize("power", [None, 0.0])
def test_dip_by_the_yield_of_yesterday(
    period: Period, readings: int, power: float | None
) -> None:
    """A dip after midnight by yesterday's yield is held back."""
    feed = Feed(period, MIDNIGHT - 2 * POLL)
    feed(700.0, 700.0, power=power)
    assert set(feed(*[670.0] * readings, power=power)) == {700.0}
    assert feed.decisions == [(Verdict.HELD_BACK, 670.0)] * readings
    assert feed(700.0, 700.02, power=power) == [700.0, 700.02]


@pytest.mark.parametrize("power", [None, 3.6])
def test_dip_with_rising_readings(power: float | None) -> None:
    """A dip of an hour, during which the counter counts, is undone at its end."""
    feed = Feed(Period.LIFETIME)
    feed(*rising(700.0, 3.6, 6), power=power)
    values = feed(*rising(671.8, 3.6, 12), power=power)
    assert max(value or 0.0 for value in values) <= 701.5 + 12 * 0.3
    assert feed(*rising(705.4, 3.6, 3), power=power)[-1] == 706.0
    assert feed.counter.offset == 0


@pytest.mark.parametrize("kw", [8.0, 10.0, 12.0])
def test_dip_of_every_night(kw: float) -> None:
    """The dip of a night does not continue the dip of the night before."""
    feed = Feed(Period.LIFETIME, MIDNIGHT)
    raw = 5000.0
    for night, (yield_, power) in enumerate([(0, 10.0), (240, kw), (24 * kw, 10.0)]):
        for n, true in enumerate(rising(raw, power, 288)):
            is_dip = night > 0 and 2 <= n < 14
            [value] = feed(round(true - yield_ * is_dip, 2), power=power)
            assert value == pytest.approx(true, abs=3.1 * power / 12)
            raw = true
    assert value == raw


def test_jitter() -> None:
    """Differences of 0.03 between readings neither lower nor raise a counter."""
    feed = Feed(Period.LIFETIME)
    values = feed(*(5000.0 + (-1) ** n * 0.03 for n in range(200)), power=0.0)
    assert set(values) == {5000.03}
    assert feed(5000.5, power=6.0) == [5000.5]


# Resets.


def test_day_starts_after_a_zero() -> None:
    """A new day starts at midnight, even if zeros were held back before."""
    feed = Feed(Period.DAY, MIDNIGHT - 3 * POLL)
    readings = [30.0, 0.0, 0.0, 0.0, 0.1, 0.2]
    assert feed(*readings, power=1.2) == [30.0, 30.0, 30.0, 0.0, 0.1, 0.2]


def test_day_starts_without_a_reading() -> None:
    """A device that is off at midnight has counted nothing on the new day."""
    feed = Feed(Period.DAY, MIDNIGHT - timedelta(hours=4))
    feed(20.0)
    assert feed.counter.pass_time(MIDNIGHT - POLL, BERLIN) == 20.0
    assert feed.counter.pass_time(MIDNIGHT + POLL, BERLIN) == 0.0
    feed.at = MIDNIGHT + timedelta(hours=13)
    assert feed(23.0, 23.4, power=5.0) == [23.0, 23.4]


def test_month_starts_on_the_first() -> None:
    """A new month starts on its first day, and not at other midnights."""
    feed = Feed(Period.MONTH, MIDNIGHT - POLL)
    assert feed(620.0, 620.0) == [620.0, 620.0]
    feed.at = datetime(2026, 7, 1, tzinfo=BERLIN).astimezone(UTC)
    assert feed(0.0, 0.4, power=5.0) == [0.0, 0.4]


@pytest.mark.parametrize("zone", [BERLIN, ZoneInfo("Asia/Kolkata")])
def test_day_starts_at_midnight(zone: tzinfo) -> None:
    """A new day starts at 0, in the plant's time zone."""
    midnight = datetime(2026, 6, 21, tzinfo=zone)
    feed = Feed(Period.DAY, midnight.astimezone(UTC) - POLL, CounterContext(zone, 11.0))
    assert feed(30.0, -1.0, 0.0, 0.1, power=1.2) == [30.0, 0.0, 0.0, 0.1]
    assert feed.counter.start == midnight
    assert feed.decisions == [(Verdict.HELD_BACK, -1.0)]


@pytest.mark.parametrize("power", [None, 0.0])
def test_yesterday_until_sunrise(power: float | None) -> None:
    """Yesterday's value after midnight is not shown as today's."""
    feed = Feed(Period.DAY, MIDNIGHT - POLL)
    feed(30.0, power=power)
    assert set(feed(*[30.0] * 60, power=power)) == {0.0}
    assert feed(0.05, 0.1, power=0.6) == [0.05, 0.1]


@pytest.mark.parametrize("power", [None, 0.0])
@pytest.mark.parametrize("yesterday", [0.5, 30.0])
def test_yesterday_flips(yesterday: float, power: float | None) -> None:
    """Yesterday's value that alternates with 0 after midnight adds nothing."""
    feed = Feed(Period.DAY, MIDNIGHT - POLL)
    feed(yesterday, power=power)
    readings = [0.0, yesterday, 0.0, yesterday, yesterday, 0.0]
    assert set(feed(*readings, power=power)) == {0.0}
    feed.at = MORNING
    assert feed(0.3, 0.9, power=7.0) == [0.3, 0.9]


def test_reset_at_another_midnight() -> None:
    """A counter that is reset at 18:00 is shown with the plant's own days."""
    feed = Feed(Period.DAY, MIDNIGHT - POLL)
    feed(11.83, 12.0, power=2.0)
    values = feed(*rising(12.17, 2.0, 215), power=2.0)
    assert values[-1] == pytest.approx(36.0, abs=0.02)
    values = feed(*rising(0.0, 2.0, 72), power=2.0)
    # The energy before the reset is that of the power.
    assert values[-1] == pytest.approx(48.0, abs=0.02)
    # As on the day before, the reading at midnight belongs to the new day.
    assert feed(12.0, 12.17, power=2.0) == pytest.approx([0.17, 0.34])


def test_false_reset() -> None:
    """A zero that could be a reset is a fault if the counter continues."""
    feed = Feed(Period.DAY, MIDNIGHT - POLL)
    feed(3.83, 4.0, power=2.0)
    assert feed(*rising(4.17, 2.0, 108), power=2.0)[-1] == pytest.approx(18.17)
    assert feed(0.0, power=2.0)[0] == pytest.approx(18.17, abs=0.2)
    assert feed(22.33, power=2.0) == pytest.approx([18.5])
    assert feed.decisions == [(Verdict.RESTORED, 22.33)]


# Outages.


@pytest.mark.parametrize("raw", [20.15, 23.0])
@pytest.mark.parametrize("power", [None, 0.0, 1.2])
def test_day_missed_over_midnight(power: float | None, raw: float) -> None:
    """A higher value after an outage over midnight belongs to the new day."""
    feed = Feed(Period.DAY, MIDNIGHT - timedelta(hours=5))
    feed(*rising(19.1, 1.2, 10), power=power)
    feed.wait(hours=17)
    assert feed(raw, power=power) == [raw]


@pytest.mark.parametrize("power", [None, 3.0])
@pytest.mark.parametrize(
    ("period", "hours", "raw"),
    [(Period.DAY, 2, 122.0), (Period.MONTH, 4, 140.0), (Period.LIFETIME, 72, 250.0)],
)
def test_outage(period: Period, hours: int, raw: float, power: float | None) -> None:
    """The energy of an outage of hours or days is shown at once."""
    feed = Feed(period)
    feed(*rising(100.0, 3.0, 5), power=power)
    feed.wait(hours=hours)
    assert feed(raw, raw + 0.25, power=power) == [raw, raw + 0.25]


@pytest.mark.parametrize("power", [0.5, 2.0])
def test_offline_behind_repeated_rows(power: float) -> None:
    """The energy of an outage is counted if the server repeated the row."""
    feed = Feed(Period.LIFETIME)
    feed(*rising(5000.0, 2.0, 12), power=2.0)
    feed(5001.87, power=power)
    assert set(feed(*[5001.87] * 287, power=power, live=False)) == {5001.87}
    values = feed(*rising(5045.0, 2.0, 4), power=2.0)
    assert values[-1] == 5045.5


@pytest.mark.parametrize("hours", [-1, 1])
def test_clock_jump_of_the_server(hours: int) -> None:
    """A clock that is wrong by an hour for one reading has no effect."""
    feed = Feed(Period.LIFETIME)
    feed(5000.0, 5000.5, power=6.0)
    feed.wait(hours=hours)
    feed(5000.9, power=6.0)
    feed.wait(hours=-hours)
    feed(5001.3, power=6.0)
    feed.wait(hours=2)
    assert feed(5001.7, 5002.1, power=6.0) == [5001.7, 5002.1]


# Devices and loads.


@pytest.mark.parametrize("fault", [19.0, 2.9])
def test_jump_of_a_battery_that_rests(fault: float) -> None:
    """A jump of a battery that was idle for hours adds nothing."""
    feed = Feed(Period.DAY)
    feed(*rising(0.0, 2.4, 12), power=2.4)
    feed(2.2, power=0.0)
    feed(*[2.2] * 60, power=0.0, live=False)
    assert feed(fault, 2.2, 2.2, power=0.0) == [2.2, 2.2, 2.2]


def test_repeated_jump_without_a_power() -> None:
    """A plausible rise whose row is repeated is counted after two hours."""
    feed = Feed(Period.LIFETIME)
    feed(*[5000.0] * 4)
    assert feed(5003.0) == [5000.0]
    values = feed(*[5003.0] * 24, live=False)
    assert values == [5000.0] * 23 + [5003.0]


@pytest.mark.parametrize("share", [1.0, 0.25])
@pytest.mark.parametrize("first", [0.0, 4980.0, 8200.0])
def test_replaced_inverter(first: float, share: float) -> None:
    """A replaced device with a lower or higher counter adds only its rises."""
    feed, kw = Feed(Period.LIFETIME), 6.0 * share
    feed(*rising(5000.0, kw, 25), power=6.0)
    values = feed(*rising(first, kw, 30), power=6.0)
    assert values[0] == 5000 + 2 * kw
    # The energy before the first reading is that of the power.
    assert values[4] == pytest.approx(5000 + 29 * kw / 12, abs=0.02)
    assert values[-1] == pytest.approx(5000 + 54 * kw / 12, abs=0.02)
    assert Verdict.REPLACED in [verdict for verdict, _ in feed.decisions]


def test_load_that_no_power_shows() -> None:
    """The energy of a load between two readings is counted after two hours."""
    feed = Feed(Period.LIFETIME)
    feed(*rising(5000.0, 0.6, 12), power=0.6)
    readings = rising(5001.0, 0.6, 30)
    values = feed(*readings, power=0.6)
    assert all(v and v <= raw for v, raw in zip(values, readings, strict=True))
    # The first readings confirm the new level.
    assert values[28:] == readings[28:]


def test_capacity_too_low_by_ten() -> None:
    """A load of 300 kW at a plant of 30 kWp is shown at once."""
    feed = Feed(Period.LIFETIME, context=CounterContext(BERLIN, 33.0))
    readings = rising(5000.0, 300.0, 10)
    assert feed(*readings, power=300.0) == readings


@pytest.mark.parametrize("kw", [0.6, 6.0, 600.0])
@pytest.mark.parametrize("is_power_known", [True, False])
def test_capacity_missing(kw: float, is_power_known: bool) -> None:
    """Without a capacity, true rises are shown, and false rises are not."""
    feed = Feed(Period.LIFETIME, context=CounterContext(BERLIN, ANY_CAPACITY))
    power = kw if is_power_known else None
    readings = rising(5000.0, kw, 6)
    assert feed(*readings, power=power)[3:] == readings[3:]
    fault = round(5000 + kw * 1.5, 2)
    assert feed(fault, power=power) == readings[-1:]
    assert feed(*rising(5000 + kw / 2, kw, 3), power=power) == rising(
        5000 + kw / 2, kw, 3
    )


@pytest.mark.parametrize("power", [None, 6.0])
def test_set_up_during_a_dip(power: float | None) -> None:
    """The end of a dip during which a counter was added adds no energy."""
    feed = Feed(Period.LIFETIME)
    feed(*rising(670.0, 6.0, 5), power=power)
    values = feed(*rising(702.5, 6.0, 12), power=power)
    assert values[-1] == pytest.approx(678.0, abs=0.5)


# Money, and other counters.

MONEY: Final = CONTEXT._replace(may_fall=True)


def test_negative_prices() -> None:
    """Revenue falls with negative prices, but not to a zero."""
    feed = Feed(Period.DAY, context=MONEY)
    readings = [1.0, 1.2, 1.1, 0.7, -0.4, 0.3]
    assert feed(*readings, power=5.0) == readings
    assert set(feed(*[0.0] * 40, power=5.0)) == {0.3}
    assert feed(0.5, 0.4, power=5.0) == [0.5, 0.4]


def test_multiple_of_revenue() -> None:
    """A total revenue that jumps to a multiple once is held back."""
    feed = Feed(Period.LIFETIME, context=MONEY)
    assert feed(5133.2, 51332.0, 5133.3, 4900.0) == [5133.2, 5133.2, 5133.3, 4900.0]
    assert feed(*[51333.0] * 26)[-1] == 51333.0


@pytest.mark.parametrize("multiple", [-5.0, 5.0])
def test_multiple_of_a_rising_revenue(multiple: float) -> None:
    """A multiple that rises for some readings changes no later value."""
    feed = Feed(Period.LIFETIME, context=MONEY)
    revenues = rising(5133.0, 1.2, 60)
    last = feed(*revenues[:30])[-1]
    false = [multiple * 5133.0 + each for each in revenues[30:42]]
    assert {*feed(*false)} == {last}
    assert feed(*revenues[42:]) == revenues[42:]


def test_revenue_that_becomes_a_multiple() -> None:
    """A multiple that lasts for two hours is counted in full."""
    feed = Feed(Period.LIFETIME, context=MONEY)
    feed(*rising(120.0, 1.2, 20))
    revenues = rising(500.0, 1.2, 40)
    assert feed(*revenues)[-1] == revenues[-1]


def test_revenue_that_starts_over() -> None:
    """A total revenue that starts over at 0 is continued."""
    feed = Feed(Period.LIFETIME, context=MONEY)
    feed(*rising(120.0, 1.2, 20))
    revenues = feed(*rising(0.0, 1.2, 40))
    assert revenues[-1] == pytest.approx(121.9 + 3.9, abs=0.2)


def test_revenue_of_a_day() -> None:
    """Today's revenue starts over at sunrise, not with yesterday's value."""
    feed = Feed(Period.DAY, MIDNIGHT - POLL, MONEY)
    assert feed(4.2, power=0.0) == [4.2]
    assert set(feed(*[4.2] * 60, power=0.0)) == {0.0}
    assert feed(0.02, 0.05, 0.08, power=0.3) == [0.02, 0.05, 0.08]
    assert feed(4.2, 0.1, power=0.3) == [0.08, 0.1]
    assert feed(0.0, 0.1, power=0.3) == [0.1, 0.1]
    feed(*[0.1] * 24, power=0.0)
    assert feed(4.2, 0.1, 0.2, power=0.3) == [0.1, 0.1, 0.2]


def test_zero_after_the_first_revenue() -> None:
    """A zero soon after the first revenue is held back."""
    feed = Feed(Period.DAY, MORNING, MONEY)
    assert feed(0.0, 0.5, 1.5, 0.0, 1.6) == [0.0, 0.5, 1.5, 1.5, 1.6]


def test_fixed_bound() -> None:
    """Operating hours rise by at most 1.1 per hour."""
    feed = Feed(Period.LIFETIME, context=CONTEXT._replace(max_per_hour=1.1))
    readings = rising(9000.0, 1.0, 6)
    assert feed(*readings) == readings
    assert feed(9002.0, 9000.5) == [9000.42, 9000.5]
    feed.wait(hours=10)
    assert feed(9010.5) == [9010.5]
    # The capacity explains no rise of operating hours.
    feed.wait(hours=1)
    assert feed(9020.2, 9011.7) == [9010.5, 9011.7]


def test_jitter_far_from_zero() -> None:
    """A fall of five hundredths is jitter, also for a large, constant value."""
    feed = Feed(Period.LIFETIME)
    readings = rising(235_222.39, 3.0, 5)
    assert feed(*readings, power=3.0)[-1] == 235_223.39
    feed(*[235_223.39] * 30, power=0.0)
    assert feed(235_223.34, power=0.0) == [235_223.39]
    assert feed.counter.pending is None


def test_dip_that_ends_within_jitter() -> None:
    """A reading within jitter of the current level drops the pending level."""
    feed = Feed(Period.LIFETIME)
    feed(*rising(5000.0, 3.0, 5), power=3.0)
    feed(*[5001.0] * 30, power=0.0)
    feed(5000.94, power=0.0)
    assert feed.counter.pending is not None
    assert feed(5000.96, power=0.0) == [5001.0]
    assert feed.counter.pending is None


def test_jump_within_the_margin_of_two_hours() -> None:
    """A jump is held back even if the margins of two hours would cover it."""
    feed = Feed(Period.LIFETIME)
    readings = rising(5000.0, 4.0, 30)
    feed(*readings[:20], power=4.0)
    assert feed(readings[20] + 1.0, power=4.0) == [readings[19]]
    assert feed(*readings[21:], power=4.0) == readings[21:]


def test_new_day_has_no_decision() -> None:
    """A new day clears the decision on the last reading."""
    feed = Feed(Period.DAY, MORNING)
    feed(1.0, 900.0, power=1.0)
    assert feed.counter.verdict is Verdict.HELD_BACK
    feed.counter.pass_time(MIDNIGHT + timedelta(days=1), BERLIN)
    assert feed.counter.verdict is None


def test_small_dip_of_a_device_that_rests() -> None:
    """The energy of an idle device is complete, unless its zeros are faults."""
    feed = Feed(Period.LIFETIME)
    feed(*rising(5000.0, 3.0, 5), power=3.0)
    feed(4990.0, power=0.0)
    assert feed.counter.pending is not None
    assert not feed.counter.is_incomplete
    feed(0.0, power=0.0)
    assert feed.counter.is_incomplete


@pytest.mark.parametrize("first", [0.0, 9.9])
def test_counter_that_begins_late(first: float) -> None:
    """A new day is incomplete while a device delivers energy that it does not count."""
    feed = Feed(Period.DAY, MIDNIGHT + timedelta(hours=20))
    feed(*rising(7.1, 0.7, 48), power=0.7)
    assert feed.counter.read == MIDNIGHT + timedelta(hours=23, minutes=55)
    feed(9.9, power=0.7)
    incomplete = []
    for raw in [*[first] * 6, 0.41, 0.47]:
        feed(raw, power=0.7)
        incomplete.append(feed.counter.is_incomplete)
    assert incomplete == [first > 0, True, True, True, True, True, False, False]


def test_storage_with_one_power_for_both_directions() -> None:
    """A day without charge is complete while the storage discharges."""
    feed = Feed(Period.DAY, MIDNIGHT + timedelta(hours=18))
    charged = 0.0
    for _ in range(3):
        feed(*(charged := charged + 0.06 for _ in range(12)), power=0.7)
        feed(*[charged] * 12, power=0.7)
    assert feed.counter.read == MIDNIGHT + timedelta(hours=23, minutes=55)
    for _ in range(6):
        feed(0.0, power=0.7)
        assert not feed.counter.is_incomplete


def test_counter_that_does_not_count_standby() -> None:
    """A day without energy is complete after two hours, or if the device rests."""
    feed = Feed(Period.DAY, MIDNIGHT + timedelta(hours=20))
    feed(*rising(7.1, 0.7, 48), power=0.7)
    incomplete = []
    for readings, power in (6, 0.2), (1, 0.0), (24, 0.2):
        feed(*[0.0] * readings, power=power)
        incomplete.append(feed.counter.is_incomplete)
    assert incomplete == [True, False, False]


@pytest.mark.parametrize("tail", [0.0, 0.5])
@pytest.mark.parametrize("hours", [5.0, 8.5])
def test_yesterday_after_a_missed_midnight(tail: float, hours: float) -> None:
    """Yesterday's value that has risen since the last reading is not today's."""
    feed = Feed(Period.DAY, MORNING)
    assert feed(*rising(0.0, 6.0, 90), power=6.0)[-1] == 44.5
    feed.at = MIDNIGHT + timedelta(days=1, hours=hours)
    asleep = round(44.5 + tail, 2)
    assert feed(asleep, asleep, power=0.0) == [0.0, 0.0]
    assert feed(0.0, 0.2, 0.4, power=2.4) == [0.0, 0.2, 0.4]


def test_battery_that_is_full_after_a_missed_midnight() -> None:
    """A rise that is read after 9:30 belongs to the new day."""
    feed = Feed(Period.DAY, MORNING)
    feed(*rising(0.0, 0.6, 4), power=0.6)
    feed.at = MIDNIGHT + timedelta(days=1, hours=9.5)
    assert feed(6.7, 6.7, power=0.0) == [6.7, 6.7]


@pytest.mark.parametrize("tail", [0.1, 0.5])
def test_yesterday_that_is_completed_at_night(tail: float) -> None:
    """Late energy of yesterday at 3:00 is not a reset of the counter."""
    feed = Feed(Period.DAY, MORNING)
    feed(*rising(0.0, 6.0, 90), power=6.0)
    feed(44.5, power=0.0)
    feed(*[44.5] * 90, power=0.0, live=False)
    feed.at = MIDNIGHT + timedelta(days=1, hours=3)
    asleep = round(44.5 + tail, 2)
    feed(asleep, power=0.0)
    feed(*[asleep] * 12, power=0.0, live=False)
    assert feed(0.0, 0.2, 0.4, power=2.4)[-1] == pytest.approx(0.4, abs=tail)


def test_counter_that_counts_after_a_missed_midnight() -> None:
    """A counter that has not fallen is counted from 0 once it rises."""
    feed = Feed(Period.DAY, MORNING)
    feed(*rising(0.0, 0.6, 60), power=0.6)
    feed.at = MIDNIGHT + timedelta(days=1, hours=7)
    assert feed(3.0, 3.05, 3.2, 3.35, power=1.8)[1:] == [0.0, 3.2, 3.35]


@pytest.mark.parametrize("hours", [3, 10])
def test_absence_at_the_end_of_a_dip(hours: int) -> None:
    """A dip at night that ends during an outage adds no energy."""
    feed = Feed(Period.LIFETIME, MORNING)
    feed(*rising(5000.0, 4.0, 120), power=4.0)
    feed.at = MIDNIGHT + timedelta(days=1)
    night = rising(5040.0, 0.4, 6)
    feed(*night, power=0.4)
    last = night[-1]
    dip = feed(*rising(5000.2, 0.4, 30), power=0.4)
    assert dip[-1] == pytest.approx(last + 1.0, abs=0.1)
    feed.at += timedelta(hours=hours)
    after = last + 0.4 * (30 / 12 + hours)
    assert feed(after, after + 0.03, power=0.4)[-1] == pytest.approx(after, abs=0.1)


def test_dip_to_the_night_before() -> None:
    """Without a power, a dip at night does not return to last night's level."""
    feed = Feed(Period.LIFETIME, MIDNIGHT)
    day = 24 * 12
    readings = [5000.0]
    for n in range(2 * day + 3):
        # A load starts at 0:15 in the first night, and at 0:00 in the second.
        is_loaded = day + 3 <= n < day + 39 or n >= 2 * day
        kw = 2.0 if is_loaded else 1.0 if 9 <= n % day / 12 < 20 else 0.3
        readings.append(round(readings[-1] + kw / 12, 2))
    feed(*readings)
    yesterday = readings[2 * day] - readings[day]
    dip = rising(readings[-1] + 0.17 - yesterday, 0.3, 48)
    feed(*dip)
    back = round(dip[-1] + yesterday + 0.03, 2)
    assert feed(*rising(back, 0.3, 12))[-1] == pytest.approx(back + 0.28, abs=0.5)


@pytest.mark.parametrize("hour", [15, 22, 23])
def test_late_energy_before_midnight(hour: int) -> None:
    """Energy that is accepted after midnight is counted on the new day."""
    feed = Feed(Period.DAY, MIDNIGHT)
    off = range(12 * (hour - 4), 12 * hour)
    readings = rising(0.0, 6.0, 288)
    total = 0.0
    for day in range(2):
        for n, raw in enumerate(readings):
            is_off = day == 0 and n in off
            [value] = feed(0.0 if is_off else raw, power=0.0 if is_off else 6.0)
        assert value is not None
        total += value
    assert total == pytest.approx(2 * readings[-1])


@pytest.mark.parametrize(("kw", "depth"), [(4.0, 3.0), (1.0, 0.7), (11.0, 8.0)])
@pytest.mark.parametrize("minutes", [20, 60, 100])
def test_dip_that_passes_the_last_value(kw: float, depth: float, minutes: int) -> None:
    """A lower level that passes the last true value is replaced by the true one."""
    feed = Feed(Period.LIFETIME)
    readings = rising(5000.0, kw, 90)
    feed(*readings[:48], power=kw)
    end = 48 + minutes // 5
    feed(*[round(each - depth, 2) for each in readings[48:end]], power=kw)
    assert feed(*readings[end:], power=kw)[-1] == readings[-1]


@pytest.mark.parametrize("kw", [9.0, 100.0])
def test_late_readings(kw: float) -> None:
    """Readings that are half an hour old, for an hour, lose no energy."""
    feed = Feed(Period.LIFETIME)
    readings = rising(5000.0, kw, 120)
    lagging = [*readings[:60], *readings[54:66], *readings[72:]]
    values = feed(*lagging, power=kw)
    assert values[-1] == readings[-1]
    assert values[71] == pytest.approx(readings[71], abs=0.01)


def test_power_that_is_unknown_for_hours() -> None:
    """Hours without a power do not lower the trust in the power."""
    feed = Feed(Period.LIFETIME)
    readings = rising(5000.0, 4.0, 150)
    feed(*readings[:60], power=4.0)
    feed(*readings[60:120])
    feed(*readings[120:], power=4.0)
    resting = rising(readings[-1], 0.3, 4)
    feed(*resting, power=0.3)
    # The device is off, and the load has appeared in an earlier power.
    feed(*[0.0] * 60, power=0.0)
    after = rising(resting[-1] + 20.0, 0.5, 40)
    assert feed(*after, power=0.5)[-1] == after[-1]


def test_zeros_of_a_device_that_is_off() -> None:
    """The energy of an hour of zeros is added at once, as after an outage."""
    feed = Feed(Period.LIFETIME)
    readings = rising(5000.0, 6.0, 40)
    feed(*readings[:24], power=6.0)
    feed(0.0, power=0.0)
    feed(*[0.0] * 11, power=0.0, live=False)
    assert feed(*readings[36:], power=6.0) == readings[36:]


def test_zeros_of_a_small_counter() -> None:
    """After an hour of zeros, a small daily counter continues from its last value."""
    feed = Feed(Period.DAY, MIDNIGHT)
    feed(*rising(0.0, 5.0, 6), power=5.0)
    readings = rising(2.5, 0.4, 100)
    feed(*readings[:60], power=0.4)
    feed(0.0, power=0.0)
    feed(*[0.0] * 11, power=0.0, live=False)
    assert feed(*readings[72:], power=0.4)[-1] == readings[-1]


def test_first_rises_before_the_power_is_known() -> None:
    """The first rise of a storage is counted with the third, like later rises."""
    feed = Feed(Period.DAY, context=CONTEXT._replace(capacity=110.0))
    readings = rising(1679.0, 650.0, 6)
    feed(*readings[:2])
    assert feed(*readings[2:], power=650.0)[1:] == readings[3:]


@pytest.mark.parametrize("live", [True, False])
def test_load_above_the_entered_capacity(live: bool) -> None:
    """A boiler between two readings is counted, regardless of the entered capacity."""
    feed = Feed(Period.LIFETIME, context=CONTEXT._replace(capacity=5.5))
    feed(*rising(5000.0, 1.0, 24), power=1.0)
    readings = rising(5003.5, 1.0, 6)
    feed(*readings, power=1.0)
    rest = readings[-1:] * 24
    assert feed(*rest, power=0.0, live=live)[-1] == readings[-1]


def test_revenue_that_starts_below_zero() -> None:
    """Revenue may be negative from the first reading on."""
    feed = Feed(Period.DAY, MORNING, MONEY)
    assert feed(-0.1, -0.2, 0.3) == [-0.1, -0.2, 0.3]


def test_rejected_row_that_is_repeated() -> None:
    """A repeated row confirms only its own level."""
    feed = Feed(Period.LIFETIME)
    feed(*rising(5000.0, 6.0, 6), power=6.0)
    before = feed(*rising(5002.6, 1.0, 6), power=1.0)[-1]
    feed(5003.5, -1.0, power=1.0)
    assert feed(*[-1.0] * 5, power=1.0, live=False) == [before] * 5


def test_absurd_power_beside_an_unknown_one() -> None:
    """An absurd power is a fault, even if the power before it is unknown."""
    feed = Feed(Period.LIFETIME)
    feed(*rising(5000.0, 6.0, 6), power=6.0)
    feed(5002.9)
    feed(5003.0, power=65_535.0)
    assert feed(5040.0, 5003.6, power=6.0)[-1] == 5003.6
    assert feed.counter.evidence.highest_power == 6.0


# Faultless counters.

# Minutes before the first reading.
FIRST: Final = 10


class Reading(NamedTuple):
    """A reading of a faultless counter."""

    at: datetime
    minute: int
    raw: float
    power: float
    """Mean power up to the reading."""
    start: datetime | None
    """The start of the period."""


def shares(name: str, hours: float, share: float, seed: int) -> list[float]:
    """Return the share of the highest power in every minute of a part."""
    random, minutes = Random(seed), int(60 * hours)
    parts: list[float] = []
    while len(parts) < minutes:
        match name:
            case "clouds":
                cloud = random.choice([0.1, 0.3, 0.6, 0.9, 1.0])
                parts += [cloud] * random.choice([1, 3, 7, 15])
            case "kettles":
                parts += [0.1] * random.choice([5, 15, 45])
                parts += [1.0] * random.choice([1, 2, 4])
            case "ramp":
                parts.append(len(parts) / minutes)
            case _:
                parts.append(float(name == "steady"))
    return [share * each for each in parts[:minutes]]


@dataclass(frozen=True)
class Trace:
    """A device and the way it is read."""

    kw: float
    """The highest power."""
    parts: list[tuple[str, float, float, int]]
    """Names, hours, shares of the power and seeds."""
    began: datetime
    zone: ZoneInfo
    period: Period
    resolution: float
    capacity: float
    gap: int
    """Minutes between two readings."""
    window: int
    """Number of minutes that a power is the mean of."""

    @cached_property
    def steady(self) -> int:
        """Return the number of minutes at the end with a constant power."""
        return max(240, math.ceil(480 * self.resolution / self.kw))

    @cached_property
    def energies(self) -> list[float]:
        """Return the energy up to every minute."""
        powers = [0.0] * FIRST
        for part in self.parts:
            powers += shares(*part)
        powers += [1.0] * self.steady
        return [*accumulate((self.kw * each / 60 for each in powers), initial=0.0)]

    def start(self, minute: int) -> datetime | None:
        """Return the start of a minute's period."""
        return self.period.start(self.began + timedelta(minutes=minute), self.zone)

    def raw(self, minute: int) -> float:
        """Return the raw value of the counter."""
        energy = self.energies[minute]
        if start := self.start(minute):
            since = (start - self.began) // timedelta(minutes=1)
            energy -= self.energies[max(since, 0)]
        else:
            energy += 5000.0
        return round(math.floor(energy / self.resolution + 1e-6) * self.resolution, 2)

    def readings(self) -> Iterator[Reading]:
        """Return the readings."""
        for minute in range(FIRST, len(self.energies), self.gap):
            at = self.began + timedelta(minutes=minute)
            energy = self.energies[minute] - self.energies[max(minute - self.window, 0)]
            power = round(energy * 60 / self.window, 3)
            yield Reading(at, minute, self.raw(minute), power, self.start(minute))

    def context(self, power: float | None) -> CounterContext:
        """Return the surroundings of the counter."""
        return CounterContext(self.zone, self.capacity, power)


STARTS: Final = [
    (BERLIN, (2026, 6, 20)),
    (BERLIN, (2026, 3, 28)),
    (BERLIN, (2026, 10, 24)),
    (ZoneInfo("America/Santiago"), (2026, 9, 5)),
    (ZoneInfo("Asia/Kathmandu"), (2026, 1, 30)),
]
PARTS: Final = st.tuples(
    st.sampled_from(["steady", "rest", "clouds", "kettles", "ramp"]),
    st.sampled_from([0.5, 2.0, 5.0, 9.0]),
    st.sampled_from([1.0, 0.05, 0.3, 0.7]),
    st.integers(0, 1000),
)


@st.composite
def traces(draw: st.DrawFn, longest_gap: int = 30, *, is_full: bool = False) -> Trace:
    """Draw a device with a faultless counter, and the way it is read.

    The power is the mean since the last reading, or of the last five minutes.
    """
    kw = draw(st.sampled_from([2.0, 0.01, 0.05, 0.4, 9.0, 40.0, 250.0, 1000.0]))
    zone, day = draw(st.sampled_from(STARTS))
    began = datetime(*day, draw(st.integers(0, 23)), tzinfo=zone).astimezone(UTC)
    # The counter rises at least once in ten hours.
    resolution = draw(st.sampled_from([r for r in (0.01, 0.1, 1, 10) if r <= 10 * kw]))
    gap = draw(st.integers(5, longest_gap))
    # The correct capacity, none, and ones that are wrong by a factor of ten.
    capacity = kw * draw(st.sampled_from([1.0, 0.0, 0.1, 10.0]))
    return Trace(
        kw,
        draw(st.lists(PARTS, min_size=1, max_size=6)),
        began,
        zone,
        draw(st.sampled_from([Period.LIFETIME, Period.DAY])),
        resolution,
        # As in the descriptions.
        capacity=1.1 * max(capacity, 5.0) if capacity >= 1 else ANY_CAPACITY,
        gap=gap,
        window=gap if is_full else draw(st.sampled_from([5, gap])),
    )


@pytest.mark.slow
@settings(max_examples=300, derandomize=True, deadline=None)
@given(traces())
def test_power_explains_faultless_counters(trace: Trace) -> None:
    """Rises that the power explains are shown at once, others within two hours."""
    counter, readings, hours = (
        CounterFilter(trace.period),
        trace.readings(),
        trace.gap / 60,
    )
    last = next(readings)
    counter.update(last.raw, last.at, trace.context(last.power), live=True)
    highest, has_risen, due, until = last.power, False, 0, 0
    for n, reading in enumerate(readings):
        live = (reading.raw, reading.power) != (last.raw, last.power)
        context = trace.context(reading.power)
        value = counter.update(reading.raw, reading.at, context, live=live)
        highest = max(highest, reading.power)
        rise = reading.raw - last.raw
        if reading.start and reading.start != last.start:
            since = (reading.at - reading.start) / timedelta(hours=1)
            if (
                # A reading that is pending at midnight is left out or counted later.
                (n < due or reading.minute <= until)
                # No fall shows the reset of the counter.
                or (rise >= -JITTER and last.raw > JITTER)
                # The mean power before the reading is too low for a reset.
                or reading.raw > highest * since + JITTER
            ):
                return
            rise = reading.raw
            # While the counter counts, its reset may need a confirmation.
            due = n + 4 if rise else due
        if rise > 0 and not has_risen:
            # The step of the counter is unknown before its first rise.
            has_risen, due = True, n + 4
        rise -= trace.resolution + JITTER
        if rise > highest * hours:
            if reading.minute <= until:
                # Of two such loads within two hours, one is lost.
                return
            until = reading.minute + 120 + 4 * trace.gap
        elif rise > max(reading.power, last.power) * hours:
            due = max(due, n + 4)
        last = reading
        is_late = n < due or reading.minute <= until
        assert is_late or value == pytest.approx(reading.raw, abs=JITTER + 1e-6)


@pytest.mark.slow
@settings(max_examples=300, derandomize=True, deadline=None)
@given(traces())
def test_rates_explain_faultless_counters(trace: Trace) -> None:
    """Without a power, steady rises are shown, and no energy is lost in the end."""
    counter = CounterFilter(trace.period)
    # Difference of the sums of Home Assistant's statistics.
    settled = before = difference = least = 0.0
    rises: list[float] = []
    start = trace.start(0)
    for reading in trace.readings():
        value = counter.update(reading.raw, reading.at, trace.context(None), live=True)
        assert value is not None
        if reading.start != start:
            if reading.raw > JITTER:
                # The reset of a fast counter can be lost.
                return
            # A fall of less than the jitter is no reset.
            before, least = difference, least - JITTER
            if 0 < len(rises) <= 3:
                # Without three rises in a day, none is shown.
                least -= rises[-1] - rises[0]
        difference = before + value - reading.raw
        is_steady = reading.minute > len(trace.energies) - trace.steady
        if not is_steady or reading.start != start:
            # Rises are confirmed within one period.
            start, rises = reading.start, [reading.raw]
        elif reading.raw > rises[-1]:
            rises.append(reading.raw)
        # After a pause, the rate of the first three rises is too low for the next ones,
        # and again for those that follow.
        if len(rises) <= 10:
            settled = difference
        assert difference == pytest.approx(settled, abs=JITTER)
    # The first rises may have started before the first reading.
    least -= 3 * (trace.resolution + trace.kw * trace.gap / 60)
    assert least <= difference <= JITTER


# Faults found by property tests.


def test_explained_fault_is_corrected() -> None:
    """A false rise that the power explains is corrected by the fall after it."""
    feed = Feed(Period.LIFETIME)
    feed(5000.0, power=0.0)
    feed(5000.09, 5000.18, power=0.9)
    feed(5000.54, 5000.9, power=4.14)
    assert feed(5001.49, power=0.9) == [5001.49]
    assert feed(5001.08, 5001.17, 5001.26, power=0.9) == [5001.49] * 3
    assert feed.counter.counted == 5001.26


def test_two_loads_that_no_power_shows() -> None:
    """Two loads are counted, although the second starts before the first is counted."""
    feed = Feed(Period.LIFETIME, context=CONTEXT._replace(capacity=275.0))
    feed(*rising(5000.0, 12.0, 6), power=12.0)
    raw = 5005.0
    for rest in (6, 40):
        raw += 4.0
        feed(raw, *(raw := raw + 1 for _ in range(rest)), power=12.0)
    assert feed.counter.counted == feed.counter.value == raw


def test_fall_of_a_day_that_began_at_zero() -> None:
    """A day that starts at 0 has been reset, so a later fall is a fault."""
    feed = Feed(Period.DAY, MIDNIGHT - 12 * POLL)
    feed(*[0.0] * 14, power=0.0)
    readings = rising(0.0, 2.0, 40)
    feed(*readings, power=2.0)
    assert feed(readings[-1] - 0.5, power=2.0) == [readings[-1]]
    assert feed(readings[-1] + 0.33, power=2.0) == [readings[-1] + 0.33]


def test_reset_after_a_slow_poll() -> None:
    """A mean power of an interval that started before midnight explains the reset."""
    feed = Feed(Period.DAY, MIDNIGHT - timedelta(hours=2))
    raws = [round(12.1 + 0.75 * n, 2) for n in range(8)]
    for raw in raws:
        feed(raw, power=3.214)
        feed.wait(minutes=9)
    feed.at = MIDNIGHT + timedelta(minutes=6)
    assert feed(0.63, power=3.214) == [0.63]


def test_value_of_yesterday_after_a_reset() -> None:
    """A lower value of yesterday, an hour into the day, does not undo the reset."""
    feed = Feed(Period.DAY, MIDNIGHT - 10 * POLL)
    feed(*rising(0.0, 2.0, 10), power=2.0)
    assert feed(*rising(0.0, 2.0, 13), power=2.0)[-1] == 2.0
    assert feed(1.5, 2.33, 2.5, power=2.0) == [2.0, 2.33, 2.5]


def test_fault_over_midnight() -> None:
    """Energy during a fault over midnight does not explain the fault."""
    feed = Feed(Period.DAY, MIDNIGHT - 31 * POLL)
    feed(*rising(100.0, 1000.0, 13), power=1000.0)
    feed(*[1600.0] * 18, power=1000.0)
    assert feed.at == MIDNIGHT
    assert feed(1600.0, power=1000.0) == [0.0]
    assert feed(83.33, 166.67, power=1000.0) == [83.33, 166.67]


# Faults.


def yesterday(trace: Trace, reading: Reading, by: float) -> float:
    """Return the last reading before midnight, also of a lifetime counter."""
    midnight = Period.DAY.start(reading.at, trace.zone)
    assert midnight is not None
    minutes = (midnight - trace.began) // timedelta(minutes=1) - FIRST
    return trace.raw(FIRST + max(math.ceil(minutes / trace.gap) - 1, 0) * trace.gap)


# A zero, a negative value, sentinels, any other value, and one that rises.
FAULTS: Final[list[Callable[[Trace, Reading, float], float]]] = [
    lambda trace, reading, by: 0.0,
    lambda trace, reading, by: -reading.raw - 1.0,
    lambda trace, reading, by: 21474836.47,
    lambda trace, reading, by: 655.35,
    lambda trace, reading, by: round(abs(by) * 20, 2),
    lambda trace, reading, by: round(max(reading.raw + by, 0.0), 2),
    yesterday,
]


@pytest.mark.slow
@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    # A longer time between readings is an outage, which the capacity explains.
    traces(longest_gap=20, is_full=True),
    st.integers(0, len(FAULTS) - 1),
    st.sampled_from([-0.5, 0.5, -0.04, 0.04, 3.0, -3.0, -30.0, 30.0, 4000.0]),
    st.floats(0.0, 1.0),
    st.integers(1, 20),
)
def test_faults_add_nothing(
    trace: Trace, kind: int, by: float, begin: float, length: int
) -> None:
    """A fault of up to two hours is held back, and adds no energy."""
    fault, readings = FAULTS[kind], [*trace.readings()]
    pairs = [*pairwise(readings)]
    rises = [n for n, (a, b) in enumerate(pairs, 1) if b.raw > a.raw]
    # The rate and the step of the counter are known after its first rises.
    length = min(length, 120 // trace.gap)
    first, last = rises[3] + 1, len(readings) - length - 5
    assume(first <= last)
    first += round(begin * (last - first))
    # A coarse counter can have counted since the rise before.
    last_rises = [n for n in rises if n < first][-4:]
    hours = min(b - a for a, b in pairwise(last_rises)) * trace.gap / 60
    # Rises that need only the energy of this reading and the previous one.
    drift = JITTER * trace.gap / 5 + trace.resolution
    most = 2 * MARGIN * trace.kw * hours + drift
    is_of_day = fault is yesterday and trace.period is Period.DAY
    # Such a rise is counted, also from the last reading of yesterday.
    is_explained, highest = is_of_day, 0.0
    counter = CounterFilter(trace.period)
    for n, reading in enumerate(readings):
        highest = max(highest, reading.power)
        raw = reading.raw
        if first <= n < first + length:
            raw = fault(trace, reading, by)
            is_explained |= abs(raw - reading.raw) <= 2 * most
        value = counter.update(raw, reading.at, trace.context(reading.power), live=True)
        assert value is not None and counter.counted is not None
        assert value - reading.raw <= 2 * MARGIN * highest * hours + drift + 1e-6
        if n >= first + length + 4:
            bound = most if is_explained else JITTER
            # A jump that a load can explain is counted two hours later.
            counted = counter.counted + counter.late_energy
            assert counted == pytest.approx(reading.raw, abs=bound + 1e-6)


# Arbitrary readings.

ANY_READING: Final = st.tuples(
    st.one_of(
        st.sampled_from([0.0, 5.0, 30.0, 5000.0, 655.35, -1.0]),
        st.floats(0.0, 60.0).map(lambda raw: round(raw, 2)),
        st.floats(4990.0, 5060.0).map(lambda raw: round(raw, 1)),
    ),
    st.none() | st.sampled_from([0.0, 0.4, 5.0, 40.0, 9000.0, -3.0]),
    st.sampled_from([5, 5, 5, 5, 20, 45, 300, 1500]),
    st.sampled_from([True, True, True, False]),
)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    st.sampled_from(Period),
    st.lists(ANY_READING, max_size=60),
    st.sampled_from(
        [
            CONTEXT,
            CONTEXT._replace(max_per_hour=1.1),
            CounterContext(BERLIN, ANY_CAPACITY),
        ]
    ),
    st.booleans(),
)
def test_value_never_falls(
    period: Period,
    readings: list[tuple[float, float | None, int, bool]],
    context: CounterContext,
    is_money: bool,
) -> None:
    """Values never fall within a period, except money; restarts have no effect."""
    context = context._replace(may_fall=is_money)
    counter, other = CounterFilter(period), CounterFilter(period)
    at = MORNING
    last = None
    for raw, power, minutes, live in readings:
        at += timedelta(minutes=minutes)
        context = context._replace(power=power)
        value = counter.update(raw, at, context, live=live)
        assert other.update(raw, at, context, live=live) == value
        other = restored(other)
        assert other == counter == restored(counter)
        start = period.start(at, BERLIN)
        if last is not None and last[1] == start:
            assert value is not None
            assert is_money or value >= last[0]
        if value is not None:
            last = value, start


# Restarts of Home Assistant.

# The kind of restart, its place in the trace, the number of missing readings,
# and the age of an older state in readings.
STARTS_AGAIN: Final = st.tuples(
    st.sampled_from(["restart", "kill", "older file", "lost file"]),
    st.floats(0.0, 1.0),
    st.integers(0, 100),
    st.integers(1, 300),
)


@pytest.mark.slow
@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    traces(longest_gap=20, is_full=True),
    st.lists(STARTS_AGAIN, min_size=1, max_size=4),
)
def test_sums_over_starts(
    trace: Trace, starts: list[tuple[str, float, int, int]]
) -> None:
    """The sum of the statistics is that of the readings, for any stored state."""
    readings = [*trace.readings()]
    # The steady rises at the end resolve all pending levels.
    unsteady = sum(
        each.minute < len(trace.energies) - trace.steady for each in readings
    )
    events = {
        round(place * unsteady): (kind, off, age) for kind, place, off, age in starts
    }
    counter = CounterFilter(trace.period)
    stored = [counter]
    off, sum_, true = 0, 0.0, 0.0
    last: tuple[float, Reading] | None = None
    for n, reading in enumerate(readings):
        if n in events:
            kind, off, age = events[n]
            # A kill loses the state that was not written yet.
            ages = {"restart": 1, "kill": 1 + age % 4, "older file": 1 + age}
            counter = CounterFilter(trace.period)
            if kind in ages:
                counter = restored(stored[-min(ages[kind], len(stored))])
        if off:
            off -= 1
            continue
        context = trace.context(reading.power)
        value = counter.update(reading.raw, reading.at, context, live=True)
        assert value is not None
        if last is not None:
            is_same = last[1].start == reading.start
            sum_ += value - last[0] * is_same
            true += reading.raw - last[1].raw * is_same
        last = value, reading
        stored.append(restored(counter))
    one = trace.resolution + MARGIN * trace.kw * trace.gap / 60
    assert sum_ == pytest.approx(true, abs=JITTER + len(events) * one)
