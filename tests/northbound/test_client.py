"""Tests of the client against the simulator."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
import gc
import gzip
import tracemalloc
from typing import override

import aiohttp
from aiohttp import web
import pytest
from yarl import URL

from custom_components.smartpvms.northbound import (
    AccountLimited,
    AccountLocked,
    ConnectionFailed,
    InterfaceMissing,
    InvalidCredentials,
    MalformedResponse,
    MembersRefused,
    NorthboundClient,
    NorthboundError,
    PermissionDenied,
    RateLimited,
    ReportPeriod,
    RequestRejected,
    ServerBusy,
    ServerMoved,
    Session,
    SessionTaken,
    session as northbound_session,
)
from tests.hostile import INTERFACES
from tests.simulator import SetClock, Simulator, faults, homes

pytestmark = [pytest.mark.fast, pytest.mark.usefixtures("socket_enabled")]


class _WithHeaders(faults.Body):
    """Answers a login with unusual headers."""

    def __init__(
        self,
        status: int,
        headers: dict[str, str],
        body: bytes = b'{"success":true,"data":null,"failCode":0}',
    ) -> None:
        super().__init__(body)
        self._http_status = status
        self._headers = headers

    @override
    async def answer(
        self, exchange: faults.Exchange, honest: faults.Honest
    ) -> faults.Answer:
        response = await super().answer(exchange, honest)
        assert isinstance(response, web.Response)
        response.set_status(self._http_status)
        response.headers.update(self._headers)
        return response


MEGABYTE = 1024 * 1024
NOON = datetime(2026, 6, 21, 10, tzinfo=UTC)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """Serve the family home at noon."""
    simulator = Simulator(homes.family(), clock=SetClock(NOON), quotas=False)
    async with simulator.serve():
        yield simulator


@pytest.fixture
async def websession() -> AsyncIterator[aiohttp.ClientSession]:
    """Open a web session that keeps no cookies."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


@pytest.fixture
def session(simulator: Simulator, websession: aiohttp.ClientSession) -> Session:
    """Use the account of the simulator."""
    return Session(websession, URL(simulator.url), "demo_api", "Simulated-1")


@pytest.fixture
def client(session: Session) -> NorthboundClient:
    """Read the account of the simulator."""
    return NorthboundClient(session)


async def test_plants(client: NorthboundClient, simulator: Simulator) -> None:
    """The plants are those of the account, in kWp."""
    [plant] = await client.plants()
    [true] = simulator.home.plants
    assert (plant.code, plant.name) == (true.code, true.name)
    assert plant.capacity == pytest.approx(true.capacity_kwp)
    assert plant.grid_connection is not None
    assert plant.grid_connection.tzinfo is not None
    assert len(simulator.calls_to("login")) == 1
    assert len(simulator.calls_to("stations")) == 1


async def test_pages(client: NorthboundClient, simulator: Simulator) -> None:
    """T#106: an account with more than 100 plants is read page by page."""
    simulator.home.plants = homes.fleet(plants=250, devices=250).plants
    plants = await client.plants()
    assert [plant.code for plant in plants] == [
        plant.code for plant in simulator.home.plants
    ]
    assert len(simulator.calls_to("stations")) == 3


async def test_a_server_that_repeats_its_last_page(
    client: NorthboundClient, simulator: Simulator
) -> None:
    """Paging ends with a page without new plants, for any count of the server."""

    def endless(payload: dict[str, object]) -> dict[str, object]:
        data = payload["data"]
        assert isinstance(data, dict)
        return payload | {"data": data | {"pageCount": 10**9}}

    simulator.faults.add(faults.Rewrite(endless), "stations")
    assert len(await client.plants()) == 1


async def test_old_account_is_read_from_the_old_list(
    websession: aiohttp.ClientSession,
) -> None:
    """T#68, T#150: `getStationList` replaces a refused `stations`, with MW as kWp."""
    simulator = Simulator(
        homes.family(), clock=SetClock(NOON), quotas=False, account="old"
    )
    async with simulator.serve():
        session = Session(websession, URL(simulator.url), "demo_api", "Simulated-1")
        [plant] = await NorthboundClient(session).plants()
    [true] = simulator.home.plants
    assert plant.code == true.code
    assert plant.capacity == pytest.approx(true.capacity_kwp)


async def test_old_list_without_pages(
    client: NorthboundClient, simulator: Simulator
) -> None:
    """The oldest servers return a bare list for `getStationList`."""
    simulator.withdraw_permission("stations")
    simulator.faults.add(
        faults.Body(
            b'{"success":true,"failCode":0,"data":[{"stationCode":"NE=7",'
            b'"stationName":"Old","capacity":0.005},null,{"stationName":"?"}]}'
        ),
        "getStationList",
    )
    [plant] = await client.plants()
    assert (plant.code, plant.capacity) == ("NE=7", 5.0)


async def test_no_list_permitted(
    client: NorthboundClient, simulator: Simulator
) -> None:
    """If both lists are refused, the permission for the new one is missing."""
    simulator.withdraw_permission("stations")
    with pytest.raises(PermissionDenied) as caught:
        await client.plants()
    assert caught.value.what == "stations"


async def test_devices(client: NorthboundClient, simulator: Simulator) -> None:
    """All devices are listed, including loggers, with exact IDs."""
    farm = homes.farm()
    simulator.home.plants = farm.plants
    devices = await client.devices([farm.plants[0].code])
    assert {
        (device.id, int(device.type_id), device.name, device.serial_number)
        for device in devices
    } == {
        (device.id, int(device.type_id), device.name, device.serial_number)
        for device in farm.plants[0].devices
    }
    assert any(device.id < 0 for device in devices)


async def test_devices_without_an_id(
    client: NorthboundClient, simulator: Simulator
) -> None:
    """A row without a device does not affect the others."""
    plant = simulator.home.plants[0]
    rows = [{"devName": "?"}, None, {"id": 7, "devTypeId": 1, "stationCode": "NE=1"}]
    simulator.faults.add(
        faults.Rewrite(lambda answer: answer | {"data": rows}), "getDevList"
    )
    devices = await client.devices([plant.code])
    assert [device.id for device in devices] == [7]


async def test_no_list_of_devices(
    client: NorthboundClient, simulator: Simulator
) -> None:
    """`null` instead of a list is a list without devices."""
    simulator.faults.add(faults.NullData(), "getDevList")
    assert await client.devices([simulator.home.plants[0].code]) == []


async def test_plant_real_time(client: NorthboundClient, simulator: Simulator) -> None:
    """The KPIs of a plant are unchanged, with the server's clock."""
    code = simulator.home.plants[0].code
    kpis = await client.plant_real_time([code])
    assert kpis.server_time == NOON
    assert kpis.rows == {code: simulator.plant_items(code)}


async def test_device_real_time_in_batches(
    client: NorthboundClient, simulator: Simulator
) -> None:
    """120 inverters are read with two calls, none of them refused (20017)."""
    simulator.home.plants = homes.farm(inverters=120).plants
    ids = [
        device.id for device in simulator.home.plants[0].devices if device.type_id == 1
    ]
    client.set_account_size(1, {1: 120})
    first = await client.device_real_time(1, ids[:100])
    rest = await client.device_real_time(1, ids[100:])
    assert [*first.rows, *rest.rows] == ids
    assert first.rows[ids[7]] == simulator.device_items(ids[7])


@pytest.mark.parametrize(
    "fault",
    [
        faults.NullData(),
        faults.NullItemMap(),
        faults.Rewrite(lambda payload: payload | {"data": []}),
        faults.Rewrite(lambda payload: payload | {"data": [None, "row", {"x": 1}]}),
    ],
)
async def test_no_rows(
    client: NorthboundClient, simulator: Simulator, fault: faults.Fault
) -> None:
    """T#145, T#80: success without data has no rows, and is no error."""
    code = simulator.home.plants[0].code
    simulator.faults.add(fault, "getStationRealKpi")
    kpis = await client.plant_real_time([code])
    assert kpis.rows == {}


async def test_empty_item_map(client: NorthboundClient, simulator: Simulator) -> None:
    """A device without data items has a row without items."""
    code = simulator.home.plants[0].code
    simulator.faults.add(faults.EmptyItemMap(), "getStationRealKpi")
    kpis = await client.plant_real_time([code])
    assert kpis.rows == {code: {}}


@pytest.mark.slow
async def test_missing_row(client: NorthboundClient, simulator: Simulator) -> None:
    """A missing row does not affect the others."""
    simulator.home.plants = homes.fleet(plants=3, devices=3).plants
    codes = [plant.code for plant in simulator.home.plants]
    simulator.faults.add(faults.MissingRows({codes[1]}), "getStationRealKpi")
    kpis = await client.plant_real_time(codes)
    assert set(kpis.rows) == {codes[0], codes[2]}


async def test_string_fail_code(client: NorthboundClient, simulator: Simulator) -> None:
    """A failCode of "0" is a success."""
    simulator.faults.add(faults.StringFailCode())
    assert len(await client.plants()) == 1


async def test_expired_token_costs_one_login(
    client: NorthboundClient, simulator: Simulator
) -> None:
    """One 305 leads to one login and one retry."""
    await client.plants()
    simulator.expire_token()
    assert len(await client.plants()) == 1
    assert len(simulator.calls_to("login")) == 2
    assert len(simulator.calls_to("stations")) == 3


async def test_token_is_used_until_refused(
    client: NorthboundClient, simulator: Simulator
) -> None:
    """A token is used until the server refuses it."""
    clock = simulator.clock
    assert isinstance(clock, SetClock)
    for _ in range(4):
        await client.plants()
        clock.tick(timedelta(minutes=29))
    assert len(simulator.calls_to("login")) == 1


async def test_one_login_for_concurrent_calls(
    client: NorthboundClient, simulator: Simulator
) -> None:
    """Concurrent calls with an expired token log in once."""
    await client.plants()
    simulator.expire_token()
    code = simulator.home.plants[0].code
    await asyncio.gather(*(client.devices([code]) for _ in range(5)))
    assert len(simulator.calls_to("login")) == 2


async def test_a_server_that_always_returns_305(
    client: NorthboundClient, simulator: Simulator
) -> None:
    """A token that is refused at once belongs to another client's session."""
    simulator.faults.add(faults.FailCode(305), "stations")
    for _ in range(3):
        with pytest.raises(SessionTaken):
            await client.plants()
    assert len(simulator.calls_to("login")) == 1
    assert len(simulator.calls_to("stations")) == 1


async def test_token_from_the_cookie(
    client: NorthboundClient, simulator: Simulator, session: Session
) -> None:
    """Older servers send the token as a cookie only."""
    await client.plants()
    token = session.state.token
    session.state.token = None
    cookie = {"Set-Cookie": f"XSRF-TOKEN={token};Path=/;Secure"}
    simulator.faults.add(_WithHeaders(200, cookie), "login", times=1)
    await client.plants()
    assert session.state.token == token


async def test_valid_token_needs_no_login(
    simulator: Simulator,
    session: Session,
    client: NorthboundClient,
    websession: aiohttp.ClientSession,
) -> None:
    """A valid token is used."""
    await client.plants()
    again = Session(
        websession, URL(simulator.url), "demo_api", "Simulated-1", session.state
    )
    await NorthboundClient(again).plants()
    assert len(simulator.calls_to("login")) == 1


async def test_logout(
    client: NorthboundClient, simulator: Simulator, session: Session
) -> None:
    """A logout ends the session once."""
    await client.plants()
    await client.logout()
    await client.logout()
    assert session.state.token is None
    assert len(simulator.calls_to("logout")) == 1


async def test_wrong_password(
    simulator: Simulator, websession: aiohttp.ClientSession
) -> None:
    """A wrong password is sent once, and has its own error."""
    session = Session(websession, URL(simulator.url), "demo_api", "wrong")
    with pytest.raises(InvalidCredentials):
        await NorthboundClient(session).plants()
    assert len(simulator.calls_to("login")) == 1


async def test_locked_account(client: NorthboundClient, simulator: Simulator) -> None:
    """A locked account is not a wrong password."""
    simulator.lock()
    with pytest.raises(AccountLocked):
        await client.plants()


@pytest.mark.parametrize("code", [20002, 20003])
async def test_disabled_account(
    client: NorthboundClient, simulator: Simulator, code: int
) -> None:
    """A disabled and an expired account have different codes."""
    simulator.disable(code)
    with pytest.raises(InvalidCredentials) as caught:
        await client.plants()
    assert caught.value.code == code


async def test_empty_login_is_a_refusal(
    session: Session, client: NorthboundClient, simulator: Simulator
) -> None:
    """Older servers return nothing for wrong credentials, others for a fault."""
    simulator.faults.add(faults.EmptyBody(), "login")
    with pytest.raises(InvalidCredentials):
        await session.log_in()
    with pytest.raises(AccountLocked):
        await client.plants()


async def test_sixth_login_in_ten_minutes(
    client: NorthboundClient, simulator: Simulator
) -> None:
    """T#176: too many logins are a limit, not wrong credentials."""
    simulator.faults.add(faults.FailCode(407), "login")
    with pytest.raises(RateLimited) as caught:
        await client.plants()
    assert caught.value.retry_after >= 600


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (faults.FailCode(407), RateLimited),
        (faults.FailCode(20006), MembersRefused),
        (faults.FailCode(20009), RequestRejected),
        (faults.FailCode(20200), ServerBusy),
        (faults.FailCode(401), PermissionDenied),
        (faults.Gateway403(), AccountLimited),
        (faults.GatewayException(), RequestRejected),
        (faults.EmptyBody(), ServerBusy),
        (faults.HtmlPage(), MalformedResponse),
        (faults.HtmlPage(404), InterfaceMissing),
        (faults.HalfJson(), MalformedResponse),
        (faults.HttpStatus(502), ServerBusy),
        (faults.DropConnection(), ConnectionFailed),
        (
            faults.Rewrite(lambda payload: payload | {"data": "text"}),
            MalformedResponse,
        ),
        (faults.Rewrite(lambda payload: payload | {"data": 20007}), MalformedResponse),
    ],
)
async def test_faults(
    client: NorthboundClient,
    simulator: Simulator,
    fault: faults.Fault,
    error: type[NorthboundError],
) -> None:
    """Every fault results in one client error."""
    simulator.faults.add(fault, "getDevList")
    with pytest.raises(NorthboundError) as caught:
        await client.devices([simulator.home.plants[0].code])
    assert type(caught.value) is error


async def test_login_without_a_token(
    client: NorthboundClient, simulator: Simulator
) -> None:
    """A page that answers any POST with success is no Northbound server."""
    simulator.faults.add(faults.Body(b'{"success":true,"failCode":0}'), "login")
    with pytest.raises(MalformedResponse):
        await client.plants()


async def test_redirect_does_not_carry_credentials(
    client: NorthboundClient, simulator: Simulator
) -> None:
    """A redirect is an error, and the password is not sent to its target."""
    elsewhere = Simulator(homes.family(), clock=SetClock(NOON))
    async with elsewhere.serve():
        location = {"Location": f"{elsewhere.url}/thirdData/login"}
        simulator.faults.add(_WithHeaders(307, location), "login")
        with pytest.raises(ServerMoved) as caught:
            await client.plants()
    assert elsewhere.calls == []
    assert caught.value.host == elsewhere.url


async def test_refused_connection(websession: aiohttp.ClientSession) -> None:
    """The error of a refused connection does not name the host."""
    session = Session(websession, URL("http://127.0.0.1:9"), "demo_api", "Simulated-1")
    with pytest.raises(ConnectionFailed) as caught:
        await NorthboundClient(session).plants()
    assert "127.0.0.1" not in str(caught.value)


async def test_call_after_the_end(
    client: NorthboundClient, websession: aiohttp.ClientSession
) -> None:
    """A call after closing is a connection error."""
    await websession.close()
    with pytest.raises(ConnectionFailed):
        await client.plants()


async def test_a_server_that_never_answers(
    client: NorthboundClient, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that never responds is a connection error."""
    monkeypatch.setattr(
        "custom_components.smartpvms.northbound.session._TIMEOUT",
        aiohttp.ClientTimeout(total=0.2),
    )
    simulator.faults.add(faults.NeverAnswer(), "login")
    with pytest.raises(ConnectionFailed):
        await client.plants()


LARGE = b"x" * 8 * MEGABYTE


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(faults.Oversized(megabytes=10), id="oversized"),
        pytest.param(faults.Body(LARGE), id="no JSON"),
        pytest.param(
            faults.Body(b'{"success":true,"data":"%b"}' % LARGE), id="no rows"
        ),
        pytest.param(
            faults.Body(b'{"failCode":305,"message":"%b"}' % LARGE), id="no session"
        ),
    ],
)
async def test_error_without_the_answer(
    client: NorthboundClient,
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    fault: faults.Fault,
) -> None:
    """An error does not keep the answer in memory."""
    monkeypatch.setattr(northbound_session, "_MAX_SIZE", 9 * MEGABYTE)
    day = NOON - timedelta(days=1), NOON
    [plant, *_] = await client.plants()
    [device, *_] = await client.devices([plant.code])
    calls: list[Callable[[], Awaitable[object]]] = [
        client.plants,
        partial(client.devices, [plant.code]),
        partial(client.plant_real_time, [plant.code]),
        partial(client.device_real_time, 1, [device.id]),
        partial(client.device_history, 1, [device.id], *day),
        partial(client.history_of_device, device, *day),
        partial(client.plant_reports, ReportPeriod.DAY, [plant.code], NOON),
        partial(client.alarms, [plant.code], *day, "en_US"),
        client.log_in,
    ]
    for interface in INTERFACES:
        simulator.faults.add(fault, interface)
    errors = []
    tracemalloc.start()
    try:
        for call in calls:
            with pytest.raises(NorthboundError) as caught:
                await call()
            errors.append(caught.value)
        del caught
        # In the thread, which has the last answer until it does something else.
        await asyncio.to_thread(gc.collect)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(errors) == len(calls)
    assert kept < len(LARGE) / 2


class TestBrokenAnswers:
    """Answers that are no answers of a Northbound server."""

    @pytest.fixture(autouse=True)
    def limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Limit answers to a megabyte and to half a second."""
        timeout = aiohttp.ClientTimeout(total=0.5)
        monkeypatch.setattr(northbound_session, "_MAX_SIZE", MEGABYTE)
        monkeypatch.setattr(northbound_session, "_TIMEOUT", timeout)

    @pytest.mark.parametrize("compressed", [False, True])
    async def test_size(
        self, client: NorthboundClient, simulator: Simulator, compressed: bool
    ) -> None:
        """An answer of the maximum size is read, and a larger one is an error."""
        fault = faults.Compressed if compressed else faults.Body
        body = b'{"success":true,"data":[]}'
        simulator.faults.add(fault(body.ljust(MEGABYTE)), "stations", times=1)
        assert await client.plants() == []
        simulator.faults.add(fault(body.ljust(MEGABYTE + 1)), "stations", times=1)
        with pytest.raises(MalformedResponse):
            await client.plants()
        assert len(await client.plants()) == 1

    async def test_memory(self, client: NorthboundClient, simulator: Simulator) -> None:
        """A compressed answer is not decompressed beyond the maximum size."""
        size = 100 * MEGABYTE
        compressed = gzip.compress(bytes(size), compresslevel=1)
        simulator.faults.add(
            _WithHeaders(200, {"Content-Encoding": "gzip"}, compressed), "stations"
        )
        await client.log_in()
        tracemalloc.start()
        try:
            with pytest.raises(MalformedResponse):
                await client.plants()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < size / 10

    @pytest.mark.parametrize(
        ("part", "pause", "error"),
        [
            pytest.param(b" " * 10_000, 0, MalformedResponse, id="flood"),
            pytest.param(b" ", 0.05, ConnectionFailed, id="trickle"),
        ],
    )
    async def test_endless_body(
        self,
        client: NorthboundClient,
        simulator: Simulator,
        part: bytes,
        pause: float,
        error: type[NorthboundError],
    ) -> None:
        """A body without an end ends at the maximum size, or at the timeout."""
        simulator.faults.add(faults.Endless(part, pause), "stations", times=1)
        with pytest.raises(error):
            await client.plants()
        assert len(await client.plants()) == 1

    @pytest.mark.parametrize(
        "header",
        [
            b"XSRF-TOKEN: x-1\x01",
            b"XSRF-TOKEN: x-1\r\n 2",
            b"XSRF-TOKEN: x-1\t2",
            b"XSRF-TOKEN: x-\xff",
            b'Set-Cookie: XSRF-TOKEN="x-1\\015\\012Evil: 1"',
        ],
    )
    async def test_token_that_is_no_header(
        self, client: NorthboundClient, simulator: Simulator, header: bytes
    ) -> None:
        """A token that cannot be sent as a header is an error of the login."""
        simulator.faults.add(faults.RawHeader(header), "login", times=1)
        with pytest.raises(MalformedResponse):
            await client.plants()
        assert len(await client.plants()) == 1
