"""Tests of the session: few logins, and no repeated rejected ones."""

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
import json
import time
from typing import Literal

import aiohttp
from freezegun.api import FrozenDateTimeFactory
import pytest
from yarl import URL

from custom_components.smartpvms.northbound import (
    AccountLimited,
    AccountLocked,
    InvalidCredentials,
    NorthboundClient,
    NorthboundError,
    PermissionDenied,
    RateLimited,
    Session,
    SessionState,
    SessionTaken,
)
from custom_components.smartpvms.storage import decode, encode
from tests.simulator import Simulator, faults, homes

pytestmark = [pytest.mark.fast, pytest.mark.usefixtures("socket_enabled")]

NOON = datetime(2026, 6, 21, 10, tzinfo=UTC)
PASS = timedelta(minutes=5, seconds=2)


class Client:
    """A client that reads the plant repeatedly."""

    def __init__(
        self,
        simulator: Simulator,
        websession: aiohttp.ClientSession,
        freezer: FrozenDateTimeFactory,
    ) -> None:
        """Store the simulator."""
        self.simulator = simulator
        self.state = SessionState()
        self.password = "Simulated-1"
        self._websession = websession
        self._freezer = freezer

    @property
    def session(self) -> Session:
        """Return a session with the stored state, as after a restart."""
        return Session(
            self._websession,
            URL(self.simulator.url),
            "demo_api",
            self.password,
            self.state,
        )

    async def read(self) -> None:
        """Read the plant."""
        code = self.simulator.home.plants[0].code
        await NorthboundClient(self.session).plant_real_time([code])

    async def poll(self, passed: timedelta = PASS) -> NorthboundError | None:
        """Advance the time and read; return the error."""
        self._freezer.tick(passed)
        try:
            await self.read()
        except NorthboundError as err:
            return err
        return None

    def restart(self, off: timedelta = timedelta()) -> None:
        """Store the state, and restore it at another time."""
        saved = time.time()
        state = json.dumps(encode(self.state, saved))
        self._freezer.tick(off)
        self.state = decode(SessionState, json.loads(state), saved)

    @property
    def logins(self) -> int:
        """Return the number of login attempts."""
        return len(self.simulator.calls_to("login"))

    @property
    def lost(self) -> int:
        """Return the number of calls with error 305."""
        return sum(call.fail_code == 305 for call in self.simulator.calls)


@pytest.fixture(params=["sliding"])
async def client(
    request: pytest.FixtureRequest, freezer: FrozenDateTimeFactory
) -> AsyncIterator[Client]:
    """Serve the family home with tokens of a kind."""
    freezer.move_to(NOON)
    kind: Literal["sliding", "fixed"] = request.param
    simulator = Simulator(homes.family(), session=kind)
    async with (
        simulator.serve(),
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as websession,
    ):
        yield Client(simulator, websession, freezer)


@pytest.mark.slow
async def test_token_that_use_renews(client: Client) -> None:
    """One token is used as long as the server renews it."""
    for _ in range(288):
        assert await client.poll() is None
    assert (client.logins, client.lost) == (1, 0)


@pytest.mark.slow
@pytest.mark.parametrize("client", ["fixed"], indirect=True)
async def test_token_that_lives_half_an_hour(client: Client) -> None:
    """After one 305 a day, tokens without renewal are replaced in time."""
    for _ in range(288 * 2):
        assert await client.poll() is None
    assert client.lost == 2
    assert client.logins <= 2 * 50
    client.restart()
    for _ in range(144):
        assert await client.poll() is None
    assert client.lost <= 3


@pytest.mark.parametrize("client", ["sliding", "fixed"], indirect=True)
async def test_no_305_after_a_pause(client: Client) -> None:
    """A token that was unused for half an hour is not tried."""
    await client.poll()
    client.restart()
    assert await client.poll(timedelta(hours=2)) is None
    assert (client.logins, client.lost) == (2, 0)


async def test_another_client_for_long(client: Client) -> None:
    """T#84: repeated lost sessions make the pauses longer."""
    await client.poll()
    client.simulator.faults.add(faults.FailCode(305), "getStationRealKpi")
    client.simulator.calls.clear()
    for _ in range(288):
        assert isinstance(await client.poll(), SessionTaken)
    # After 10, 20 and 40 minutes, and then every hour.
    assert client.logins == 4 + 22
    client.simulator.faults.clear()
    client.restart()
    assert await client.poll(timedelta(hours=1)) is None
    client.simulator.faults.add(faults.FailCode(305), "getStationRealKpi", times=2)
    err = await client.poll()
    assert isinstance(err, SessionTaken)
    assert err.retry_after == 600


async def test_refused_login_after_a_pause(client: Client) -> None:
    """A login that is refused like a session pauses all calls."""
    await client.poll()
    client.simulator.faults.add(faults.FailCode(305), "login")
    assert isinstance(await client.poll(timedelta(hours=2)), SessionTaken)
    assert client.state.pause == 600


@pytest.mark.parametrize("fault", [faults.FailCode(305), faults.HttpStatus(401)])
async def test_optional_interface_without_session(
    client: Client, fault: faults.Fault
) -> None:
    """A token that only an optional interface rejects stays in use, after one login."""
    await client.poll()
    client.simulator.faults.add(fault, "getAlarmList")
    reader = NorthboundClient(client.session)
    for _ in range(3):
        with pytest.raises(PermissionDenied):
            await reader.alarms(["NE=1"], NOON, NOON, "en_US")
        assert await client.poll() is None
    assert client.logins == 2


async def test_wrong_password_is_sent_once(client: Client) -> None:
    """A rejected password is not sent again, not even after a restart."""
    await client.poll()
    client.simulator.change_password("Changed-2")
    client.simulator.expire_token()
    for _ in range(5):
        assert isinstance(await client.poll(), InvalidCredentials)
        client.restart()
    assert client.logins == 2
    client.password = "Changed-2"
    await client.session.log_in()
    assert await client.poll() is None


async def test_lock_passes(client: Client) -> None:
    """An account that is locked for half an hour is not called in that time."""
    await client.poll()
    client.simulator.lock(minutes=30)
    for _ in range(6):
        err = await client.poll()
        assert isinstance(err, AccountLocked)
        assert err.retry_after is not None
        client.restart()
    assert client.logins == 2
    await client.poll()
    assert await client.poll() is None
    assert client.logins == 3


async def test_lock_that_does_not_pass(client: Client) -> None:
    """A second temporary refusal asks for the password."""
    await client.poll()
    client.simulator.expire_token()
    client.simulator.faults.add(faults.FailCode(20400), "login")
    errors = [type(await client.poll()) for _ in range(12)]
    assert errors == [AccountLocked] * 7 + [InvalidCredentials] * 5
    assert client.logins == 3


async def test_logins_are_limited(
    client: Client, freezer: FrozenDateTimeFactory
) -> None:
    """T#84: lost sessions cause at most three logins in ten minutes."""
    reader = NorthboundClient(client.session)
    for _ in range(30):
        client.simulator.expire_token()
        with suppress(AccountLimited):
            await reader.plants()
        freezer.tick(60)
    times = [call.at for call in client.simulator.calls_to("login")]
    assert len(times) > 6
    assert (
        max(
            sum(timedelta() <= at - first < timedelta(minutes=10) for at in times)
            for first in times
        )
        == 3
    )
    assert client.simulator.refusals == []


async def test_no_login_for_a_call_that_has_to_wait(client: Client) -> None:
    """No login is made for a call that must wait."""
    await client.poll()
    client.state.token = None
    await client.poll(timedelta(seconds=20))
    assert client.logins == 1


async def test_login_limited_by_others(client: Client) -> None:
    """T#176: after a login with error 407, no login is made for ten minutes."""
    client.simulator.faults.add(faults.FailCode(407), "login")
    for _ in range(2):
        assert isinstance(await client.poll(timedelta(minutes=4)), AccountLimited)
    assert client.logins == 1
    assert client.session.wait("getStationRealKpi") > 300
    client.simulator.faults.clear()
    assert await client.poll(timedelta(minutes=7)) is None


async def test_empty_answers_and_locks_do_not_add_up(client: Client) -> None:
    """Empty login responses do not count as locks; more of them are needed."""
    await client.poll()
    client.simulator.expire_token()
    client.simulator.faults.add(faults.EmptyBody(), "login", times=3)
    for _ in range(21):
        assert isinstance(await client.poll(), AccountLocked)
    client.simulator.lock(minutes=30)
    for _ in range(7):
        assert isinstance(await client.poll(), AccountLocked)
    client.simulator.faults.add(faults.EmptyBody(), "login")
    client.simulator.expire_token()
    errors = [type(await client.poll()) for _ in range(60)]
    assert errors[-1] is InvalidCredentials
    assert errors.index(InvalidCredentials) > 20


@pytest.mark.parametrize(
    "behind", [timedelta(hours=2), timedelta(days=40), timedelta(days=19000)]
)
async def test_start_with_an_old_clock(client: Client, behind: timedelta) -> None:
    """A computer without a battery starts in the past; waiting times are kept."""
    assert await client.poll() is None
    client.simulator.faults.add(faults.FailCode(407), "getStationRealKpi")
    assert isinstance(await client.poll(), RateLimited)
    session, state = client.session, client.state
    state.paused_until = time.monotonic() + 1000
    waits = session.wait("getStationRealKpi"), session.wait("login"), state.pause
    client.restart(-behind)
    restored, pause = client.session, client.state.pause
    assert (
        restored.wait("getStationRealKpi"),
        restored.wait("login"),
        pause,
    ) == pytest.approx(waits)
    assert min(waits[0], pause) > 200


async def test_start_with_a_damaged_token(client: Client) -> None:
    """A stored token that cannot be sent is replaced."""
    assert await client.poll() is None
    client.state.token = f"{client.state.token}\x01"
    client.restart()
    assert await client.poll() is None
    assert client.logins == 2


async def test_start_a_day_later(client: Client) -> None:
    """Waiting times that ended while Home Assistant was off are over."""
    assert await client.poll() is None
    client.state.paused_until = time.monotonic() + 1000
    client.restart(timedelta(days=1))
    assert client.state.pause == 0
    assert not client.state.has_token
    assert client.session.wait("getStationRealKpi") == 0


def test_restart_with_wrong_times(freezer: FrozenDateTimeFactory) -> None:
    """A stored pause of the future ends after the longest one."""
    state = encode(SessionState(paused_until=time.monotonic() + 1800))
    freezer.tick(-40 * 86400)
    assert decode(SessionState, state).pause <= 3600


def test_never_is_stored_as_nothing() -> None:
    """A session that was never used has no times."""
    assert encode(SessionState()) == {}
    session = SessionState(token="token")
    assert not session.has_token
    session.drop_token()
    assert session.expired_in_use is not None
