"""Tests that logs, errors and files of an account contain no secrets.

Every secret contains a mark, and the server adds secrets to all responses: as values,
as keys, next to and instead of the expected values. Two cases are allowed:

- A plausible number instead of a measurement is a measurement.
- Home Assistant names an entry, its devices and entities after the plants and devices
  of the server; the user can change these names. Log lines of Home Assistant itself may
  contain them, and lines of its event bus may contain all registry data. Log lines of
  this integration, including those written by a coordinator or by its HTTP client,
  contain no names, and no log line contains other secrets.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
import json
import logging
from pathlib import Path
from random import Random
import re
from typing import Any, Final, override
from uuid import uuid4

import aiohttp
from hypothesis import HealthCheck, given, settings, strategies as st
import pytest
from pytest_homeassistant_custom_component import common
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator
from yarl import URL

from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.northbound import (
    NorthboundClient,
    NorthboundError,
    Session,
)
from homeassistant.auth.models import User
from homeassistant.components import system_health
from homeassistant.const import EVENT_LOGGING_CHANGED
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr, update_coordinator
from homeassistant.setup import async_setup_component
from tests.simulator import RealClock, Simulator, faults, homes
from tests.simulator.plants import Home

from .conftest import Account

# Part of every secret text, and of every secret number.
MARK: Final = "zq7qz"
DIGITS: Final = "7177177"

PHONE: Final = 49_717_717_710
LATITUDE: Final = 52.7177177

OWN_FILES: Final = str(Path(__file__).parent.parent / "custom_components")


def marked_home() -> Home:
    """Return a home with secrets in all data that only its owner should see."""
    home = homes.family()
    [plant] = home.plants
    plant.code = f"NE={DIGITS}{MARK}"
    plant.name = f"Anna {MARK}'s house"
    plant.address = f"Lindenweg 12 {MARK}"
    for n, device in enumerate(plant.devices):
        device.id = int(f"10000{DIGITS}00{n}")
        device.name = f"Garage {MARK} {n}"
        device.serial_number = f"HV{DIGITS}{MARK}{n}"
        device.model = f"SUN2000 {MARK}"
        device.software_version = f"V100 {MARK}"
    return home


@dataclass
class Sprinkle(faults.Fault):
    """Adds secrets to all responses of the server."""

    dice: Random
    text: str = MARK
    replacing: float = 0.1
    """Share of values that are replaced by a secret."""

    @override
    async def answer(
        self, exchange: faults.Exchange, honest: faults.Honest
    ) -> faults.Answer:
        """Add secrets to the correct response."""
        answer = await honest()
        if not isinstance(answer, dict):
            return answer
        sprinkled: dict[str, Any] = self._object(answer)
        return sprinkled

    def _any(self, value: Any, numbers: tuple[object, ...] = ()) -> Any:
        match value:
            case dict():
                return self._object(value)
            case list():
                return [*map(self._any, value), *self._some([self._secret()])]
            case _ if self.dice.random() < self.replacing:
                return self._secret(*numbers)
        return value

    def _object(self, node: dict[str, Any]) -> dict[str, Any]:
        # Single numbers, such as a code, stay numbers.
        numbers = (PHONE, str(PHONE)) if "run_state" in node else ()
        return {key: self._any(value, numbers) for key, value in node.items()} | dict(
            self._some(
                [
                    ("message", self.text),
                    ("latitude", LATITUDE),
                    ("longitude", str(LATITUDE)),
                    ("contactPerson", self.text),
                    ("contactMethod", PHONE),
                    (self.text, 1.5),
                    (f"x_{MARK}", self._secret(PHONE, LATITUDE)),
                    (f"NE={DIGITS}", self._secret(PHONE, LATITUDE)),
                ]
            )
        )

    def _some[T](self, things: list[T]) -> list[T]:
        return [thing for thing in things if self.dice.random() < 0.5]

    def _secret(self, *numbers: object) -> Any:
        return self.dice.choice(
            (
                *(self.text, [self.text], {self.text: self.text}, {"sn": [PHONE]}),
                *({"unit1": [{"sn": self.text, "soh": "95.0%"}]}, *numbers),
            )
        )


def _failure(code: int, **extra: object) -> faults.FailCode:
    secrets: dict[str, object] = {
        "message": f"{MARK} is not {PHONE}",
        "data": {MARK: MARK},
        "params": {"userName": MARK, MARK: LATITUDE},
    }
    return faults.FailCode(code, **(secrets | extra))


def _gateway() -> faults.HttpStatus:
    body = {"exceptionId": MARK, "exceptionInfo": MARK, "detailArgs": [MARK]}
    return faults.HttpStatus(403, json.dumps(body).encode())


FAULTS: Final[dict[str, faults.Fault]] = {
    **{
        f"failCode {code}": _failure(code)
        for code in (
            *(305, 401, 403, 407, 429, 20001, 20002, 20004, 20006, 20008, 20056),
            *(20200, 20400, 20403, 20618, 30029, 30030),
        )
    },
    "gateway": _gateway(),
    "web page": faults.Body(f"<title>{MARK}</title>".encode(), "text/html"),
    "HTTP 401": faults.HttpStatus(401, MARK.encode(), "text/plain"),
    "HTTP 503": faults.HttpStatus(503, MARK.encode(), "text/plain"),
    "redirect": faults.HttpStatus(302, MARK.encode(), "text/plain"),
    "text": faults.Body(json.dumps(MARK).encode()),
    "list": faults.Body(json.dumps([MARK, {MARK: PHONE}]).encode()),
    "data is text": faults.Rewrite(lambda answer: answer | {"data": MARK}),
    "data is an object": faults.Rewrite(lambda answer: answer | {"data": {MARK: MARK}}),
    "data is a list": faults.Rewrite(lambda answer: answer | {"data": [MARK, [MARK]]}),
    "half": faults.HalfJson(),
    "nothing": faults.EmptyBody(),
    "no data": faults.NullData(),
    "no answer": faults.DropConnection(),
}


class Leaks:
    """Finds secrets in texts."""

    def __init__(self, simulator: Simulator) -> None:
        """Store the simulator, whose host and tokens have no mark."""
        self._simulator = simulator

    def has_secret(self, text: str) -> bool:
        """Return whether a text contains a secret, or a name with one."""
        tokens = (call.token for call in self._simulator.calls if call.token)
        port = URL(self._simulator.url).port
        return (
            MARK in text.casefold()
            or DIGITS in text
            or re.search(rf"(?<!\d){port}(?!\d)", text) is not None
            or any(token[:20] in text for token in tokens)
        )

    def in_error(self, error: BaseException | None) -> list[str]:
        """Return the texts of an error and its causes that contain secrets."""
        if error is None:
            return []
        texts = [str(error), repr(error), *map(repr, vars(error).values())]
        return [
            *filter(self.has_secret, texts),
            *self.in_error(error.__cause__),
            *self.in_error(error.__context__),
        ]

    def in_log(self, records: list[logging.LogRecord]) -> list[str]:
        """Return the lines of a log that contain secrets."""
        return [line for line in map(_written, records) if self.has_secret(line)]


def _written(record: logging.LogRecord) -> str:
    """Return a line without the names that Home Assistant itself writes."""
    line = logging.Formatter("%(pathname)s: %(message)s").format(record)
    own = (OWN_FILES, aiohttp.__path__[0], update_coordinator.__file__)
    if record.pathname.startswith(own):
        return line
    if record.name in ("homeassistant.core", common.__name__):
        return ""
    return _without_names(line)


def _without_names(line: str) -> str:
    """Return a line without the names of the entry and its devices and entities."""
    name = rf"Anna {MARK}'s house|Garage {MARK} \d"
    entity_id = rf"\w+\.(?:anna_{MARK}_s_house|garage_{MARK}_\d)\w*"
    return re.sub(rf"{name}|{entity_id}", "", line)


TEXTS: Final = st.tuples(st.text(max_size=10), st.text(max_size=10)).map(MARK.join)


class _Server:
    """A server and a client of it, in a separate event loop."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._stack = AsyncExitStack()
        self.simulator = Simulator(marked_home(), RealClock(), quotas=False)
        self.simulator.account.user_name = f"{MARK}_api"
        self.simulator.account.system_code = f"{MARK}-1"
        self.leaks = Leaks(self.simulator)

    async def start(self) -> None:
        await self._stack.enter_async_context(self.simulator.serve())

    async def stop(self) -> None:
        await self._stack.aclose()

    def read(self, fault: faults.Fault) -> list[NorthboundError]:
        """Read everything, and return the errors."""
        self.simulator.faults.clear()
        self.simulator.faults.add(fault)
        return self._runner.run(self._read())

    async def _read(self) -> list[NorthboundError]:
        simulator, account = self.simulator, self.simulator.account
        errors: list[NorthboundError] = []
        codes = [plant.code for plant in simulator.home.plants]
        devices = [device for _, device in simulator.home.devices()]
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as web:
            session = Session(
                web, URL(simulator.url), account.user_name, account.system_code
            )
            client = NorthboundClient(session)
            for reading in (
                client.plants(),
                client.devices(codes),
                client.plant_real_time(codes),
                *(client.device_real_time(each.type_id, [each.id]) for each in devices),
                client.logout(),
            ):
                try:
                    await reading
                except NorthboundError as err:
                    errors.append(err)
        return errors


@pytest.fixture
def server(socket_enabled: None) -> Iterator[_Server]:
    """Start the server of a marked home."""
    with asyncio.Runner() as runner:
        server = _Server(runner)
        runner.run(server.start())
        yield server
        runner.run(server.stop())


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    dice=st.randoms(use_true_random=False),
    text=TEXTS,
    fault=st.none() | st.sampled_from(list(FAULTS.values())),
)
def test_client(
    server: _Server,
    caplog: pytest.LogCaptureFixture,
    dice: Random,
    text: str,
    fault: faults.Fault | None,
) -> None:
    """Errors and log lines of the client contain no secrets, for any response."""
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    errors = server.read(fault or Sprinkle(dice, text))
    assert [leak for error in errors for leak in server.leaks.in_error(error)] == []
    assert [each for each in caplog.messages if server.leaks.has_secret(each)] == []


@pytest.fixture
def home() -> Home:
    """Return a home with secrets."""
    return marked_home()


@pytest.fixture
def leaks(
    hass: HomeAssistant, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> Leaks:
    """Log everything, for an account with a secret user name and password."""
    simulator.account.user_name = f"{MARK}_api"
    simulator.account.system_code = f"{MARK}-1"
    caplog.set_level(logging.DEBUG)
    hass.bus.async_fire(EVENT_LOGGING_CHANGED)
    # asyncio itself logs every connection.
    hass.loop.set_debug(False)
    return Leaks(simulator)


class Search:
    """Searches the data that a user may share."""

    def __init__(
        self,
        hass: HomeAssistant,
        hass_client: ClientSessionGenerator,
        administrator: User,
        simulator: Simulator,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Search all accounts."""
        self._hass = hass
        self._administrator = administrator
        self._hass_client = hass_client
        self._caplog = caplog
        self._leaks = Leaks(simulator)

    async def found(self) -> list[str]:
        """Return the texts that contain secrets."""
        entries = self._hass.config_entries
        found: list[str] = []
        texts = [await self._health()]
        for entry in entries.async_entries(DOMAIN):
            texts += [
                str(entry.reason),
                str(entry.error_reason_translation_placeholders),
                *[file async for file in self._diagnostics(entry.entry_id)],
            ]
        for entry in entries.async_loaded_entries(DOMAIN):
            data = entry.runtime_data
            for coordinator in (data.inventory, data.real_time):
                found += self._leaks.in_error(coordinator.last_exception)
        found += filter(self._leaks.has_secret, texts)
        return found + self._leaks.in_log(self._caplog.records)

    async def _diagnostics(self, entry_id: str) -> AsyncIterator[str]:
        """Yield the complete files of the diagnostics."""
        assert await async_setup_component(self._hass, "diagnostics", {})
        await self._hass.async_block_till_done()
        auth = self._hass.auth
        token = await auth.async_create_refresh_token(
            self._administrator, f"https://example.com/{uuid4()}"
        )
        client = await self._hass_client(auth.async_create_access_token(token))
        url = f"/api/diagnostics/config_entry/{entry_id}"
        registry = dr.async_get(self._hass)
        for path in (
            url,
            *(
                f"{url}/device/{device.id}"
                for device in dr.async_entries_for_config_entry(registry, entry_id)
            ),
        ):
            response = await client.get(path)
            assert response.status == HTTPStatus.OK
            yield await response.text()

    async def _health(self) -> str:
        assert await async_setup_component(self._hass, "system_health", {})
        return str(await system_health.get_info(self._hass))


@pytest.fixture
def search(
    hass: HomeAssistant,
    simulator: Simulator,
    account: Account,
    hass_client: ClientSessionGenerator,
    hass_admin_user: User,
    caplog: pytest.LogCaptureFixture,
) -> Search:
    """Log everything, for an account with a secret user name and password."""
    simulator.account.user_name = f"{MARK}_api"
    simulator.account.system_code = f"{MARK}-1"
    caplog.set_level(logging.DEBUG)
    hass.bus.async_fire(EVENT_LOGGING_CHANGED)
    # asyncio itself logs every connection.
    hass.loop.set_debug(False)
    return Search(hass, hass_client, hass_admin_user, simulator, caplog)


@pytest.mark.parametrize("seed", range(5))
async def test_secrets_in_everything(
    account: Account, simulator: Simulator, search: Search, seed: int
) -> None:
    """Responses contain secrets next to and instead of all values."""
    simulator.faults.add(Sprinkle(Random(seed), replacing=0.05))
    await account.add()
    for _ in range(3):
        await account.poll()
    assert account.entry.runtime_data.real_time.data
    assert await search.found() == []


@pytest.mark.parametrize("interface", ["login", "stations"])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_flow_fails(
    account: Account,
    simulator: Simulator,
    search: Search,
    fault: faults.Fault,
    interface: str,
) -> None:
    """A failed config flow shows the reason, but no secrets."""
    simulator.faults.add(fault, interface)
    result = await account.add()
    assert result.get("errors") or account.entry
    assert await search.found() == []


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_set_up_fails(
    account: Account, simulator: Simulator, search: Search, fault: faults.Fault
) -> None:
    """A failed setup shows the reason, but no secrets; its diagnostics work."""
    simulator.faults.add(fault, "getDevList")
    await account.add()
    assert await search.found() == []


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_reading_fails(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    search: Search,
    fault: faults.Fault,
) -> None:
    """A failed reading shows the reason, but no secrets."""
    await account.add()
    simulator.faults.add(fault)
    await account.poll(timedelta(days=1, minutes=1))
    await account.poll()
    assert await search.found() == []
    await hass.config_entries.async_reload(account.entry.entry_id)
    await account.poll()
    assert await search.found() == []


async def test_devices_without_names(
    account: Account, simulator: Simulator, search: Search
) -> None:
    """A plant or device without a name is not named by its code."""
    nameless = dict.fromkeys(("plantName", "devName"))

    def rewrite(answer: dict[str, Any]) -> dict[str, Any]:
        data = answer["data"]
        for row in data if isinstance(data, list) else data["list"]:
            row |= nameless
        return answer

    for interface in ("stations", "getDevList"):
        simulator.faults.add(faults.Rewrite(rewrite), interface)
    await account.add()
    assert account.value(simulator.home.plants[0].code, "day_power")
    assert await search.found() == []


async def test_plant_without_authorization(
    account: Account, simulator: Simulator, search: Search
) -> None:
    """A repair issue does not show the plant to others."""
    await account.add()
    simulator.unauthorize(simulator.home.plants[0].code)
    await account.poll()
    assert await search.found() == []


async def test_device_that_is_gone(
    account: Account, simulator: Simulator, search: Search
) -> None:
    """The names of a removed device are not logged."""
    await account.add()
    simulator.home.plants[0].devices.pop()
    for _ in range(2):
        await account.poll(timedelta(days=1, minutes=1))
        assert await search.found() == []


async def test_new_password(
    hass: HomeAssistant, account: Account, simulator: Simulator, search: Search
) -> None:
    """A changed password, a wrong password, and a lost session."""
    await account.add()
    simulator.take_session()
    await account.poll()
    simulator.change_password(f"{MARK}-2")
    simulator.expire_token()
    await account.poll()
    [flow] = hass.config_entries.flow.async_progress_by_handler(DOMAIN)
    await hass.config_entries.flow.async_configure(
        flow["flow_id"], {"password": f"{MARK}-3"}
    )
    assert await search.found() == []
