"""Tests of the weather: scheduled periods of server faults."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from freezegun.api import FrozenDateTimeFactory
import pytest

from homeassistant.core import HomeAssistant
from homeassistant.util import dt as dt_util
from tests.simulator import SetClock, Simulator, homes
from tests.simulator.weather import Spell, Weather
from tests.timeline import pass_time

BEGIN = datetime(2026, 6, 21, 10, tzinfo=UTC)
DAYS = 14
END = BEGIN + timedelta(days=DAYS)

pytestmark = pytest.mark.usefixtures("socket_enabled")


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """Serve a home without quotas."""
    simulator = Simulator(homes.family(), SetClock(BEGIN), quotas=False)
    async with simulator.serve():
        yield simulator


@pytest.fixture
def weather(simulator: Simulator) -> Weather:
    """Return the weather of some days."""
    return Weather(simulator, 1, BEGIN, END)


class Client:
    """A plain HTTP client."""

    def __init__(self, session: aiohttp.ClientSession, simulator: Simulator) -> None:
        """Store the simulator."""
        self._session = session
        self._simulator = simulator
        self._token = ""

    async def call(self, interface: str, **body: Any) -> tuple[int, bytes]:
        """Return the status and body of a response."""
        async with self._session.post(
            f"{self._simulator.url}/thirdData/{interface}",
            json=body,
            headers={"XSRF-TOKEN": self._token},
        ) as response:
            self._token = response.headers.get("XSRF-TOKEN", self._token)
            return response.status, await response.read()

    async def log_in(self) -> bytes:
        """Log in and return the response."""
        account = self._simulator.account
        _, answer = await self.call(
            "login", userName=account.user_name, systemCode=account.system_code
        )
        return answer

    async def plants(self) -> bytes:
        """Return the list of plants as it is sent."""
        _, answer = await self.call("stations", pageNo=1)
        return answer


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[Client]:
    """Return a client that is logged in."""
    async with aiohttp.ClientSession() as session:
        client = Client(session, simulator)
        await client.log_in()
        yield client


def single_spell(weather: Weather, kind: str) -> Spell:
    """Return a spell of a kind without any other spell."""
    return next(
        spell
        for spell in weather.spells
        if spell.kind == kind
        and not any(
            other.overlaps(spell) for other in weather.spells if other is not spell
        )
    )


def go_to(simulator: Simulator, weather: Weather, moment: datetime) -> None:
    """Advance the time, with all changes on the way."""
    assert isinstance(simulator.clock, SetClock)
    while (change := weather.next_change) and change < moment:
        simulator.clock.set(change)
        weather.at(change)
    simulator.clock.set(moment)
    weather.at(moment)


def test_seed_determines_the_weather(simulator: Simulator, weather: Weather) -> None:
    """A seed determines the weather."""
    assert Weather(simulator, 1, BEGIN, END).spells == weather.spells
    assert Weather(simulator, 2, BEGIN, END).spells != weather.spells


def test_spells(weather: Weather) -> None:
    """There are many spells of all kinds, and all of them end."""
    assert 10 * DAYS <= len(weather.spells) <= 20 * DAYS
    assert len({spell.kind for spell in weather.spells}) == 30
    for spell in weather.spells:
        assert BEGIN <= spell.start < spell.end <= END
        assert spell.end - spell.start <= timedelta(hours=3)
    assert weather.next_change is not None
    weather.at(END)
    assert weather.next_change is None


async def test_faults_come_and_go(
    client: Client, simulator: Simulator, weather: Weather
) -> None:
    """Faults apply to the interfaces of their spell."""
    spell = single_spell(weather, "HTTP 503")
    go_to(simulator, weather, spell.start)
    for interface in ("login", "stations", "getDevList"):
        status, _ = await client.call(interface)
        assert status == (503 if interface in spell.interfaces else 200)
    go_to(simulator, weather, spell.end)
    for interface in spell.interfaces:
        status, _ = await client.call(interface)
        assert status == 200


@pytest.mark.parametrize(
    ("kind", "least", "most", "status"),
    [("late answer", 5, 45, 200), ("no answer", 180, 180, 504)],
)
async def test_answers_take_time(
    hass: HomeAssistant,
    freezer: FrozenDateTimeFactory,
    client: Client,
    simulator: Simulator,
    weather: Weather,
    kind: str,
    least: float,
    most: float,
    status: int,
) -> None:
    """Delays are in simulated time, and longer than the timeout of most clients."""
    spell = single_spell(weather, kind)
    go_to(simulator, weather, spell.start)
    call = hass.async_create_task(client.call(spell.interfaces[0]))
    asked = dt_util.utcnow()
    await pass_time(hass, freezer, asked + timedelta(seconds=least - 0.1))
    assert not call.done()
    await pass_time(hass, freezer, asked + timedelta(seconds=most))
    answered, _ = await call
    assert answered == status


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("nested answer", b'"data":' + b"[" * 101),
        ("unknown keys", b'"unknown_999":1.5'),
        ("plant refused, 20045", b'"failCode":20045'),
    ],
)
async def test_strange_answers(
    client: Client, simulator: Simulator, weather: Weather, kind: str, part: bytes
) -> None:
    """Some answers are strange, and some concern one plant only."""
    spell = single_spell(weather, kind)
    codes = ",".join(plant.code for plant in simulator.home.plants)
    ids = ",".join(str(device.id) for _, device in simulator.home.devices())
    body = {"pageNo": 1, "stationCodes": codes, "devIds": ids}
    go_to(simulator, weather, spell.start)
    _, answer = await client.call(spell.interfaces[0], **body)
    assert part in answer
    go_to(simulator, weather, spell.end)
    _, answer = await client.call(spell.interfaces[0], **body)
    assert part not in answer


@pytest.mark.parametrize("kind", ["token expired", "other client", "always 305"])
async def test_sessions_end(
    client: Client, simulator: Simulator, weather: Weather, kind: str
) -> None:
    """A token expires; a new one works, unless logins fail for a while."""
    spell = single_spell(weather, kind)
    go_to(simulator, weather, spell.start - timedelta(minutes=1))
    assert b'"failCode":0' in await client.log_in()
    assert b'"success":true' in await client.plants()
    go_to(simulator, weather, spell.start)
    assert b'"failCode":305' in await client.plants()
    assert b'"failCode":0' in await client.log_in()
    expected = b'"failCode":305' if kind == "always 305" else b'"success":true'
    assert expected in await client.plants()


async def test_other_client_logs_in_repeatedly(
    client: Client, simulator: Simulator, weather: Weather
) -> None:
    """It logs in every 60 seconds to 10 minutes during its spell."""
    spell = max(
        (spell for spell in weather.spells if spell.kind == "other client"),
        key=lambda spell: spell.end - spell.start,
    )
    go_to(simulator, weather, spell.start)
    lost = 0
    while (now := simulator.clock.now() + timedelta(seconds=30)) < spell.end:
        simulator.faults.clear()
        if b'"failCode":305' in await client.plants():
            lost += 1
            await client.log_in()
        go_to(simulator, weather, now)
    minutes = (spell.end - spell.start) / timedelta(minutes=1)
    assert minutes / 10 - 1 <= lost <= minutes


async def test_locks_end(
    client: Client, simulator: Simulator, weather: Weather
) -> None:
    """A locked account refuses the correct password for half an hour."""
    spell = single_spell(weather, "account locked")
    assert spell.end - spell.start == timedelta(minutes=30)
    go_to(simulator, weather, spell.end - timedelta(minutes=1))
    assert b"user_locked" in await client.log_in()
    go_to(simulator, weather, spell.end)
    assert b'"failCode":0' in await client.log_in()
