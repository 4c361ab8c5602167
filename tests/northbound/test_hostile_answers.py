"""Tests of hostile answers: the client returns documented values or its own errors."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from itertools import pairwise
import math
import re
from typing import Any, Final

import aiohttp
from hypothesis import HealthCheck, given, settings
import orjson
import pytest
from yarl import URL

from custom_components.smartpvms.northbound import (
    ENGLISH,
    Alarm,
    Alarms,
    Device,
    HistoryRow,
    NorthboundClient,
    NorthboundError,
    Plant,
    PlantReport,
    PlantReports,
    RealTimeKpis,
    ReportPeriod,
    Session,
    client as northbound_client,
)
from tests.hostile import HOSTILE, INTERFACES, Hostile
from tests.simulator import SetClock, Simulator, homes

NOON: Final = datetime(2026, 6, 21, 10, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)


class _Server:
    """A server and clients of it, in a separate event loop."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._stack = AsyncExitStack()
        home = homes.family()
        self.simulator = Simulator(home, SetClock(NOON), quotas=False)
        for _, device in home.devices():
            self.simulator.alarms.start(device)

    async def start(self) -> None:
        await self._stack.enter_async_context(self.simulator.serve())

    async def stop(self) -> None:
        await self._stack.aclose()

    def read(self, interface: str, fault: Hostile) -> list[Any]:
        """Return what a new client reads with the fault in an interface."""
        account = self.simulator.account
        account.withdrawn.clear()
        if interface == "getStationList":
            account.withdrawn.add("stations")
        self.simulator.faults.clear()
        self.simulator.faults.add(fault, interface)
        return self._runner.run(self._read())

    async def _read(self) -> list[Any]:
        simulator, account = self.simulator, self.simulator.account
        codes = [plant.code for plant in simulator.home.plants]
        devices = [device for _, device in simulator.home.devices()]
        [inverter] = [device.id for device in devices if device.type_id == 38]
        values: list[Any] = []
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as web:
            session = Session(
                web, URL(simulator.url), account.user_name, account.system_code
            )
            client = NorthboundClient(session)
            for reading in (
                client.plants(),
                client.devices(codes),
                client.plant_real_time(codes),
                client.device_real_time(38, [inverter]),
                client.device_history(38, [inverter], NOON - HOUR, NOON),
                *(client.plant_reports(period, codes, NOON) for period in ReportPeriod),
                client.alarms(codes, NOON - HOUR, NOON, ENGLISH),
                client.logout(),
            ):
                with suppress(NorthboundError):
                    values.append(await reading)
        return values


@pytest.fixture
def server(socket_enabled: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    """Start the server of a home; its clients do not wait for further pages."""
    monkeypatch.setattr(northbound_client, "_MAX_WAIT", 0)
    with asyncio.Runner() as runner:
        server = _Server(runner)
        runner.run(server.start())
        yield server
        runner.run(server.stop())


def _check(value: Any) -> None:
    """Check the types of a value and of its parts, and that it can be stored."""
    match value:
        case list():
            for part in value:
                _check(part)
        case Plant() | Device():
            for each in fields(value):
                _check_field(each.name, getattr(value, each.name))
        case RealTimeKpis():
            assert value.server_time is None or value.server_time.tzinfo is UTC
            for row_id, items in value.rows.items():
                _check_field("id" if isinstance(row_id, int) else "code", row_id)
                assert all(re.fullmatch(r"\w{1,64}", key, re.ASCII) for key in items)
                assert _levels(orjson.loads(orjson.dumps(items))) <= 32
        case PlantReports():
            for code, reports in value.rows.items():
                _check_field("code", code)
                assert all(type(row) is PlantReport for row in reports)
                numbers = [each for row in reports for each in row.values.values()]
                assert all(map(math.isfinite, numbers))
        case Alarms():
            assert value.complete <= value.rows.keys()
            for code, alarms in value.rows.items():
                _check_field("code", code)
                assert all(type(alarm) is Alarm for alarm in alarms)
                assert orjson.dumps([[*map(str, alarm.key)] for alarm in alarms])
        case dict():
            for device_id, rows in value.items():
                _check_field("id", device_id)
                assert all(type(row) is HistoryRow for row in rows)
                assert all(before.at < after.at for before, after in pairwise(rows))
        case _:
            assert value is None


def _levels(value: object) -> int:
    """Return the number of levels of lists and objects."""
    match value:
        case dict():
            return 1 + max(map(_levels, value.values()), default=0)
        case list():
            return 1 + max(map(_levels, value), default=0)
    return 0


def _check_field(name: str, value: object) -> None:
    match name:
        case "id" | "type_id":
            assert type(value) is int
            orjson.dumps(value)
        case "code" | "name" | "plant_code":
            assert type(value) is str
            assert value.encode()
        case "capacity" | "latitude" | "longitude":
            assert value is None or (type(value) is float and math.isfinite(value))
        case "grid_connection":
            assert value is None or isinstance(value, datetime)
        case "time_zone":
            assert value is None
        case _:
            assert value is None or (type(value) is str and value.encode())


@pytest.mark.parametrize("interface", INTERFACES)
@settings(
    max_examples=50,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(fault=HOSTILE)
def test_client(server: _Server, interface: str, fault: Hostile) -> None:
    """Any answer of an interface is a documented value or an error of the client."""
    for value in server.read(interface, fault):
        _check(value)
