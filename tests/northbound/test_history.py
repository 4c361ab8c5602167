"""Tests of device history: rows of any kind, large responses, and the quota."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from operator import attrgetter
from random import Random
from typing import Any, Final, Literal

import aiohttp
from freezegun.api import FrozenDateTimeFactory
from hypothesis import given, strategies as st
import pytest
from yarl import URL

from custom_components.smartpvms.northbound import (
    DEVICE_HISTORY_SPAN,
    HISTORY_BATCH,
    HISTORY_REACH,
    HISTORY_SPAN,
    Device,
    DeviceType,
    HistoryRow,
    MalformedResponse,
    MembersRefused,
    NorthboundClient,
    PermissionDenied,
    RateLimited,
    RequestRejected,
    ServerBusy,
    Session,
)
from custom_components.smartpvms.northbound.client import read_history
from custom_components.smartpvms.northbound.session import Answer
from tests.simulator import SetClock, Simulator, faults, homes
from tests.simulator.items import device_items, history_items
from tests.simulator.moment import Moment
from tests.simulator.plants import Home

from .test_models import JSON

pytestmark = [pytest.mark.fast, pytest.mark.usefixtures("socket_enabled")]

NOON: Final = datetime(2026, 6, 21, 10, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
COLLECTION: Final = timedelta(minutes=5)

INVERTER: Final = 1000000035436842
BATTERY: Final = 1000000035436843
METER: Final = 1000000035436844

# Larger responses are parsed in a thread.
LARGE: Final = 500_000

type Payload = dict[str, Any]


@pytest.fixture
def home() -> Home:
    """Return the home of the account."""
    return homes.family()


@pytest.fixture
async def simulator(home: Home) -> AsyncIterator[Simulator]:
    """Serve the home at noon, without quotas."""
    simulator = Simulator(home, clock=SetClock(NOON), quotas=False)
    async with simulator.serve():
        yield simulator


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[NorthboundClient]:
    """Read the account of the simulator."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as web:
        yield NorthboundClient(
            Session(web, URL(simulator.url), "demo_api", "Simulated-1")
        )


def rewrite(rows: Callable[[list[Payload]], list[Any]]) -> faults.Rewrite:
    """Return a fault that changes the rows of a response."""
    return faults.Rewrite(lambda answer: answer | {"data": rows(answer["data"])})


def collected(simulator: Simulator, device_id: int, at: datetime) -> Payload:
    """Return the collected items of a device at a time."""
    [(plant, device)] = [
        found for found in simulator.home.devices() if found[1].id == device_id
    ]
    moment = Moment(plant, int(at.timestamp()))
    return history_items(moment, device, device_items(moment, device) or {})


def last_hour(simulator: Simulator) -> dict[int, list[HistoryRow]]:
    """Return the collections of the inverter in the hour before noon."""
    moments = [NOON - HOUR + n * COLLECTION for n in range(13)]
    rows = [HistoryRow(at, collected(simulator, INVERTER, at)) for at in moments]
    return {INVERTER: rows}


async def test_rows_every_five_minutes(
    client: NorthboundClient, simulator: Simulator
) -> None:
    """Both ends are included, and each row is a collection."""
    rows = await client.device_history(38, [INVERTER], NOON - HOUR, NOON)
    assert rows == last_hour(simulator)


async def test_request(client: NorthboundClient, simulator: Simulator) -> None:
    """The request has the documented fields, with times in milliseconds."""
    await client.device_history(38, [INVERTER, 7], NOON - HOUR, NOON)
    [call] = simulator.calls_to("getDevHistoryKpi")
    assert call.body == {
        "devIds": f"{INVERTER},7",
        "devTypeId": 38,
        "startTime": int((NOON - HOUR).timestamp()) * 1000,
        "endTime": int(NOON.timestamp()) * 1000,
    }


class TestSeveralDevices:
    """Devices of one type in one request."""

    @pytest.fixture
    def home(self) -> Home:
        """Return a farm, some of whose devices have negative IDs."""
        return homes.farm()

    async def test_each_has_its_own_rows(
        self, client: NorthboundClient, simulator: Simulator
    ) -> None:
        """Rows in any order are assigned to their devices and sorted by time."""
        ids = [
            device.id for _, device in simulator.home.devices() if device.type_id == 1
        ]
        assert any(device_id < 0 for device_id in ids)

        def shuffled(rows: list[Payload]) -> list[Payload]:
            return Random(7).sample(rows, len(rows))

        simulator.faults.add(rewrite(shuffled), "getDevHistoryKpi")
        rows = await client.device_history(1, ids, NOON - HOUR, NOON)
        assert rows.keys() == set(ids)
        for device_id, of_device in rows.items():
            assert of_device == sorted(of_device, key=attrgetter("at"))
            assert [row.items for row in of_device] == [
                collected(simulator, device_id, row.at) for row in of_device
            ]
            assert len(of_device) == 13


async def test_a_moment_that_comes_twice(
    client: NorthboundClient, simulator: Simulator
) -> None:
    """For each time, the last row of the server is used."""

    def twice(rows: list[Payload]) -> list[Payload]:
        return [row | {"dataItemMap": {"total_cap": 1.0}} for row in rows] + rows

    simulator.faults.add(rewrite(twice), "getDevHistoryKpi")
    rows = await client.device_history(38, [INVERTER], NOON - HOUR, NOON)
    assert rows == last_hour(simulator)


async def test_gaps(client: NorthboundClient, simulator: Simulator) -> None:
    """Missing collections are not filled."""

    def some(rows: list[Payload]) -> list[Payload]:
        return [rows[0], *rows[5:7], rows[12]]

    simulator.faults.add(rewrite(some), "getDevHistoryKpi")
    rows = await client.device_history(38, [INVERTER], NOON - HOUR, NOON)
    assert [(NOON - row.at) / COLLECTION for row in rows[INVERTER]] == [12, 7, 6, 0]


@pytest.mark.parametrize(
    "junk",
    [
        None,
        "ACCESS_FREQUENCY_IS_TOO_HIGH",
        [],
        {},
        {"devId": None},
        {"devId": "Inverter-1"},
        {"devId": 1.5},
        {"collectTime": None},
        {"collectTime": 0},
        {"collectTime": -1},
        {"collectTime": "N/A"},
        {"collectTime": 10**18},
        {"collectTime": True},
        {"dataItemMap": None},
        {"dataItemMap": []},
        {"dataItemMap": "{}"},
    ],
    ids=repr,
)
async def test_invalid_rows(
    client: NorthboundClient, simulator: Simulator, junk: Any
) -> None:
    """A row without a device or time does not affect the others."""
    whole = {"devId": 99, "collectTime": 1, "dataItemMap": {"total_cap": 1.0}}
    row = whole | junk if isinstance(junk, dict) and junk else junk
    simulator.faults.add(
        rewrite(lambda rows: [row, *rows[:3], row, *rows[3:]]), "getDevHistoryKpi"
    )
    rows = await client.device_history(38, [INVERTER], NOON - HOUR, NOON)
    assert rows == last_hour(simulator)


@pytest.mark.parametrize("kind", [str, float])
async def test_numbers_of_other_kinds(
    client: NorthboundClient, simulator: Simulator, kind: type
) -> None:
    """IDs and times are the same in any notation."""

    def written(rows: list[Payload]) -> list[Payload]:
        return [
            row | {key: kind(row[key]) for key in ("devId", "collectTime")}
            for row in rows
        ]

    simulator.faults.add(rewrite(written), "getDevHistoryKpi")
    rows = await client.device_history(38, [INVERTER], NOON - HOUR, NOON)
    assert rows == last_hour(simulator)


async def test_nothing_was_collected(client: NorthboundClient) -> None:
    """An empty list has no rows."""
    future = NOON + HOUR
    assert await client.device_history(38, [INVERTER], future, future + HOUR) == {}


async def test_a_device_without_rows(
    client: NorthboundClient, simulator: Simulator
) -> None:
    """An unknown device has no rows; the others have theirs."""
    rows = await client.device_history(38, [4711, INVERTER], NOON - HOUR, NOON)
    assert rows.keys() == {INVERTER}


@pytest.mark.parametrize("data", [None, {}, "", 0, {"list": []}], ids=repr)
async def test_no_list(
    client: NorthboundClient, simulator: Simulator, data: object
) -> None:
    """Success without a list is an error, not an empty history."""
    simulator.faults.add(
        faults.Rewrite(lambda answer: answer | {"data": data}), "getDevHistoryKpi"
    )
    with pytest.raises(MalformedResponse):
        await client.device_history(38, [INVERTER], NOON - HOUR, NOON)


@pytest.mark.parametrize(
    ("devices", "start", "end", "code"),
    [
        (HISTORY_BATCH, NOON - HISTORY_SPAN, NOON, None),
        (HISTORY_BATCH + 1, NOON - HISTORY_SPAN, NOON, 30031),
        (1, NOON - HISTORY_SPAN - timedelta(seconds=1), NOON, 30032),
        (1, NOON - HISTORY_REACH, NOON - HISTORY_REACH + HOUR, None),
        (1, NOON - HISTORY_REACH - COLLECTION, NOON - HISTORY_REACH, 20026),
        (1, NOON, NOON - HOUR, 20023),
    ],
)
async def test_limits(
    client: NorthboundClient,
    devices: int,
    start: datetime,
    end: datetime,
    code: int | None,
) -> None:
    """The largest request is allowed, and a larger one is refused."""
    ids = [INVERTER, *range(1, devices)]
    refused: list[int | None] = [None]
    try:
        await client.device_history(38, ids, start, end)
    except RequestRejected as err:
        refused.append(err.code)
    assert refused[-1] == code


@pytest.mark.parametrize("type_id", [DeviceType.SSU, DeviceType.POWER_CONVERTER])
async def test_types_without_history(client: NorthboundClient, type_id: int) -> None:
    """The server has no history of some types."""
    with pytest.raises(RequestRejected) as caught:
        await client.device_history(type_id, [INVERTER], NOON - HOUR, NOON)
    assert caught.value.code == 20013


@pytest.mark.parametrize(("device_id", "code"), [(METER, 20006), (4711, 20008)])
async def test_wrong_devices(
    client: NorthboundClient, device_id: int, code: int
) -> None:
    """A device of another type, and an unknown device."""
    with pytest.raises(MembersRefused) as caught:
        await client.device_history(38, [device_id], NOON - HOUR, NOON)
    assert caught.value.code == code


ROW: Final = st.fixed_dictionaries(
    {},
    optional={
        "devId": st.integers(-3, 3) | JSON,
        "collectTime": st.integers(1, 5) | JSON,
        "dataItemMap": st.dictionaries(st.text(max_size=3), JSON, max_size=2) | JSON,
    },
)


@given(JSON | st.lists(JSON | ROW))
def test_arbitrary_data(data: object) -> None:
    """Arbitrary data result in rows sorted by time, or in a client error."""
    with suppress(MalformedResponse):
        for device_id, rows in read_history(Answer(data, None)).items():
            assert type(device_id) is int
            assert rows
            assert all(before.at < after.at for before, after in pairwise(rows))
            assert all(isinstance(row.items, dict) for row in rows)


class TestLargeAnswers:
    """Responses that take long to parse."""

    @pytest.fixture
    def threads(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Return the sizes of the responses that threads have parsed."""
        sizes: list[int] = []
        to_thread = asyncio.to_thread

        async def count[**P, T](
            function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
        ) -> T:
            sizes.extend(len(each) for each in args if isinstance(each, bytes))
            return await to_thread(function, *args, **kwargs)

        monkeypatch.setattr(asyncio, "to_thread", count)
        return sizes

    @staticmethod
    def padded(rows: list[Payload], padding: str) -> list[Payload]:
        """Return rows with an additional item, so that the response is large."""
        return [
            row | {"dataItemMap": row["dataItemMap"] | {"padding": padding}}
            for row in rows
        ]

    async def test_same_rows(
        self, client: NorthboundClient, simulator: Simulator, threads: list[int]
    ) -> None:
        """The rows parsed in a thread are the same."""
        text = "ä\\\"'€𝄞\u0000" * 5000
        simulator.faults.add(
            rewrite(lambda rows: self.padded(rows, text)), "getDevHistoryKpi"
        )
        rows = await client.device_history(38, [INVERTER], NOON - HOUR, NOON)
        [size] = threads
        assert size >= LARGE
        assert rows == {
            INVERTER: [
                HistoryRow(row.at, {**row.items, "padding": text})
                for row in last_hour(simulator)[INVERTER]
            ]
        }

    async def test_three_days(
        self, client: NorthboundClient, simulator: Simulator, threads: list[int]
    ) -> None:
        """The largest request for one device."""
        rows = await client.device_history(38, [INVERTER], NOON - HISTORY_SPAN, NOON)
        assert len(threads) == 1
        assert len(rows[INVERTER]) == 3 * 24 * 12 + 1
        for row in rows[INVERTER][::97]:
            assert row.items == collected(simulator, INVERTER, row.at)

    async def test_truncated_response(
        self, client: NorthboundClient, simulator: Simulator, threads: list[int]
    ) -> None:
        """A truncated response is an error."""
        simulator.faults.add(faults.HalfJson(), "getDevHistoryKpi")
        simulator.faults.add(
            rewrite(lambda rows: self.padded(rows, "x" * 100_000)), "getDevHistoryKpi"
        )
        with pytest.raises(MalformedResponse):
            await client.device_history(38, [INVERTER], NOON - HOUR, NOON)
        assert len(threads) == 1

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param(b'"\xff\xfe"', id="no UTF-8"),
            pytest.param(b"NaN", id="NaN"),
            pytest.param(b"-Infinity", id="infinity"),
            pytest.param(b"[" * 200_000, id="deep"),
            pytest.param(b'{"a":' * 100_000, id="deeper"),
            pytest.param(b"[" * 200_000 + b"]" * 200_000, id="whole and deep"),
            pytest.param(b"tru", id="word"),
        ],
    )
    @pytest.mark.parametrize("padding", [0, LARGE], ids=["small", "large"])
    async def test_invalid_json(
        self,
        client: NorthboundClient,
        simulator: Simulator,
        threads: list[int],
        value: bytes,
        padding: int,
    ) -> None:
        """Invalid JSON is a client error, with and without a thread."""
        body = b'{"success":true,"failCode":0,"data":[],"a":%b,"b":"%b"}' % (
            value,
            b"x" * padding,
        )
        simulator.faults.add(faults.Body(body), "getDevHistoryKpi")
        with pytest.raises(MalformedResponse):
            await client.device_history(38, [INVERTER], NOON - HOUR, NOON)
        assert len(threads) == (len(body) >= LARGE)

    async def test_large_failure(
        self, client: NorthboundClient, simulator: Simulator, threads: list[int]
    ) -> None:
        """A large error response has its own error."""
        simulator.faults.add(
            faults.FailCode(20200, message="x" * LARGE), "getDevHistoryKpi"
        )
        with pytest.raises(ServerBusy):
            await client.device_history(38, [INVERTER], NOON - HOUR, NOON)
        assert len(threads) == 1


class TestQuota:
    """Quotas of history calls."""

    @pytest.fixture
    def quotas(self) -> Any:
        """Return the quotas that the server enforces."""
        return True

    @pytest.fixture
    async def simulator(
        self,
        home: Home,
        freezer: FrozenDateTimeFactory,
        quotas: bool | Literal["old"],
    ) -> AsyncIterator[Simulator]:
        """Serve the home at noon with quotas and the frozen clock."""
        freezer.move_to(NOON)
        simulator = Simulator(home, quotas=quotas)
        async with simulator.serve():
            yield simulator

    @pytest.fixture
    def client(
        self, simulator: Simulator, client: NorthboundClient
    ) -> NorthboundClient:
        """Set the size of the account in the client."""
        types = [device.type_id for _, device in simulator.home.devices()]
        client.set_account_size(1, {type_id: types.count(type_id) for type_id in types})
        return client

    @staticmethod
    async def ask(client: NorthboundClient, type_id: int, device_id: int) -> None:
        """Request the last five minutes."""
        now = datetime.now(UTC)
        await client.device_history(type_id, [device_id], now - COLLECTION, now)

    async def test_one_call_a_minute(
        self,
        client: NorthboundClient,
        simulator: Simulator,
        freezer: FrozenDateTimeFactory,
    ) -> None:
        """All types share a limit of one call a minute; earlier calls are not made."""
        await self.ask(client, 38, INVERTER)
        freezer.tick(59)
        with pytest.raises(RateLimited) as caught:
            await self.ask(client, 39, BATTERY)
        assert caught.value.retry_after == pytest.approx(2)
        assert client.history_wait() == pytest.approx(2)
        assert len(simulator.calls_to("getDevHistoryKpi")) == 1
        freezer.tick(2)
        await self.ask(client, 39, BATTERY)
        assert len(simulator.calls_to("getDevHistoryKpi")) == 2

    async def test_live_values_are_not_delayed(self, client: NorthboundClient) -> None:
        """Live values can be read together with history."""
        await self.ask(client, 38, INVERTER)
        await client.device_real_time(38, [INVERTER])
        await client.plants()

    async def all_of(
        self, client: NorthboundClient, freezer: FrozenDateTimeFactory, span: timedelta
    ) -> int:
        """Call as often as possible in a period, all types in turn; count calls."""
        end = datetime.now(UTC) + span
        calls = 0
        kinds = [(38, INVERTER), (39, BATTERY), (47, METER)]
        while (now := datetime.now(UTC)) < end:
            wait = timedelta(seconds=client.history_wait())
            if wait or now + wait >= end:
                freezer.tick(min(wait + timedelta(milliseconds=1), end - now))
                continue
            await self.ask(client, *kinds[calls % 3])
            calls += 1
        return calls

    async def test_a_day(
        self,
        client: NorthboundClient,
        simulator: Simulator,
        freezer: FrozenDateTimeFactory,
    ) -> None:
        """A home with three types has 3 + 24 calls, and none is refused."""
        assert await self.all_of(client, freezer, timedelta(days=1)) == 27
        assert await self.all_of(client, freezer, timedelta(minutes=30)) >= 20
        assert simulator.refusals == []

    @pytest.mark.parametrize("quotas", ["old"])
    async def test_a_server_that_allows_one_call_a_minute(
        self,
        client: NorthboundClient,
        simulator: Simulator,
        freezer: FrozenDateTimeFactory,
    ) -> None:
        """The policy from before 2022 is used from the first call on."""
        assert await self.all_of(client, freezer, timedelta(minutes=20)) >= 19
        assert simulator.refusals == []

    async def test_reserve(
        self,
        client: NorthboundClient,
        freezer: FrozenDateTimeFactory,
    ) -> None:
        """Calls that are reserved for others reduce the quota."""
        assert client.history_wait(reserve=26) == 0
        for _ in range(24):
            assert client.history_wait(reserve=3) == 0
            await self.ask(client, 38, INVERTER)
            freezer.tick(62)
        assert client.history_wait(reserve=2) == 0
        assert client.history_wait(reserve=3) == pytest.approx(86401 - 24 * 62)
        assert client.history_wait() == 0

    async def test_only_types_with_history_count(
        self, client: NorthboundClient
    ) -> None:
        """Each batch of ten adds a call, for each type with a history."""
        client.set_account_size(
            1, {60043: 11, 60044: 300, 60092: 5, 62: 40, 2: 1, 38: 0}
        )
        assert client.history_wait(reserve=25) == 0
        # Without a quota, this would not end.
        await self.ask(client, 38, INVERTER)
        assert client.history_wait(reserve=25) > 86000
        assert client.history_wait(reserve=24) == pytest.approx(61)


class TestSingleDevice:
    """The history of a single device, on newer servers."""

    DEVICE: Final = Device(
        INVERTER, 38, "Inverter-1", "NE=35436840", None, None, None, "NE=35436842"
    )

    @pytest.fixture
    async def simulator(self, simulator: Simulator) -> Simulator:
        """Serve the home with the interface."""
        simulator.grant_permission("device/history")
        return simulator

    async def test_rows(self, client: NorthboundClient, simulator: Simulator) -> None:
        """The rows are those of the other interface."""
        rows = await client.history_of_device(self.DEVICE, NOON - HOUR, NOON)
        assert rows == last_hour(simulator)[INVERTER]
        [call] = simulator.calls_to("device/history")
        assert call.body == {
            "devDn": "NE=35436842",
            "devTypeId": 38,
            "startTime": int((NOON - HOUR).timestamp()) * 1000,
            "endTime": int(NOON.timestamp()) * 1000,
        }

    async def test_order(self, client: NorthboundClient, simulator: Simulator) -> None:
        """Rows are sorted by time, without those that have no time or items."""
        simulator.faults.add(
            rewrite(
                lambda rows: [
                    *rows[::-1],
                    rows[0],
                    {"collectTime": None, "dataItems": {}},
                    {"collectTime": rows[0]["collectTime"] + 1000, "dataItems": []},
                    "text",
                ]
            ),
            "device/history",
        )
        rows = await client.history_of_device(self.DEVICE, NOON - HOUR, NOON)
        assert rows == last_hour(simulator)[INVERTER]

    @pytest.mark.parametrize("data", [None, "text"])
    async def test_no_list(
        self, client: NorthboundClient, simulator: Simulator, data: object
    ) -> None:
        """Data other than a list is an error."""
        simulator.faults.add(
            faults.Rewrite(lambda answer: answer | {"data": data}), "device/history"
        )
        with pytest.raises(MalformedResponse):
            await client.history_of_device(self.DEVICE, NOON - HOUR, NOON)

    @pytest.mark.parametrize(
        ("start", "dn", "type_id", "code"),
        [
            (NOON - DEVICE_HISTORY_SPAN, "NE=35436842", 38, None),
            (NOON - DEVICE_HISTORY_SPAN - HOUR, "NE=35436842", 38, 30032),
            (NOON - HOUR, "NE=1", 38, 20008),
            (NOON - HOUR, None, 38, 30030),
            (NOON - HOUR, "NE=35436842", 62, 20013),
            (NOON - HOUR, "NE=35436842", 39, 20006),
        ],
    )
    async def test_limits(
        self,
        client: NorthboundClient,
        start: datetime,
        dn: str | None,
        type_id: int,
        code: int | None,
    ) -> None:
        """A call reads one device and one day."""
        device = replace(self.DEVICE, dn=dn, type_id=type_id)
        if code is None:
            assert await client.history_of_device(device, start, NOON)
            return
        with pytest.raises((MembersRefused, RequestRejected)) as caught:
            await client.history_of_device(device, start, NOON)
        assert getattr(caught.value, "code", None) == code

    @pytest.mark.parametrize(("devices", "seconds"), [(0, 601), (1, 601), (3, 201)])
    async def test_rate(
        self,
        client: NorthboundClient,
        freezer: FrozenDateTimeFactory,
        devices: int,
        seconds: int,
    ) -> None:
        """Each device adds a call in ten minutes."""
        client.set_account_size(1, {38: devices, 62: 10})
        assert client.device_history_wait() == 0
        await client.history_of_device(self.DEVICE, NOON - HOUR, NOON)
        assert client.device_history_wait() == pytest.approx(seconds)
        assert client.history_wait() == 0

    async def test_withdrawn(
        self, client: NorthboundClient, simulator: Simulator
    ) -> None:
        """HTTP 401 for one interface after a login is a missing permission."""
        await client.plants()
        simulator.faults.add(faults.HtmlPage(401), "getDevHistoryKpi")
        with pytest.raises(PermissionDenied) as caught:
            await client.device_history(38, [INVERTER], NOON - HOUR, NOON)
        assert caught.value.what == "getDevHistoryKpi"
        await client.plants()
