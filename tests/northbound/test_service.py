"""Tests of the record of answers and failures, and of servers that moved."""

from collections.abc import AsyncIterator
from pathlib import Path
import socket
import ssl
from typing import override

from aiodns.error import DNSError
import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from freezegun.api import FrozenDateTimeFactory
import pytest
from yarl import URL

from custom_components.smartpvms.northbound import (
    AccountLimited,
    ConnectionFailed,
    HttpUnauthorized,
    InvalidCredentials,
    MalformedResponse,
    NorthboundClient,
    NorthboundError,
    PermissionDenied,
    RateLimited,
    ServerBusy,
    ServerMoved,
    Service,
    ServiceState,
    Session,
)
from tests.certificates import certificate
from tests.simulator import Simulator, faults, homes

pytestmark = [pytest.mark.fast, pytest.mark.usefixtures("socket_enabled")]

MINUTE = 60
HOUR = 60 * MINUTE


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """Serve a home."""
    simulator = Simulator(homes.family(), quotas=False)
    async with simulator.serve():
        yield simulator


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[NorthboundClient]:
    """Return the client of an account."""
    async with aiohttp.ClientSession() as web:
        yield NorthboundClient(
            Session(web, URL(simulator.url), "demo_api", "Simulated-1")
        )


def state(service: Service) -> ServiceState:
    """Return the state, which changes with each call."""
    return service.state


def fail(service: Service, error: NorthboundError, *, is_login: bool = False) -> None:
    """Record a failed call."""
    with pytest.raises(type(error)), service.call(is_login=is_login):
        raise error


def answer(service: Service, *, is_login: bool = False) -> None:
    """Record an answer."""
    with service.call(is_login=is_login):
        pass


FAILURES = [
    ConnectionFailed("TimeoutError"),
    ServerBusy("HTTP 503"),
    MalformedResponse("HTML"),
    AccountLimited(60, 403),
    AccountLimited(60, 429),
    HttpUnauthorized("HTTP 401"),
    InvalidCredentials(None),
]


@pytest.mark.parametrize("error", FAILURES, ids=str)
def test_no_answer(error: NorthboundError, freezer: FrozenDateTimeFactory) -> None:
    """Without an answer, the service is busy after minutes, then in maintenance."""
    service = Service()
    assert state(service) is ServiceState.OK
    assert Service().since is None
    answer(service)
    first = service.since
    freezer.tick(MINUTE)
    answer(service)
    assert service.since == first
    freezer.tick(MINUTE)
    fail(service, error)
    freezer.tick(4 * MINUTE)
    answer(service, is_login=True)
    assert state(service) is ServiceState.OK
    freezer.tick(MINUTE)
    assert state(service) is ServiceState.BUSY
    assert first is not None
    assert service.since == first + 2 * MINUTE
    freezer.tick(25 * MINUTE)
    assert state(service) is ServiceState.MAINTENANCE
    assert service.since == first + 2 * MINUTE
    answer(service)
    assert state(service) is ServiceState.OK
    assert service.since == first + 32 * MINUTE


@pytest.mark.parametrize(
    "error",
    [
        PermissionDenied("stations", 401),
        RateLimited(60, 407),
        AccountLimited(60, 407),
        InvalidCredentials(20400),
    ],
    ids=lambda error: type(error).__name__,
)
def test_answers(error: NorthboundError, freezer: FrozenDateTimeFactory) -> None:
    """An error of the API is an answer."""
    service = Service()
    fail(service, ServerBusy("HTTP 503"))
    freezer.tick(HOUR)
    fail(service, error)
    assert state(service) is ServiceState.OK


@pytest.mark.parametrize(
    "error",
    [
        ServerMoved("HTTP 301", "example.com"),
        ServerMoved("HTTP 410"),
        MalformedResponse("HTML"),
        HttpUnauthorized("HTTP 401"),
    ],
    ids=str,
)
def test_moved(error: NorthboundError, freezer: FrozenDateTimeFactory) -> None:
    """A server has moved if all calls of an hour show it."""
    service = Service()
    fail(service, error)
    first = service.failing
    freezer.tick(59 * MINUTE)
    fail(service, error)
    assert state(service) is ServiceState.MAINTENANCE
    freezer.tick(MINUTE)
    assert not service.is_moved
    fail(service, error)
    assert state(service) is ServiceState.MOVED
    assert service.since == first
    assert service.host == getattr(error, "host", None)
    # A failed connection says nothing about it.
    fail(service, ConnectionFailed("TimeoutError"))
    assert state(service) is ServiceState.MOVED
    fail(service, ServerBusy("HTTP 503"))
    assert state(service) is ServiceState.MAINTENANCE
    assert service.host is None


def test_outage_in_between(freezer: FrozenDateTimeFactory) -> None:
    """An outage starts the hour anew."""
    service = Service()
    fail(service, ServerMoved("DNS"))
    freezer.tick(HOUR)
    fail(service, ConnectionFailed("TimeoutError"))
    fail(service, ServerMoved("DNS"))
    assert state(service) is ServiceState.MAINTENANCE


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirect(
    client: NorthboundClient, simulator: Simulator, status: int
) -> None:
    """A redirect to another host names it, and one to the same host does not."""
    simulator.faults.add(faults.Redirect("https://example.com", status))
    with pytest.raises(ServerMoved) as caught:
        await client.plants()
    assert caught.value.host == "example.com"
    assert "example.com" not in str(caught.value)
    assert client.service.host == "example.com"
    simulator.faults.clear()
    simulator.faults.add(faults.Redirect(simulator.url, status))
    with pytest.raises(MalformedResponse):
        await client.plants()


async def test_gone(client: NorthboundClient, simulator: Simulator) -> None:
    """An address that is gone has moved to an unknown host."""
    simulator.faults.add(faults.HttpStatus(410))
    with pytest.raises(ServerMoved) as caught:
        await client.plants()
    assert caught.value.host is None


class Resolver(AbstractResolver):
    """Resolves no name."""

    def __init__(self, error: OSError, cause: Exception | None) -> None:
        """Set the error and its cause."""
        self._error = error
        self._cause = cause

    @override
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raise the error."""
        raise self._error from self._cause

    @override
    async def close(self) -> None:
        """Close nothing."""


@pytest.mark.parametrize("is_online", [True, False])
@pytest.mark.parametrize(
    ("error", "cause", "is_unknown"),
    [
        (OSError(None, "DNS"), DNSError(4, "Domain name not found"), True),
        (OSError(None, "DNS"), DNSError(12, "Timeout"), False),
        (OSError(None, "DNS"), None, False),
        (socket.gaierror(socket.EAI_NONAME, "DNS"), None, True),
        (socket.gaierror(socket.EAI_AGAIN, "DNS"), None, False),
    ],
)
async def test_name(
    error: OSError,
    cause: Exception | None,
    is_unknown: bool,
    is_online: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name does not exist if others do; a failed lookup is another error."""

    async def resolve(*_: object) -> list[ResolveResult]:
        if is_online:
            return []
        raise OSError(None, "DNS")

    monkeypatch.setattr(aiohttp.DefaultResolver, "resolve", resolve)
    connector = aiohttp.TCPConnector(resolver=Resolver(error, cause))
    async with aiohttp.ClientSession(connector=connector) as web:
        url = URL("https://example.com")
        client = NorthboundClient(Session(web, url, "demo_api", "Simulated-1"))
        with pytest.raises(ConnectionFailed) as caught:
            await client.plants()
    assert isinstance(caught.value, ServerMoved) == (is_unknown and is_online)
    assert not caught.value.sent


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_certificate(tmp_path: Path, *, is_trusted: bool) -> None:
    """A certificate of another name is another error than one that is not trusted."""
    simulator = Simulator(homes.family(), quotas=False)
    server, trusted = certificate(tmp_path, "other.example")
    context = ssl.create_default_context(cadata=trusted if is_trusted else None)
    connector = aiohttp.TCPConnector(ssl=context)
    async with (
        simulator.serve(certificate=server) as url,
        aiohttp.ClientSession(connector=connector) as web,
    ):
        client = NorthboundClient(Session(web, URL(url), "demo_api", "Simulated-1"))
        with pytest.raises(ConnectionFailed) as caught:
            await client.plants()
    assert isinstance(caught.value, ServerMoved) == is_trusted
    assert simulator.calls == []
