"""Tests of the counter guard: pure, with faults of every kind."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import batched, pairwise
import json
import math
from typing import Any, Final
from zoneinfo import ZoneInfo

from hypothesis import Phase, given, settings, strategies as st
import pytest

from custom_components.smartpvms.counters import (
    JITTER,
    PROOF_TIME,
    REMEMBERED,
    Candidate,
    Counter,
    Level,
    Period,
    Place,
    Verdict,
)

BERLIN: Final = ZoneInfo("Europe/Berlin")
POLL: Final = timedelta(minutes=5)
# A roof of 10 kWp.
PLACE: Final = Place(BERLIN, most_per_hour=11.0)
MIDNIGHT: Final = datetime(2026, 6, 21, tzinfo=BERLIN)
MORNING: Final = MIDNIGHT + timedelta(hours=9)


class Feed:
    """Feeds a counter reading by reading."""

    def __init__(
        self,
        period: Period,
        at: datetime = MORNING,
        place: Place = PLACE,
        *,
        live: bool = False,
    ) -> None:
        """Start at a moment."""
        self.counter = Counter(period)
        self.at = at
        self.place = place
        self.live = live

    def __call__(self, *raws: float) -> list[float | None]:
        """Take readings, each five minutes after the one before."""
        return [self._take(raw) for raw in raws]

    def _take(self, raw: float) -> float | None:
        value = self.counter.update(raw, self.at, self.place, live=self.live)
        self.at += POLL
        return value

    def wait(self, **span: float) -> None:
        """Let time pass without a reading."""
        self.at += timedelta(**span)


def test_honest_counter_is_published_as_it_is() -> None:
    """What can be true is published at once, to the last digit."""
    feed = Feed(Period.LIFETIME)
    readings = [5000.0, 5000.1, 5000.1, 5000.73, 5001.53]
    assert feed(*readings) == readings


@pytest.mark.parametrize("absurd", [0.0, 50_000.0, 65_535.0, 4_294_967.295, -1.0])
def test_single_absurd_reading(absurd: float) -> None:
    """A zero once, or a jump and back, is held back: +5,000 kWh in other clients."""
    feed = Feed(Period.LIFETIME)
    assert feed(5000.0, absurd, 5000.4) == [5000.0, 5000.0, 5000.4]


def test_zero_for_hours() -> None:
    """Zeros prove nothing, however long they last."""
    feed = Feed(Period.LIFETIME)
    feed(5000.0)
    assert set(feed(*[0.0] * 100)) == {5000.0}
    assert feed(5012.5) == [5012.5]


def test_first_zero_of_a_lifetime_counter() -> None:
    """A lifetime counter that begins with a zero waits for the next reading."""
    assert Feed(Period.LIFETIME)(0.0, 5000.0, 5000.5) == [None, 5000.0, 5000.5]
    assert Feed(Period.LIFETIME)(0.0, 0.0, 0.2) == [None, 0.0, 0.2]
    assert Feed(Period.LIFETIME)(-5.0, 7.0) == [None, 7.0]


@pytest.mark.parametrize("period", [Period.LIFETIME, Period.MONTH])
@pytest.mark.parametrize("minutes", [20, 60])
def test_dip_by_the_yield_of_yesterday(period: Period, minutes: int) -> None:
    """T#300: total and month fall after midnight, and come back."""
    feed = Feed(period, MIDNIGHT - timedelta(minutes=10))
    feed(700.0, 700.0)
    dip = [670.0] * (minutes // 5)
    assert set(feed(*dip)) == {700.0}
    assert feed(700.0, 700.02) == [700.0, 700.02]


def test_dip_that_grows() -> None:
    """A dip of an hour in which the counter goes on counting is still a dip."""
    feed = Feed(Period.LIFETIME)
    feed(700.0)
    assert set(feed(*(670.0 + n * 0.3 for n in range(12)))) == {700.0}
    assert feed(703.6) == [703.6]


def test_day_starts_at_midnight() -> None:
    """A new day starts at 0, in the plant's time zone."""
    feed = Feed(Period.DAY, MIDNIGHT - timedelta(minutes=5))
    assert feed(30.0, 0.0, 0.1) == [30.0, 0.0, 0.1]
    assert feed.counter.start == MIDNIGHT


def test_day_starts_without_a_reading() -> None:
    """A device that is off at midnight has yielded nothing yet in the new day."""
    feed = Feed(Period.DAY, MIDNIGHT - timedelta(hours=4))
    feed(20.0)
    assert feed.counter.pass_time(MIDNIGHT + POLL, BERLIN) == 0.0
    feed.at = MIDNIGHT + timedelta(hours=13)
    assert feed(23.0, 23.4) == [23.0, 23.4]


def test_month_starts_on_the_first() -> None:
    """A new month starts on its first day; other midnights change nothing."""
    feed = Feed(Period.MONTH, MIDNIGHT - timedelta(minutes=5))
    assert feed(620.0, 620.0) == [620.0, 620.0]
    feed.at = datetime(2026, 7, 1, tzinfo=BERLIN)
    assert feed(0.0, 0.4) == [0.0, 0.4]
    assert feed.counter.start == datetime(2026, 7, 1, tzinfo=BERLIN)


def test_yesterday_until_sunrise() -> None:
    """P#93: yesterday's value after midnight is not shown as today's."""
    feed = Feed(Period.DAY, MIDNIGHT - timedelta(minutes=5))
    feed(30.0)
    assert set(feed(*[30.0] * 60)) == {0.0}
    assert feed(0.05, 0.2) == [0.05, 0.2]


@pytest.mark.parametrize("yesterday", [0.5, 30.0])
def test_yesterday_flips(yesterday: float) -> None:
    """T#240: 0, yesterday's value, 0 is not 30 kWh of production at midnight."""
    feed = Feed(Period.DAY, MIDNIGHT - timedelta(minutes=5))
    feed(yesterday)
    assert set(feed(0.0, yesterday, 0.0, yesterday, yesterday, 0.0)) == {0.0}
    feed.at = MORNING
    assert feed(0.3, 0.9) == [0.3, 0.9]


def test_reset_at_the_midnight_of_the_server() -> None:
    """A counter that is reset at 18:00 still counts the plant's own days."""
    feed = Feed(Period.DAY, MIDNIGHT - timedelta(minutes=5))
    assert feed(4.0, 4.0) == [4.0, 0.0]
    feed.at = MIDNIGHT + timedelta(hours=12)
    assert feed(24.0) == [20.0]
    feed.at = MIDNIGHT + timedelta(hours=18)
    assert feed(34.0, 0.0, 0.5) == [30.0, 30.0, 30.5]
    feed.at = MIDNIGHT + timedelta(days=1)
    assert feed(2.5, 2.6) == pytest.approx([2.0, 2.1])


def test_false_reset_is_taken_back() -> None:
    """A zero that could have been the reset is not, when the counter goes on."""
    feed = Feed(Period.DAY, MIDNIGHT - timedelta(minutes=5))
    feed(4.0, 4.0)
    feed.at = MIDNIGHT + timedelta(hours=9)
    assert feed(14.0, 0.0, 14.2) == pytest.approx([10.0, 10.0, 10.2])


def test_day_missed_over_midnight() -> None:
    """After a pause over midnight, today's value is today's, even if it is higher."""
    feed = Feed(Period.DAY, MIDNIGHT - timedelta(hours=4))
    feed(20.0)
    feed.wait(hours=17)
    assert feed(23.0, 23.4) == [23.0, 23.4]


def test_pause_within_a_day() -> None:
    """After a pause within a day the counter just goes on."""
    feed = Feed(Period.DAY)
    feed(3.0)
    feed.wait(hours=3)
    assert feed(21.0) == [21.0]


def test_three_days_offline() -> None:
    """The energy of three days arrives at once."""
    feed = Feed(Period.LIFETIME)
    feed(5000.0)
    feed.wait(days=3)
    assert feed(5150.0) == [5150.0]


def test_offline_behind_a_server_that_repeats_itself() -> None:
    """The energy of an outage arrives at once, too, if the old value was repeated."""
    feed = Feed(Period.LIFETIME)
    feed(*[5000.0] * 288)
    assert feed(5050.0) == [5050.0]


def test_jump_of_a_counter_that_rests() -> None:
    """A battery that rested all day cannot have discharged 17 kWh in five minutes."""
    feed = Feed(Period.DAY, live=True)
    feed(*[1.9] * 60)
    assert feed(19.0, 1.9) == [1.9, 1.9]


def test_week_without_sun() -> None:
    """A counter that does not move for a week goes on afterwards."""
    feed = Feed(Period.LIFETIME)
    assert set(feed(*[5000.0] * 2016)) == {5000.0}
    assert feed(5000.02) == [5000.02]


def test_battery_charges_after_midnight() -> None:
    """A battery that charges at 00:01 counts from then on."""
    feed = Feed(Period.DAY, MIDNIGHT - timedelta(minutes=4))
    assert feed(6.2, 0.08, 0.35) == [6.2, 0.08, 0.35]


def test_jitter() -> None:
    """Copies that differ by 0.03 do not make a counter fall, nor add up."""
    feed = Feed(Period.LIFETIME)
    values = feed(*(5000.0 + (-1) ** n * 0.03 for n in range(200)))
    assert values[0] == 5000.03
    assert set(values) == {5000.03}
    assert feed(5000.5) == [5000.5]


def test_replaced_inverter() -> None:
    """A counter that starts again at 0 is believed after two hours, to the last kWh."""
    feed = Feed(Period.LIFETIME)
    feed(5000.0)
    new = [0.1 + n * 0.5 for n in range(30)]
    values = feed(*new)
    proof = PROOF_TIME // POLL
    assert set(values[:proof]) == {5000.0}
    assert values[proof:] == pytest.approx([5000.0 + raw for raw in new[proof:]])


def test_inverter_replaced_in_the_morning() -> None:
    """A new day counter that overtakes the old one within two hours is still new."""
    feed = Feed(Period.DAY)
    feed(10.6, 11.2)
    values = feed(*(n * 0.6 for n in range(30)))
    assert set(values[:24]) == {11.2}
    assert values[24:] == pytest.approx([11.2 + n * 0.6 for n in range(24, 30)])


def test_replaced_inverter_with_a_past() -> None:
    """A used inverter does not bring the kilowatt-hours of its former life."""
    feed = Feed(Period.LIFETIME)
    feed(5000.0)
    values = feed(*(8200.0 + n * 0.5 for n in range(30)))
    assert values[-1] == pytest.approx(5000.0 + 29 * 0.5)


def test_false_rise_is_not_counted_twice() -> None:
    """What a believable jump added is not added again when the truth gets there."""
    feed = Feed(Period.DAY)
    assert feed(0.1, 1.2, 0.2, 0.7, 1.2, 1.6) == [0.1, 1.2, 1.2, 1.2, 1.2, 1.6]


def test_dark_day() -> None:
    """The truth may take hours to catch up with a believable jump."""
    feed = Feed(Period.DAY)
    feed(0.1, 1.2)
    assert set(feed(*(0.2 + n * 0.02 for n in range(40)))) == {1.2}
    assert feed(1.3) == [1.3]


def _decisions(counter: Counter) -> list[tuple[Verdict, float, int]]:
    restored = Counter.from_dict(
        counter.period, json.loads(json.dumps(counter.as_dict()))
    )
    assert restored.decisions == counter.decisions
    return [(each.verdict, each.raw, each.readings) for each in restored.decisions]


def test_decisions() -> None:
    """What was held back is remembered, the same in a row as one; the rest is not."""
    feed = Feed(Period.LIFETIME)
    feed(5000.0, 5000.1, 0.0, 0.0, -1.0, 5000.3, 0.0, 5000.4)
    assert _decisions(feed.counter) == [
        (Verdict.HELD_BACK, -1.0, 3),
        (Verdict.HELD_BACK, 0.0, 1),
    ]
    first, second = feed.counter.decisions
    assert (first.first, first.last) == (MORNING + 2 * POLL, MORNING + 4 * POLL)
    assert second.first == second.last == MORNING + 6 * POLL


def test_decision_on_a_false_rise() -> None:
    """A rise or reset that was taken back is a decision."""
    feed = Feed(Period.DAY)
    feed(0.1, 1.2, 0.2)
    assert _decisions(feed.counter) == [(Verdict.UNDONE, 0.2, 1)]


def test_decision_on_a_new_level() -> None:
    """So is a level that has proved itself."""
    feed = Feed(Period.LIFETIME)
    new = [0.1 + n * 0.5 for n in range(30)]
    feed(5000.0, *new)
    proof = PROOF_TIME // POLL
    assert _decisions(feed.counter) == [
        (Verdict.HELD_BACK, new[proof - 1], proof),
        (Verdict.REPLACED, new[proof], 1),
    ]


def test_only_the_last_decisions() -> None:
    """However often the API fails, few decisions are kept."""
    feed = Feed(Period.LIFETIME)
    feed(*(5000.0, 0.0) * 50)
    assert len(feed.counter.decisions) == REMEMBERED
    assert feed.counter.decisions[-1].last == feed.at - POLL


def test_yesterdays_value_is_a_decision() -> None:
    """The period before, reported after the reset, is held back as well."""
    feed = Feed(Period.DAY, MIDNIGHT - POLL)
    feed(20.0, 0.0, 20.0)
    assert _decisions(feed.counter) == [(Verdict.HELD_BACK, 20.0, 1)]


@pytest.mark.parametrize(("day", "hours"), [((2026, 3, 29), 23), ((2026, 10, 25), 25)])
def test_clock_change(day: tuple[int, int, int], hours: int) -> None:
    """The days of the clock change have 23 and 25 hours."""
    midnight = datetime(*day, tzinfo=BERLIN).astimezone(UTC)
    feed = Feed(Period.DAY, midnight)
    feed(0.0)
    feed.at = midnight + timedelta(hours=12)
    assert feed(9.5) == [9.5]
    feed.at = midnight + timedelta(hours=hours, minutes=-5)
    assert feed(12.0, 0.0) == [12.0, 0.0]


@pytest.mark.parametrize("zone", [ZoneInfo("Asia/Kolkata"), ZoneInfo("America/Lima")])
def test_zone_of_the_plant(zone: tzinfo) -> None:
    """The midnight that counts is the plant's."""
    midnight = datetime(2026, 6, 21, tzinfo=zone)
    feed = Feed(Period.DAY, midnight.astimezone(UTC) - POLL, Place(zone, 11.0))
    assert feed(8.0, 0.0) == [8.0, 0.0]
    assert feed.counter.start == midnight


@pytest.mark.parametrize("hours", [-1, 1])
def test_clock_jump_of_the_server(hours: int) -> None:
    """A server clock that is off by an hour for a while changes nothing."""
    feed = Feed(Period.LIFETIME)
    feed(5000.0, 5000.5)
    feed.wait(hours=hours)
    assert feed(5000.9) == [5000.9]
    feed.wait(hours=-hours)
    assert feed(5001.3, 5001.7) == [5001.3, 5001.7]


# The truth of three days, poll by poll, and what the API makes of it.

type Readings = list[float | None]

POLLS: Final = 3 * 288
START: Final = MIDNIGHT + timedelta(hours=12)


def _moments() -> list[datetime]:
    start = START.astimezone(UTC)
    return [start + n * POLL for n in range(POLLS)]


@st.composite
def _curves(draw: st.DrawFn) -> list[float]:
    """Draw the energy of every poll: three days of sun and clouds."""
    peaks = draw(st.lists(st.floats(0.02, 0.85), min_size=4, max_size=4))
    clouds = draw(st.lists(st.floats(0.1, 1.0), min_size=24, max_size=24))
    energies = []
    for n, at in enumerate(_moments()):
        local = at.astimezone(BERLIN)
        hour = local.hour + local.minute / 60
        height = max(0.0, 1 - ((hour - 13) / 8) ** 2)
        day = (local.date() - START.date()).days
        energies.append(round(peaks[day] * height * clouds[n % len(clouds)], 2))
    return energies


def _counted(energies: list[float], period: Period) -> list[float]:
    """Return what an honest counter shows at every poll."""
    total = 5000.0 if period is Period.LIFETIME else 0.0
    counted = []
    start = period.start(START, BERLIN)
    for at, energy in zip(_moments(), energies, strict=True):
        if period.start(at, BERLIN) != start:
            start = period.start(at, BERLIN)
            total = 0.0
        else:
            total = round(total + energy, 2)
        counted.append(total)
    return counted


type Fault = Callable[[Readings, int, int], None]


def _zeros(raws: Readings, at: int, length: int) -> None:
    raws[at : at + length] = [0.0] * length


def _nulls(raws: Readings, at: int, length: int) -> None:
    raws[at : at + length] = [None] * length


def _absurd(value: float) -> Fault:
    def play(raws: Readings, at: int, length: int) -> None:
        raws[at] = value

    return play


def _dip(raws: Readings, at: int, length: int) -> None:
    raws[at : at + length] = [
        raw and max(0.0, raw - 30.0) for raw in raws[at : at + length]
    ]


def _frozen(raws: Readings, at: int, length: int) -> None:
    raws[at : at + length] = [raws[at]] * length


def _jittery(raws: Readings, at: int, length: int) -> None:
    for n in range(at, at + length):
        raw = raws[n]
        raws[n] = raw if raw is None else max(0.0, round(raw + (-1) ** n * 0.03, 2))


def _next_midnight(at: int) -> int:
    return min((at // 288) * 288 + 144, POLLS - 160)


def _of_yesterday(raws: Readings, at: int, length: int) -> None:
    midnight = _next_midnight(at)
    raws[midnight : midnight + 5 * length] = [raws[midnight - 1]] * 5 * length


def _flipping(raws: Readings, at: int, length: int) -> None:
    midnight = _next_midnight(at)
    for n in range(midnight + 1, midnight + 2 * length, 2):
        raws[n] = raws[midnight - 1]


FAULTS: Final[list[Fault]] = [
    _of_yesterday,
    _flipping,
    _zeros,
    _nulls,
    _dip,
    _frozen,
    _jittery,
    _absurd(50_000.0),
    _absurd(65_535.0),
    _absurd(4_294_967.295),
]


def _published(
    raws: Readings, period: Period, *, live: bool
) -> Iterator[tuple[datetime | None, float]]:
    """Yield what the guard publishes, through a restart at every eighth reading."""
    counter = Counter(period)
    for readings in batched(zip(raws, _moments(), strict=True), 8, strict=True):
        for raw, at in readings:
            if raw is not None:
                counter.update(raw, at, PLACE, live=live)
            if counter.value is not None:
                yield counter.start, counter.value
        counter = Counter.from_dict(period, json.loads(json.dumps(counter.as_dict())))


def _energy(published: list[tuple[datetime | None, float]]) -> float:
    """Return the energy that Home Assistant's statistics make of it."""
    energy = 0.0
    for (start, value), (next_start, next_value) in pairwise(published):
        energy += next_value - (value if next_start == start else 0.0)
    return energy


TRACES: Final = {
    "energies": _curves(),
    "faults": st.lists(
        st.tuples(
            st.sampled_from(FAULTS), st.integers(3, POLLS - 160), st.integers(1, 12)
        ),
        max_size=12,
    ),
    "period": st.sampled_from(Period),
    "live": st.booleans(),
}


def _adds_no_energy(
    energies: list[float],
    faults: list[tuple[Fault, int, int]],
    period: Period,
    live: bool,
) -> None:
    honest = _counted(energies, period)
    raws: Readings = list(honest)
    for fault, at, length in faults:
        # A server that repeats one value repeats them all.
        (_nulls if live and fault is _frozen else fault)(raws, at, length)
    published = list(_published(raws, period, live=live))
    for (start, value), (next_start, next_value) in pairwise(published):
        assert next_start != start or next_value >= value
    true = _energy(
        [
            (period.start(at, BERLIN), raw)
            for at, raw in zip(_moments(), honest, strict=True)
        ]
    )
    assert _energy(published) == pytest.approx(true, abs=2 * JITTER)


@settings(max_examples=100, deadline=None)
@given(**TRACES)
def test_no_trace_of_faults_adds_energy(
    energies: list[float],
    faults: list[tuple[Fault, int, int]],
    period: Period,
    live: bool,
) -> None:
    """The published series never falls in its period; its energy is the true one."""
    _adds_no_energy(energies, faults, period, live)


@settings(max_examples=100, deadline=None)
@given(**TRACES)
def test_repeated_readings_are_taken_like_any_other(
    energies: list[float],
    faults: list[tuple[Fault, int, int]],
    period: Period,
    live: bool,
) -> None:
    """What is found out without much ado is what the whole guard would say."""
    raws: Readings = list(_counted(energies, period))
    for fault, start, length in faults:
        fault(raws, start, length)
    quick, whole = Counter(period), Counter(period)
    for raw, at in zip(raws, _moments(), strict=True):
        if raw is not None:
            if not quick.repeats(raw, at, BERLIN, live=live):
                quick.update(raw, at, PLACE, live=live)
            whole.update(raw, at, PLACE, live=live)
        assert quick == whole


def _never(*args: object) -> bool:
    return False


def _always(*args: object) -> bool:
    return True


def _publish_without_floor(counter: Counter, level: Level) -> None:
    counter.level, counter.candidate, counter.value = level, None, level.counted


def _holds_nothing_back(energies: list[float], period: Period, live: bool) -> None:
    honest = _counted(energies, period)
    assert [value for _, value in _published(list(honest), period, live=live)] == honest


@settings(max_examples=30, deadline=None)
@given(energies=_curves(), period=st.sampled_from(Period), live=st.booleans())
def test_nothing_is_held_back_without_a_fault(
    energies: list[float], period: Period, live: bool
) -> None:
    """In a faultless run the published value is the reported one, at every poll."""
    _holds_nothing_back(energies, period, live)


def _search(check: Callable[..., None], **drawn: st.SearchStrategy[Any]) -> None:
    """Look for an example that breaks a property."""
    search = settings(
        max_examples=200,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
    )
    search(given(**drawn)(check))()


@pytest.mark.parametrize(
    ("part", "rule", "mutant"),
    [
        (Counter, "_publish", _publish_without_floor),
        (Level, "leads_to", _always),
        (Place, "most", lambda *_: math.inf),
        (Candidate, "proved", _always),
    ],
)
def test_every_rule_keeps_phantom_energy_out(
    monkeypatch: pytest.MonkeyPatch, part: type, rule: str, mutant: object
) -> None:
    """Without any one of these rules, the guard lets phantom energy through."""
    monkeypatch.setattr(part, rule, mutant)
    with pytest.raises(AssertionError):
        _search(_adds_no_energy, **TRACES)


@pytest.mark.parametrize("rule", ["_is_reset", "pass_time"])
def test_every_rule_lets_the_truth_pass(
    monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    """Without one of these rules, the guard holds the truth back."""
    monkeypatch.setattr(Counter, rule, _never)
    with pytest.raises(AssertionError):
        _search(
            _holds_nothing_back,
            energies=_curves(),
            period=st.sampled_from(Period),
            live=st.booleans(),
        )


@pytest.mark.parametrize(
    ("rule", "mutant", "test"),
    [
        ("_is_stale", _never, lambda: test_yesterday_flips(0.5)),
        (
            "before",
            property(lambda _: None, lambda _, value: None),
            test_dark_day,
        ),
    ],
)
def test_every_rule_for_a_dark_day_is_needed(
    monkeypatch: pytest.MonkeyPatch,
    rule: str,
    mutant: object,
    test: Callable[[], None],
) -> None:
    """What could be true is told from the truth only by what came before."""
    monkeypatch.setattr(Counter, rule, mutant)
    with pytest.raises(AssertionError):
        test()
