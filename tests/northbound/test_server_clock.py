"""Tests of the server's clock with sequences of responses."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from hypothesis import given, settings, strategies as st
import pytest

from custom_components.smartpvms.northbound.server_clock import (
    MAX_DIFFERENCE,
    MIN_DURATION,
    MIN_RATE,
    TOLERANCE,
    ServerClock,
)

pytestmark = pytest.mark.fast

NOON: Final = datetime(2026, 6, 21, 10, tzinfo=UTC)
POLL: Final = timedelta(minutes=5)
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)

# Errors of single responses, as differences from the true time.
ERRORS: Final = (
    timedelta(minutes=-9),
    -DAY,
    -HOUR,
    timedelta(minutes=9),
    HOUR,
    DAY,
    timedelta(days=32),
    timedelta(days=3650),
)

type Moments = list[tuple[datetime, datetime]]
"""Pairs of the true time of the server, and the moment of the answer."""


@dataclass
class World:
    """A server and a Home Assistant with separate clocks."""

    now: datetime = NOON
    """The server's clock."""
    own: timedelta = timedelta()
    """Home Assistant's clock minus the server's."""
    up: float = 1000.0

    def __post_init__(self) -> None:
        """Start without a file."""
        self.clock = ServerClock()
        self.file: list[tuple[datetime, datetime]] = []

    def answer(
        self,
        error: timedelta | None = timedelta(),
        *,
        passed: timedelta = POLL,
    ) -> datetime:
        """Return the time of a response, which has none if `error` is `None`."""
        self.now += passed
        self.up += passed.total_seconds()
        received = self.now + self.own
        reported = None if error is None else self.now + error
        moment = self.clock.moment(reported, received, self.up)
        self.file = [*self.file[-5:], (received, moment)]
        return moment

    def answers(
        self, count: int, error: timedelta | None = timedelta()
    ) -> list[timedelta]:
        """Return the errors of the returned times of some responses."""
        return [self.answer(error) - self.now for _ in range(count)]

    def restart(self, off: timedelta = timedelta()) -> None:
        """Restart with the stored state."""
        self.now += off
        self.up = 20.0
        self.clock = ServerClock.after(self.file)


@pytest.fixture
def world() -> World:
    """Return a world whose clocks agree, after some responses."""
    world = World()
    world.answers(3)
    return world


def is_right(ahead: timedelta) -> bool:
    """Return whether an error is within the tolerance."""
    return abs(ahead.total_seconds()) <= TOLERANCE


@pytest.mark.parametrize("error", [*ERRORS, None])
def test_one_answer_changes_nothing(world: World, error: timedelta | None) -> None:
    """A single response does not change the time."""
    assert world.answers(1, error) == [timedelta()]
    assert world.answers(3) == [timedelta()] * 3


@pytest.mark.parametrize("error", [*ERRORS, None])
def test_three_hours_change_nothing(world: World, error: timedelta | None) -> None:
    """A temporary deviation is ignored."""
    assert {*world.answers(37, error), *world.answers(3)} == {timedelta()}


@pytest.mark.parametrize("error", ERRORS)
def test_first_answer_is_wrong(error: timedelta) -> None:
    """The next response that agrees with Home Assistant's clock is used."""
    world = World()
    assert world.answers(1, error)[0] <= timedelta()
    assert world.answers(3) == [timedelta()] * 3


@pytest.mark.parametrize("hours", [-2, 2, 26])
def test_constant_skew_is_followed(hours: int) -> None:
    """A constant difference between server and Home Assistant is accepted."""
    world = World(own=-hours * HOUR)
    ahead = world.answers(round(MIN_DURATION / POLL.total_seconds()) + 3)
    assert ahead[-1] == timedelta()
    assert world.answers(5) == [timedelta()] * 5
    world.restart(off=HOUR)
    assert world.answers(5) == [timedelta()] * 5


@pytest.mark.parametrize("hours", [-26, -2, 2, 26])
def test_skew_begins_at_a_restart(world: World, hours: int) -> None:
    """Home Assistant's clock changes with a restart, and stays different."""
    world.own = hours * HOUR
    world.restart(off=HOUR)
    assert world.answers(100) == [timedelta()] * 100


@pytest.mark.parametrize("hours", [-2, 2, 26])
def test_skew_ends_at_a_restart(hours: int) -> None:
    """A corrected clock is accepted, and no time goes back."""
    world = World(own=-hours * HOUR)
    world.answers(100)
    before = world.file[-1][1]
    world.now -= hours * HOUR
    world.own = timedelta()
    world.restart()
    moments = [before, *(world.answer() for _ in range(20))]
    assert all(early <= late for early, late in pairwise(moments))
    assert moments[-1] - before >= 19 * MIN_RATE * POLL
    if hours < 0:
        assert moments[-1] == world.now


@pytest.mark.parametrize("step", [-40 * DAY, -2 * HOUR, 2 * HOUR, 40 * DAY])
def test_host_clock_is_set(world: World, step: timedelta) -> None:
    """NTP corrects the clock of the computer; the server's time continues."""
    world.own = step
    assert world.answers(100) == [timedelta()] * 100
    world.own = timedelta()
    assert world.answers(5) == [timedelta()] * 5


@pytest.mark.parametrize("behind", [HOUR, 2 * DAY, timedelta(days=9000)])
def test_start_with_an_old_clock(world: World, behind: timedelta) -> None:
    """A computer without a battery starts in the past, until NTP corrects its clock."""
    world.restart(off=HOUR / 2)
    world.own = -behind
    assert world.answers(3) == [timedelta()] * 3
    world.own = timedelta()
    assert world.answers(3) == [timedelta()] * 3


def test_start_with_a_clock_of_the_future(world: World) -> None:
    """The server's earlier time is used, because it can be moved ahead later."""
    world.restart(off=HOUR)
    world.own = 300 * DAY
    assert world.answers(3) == [timedelta()] * 3


def test_host_was_suspended(world: World) -> None:
    """Monotonic time stands still while a virtual machine is paused."""
    world.now += 8 * HOUR
    assert world.answers(3) == [timedelta()] * 3


def test_server_without_a_clock() -> None:
    """Home Assistant's clock is used, also after it was changed."""
    world = World()
    assert world.answers(3, None) == [timedelta()] * 3
    world.own = 2 * HOUR
    ahead = world.answers(100, None)
    assert ahead[0] == timedelta()
    assert ahead[-1] == 2 * HOUR


def test_farthest(world: World) -> None:
    """A clock with a larger difference is ignored."""
    error = timedelta(seconds=MAX_DIFFERENCE) + HOUR
    assert {*world.answers(500, error)} == {timedelta()}


def test_clock_that_is_ahead(world: World) -> None:
    """A clock that is ahead is corrected slowly, so that no time goes back."""
    world.answers(80, HOUR)
    ahead = world.answers(1, HOUR)[0]
    assert ahead == HOUR
    falling = world.answers(130)
    steps = {early - late for early, late in pairwise([ahead, *falling])}
    assert max(steps) == POLL * (1 - MIN_RATE)
    assert falling[-1] == timedelta()


# Any sequence of responses, restarts and clock changes.

_ERROR = st.one_of(
    st.none(), st.timedeltas(-800 * DAY, 800 * DAY), st.sampled_from(ERRORS)
)


@st.composite
def _false_times(draw: st.DrawFn) -> Iterator[timedelta | None]:
    """Draw errors of responses: false times for up to three hours between true ones."""
    errors: list[timedelta | None] = [timedelta()]
    for _ in range(draw(st.integers(1, 5))):
        errors += [draw(_ERROR)] * draw(st.integers(1, 36))
        errors += [timedelta()] * draw(st.integers(1, 5))
    return iter(errors)


@settings(derandomize=True)
@given(
    errors=_false_times(),
    own=st.timedeltas(-26 * HOUR, 26 * HOUR),
    steps=st.dictionaries(st.integers(1, 100), st.timedeltas(-DAY, DAY), max_size=3),
)
def test_false_times_have_no_effect(
    errors: Iterator[timedelta | None],
    own: timedelta,
    steps: dict[int, timedelta],
) -> None:
    """False times have no effect, also while the computer's clock is changed."""
    world = World(own=own)
    world.clock = ServerClock((-own).total_seconds(), NOON.timestamp())
    for n, error in enumerate(errors):
        world.own = steps.get(n, world.own)
        ahead = world.answer(error) - world.now
        # A false time may equal the time of the other clock.
        false_time = world.now + error if error is not None else world.now
        if abs(false_time - world.now - world.own) <= timedelta(seconds=4 * TOLERANCE):
            return
        # The computer's clock was changed while a false time was near its old time.
        assert abs(ahead) <= timedelta(seconds=4 * TOLERANCE)


@given(
    answers=st.lists(
        st.tuples(
            _ERROR,
            st.timedeltas(timedelta(), HOUR),
            st.one_of(st.none(), st.timedeltas(-3 * DAY, 3 * DAY)),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_time_never_goes_back(
    answers: list[tuple[timedelta | None, timedelta, timedelta | None, bool]],
) -> None:
    """Times rise by at least nine tenths of the elapsed time."""
    world = World()
    last = world.answer()
    for error, passed, own, restart in answers:
        if restart:
            world.restart()
        if own is not None:
            world.own = own
        moment = world.answer(error, passed=passed)
        least = timedelta() if restart else MIN_RATE * passed
        assert moment - last >= least - timedelta(microseconds=10)
        last = moment


@given(errors=st.lists(_ERROR, max_size=40), own=st.timedeltas(-26 * HOUR, timedelta()))
def test_true_times_are_accepted(
    errors: list[timedelta | None], own: timedelta
) -> None:
    """After any responses, true times are accepted within hours."""
    world = World(own=own)
    for error in errors:
        world.answer(error)
    assert is_right(world.answers(400)[-1])
