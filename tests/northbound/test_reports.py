"""Tests of plant reports: requests, rows of any kind, refused plants, and quotas."""

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
import math
from random import Random
from typing import Any, Final
from zoneinfo import ZoneInfo

import aiohttp
from freezegun.api import FrozenDateTimeFactory
from hypothesis import example, given, strategies as st
import pytest
from yarl import URL

from custom_components.smartpvms.northbound import (
    MalformedResponse,
    MembersRefused,
    NorthboundClient,
    PermissionDenied,
    PlantReport,
    PlantReports,
    RateLimited,
    ReportItem,
    ReportPeriod,
    RequestRejected,
    Session,
    flow_control,
)
from custom_components.smartpvms.northbound.client import _span, read_reports
from custom_components.smartpvms.northbound.models import report_values
from custom_components.smartpvms.northbound.session import Answer
from tests.simulator import SetClock, Simulator, faults, homes
from tests.simulator.counter_faults import reads
from tests.simulator.plants import Home, Plant

from .test_models import JSON

pytestmark = [pytest.mark.fast, pytest.mark.usefixtures("socket_enabled")]

BERLIN: Final = ZoneInfo("Europe/Berlin")
NOON: Final = datetime(2026, 6, 21, 12, tzinfo=BERLIN)
TODAY: Final = NOON.replace(hour=0)
HOUR: Final = timedelta(hours=1)

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
async def session(simulator: Simulator) -> AsyncIterator[Session]:
    """Use the account of the simulator."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as web:
        yield Session(web, URL(simulator.url), "demo_api", "Simulated-1")


@pytest.fixture
def client(session: Session, monkeypatch: pytest.MonkeyPatch) -> NorthboundClient:
    """Read the account of the simulator, also several times a minute."""
    monkeypatch.setattr(flow_control, "ONE_A_MINUTE", frozenset())
    return NorthboundClient(session)


@pytest.fixture
def plant(home: Home) -> Plant:
    """Return the first plant of the account."""
    return home.plants[0]


def rewrite(rows: Callable[[list[Payload]], list[Any]]) -> faults.Rewrite:
    """Return a fault that changes the rows of a response."""
    return faults.Rewrite(lambda answer: answer | {"data": rows(answer["data"])})


def items(change: Callable[[Payload], Payload]) -> faults.Rewrite:
    """Return a fault that changes the items of each row of a response."""
    return rewrite(
        lambda rows: [row | {"dataItemMap": change(row["dataItemMap"])} for row in rows]
    )


async def read(
    client: NorthboundClient, period: ReportPeriod, *codes: str
) -> PlantReports:
    """Return the reports of plants for the day, or its month or year."""
    return await client.plant_reports(period, codes, NOON)


async def hours(client: NorthboundClient, plant: Plant) -> list[PlantReport]:
    """Return the hours of the day."""
    reports = await read(client, ReportPeriod.HOUR, plant.code)
    return reports.rows.get(plant.code, [])


@pytest.mark.parametrize(
    ("period", "first", "rows"),
    [
        (ReportPeriod.HOUR, TODAY, 12),
        (ReportPeriod.DAY, TODAY.replace(day=1), 21),
        (ReportPeriod.MONTH, TODAY.replace(month=1, day=1), 6),
        (ReportPeriod.YEAR, datetime(2025, 1, 1, tzinfo=BERLIN), 2),
    ],
)
async def test_values_are_the_true_energies(
    client: NorthboundClient,
    simulator: Simulator,
    plant: Plant,
    period: ReportPeriod,
    first: datetime,
    rows: int,
) -> None:
    """Each row has the energies of its hour, day, month or year."""
    reports = await read(client, period, plant.code)
    assert reports.server_time == NOON
    assert reports.refused == {}
    [(code, of_plant)] = reports.rows.items()
    assert code == plant.code
    assert len(of_plant) == rows
    starts = [row.start for row in of_plant]
    assert starts[0] == first
    assert {start.tzinfo for start in starts} == {UTC}
    begin = datetime.fromtimestamp(plant.site.begin, UTC)
    for row, end in zip(of_plant, [*starts[1:], NOON], strict=True):
        true = simulator.energy(plant.code, max(row.start, begin), end)
        for item, energy in (
            (ReportItem.PRODUCTION, true.pv - true.losses),
            (ReportItem.EXPORT, true.grid_export),
            (ReportItem.IMPORT, true.grid_import),
            (ReportItem.CHARGE, true.charge),
            (ReportItem.DISCHARGE, true.discharge),
            (ReportItem.CONSUMPTION, true.load),
        ):
            assert row.values[item] == pytest.approx(energy, abs=0.0301), item


@pytest.mark.parametrize("period", ReportPeriod)
async def test_request(
    client: NorthboundClient, simulator: Simulator, plant: Plant, period: ReportPeriod
) -> None:
    """The request has the documented fields, with the time in milliseconds."""
    await client.plant_reports(period, [plant.code, "NE=7"], NOON)
    [call] = simulator.calls_to(period.value)
    assert call.body == {
        "stationCodes": f"{plant.code},NE=7",
        "collectTime": int(NOON.timestamp()) * 1000,
    }


async def test_all_items_of_a_day(
    client: NorthboundClient, simulator: Simulator, home: Home
) -> None:
    """A plant with an irradiation sensor has all values, in the units of the API."""
    home.plants = homes.farm().plants
    [plant] = home.plants
    reports = await read(client, ReportPeriod.DAY, plant.code)
    values = reports.rows[plant.code][7].values
    assert set(values) == set(ReportItem)
    production = values[ReportItem.PRODUCTION]
    assert values[ReportItem.INSTALLED_CAPACITY] == plant.capacity_kwp
    assert values[ReportItem.SPECIFIC_ENERGY] == pytest.approx(
        production / plant.capacity_kwp, abs=0.001
    )
    assert values[ReportItem.PERFORMANCE_RATIO] == pytest.approx(
        100 * production / values[ReportItem.THEORETICAL_ENERGY], abs=0.01
    )
    assert 50 < values[ReportItem.PERFORMANCE_RATIO] < 100
    assert values[ReportItem.CO2_REDUCTION] == pytest.approx(
        values[ReportItem.INVERTER_YIELD] * 0.475 / 1000, abs=0.001
    )


async def test_older_server(client: NorthboundClient, plant: Plant) -> None:
    """Older servers report the production under another name, and fewer values."""
    newer = await hours(client, plant)
    plant.newer_items = False
    older = await hours(client, plant)
    assert [row.values for row in older] == [
        {
            item: row.values[item]
            for item in (ReportItem.EXPORT, ReportItem.PROFIT, ReportItem.PRODUCTION)
        }
        for row in newer
    ]


@pytest.mark.parametrize(
    ("reported", "value"),
    [
        ({"PVYield": 3.5, "inverter_power": 2.0}, 3.5),
        ({"PVYield": 0, "inverter_power": 2.0}, 0.0),
        ({"PVYield": None, "inverter_power": 2.0}, 2.0),
        ({"PVYield": "N/A", "inverter_power": "2.0"}, 2.0),
        ({"inverter_power": -1}, -1.0),
        ({"inverter_power": None}, None),
        ({"inverterYield": 2.0}, None),
    ],
)
def test_production(reported: Payload, value: float | None) -> None:
    """The name of newer servers goes before that of older ones, which is ambiguous."""
    assert report_values(reported).get(ReportItem.PRODUCTION) == value


@pytest.mark.parametrize(
    ("reported", "value"),
    [
        ({"use_power": 5, "buyPower": 0.1, "selfProvide": 0.2}, 5.0),
        ({"use_power": None, "buyPower": 0.1, "selfProvide": 0.2}, 0.3),
        ({"buyPower": 0, "selfProvide": 0}, 0.0),
        ({"buyPower": 0.1, "selfProvide": None}, None),
        ({"selfProvide": 0.2}, None),
    ],
)
def test_consumption(reported: Payload, value: float | None) -> None:
    """Without the consumption, the sum of both its parts replaces it."""
    assert report_values(reported).get(ReportItem.CONSUMPTION) == value


@pytest.mark.parametrize("raw", [None, "N/A", "", "--", True, [], {}, 2**64, math.nan])
def test_unknown_values(raw: object) -> None:
    """A value that is no number is unknown, not 0."""
    assert report_values({"buyPower": raw, "ongrid_power": "1.50"}) == {
        ReportItem.EXPORT: 1.5
    }


async def test_unknown_items(
    client: NorthboundClient, simulator: Simulator, plant: Plant
) -> None:
    """Items that are not documented are left out."""
    honest = await hours(client, plant)
    more = items(lambda each: each | {"newItem": 1.0, "x" * 300: 2.0})
    simulator.faults.add(more, ReportPeriod.HOUR.value)
    assert await hours(client, plant) == honest


async def test_numbers_as_strings(
    client: NorthboundClient, simulator: Simulator, plant: Plant
) -> None:
    """Values and times are the same in any notation."""
    honest = await hours(client, plant)
    simulator.faults.add(faults.StringsForNumbers(), ReportPeriod.HOUR.value)
    simulator.faults.add(
        rewrite(
            lambda rows: [
                row | {"collectTime": str(row["collectTime"])} for row in rows
            ]
        ),
        ReportPeriod.HOUR.value,
    )
    assert await hours(client, plant) == honest


async def test_gaps(client: NorthboundClient, simulator: Simulator) -> None:
    """Hours without data are left out, whether they are absent or null."""
    [plant] = simulator.home.plants
    simulator.reports.missing = lambda interface, start: start == TODAY + 3 * HOUR
    expected = [TODAY + n * HOUR for n in range(12) if n != 3]
    absent = await hours(client, plant)
    simulator.reports.nulls = True
    null = await hours(client, plant)
    assert [row.start for row in absent] == [row.start for row in null] == expected


async def test_months_before_the_plant(
    client: NorthboundClient, simulator: Simulator, plant: Plant
) -> None:
    """Null months before the first one of the plant are left out."""
    plant.site = replace(plant.site, commissioned=date(2026, 3, 14))
    reports = await read(client, ReportPeriod.MONTH, plant.code)
    starts = [row.start.astimezone(BERLIN).month for row in reports.rows[plant.code]]
    assert starts == [3, 4, 5, 6]


@pytest.mark.parametrize("period", ReportPeriod)
async def test_nothing_reported(
    client: NorthboundClient, simulator: Simulator, plant: Plant, period: ReportPeriod
) -> None:
    """An empty list, and null rows, are a report without rows."""
    null = items(dict.fromkeys)
    for fault in (rewrite(lambda rows: []), null):
        simulator.faults.add(fault, period.value, times=1)
        reports = await read(client, period, plant.code)
        assert (reports.rows, reports.refused) == ({}, {})


@pytest.mark.parametrize("data", [None, {}, "", 0, {"list": []}], ids=repr)
async def test_no_list(
    client: NorthboundClient, simulator: Simulator, plant: Plant, data: object
) -> None:
    """Success without a list is an error, not an empty report."""
    simulator.faults.add(
        faults.Rewrite(lambda answer: answer | {"data": data}), ReportPeriod.HOUR.value
    )
    with pytest.raises(MalformedResponse):
        await hours(client, plant)


@pytest.mark.parametrize(
    ("period", "outside"),
    [
        (ReportPeriod.HOUR, [TODAY - HOUR, TODAY + 24 * HOUR]),
        (ReportPeriod.DAY, [datetime(2026, 5, 31, tzinfo=BERLIN)]),
        (ReportPeriod.DAY, [datetime(2026, 7, 1, tzinfo=BERLIN)]),
        (ReportPeriod.MONTH, [datetime(2025, 12, 1, tzinfo=BERLIN)]),
        (ReportPeriod.MONTH, [datetime(2027, 1, 1, tzinfo=BERLIN)]),
        (ReportPeriod.YEAR, [datetime(2027, 1, 1, tzinfo=BERLIN)]),
    ],
)
async def test_rows_of_another_time(
    client: NorthboundClient,
    simulator: Simulator,
    plant: Plant,
    period: ReportPeriod,
    outside: list[datetime],
) -> None:
    """Rows outside the period are left out."""
    honest = await read(client, period, plant.code)
    simulator.faults.add(
        rewrite(
            lambda rows: [
                *rows,
                *(
                    rows[0] | {"collectTime": int(start.timestamp() * 1000)}
                    for start in outside
                ),
            ]
        ),
        period.value,
    )
    assert await read(client, period, plant.code) == honest


@pytest.mark.parametrize(
    "junk",
    [
        None,
        "ACCESS_FREQUENCY_IS_TOO_HIGH",
        [],
        {},
        {"stationCode": None},
        {"stationCode": "N/A"},
        {"collectTime": None},
        {"collectTime": 0},
        {"collectTime": "N/A"},
        {"collectTime": 10**18},
        {"dataItemMap": None},
        {"dataItemMap": []},
        {"dataItemMap": {}},
        {"dataItemMap": {"PVYield": None}},
    ],
    ids=repr,
)
async def test_invalid_rows(
    client: NorthboundClient, simulator: Simulator, plant: Plant, junk: Any
) -> None:
    """A row without a plant, a time or values does not affect the others."""
    honest = await hours(client, plant)
    whole = {
        "stationCode": "NE=9",
        "collectTime": int(TODAY.timestamp() * 1000),
        "dataItemMap": {"PVYield": 1.0},
    }
    row = whole | junk if isinstance(junk, dict) and junk else junk
    simulator.faults.add(
        rewrite(lambda rows: [row, *rows[:3], row, *rows[3:]]), ReportPeriod.HOUR.value
    )
    reports = await read(client, ReportPeriod.HOUR, plant.code)
    assert reports.rows == {plant.code: honest}


async def test_rows_that_come_twice(
    client: NorthboundClient, simulator: Simulator, plant: Plant
) -> None:
    """For each time, the last row with values is used."""
    honest = await hours(client, plant)

    def thrice(rows: list[Payload]) -> list[Payload]:
        early = [row | {"dataItemMap": {"PVYield": 99.0}} for row in rows]
        null = [row | {"dataItemMap": {"PVYield": None}} for row in rows]
        return [*early, *rows, *null]

    simulator.faults.add(rewrite(thrice), ReportPeriod.HOUR.value)
    assert await hours(client, plant) == honest


async def test_wrong_reports_are_passed_on(
    client: NorthboundClient, simulator: Simulator, plant: Plant
) -> None:
    """A negative or recounted energy is no error of the client."""
    simulator.reports.distort(
        ReportPeriod.HOUR.value,
        plant.code,
        "buyPower",
        reads(-0.25, TODAY + HOUR, HOUR),
    )
    values = [row.values[ReportItem.IMPORT] for row in await hours(client, plant)]
    assert values[1] == -0.25
    assert min(values[:1] + values[2:]) >= 0


class TestSeveralPlants:
    """Plants of one time zone in one request."""

    @pytest.fixture
    def home(self) -> Home:
        """Return three plants."""
        return homes.fleet(plants=3, devices=12)

    async def test_each_has_its_own_rows(
        self, client: NorthboundClient, simulator: Simulator, home: Home
    ) -> None:
        """Rows in any order are assigned to their plants and sorted by time."""
        codes = [plant.code for plant in home.plants]
        single = {plant.code: await hours(client, plant) for plant in home.plants}
        simulator.faults.add(
            rewrite(lambda rows: Random(7).sample(rows, len(rows))),
            ReportPeriod.HOUR.value,
        )
        reports = await read(client, ReportPeriod.HOUR, *codes)
        assert reports.rows == single
        assert single[codes[0]] != single[codes[1]]

    async def test_refused_plant(
        self, client: NorthboundClient, simulator: Simulator, home: Home
    ) -> None:
        """A plant whose owner has not authorized the API is refused, not the others."""
        codes = [plant.code for plant in home.plants]
        simulator.unauthorize(codes[1])
        reports = await read(client, ReportPeriod.MONTH, *codes)
        assert reports.rows.keys() == {codes[0], codes[2]}
        assert reports.refused == {codes[1]: 20056}

    async def test_all_plants_refused(
        self, client: NorthboundClient, simulator: Simulator, home: Home
    ) -> None:
        """If no plant is authorized, the call is refused."""
        codes = [plant.code for plant in home.plants]
        for code in codes:
            simulator.unauthorize(code)
        with pytest.raises(MembersRefused) as caught:
            await read(client, ReportPeriod.DAY, *codes)
        assert caught.value.code == 20056


async def test_limits(client: NorthboundClient, home: Home) -> None:
    """100 plants can be read with one call, and not one more."""
    home.plants = homes.fleet(plants=101, devices=101).plants
    codes = [plant.code for plant in home.plants]
    reports = await read(client, ReportPeriod.HOUR, *codes[:100])
    assert reports.rows.keys() == set(codes[:100])
    with pytest.raises(RequestRejected) as caught:
        await read(client, ReportPeriod.HOUR, *codes)
    assert caught.value.code == 20015


@pytest.mark.parametrize("period", ReportPeriod)
async def test_permission(
    client: NorthboundClient, simulator: Simulator, plant: Plant, period: ReportPeriod
) -> None:
    """Each interface has a permission."""
    simulator.withdraw_permission(period.value)
    with pytest.raises(PermissionDenied) as caught:
        await read(client, period, plant.code)
    assert caught.value.what == period.value


async def test_wait(
    session: Session, plant: Plant, freezer: FrozenDateTimeFactory
) -> None:
    """An interface allows one call a minute, and 25 a day for one plant."""
    client = NorthboundClient(session)
    assert client.report_wait(ReportPeriod.HOUR) == 0
    for call in range(1, 26):
        await client.plant_reports(ReportPeriod.HOUR, [plant.code], NOON)
        with pytest.raises(RateLimited):
            await client.plant_reports(ReportPeriod.HOUR, [plant.code], NOON)
        wait = client.report_wait(ReportPeriod.HOUR)
        assert (wait == pytest.approx(61, abs=1)) is (call < 25)
        assert client.report_wait(ReportPeriod.DAY) == 0
        freezer.tick(65)
    assert wait == pytest.approx(86400 - 24 * 65, abs=2)
    [usage] = session.state.flow_control.usages(ReportPeriod.HOUR.value)
    assert (usage.calls, usage.quota.calls) == (25, 25)
    assert {type(name) for name in session.state.flow_control.interfaces} == {str}


ZONES: Final = st.sampled_from(
    [
        "Europe/Berlin",
        "Asia/Kolkata",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        "America/Havana",
        "Asia/Beirut",
        "Pacific/Apia",
        "America/St_Johns",
    ]
).map(ZoneInfo)


@given(
    st.sampled_from(ReportPeriod),
    st.datetimes(datetime(2023, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)),
    ZONES,
)
# The second of two midnights.
@example(
    ReportPeriod.HOUR,
    datetime(2026, 11, 1, 5, 30, tzinfo=UTC),
    ZoneInfo("America/Havana"),
)
def test_span(period: ReportPeriod, moment: datetime, zone: ZoneInfo) -> None:
    """A period contains its time, and begins and ends at local midnights."""
    at = moment.astimezone(zone)
    start, end = _span(period, at)
    assert start.tzinfo is end.tzinfo is UTC
    assert start <= moment < end
    day_before, next_day = (
        (each + timedelta(seconds=second)).astimezone(zone).date()
        for each, second in ((end, -1), (end, 0))
    )
    assert next_day - day_before == timedelta(days=1)
    if period is not ReportPeriod.YEAR:
        first = start.astimezone(zone).date()
        assert (start - timedelta(seconds=1)).astimezone(zone).date() < first
        assert first.day == 1 or period is ReportPeriod.HOUR
        assert first.month == 1 or period is not ReportPeriod.MONTH
    assert next_day.day == 1 or period is ReportPeriod.HOUR


START: Final = datetime(2026, 6, 20, 22, tzinfo=UTC)
ROW: Final = st.fixed_dictionaries(
    {},
    optional={
        "stationCode": st.sampled_from(["NE=1", "NE=2"]) | JSON,
        "collectTime": st.integers(-2, 26).map(
            lambda hour: int((START + hour * HOUR).timestamp() * 1000)
        )
        | JSON,
        "dataItemMap": st.dictionaries(
            st.sampled_from([*ReportItem, "inverter_power"]) | st.text(max_size=3),
            st.floats() | JSON,
            max_size=6,
        )
        | JSON,
        "failCode": st.sampled_from([0, 20056, "20056", 407]) | JSON,
    },
)


@given(JSON | st.lists(JSON | ROW))
def test_arbitrary_data(data: object) -> None:
    """Arbitrary data result in rows sorted by time, or in a client error."""
    end = START + 24 * HOUR
    with suppress(MalformedResponse):
        reports = read_reports(Answer(data, None), START, end)
        for code, rows in reports.rows.items():
            assert type(code) is str
            assert rows
            assert all(before.start < after.start for before, after in pairwise(rows))
            for row in rows:
                assert START <= row.start < end
                assert row.values
                assert row.values.keys() <= set(ReportItem)
                assert all(map(math.isfinite, row.values.values()))
        assert all(type(code) is int for code in reports.refused.values())
