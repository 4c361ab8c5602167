"""Tests of the sensors from the day, month and year reports of plants."""

from dataclasses import replace
from datetime import datetime, timedelta
import logging
from typing import Any, Final
from zoneinfo import ZoneInfo

from freezegun.api import FrozenDateTimeFactory
import pytest

from custom_components.smartpvms.diagnostics import async_get_config_entry_diagnostics
from homeassistant.config_entries import ConfigEntryState
from homeassistant.const import STATE_UNAVAILABLE, STATE_UNKNOWN
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er, issue_registry as ir
from homeassistant.util import dt as dt_util
from tests.simulator import Simulator, faults, homes
from tests.simulator.plants import Home, Plant
from tests.simulator.sun import Place

from .conftest import Account

DAY: Final = "getKpiStationDay"
MONTH: Final = "getKpiStationMonth"
YEAR: Final = "getKpiStationYear"
REPORTS: Final = (DAY, MONTH, YEAR)
ENABLED: Final = {
    "pv_production_this_year",
    "specific_yield_yesterday",
    "specific_yield_this_month",
    "co2_avoided",
}
DISABLED: Final = {"coal_saved", "equivalent_trees"}
RATIOS: Final = {"performance_ratio_yesterday", "performance_ratio_this_month"}
ALL_YEARS: Final = "pv_production_of_all_years"
BERLIN: Final = ZoneInfo("Europe/Berlin")
SOON: Final = timedelta(minutes=2)
DAYS: Final = timedelta(days=1)


@pytest.fixture
def home() -> Home:
    """Return a home with a battery."""
    return homes.family()


def move(
    freezer: FrozenDateTimeFactory, local: str, zone: str = "Europe/Berlin"
) -> None:
    """Set the time before the account is added."""
    freezer.move_to(datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(zone)))


async def pass_time(account: Account, passed: timedelta) -> None:
    """Advance the time, and wait for reports that are read in a thread."""
    await account.pass_time(passed)
    await account.entry.runtime_data.reports.hass.async_block_till_done(
        wait_background_tasks=True
    )


def registered_keys(account: Account, plant: Plant) -> dict[str, bool]:
    """Return the keys of a plant's sensors from reports, and whether each is enabled."""
    keys = ENABLED | DISABLED | RATIOS | {ALL_YEARS}
    return {
        key: each.disabled_by is None
        for key in keys
        if (each := account.registered(plant.code, key)) is not None
    }


def value(account: Account, plant: Plant, key: str) -> float:
    """Return the value of a sensor as a number."""
    shown = account.value(plant.code, key)
    assert shown not in (None, STATE_UNAVAILABLE, STATE_UNKNOWN), key
    return float(str(shown))


def produced(
    simulator: Simulator, plant: Plant, start: datetime, end: datetime
) -> float:
    """Return the true production of the plant between two times."""
    begin = datetime.fromtimestamp(plant.site.begin, dt_util.UTC)
    true = simulator.energy(plant.code, max(start, begin), end)
    return true.pv - true.losses if plant.yield_side == "ac" else true.pv


def check(account: Account, simulator: Simulator, plant: Plant, now: datetime) -> None:
    """Compare the sensors with the true energies up to a time in the plant's zone."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    capacity = plant.reported_capacity_kwp
    yesterday = produced(simulator, plant, midnight - DAYS, midnight)
    assert value(account, plant, "specific_yield_yesterday") == pytest.approx(
        yesterday / capacity, abs=0.002
    )
    month = produced(simulator, plant, midnight.replace(day=1), now)
    assert value(account, plant, "specific_yield_this_month") == pytest.approx(
        month / capacity, abs=0.002
    )
    year = produced(simulator, plant, midnight.replace(month=1, day=1), now)
    assert value(account, plant, "pv_production_this_year") == pytest.approx(
        year, abs=0.02
    )
    # All energies of the site, less those of the battery.
    begin = datetime.fromtimestamp(plant.site.begin, dt_util.UTC)
    true = simulator.energy(plant.code, begin, now)
    from_inverters = produced(simulator, plant, begin, now)
    from_inverters += true.discharge - true.charge
    years = now.year - begin.year + 1
    assert value(account, plant, "co2_avoided") == pytest.approx(
        0.475 * from_inverters, abs=0.5 * years + 0.1
    )


def last_collection(now: datetime) -> datetime:
    """Return the time up to which the server has values."""
    return now - timedelta(
        minutes=now.minute % 5, seconds=now.second, microseconds=now.microsecond
    )


async def test_values(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    freezer: FrozenDateTimeFactory,
) -> None:
    """The sensors have the true values of the day, month and years."""
    [plant] = simulator.home.plants
    await account.add()
    assert not any(simulator.calls_to(report) for report in REPORTS)
    assert registered_keys(account, plant) == {}
    await pass_time(account, SOON)
    assert registered_keys(account, plant) == {
        **dict.fromkeys(ENABLED, True),
        **dict.fromkeys(DISABLED, False),
    }
    read = simulator.calls_to(YEAR)[0].at
    check(account, simulator, plant, last_collection(read.astimezone(BERLIN)))
    state = account.state(plant.code, "co2_avoided")
    assert state is not None
    assert state.attributes["unit_of_measurement"] == "kg"
    assert state.attributes["state_class"] == "total"
    energy = account.state(plant.code, "pv_production_this_year")
    assert energy is not None
    assert "state_class" not in energy.attributes
    enabled = [each for each in account.entities() if each.disabled_by is None]
    assert len([each for each in enabled if each.entity_category is None]) <= 50


async def test_schedule(account: Account, simulator: Simulator) -> None:
    """Reports are read every six hours, from 70 minutes after midnight."""
    await account.add()
    await pass_time(account, timedelta(days=2))
    for report in REPORTS:
        times = [
            f"{call.at.astimezone(BERLIN):%d %H:%M}"
            for call in simulator.calls_to(report)
        ]
        assert times == [
            *("21 12:01", "21 13:10", "21 19:10"),
            *("22 01:10", "22 07:10", "22 13:10", "22 19:10"),
            *("23 01:10", "23 07:10"),
        ]
    assert simulator.refusals == []


@pytest.mark.parametrize("home", [homes.farm()])
async def test_performance_ratio(account: Account, simulator: Simulator) -> None:
    """A plant with an irradiance sensor has a performance ratio."""
    [plant] = simulator.home.plants
    await account.add()
    await pass_time(account, SOON)
    assert registered_keys(account, plant).keys() >= RATIOS
    midnight = datetime(2026, 6, 21, tzinfo=BERLIN)
    [row] = [
        row
        for row in simulator.reports.rows(DAY, plant, midnight.timestamp())
        if row["collectTime"] == (midnight - DAYS).timestamp() * 1000
    ]
    ratio = value(account, plant, "performance_ratio_yesterday")
    assert ratio == row["dataItemMap"]["performance_ratio"]
    assert 50 < ratio < 100


@pytest.mark.parametrize("earlier", [-2000.0, 4200.0])
async def test_all_years(
    account: Account, simulator: Simulator, earlier: float
) -> None:
    """All years are shown if they have more than the total in real time."""
    [plant] = simulator.home.plants
    plant.earlier_yield_kwh = earlier
    await account.add()
    await pass_time(account, SOON)
    if earlier > 0:
        assert account.registered(plant.code, ALL_YEARS) is None
        return
    begin = datetime.fromtimestamp(plant.site.begin, dt_util.UTC)
    read = last_collection(simulator.calls_to(YEAR)[0].at)
    assert value(account, plant, ALL_YEARS) == pytest.approx(
        produced(simulator, plant, begin, read), abs=0.02
    )


@pytest.mark.parametrize(
    "local", ["2026-06-30 21:00", "2025-12-31 21:00"], ids=["month", "year"]
)
async def test_change(
    account: Account,
    simulator: Simulator,
    freezer: FrozenDateTimeFactory,
    local: str,
) -> None:
    """On the first day of a month, yesterday is in the last month."""
    [plant] = simulator.home.plants
    # On the AC side, the losses of the battery make the night's energy negative.
    plant.yield_side = "dc"
    freezer.move_to(datetime.fromisoformat(local).replace(tzinfo=BERLIN))
    await account.add()
    await pass_time(account, timedelta(hours=4, minutes=15))
    read = simulator.calls_to(DAY)[-1].at.astimezone(BERLIN)
    assert (read.day, read.hour, read.minute) == (1, 1, 10)
    check(account, simulator, plant, last_collection(read))
    # In the night, nothing is produced.
    assert value(account, plant, "specific_yield_this_month") == 0
    assert value(account, plant, "specific_yield_yesterday") > 0


def in_bogota() -> Home:
    """Return a home in Colombia."""
    home = homes.family(time_zone="America/Bogota")
    [plant] = home.plants
    plant.site = replace(plant.site, place=Place(4.711, -74.0721, 2600.0))
    return home


@pytest.mark.parametrize(
    ("home", "zone"),
    [
        (homes.family(time_zone="Asia/Tokyo"), "Asia/Tokyo"),
        (in_bogota(), "America/Bogota"),
    ],
)
async def test_other_zone(account: Account, simulator: Simulator, zone: str) -> None:
    """Days are those of the plant's zone."""
    [plant] = simulator.home.plants
    await account.add()
    await pass_time(account, timedelta(days=1, hours=12))
    for call in simulator.calls_to(DAY)[1:]:
        assert f"{call.at.astimezone(ZoneInfo(zone)):%H:%M}" in (
            *("01:10", "07:10"),
            *("13:10", "19:10"),
        )
    read = simulator.calls_to(YEAR)[-1].at.astimezone(ZoneInfo(zone))
    check(account, simulator, plant, last_collection(read))


def names(plant: Plant) -> Any:
    """Return whether a call names a plant."""
    return lambda body: plant.code in body["stationCodes"].split(",")


@pytest.mark.parametrize("home", [homes.fleet(plants=10, devices=10)])
async def test_refused_plant(
    account: Account,
    simulator: Simulator,
    caplog: pytest.LogCaptureFixture,
    hass: HomeAssistant,
) -> None:
    """A plant whose reports are refused does not affect the other nine."""
    plants = simulator.home.plants
    refused = plants[6]
    others = [plant for plant in plants if plant is not refused]
    for report in REPORTS:
        simulator.faults.add(faults.FailCode(20007), report, when=names(refused))
    await account.add_plants(plants)
    await pass_time(account, timedelta(minutes=45))
    for plant in others:
        assert registered_keys(account, plant).keys() == ENABLED | DISABLED
    assert registered_keys(account, refused) == {}
    assert caplog.text.count("Skipping the reports of a plant") == 1
    assert not any(
        refused.code in each.getMessage()
        for each in caplog.records
        if each.levelno >= logging.WARNING
    )
    simulator.calls.clear()
    await pass_time(account, timedelta(hours=22))
    for report in REPORTS:
        calls = simulator.calls_to(report)
        assert len(calls) == 4
        assert not any(names(refused)(call.body) for call in calls)
    simulator.faults.clear()
    await pass_time(account, timedelta(hours=8))
    assert registered_keys(account, refused).keys() == ENABLED | DISABLED
    assert simulator.refusals == []
    assert list(ir.async_get(hass).issues) == []


@pytest.mark.parametrize("home", [homes.fleet(plants=10, devices=10)])
async def test_unauthorized_plant(account: Account, simulator: Simulator) -> None:
    """A plant that its owner has not authorized follows after the authorization."""
    plants = simulator.home.plants
    simulator.unauthorize(plants[3].code)
    await account.add_plants(plants)
    await pass_time(account, timedelta(minutes=30))
    assert registered_keys(account, plants[3]) == {}
    assert registered_keys(account, plants[4]).keys() == ENABLED | DISABLED
    simulator.authorize(plants[3].code)
    await pass_time(account, timedelta(hours=7))
    assert registered_keys(account, plants[3]).keys() == ENABLED | DISABLED


@pytest.mark.parametrize(
    "fault",
    [faults.FailCode(401), faults.FailCode(20009), faults.GatewayException()],
    ids=["permission", "rejected", "gateway"],
)
async def test_no_reports(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    caplog: pytest.LogCaptureFixture,
    fault: faults.Fault,
) -> None:
    """Without reports there are no sensors, no repair, and one line in the log."""
    [plant] = simulator.home.plants
    for report in REPORTS:
        simulator.faults.add(fault, report)
    await account.add()
    await pass_time(account, timedelta(hours=23))
    assert account.entry.state is ConfigEntryState.LOADED
    assert registered_keys(account, plant) == {}
    assert value(account, plant, "pv_power") >= 0
    assert list(ir.async_get(hass).issues) == []
    lines = [each for each in caplog.records if "plant reports" in each.getMessage()]
    assert len([each for each in lines if each.levelname != "DEBUG"]) == 1
    assert all(len(simulator.calls_to(report)) == 5 for report in REPORTS)
    shown = await async_get_config_entry_diagnostics(hass, account.entry)
    for report in REPORTS:
        of_report = shown["reports"][report]
        assert of_report["plants"] == 0
        assert of_report["error"].startswith(("PermissionDenied", "RequestRejected"))
    simulator.faults.clear()
    await pass_time(account, timedelta(hours=6))
    assert registered_keys(account, plant).keys() == ENABLED | DISABLED


async def test_one_report_missing(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
) -> None:
    """Without one report, the others are shown."""
    [plant] = simulator.home.plants
    simulator.withdraw_permission(MONTH)
    await account.add()
    await pass_time(account, SOON)
    keys = ENABLED | DISABLED
    assert registered_keys(account, plant).keys() == keys - {
        "specific_yield_this_month"
    }
    shown = await async_get_config_entry_diagnostics(hass, account.entry)
    assert shown["reports"][YEAR]["error"] is None
    assert shown["reports"][YEAR]["plants"] == 1
    assert shown["reports"][MONTH]["error"] is not None


async def test_used_up_quota(account: Account, simulator: Simulator) -> None:
    """Live values are read while another client uses up the quotas of reports."""
    [plant] = simulator.home.plants
    await account.add()
    await pass_time(account, SOON)
    for report in REPORTS:
        simulator.use_up(report)
    before = value(account, plant, "co2_avoided")
    await pass_time(account, timedelta(hours=20))
    assert value(account, plant, "co2_avoided") == before
    assert {call.interface for call in simulator.refusals} == {*REPORTS}
    power = account.state(plant.code, "pv_power")
    assert power is not None
    assert dt_util.utcnow() - power.last_reported < timedelta(minutes=6)
    # The calls of the other client are a day old.
    await pass_time(account, timedelta(hours=12))
    assert value(account, plant, "co2_avoided") > before


async def test_outage(account: Account, simulator: Simulator) -> None:
    """The last values are shown for a day."""
    [plant] = simulator.home.plants
    await account.add()
    await pass_time(account, SOON)
    before = account.value(plant.code, "co2_avoided")
    fault = simulator.faults.add(faults.HttpStatus(503))
    await pass_time(account, timedelta(hours=23))
    assert account.value(plant.code, "pv_power") == STATE_UNAVAILABLE
    assert account.value(plant.code, "co2_avoided") == before
    await pass_time(account, timedelta(hours=7))
    assert {account.value(plant.code, key) for key in ENABLED} == {STATE_UNAVAILABLE}
    fault.remove()
    await pass_time(account, timedelta(hours=6))
    assert value(account, plant, "co2_avoided") > float(str(before))


async def test_no_connection(account: Account, simulator: Simulator) -> None:
    """A dropped connection ends the reads until a quarter of an hour later."""
    [plant] = simulator.home.plants
    await account.add()
    fault = simulator.faults.add(faults.DropConnection(), DAY)
    await pass_time(account, SOON)
    assert registered_keys(account, plant) == {}
    assert [len(simulator.calls_to(report)) for report in REPORTS] == [1, 0, 0]
    fault.remove()
    await pass_time(account, timedelta(minutes=16))
    assert registered_keys(account, plant).keys() == ENABLED | DISABLED


async def test_refused_password(
    hass: HomeAssistant, account: Account, simulator: Simulator
) -> None:
    """The values are unavailable until the user has entered the new password."""
    [plant] = simulator.home.plants
    await account.add()
    await pass_time(account, SOON)
    simulator.change_password("other")
    simulator.expire_token()
    await pass_time(account, timedelta(hours=7))
    assert account.value(plant.code, "co2_avoided") == STATE_UNAVAILABLE
    assert len(hass.config_entries.flow.async_progress()) == 1


async def test_restart(account: Account, simulator: Simulator) -> None:
    """The sensors come back with the first read after a restart."""
    [plant] = simulator.home.plants
    await account.add()
    await pass_time(account, SOON)
    before = value(account, plant, "co2_avoided")
    for restart in (account.restart, account.kill):
        await restart(timedelta(minutes=1))
        assert account.value(plant.code, "co2_avoided") == STATE_UNAVAILABLE
        await pass_time(account, SOON)
        assert value(account, plant, "co2_avoided") >= before
        assert registered_keys(account, plant).keys() == ENABLED | DISABLED
    assert simulator.refusals == []


async def test_enabled_later(
    hass: HomeAssistant, account: Account, simulator: Simulator
) -> None:
    """A sensor that the user enables has a value."""
    [plant] = simulator.home.plants
    await account.add()
    await pass_time(account, SOON)
    registered = account.registered(plant.code, "equivalent_trees")
    assert registered is not None
    er.async_get(hass).async_update_entity(registered.entity_id, disabled_by=None)
    await pass_time(account, timedelta(minutes=3))
    assert value(account, plant, "equivalent_trees") > 0


async def test_older_server(account: Account, simulator: Simulator) -> None:
    """The sensors need no items of newer servers."""
    [plant] = simulator.home.plants
    plant.newer_items = False
    await account.add()
    await pass_time(account, SOON)
    assert registered_keys(account, plant).keys() == ENABLED | DISABLED
    read = simulator.calls_to(YEAR)[0].at
    check(account, simulator, plant, last_collection(read.astimezone(BERLIN)))


HOSTILE: Final = [
    faults.NullData(),
    faults.NullItemMap(),
    faults.EmptyItemMap(),
    faults.HalfJson(),
    faults.HtmlPage(),
    faults.Rewrite(lambda answer: answer | {"data": {"list": 1}}),
    faults.Rewrite(lambda answer: answer | {"data": [1, None, {"stationCode": []}]}),
    faults.Rewrite(
        lambda answer: (
            answer
            | {
                "data": [
                    row | {"dataItemMap": dict.fromkeys(row["dataItemMap"], -1e308)}
                    for row in answer["data"]
                ]
            }
        )
    ),
]


@pytest.mark.parametrize("fault", HOSTILE)
async def test_malformed(
    account: Account,
    simulator: Simulator,
    caplog: pytest.LogCaptureFixture,
    fault: faults.Fault,
) -> None:
    """Malformed reports add no sensor, and the next ones do."""
    [plant] = simulator.home.plants
    for report in REPORTS:
        simulator.faults.add(fault, report)
    await account.add()
    await pass_time(account, timedelta(hours=2))
    assert registered_keys(account, plant) == {}
    simulator.faults.clear()
    await pass_time(account, timedelta(hours=6))
    assert registered_keys(account, plant).keys() == ENABLED | DISABLED
    messages = [
        each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING
    ]
    assert not any("Unexpected" in each for each in messages)
    assert not any(plant.code in each for each in messages)


@pytest.mark.parametrize("home", [homes.fleet(plants=120, devices=120)])
async def test_batches(account: Account, simulator: Simulator) -> None:
    """At most 100 plants are read at once, and the others a minute later."""
    await account.add_plants(simulator.home.plants)
    for _ in range(4):
        await pass_time(account, timedelta(minutes=1))
    for report in REPORTS:
        calls = simulator.calls_to(report)
        sizes = [len(call.body["stationCodes"].split(",")) for call in calls]
        assert sizes == [100, 20]
    last = simulator.home.plants[-1]
    assert registered_keys(account, last).keys() == ENABLED | DISABLED
    assert simulator.refusals == []
