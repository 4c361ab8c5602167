"""Tests of the time zones of plants."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from custom_components.smartpvms.models import zone_of
from custom_components.smartpvms.northbound.models import Plant, parse_plant
from custom_components.smartpvms.time_zones import find
from homeassistant.core import HomeAssistant
from tests.simulator import Simulator, faults, homes
from tests.simulator.plants import Home

from .conftest import Account

pytestmark = pytest.mark.fast

NOW: Final = datetime(2026, 6, 21, 10, tzinfo=UTC)

type Place = tuple[float, float]

ATHENS: Final = 37.98, 23.73
BRISBANE_BORDER: Final = -28.64, 153.61
COLOGNE: Final = 50.94, 6.96
DENVER: Final = 39.74, -104.99
EL_PASO: Final = 31.76, -106.49
FLAGSTAFF: Final = 35.2, -111.65
KOLKATA: Final = 22.57, 88.36
LONDON: Final = 51.51, -0.13
MAINZ: Final = 49.9, 8.2
AMSTERDAM: Final = 52.37, 4.9
SHANGHAI: Final = 31.23, 121.47
URUMQI: Final = 43.8, 87.6


def plant(date: str | None, place: Place | None = None, **more: Any) -> Plant:
    """Return a plant with a connection date and coordinates."""
    row = {"plantCode": "NE=1", "gridConnectionDate": date}
    if place is not None:
        row |= {"latitude": str(place[0]), "longitude": str(place[1])}
    parsed = parse_plant(row | more)
    assert parsed is not None
    return parsed


@pytest.mark.parametrize(
    ("home", "date", "place"),
    [
        # Summer and winter, with the current offset and with the standard offset.
        ("Europe/Berlin", "2023-03-31T09:56:55+02:00", None),
        ("Europe/Berlin", "2023-03-31T09:56:55+01:00", None),
        ("Europe/Berlin", "2023-01-31T09:56:55+02:00", MAINZ),
        ("Australia/Lord_Howe", "2023-06-30T09:56:55+11:00", None),
        # Turkey had daylight saving time until 2016.
        ("Europe/Istanbul", "2014-01-31T09:56:55+02:00", None),
        ("Europe/Istanbul", "2024-01-31T09:56:55+03:00", None),
        # The server's default offset.
        ("Europe/Berlin", "2023-07-01T08:00:00+08:00", MAINZ),
        ("Europe/Berlin", "2023-07-01T00:00:00Z", MAINZ),
        ("Europe/Berlin", "2023-07-01T00:00:00+00:00", COLOGNE),
        ("Europe/Amsterdam", "2023-01-01T00:00:00Z", AMSTERDAM),
        ("America/New_York", "2023-07-01T08:00:00+08:00", (40.0, -75.0)),
        # No date, or an invalid date.
        ("Europe/Berlin", None, KOLKATA),
        ("Europe/Berlin", "0001-01-01T00:00:00+08:00", None),
        ("Europe/Berlin", "9999-12-31T23:59:59-05:00", None),
        ("Europe/Berlin", "1899-12-30T00:00:00+00:53", None),
        # An offset without a zone.
        ("Europe/Berlin", "2023-07-01T00:00:00-13:45", None),
        ("Europe/Berlin", "2023-07-01T00:00:00-13:45", MAINZ),
    ],
)
def test_home_assistants_zone(home: str, date: str | None, place: Place | None) -> None:
    """The offset is one of Home Assistant's zone, or has no meaning."""
    assert find(plant(date, place), home, NOW).zone is None


@pytest.mark.parametrize(
    ("home", "date", "place", "zone"),
    [
        ("Europe/Berlin", "2023-07-01T08:00:00Z", LONDON, "Europe/London"),
        ("America/New_York", "2023-07-01T08:00:00+02:00", ATHENS, "Europe/Athens"),
        ("America/New_York", "2023-07-01T08:00:00+03:00", ATHENS, "Europe/Athens"),
        ("America/New_York", "2023-01-01T08:00:00+02:00", ATHENS, "Europe/Athens"),
        ("America/New_York", "2023-07-01T08:00:00-07:00", DENVER, "America/Denver"),
        ("America/New_York", "2023-07-01T08:00:00-07:00", FLAGSTAFF, "America/Phoenix"),
        ("America/New_York", "2023-01-01T08:00:00-07:00", EL_PASO, "America/Denver"),
        ("Europe/Berlin", "2023-07-01T08:00:00+08:00", SHANGHAI, "Asia/Shanghai"),
        ("Europe/Berlin", "2023-07-01T08:00:00+08:00", URUMQI, "Asia/Shanghai"),
        ("Europe/Berlin", "2023-07-01T08:00:00+05:30", KOLKATA, "Asia/Kolkata"),
        ("Europe/Berlin", "2023-07-01T08:00:00+05:30", MAINZ, "Asia/Kolkata"),
        ("Europe/Berlin", "2023-07-01T08:00:00+05:30", None, "Asia/Kolkata"),
        ("Europe/Berlin", "2023-07-01T08:00:00+05:45", None, "Asia/Kathmandu"),
        ("Europe/Berlin", "2023-07-01T08:00:00-03:30", None, "America/St_Johns"),
        ("UTC", "2023-03-31T09:56:55+01:00", COLOGNE, "Europe/Berlin"),
    ],
)
def test_zone_of_its_own(home: str, date: str, place: Place | None, zone: str) -> None:
    """The days of a plant elsewhere follow its own zone all year."""
    found = find(plant(date, place), home, NOW).zone
    assert found is not None
    for year in 2026, 2027:
        for month in range(1, 13):
            at = datetime(year, month, 15, 12, tzinfo=UTC)
            assert at.astimezone(found).utcoffset() == (
                at.astimezone(ZoneInfo(zone)).utcoffset()
            )


@pytest.mark.parametrize(
    ("home", "date", "place", "offered"),
    [
        # Queensland has no daylight saving time, New South Wales has.
        (
            "Europe/Berlin",
            "2023-07-01T08:00:00+10:00",
            BRISBANE_BORDER,
            {"Australia/Brisbane", "Australia/Sydney"},
        ),
        # The coordinates contradict the offset.
        (
            "Europe/Berlin",
            "2023-07-01T08:00:00+05:30",
            MAINZ,
            {"Asia/Kolkata", "Europe/Zurich"},
        ),
        (
            "Europe/Berlin",
            "2023-07-01T08:00:00Z",
            MAINZ,
            {"Europe/Berlin", "Europe/London"},
        ),
        ("Europe/Berlin", "2023-07-01T08:00:00+01:00", None, set()),
        ("Europe/Berlin", "2023-07-01T08:00:00+05:30", KOLKATA, set()),
        ("Europe/Berlin", "2023-07-01T08:00:00+05:45", None, set()),
        ("Europe/Berlin", "2023-07-01T08:00:00Z", LONDON, set()),
        ("Europe/Berlin", "2023-07-01T08:00:00+08:00", SHANGHAI, set()),
    ],
)
def test_ambiguous_zones(
    home: str, date: str, place: Place | None, offered: set[str]
) -> None:
    """Possible zones with other rules are offered."""
    assert {*find(plant(date, place), home, NOW).offered} == offered


def test_without_a_place() -> None:
    """Without coordinates, all zones with the offset are possible, and none is used."""
    found = find(plant("2023-01-01T08:00:00-07:00"), "Europe/Berlin", NOW)
    assert {"Europe/Berlin", "America/Denver", "America/Phoenix"} <= {*found.offered}
    assert not {"America/New_York", "Asia/Kolkata"} & {*found.offered}
    assert found.zone == timezone(timedelta(hours=-7))


class TestOption:
    """The zone of a plant near the border of two zones."""

    @pytest.fixture
    def home(self) -> Home:
        """Return two plants, one of them in Australia."""
        return Home([*homes.family().plants, *homes.emma().plants])

    @pytest.fixture
    async def account(self, account: Account, simulator: Simulator) -> Account:
        """Move the second plant near the border."""
        code = simulator.home.plants[1].code
        latitude, longitude = BRISBANE_BORDER

        def move(payload: faults.Payload) -> faults.Payload:
            for row in payload["data"]["list"]:
                if row["plantCode"] == code:
                    row["gridConnectionDate"] = "2023-07-01T08:00:00+10:00"
                    row |= {"latitude": str(latitude), "longitude": longitude}
            return payload

        simulator.faults.add(faults.Rewrite(move), "stations")
        await account.add_plants(simulator.home.plants)
        return account

    @staticmethod
    def _zones(account: Account) -> list[str]:
        plants = account.entry.runtime_data.inventory.data.plants
        return [str(zone_of(each)) for each in plants.values()]

    async def test_choice(
        self, hass: HomeAssistant, account: Account, simulator: Simulator
    ) -> None:
        """The zones are offered, at most one is chosen, and it survives a restart."""
        assert self._zones(account) == ["Europe/Berlin", "Australia/Brisbane"]
        result = await account.open_option("time_zones")
        assert result["data_schema"] is not None
        [selector] = result["data_schema"].schema.values()
        offered = {each["label"]: each["value"] for each in selector.config["options"]}
        name = simulator.home.plants[1].name
        assert {*offered} == {
            f"{name}: Australia/Brisbane",
            f"{name}: Australia/Sydney",
        }
        options = hass.config_entries.options
        result = await options.async_configure(
            result["flow_id"], {"time_zones": [*offered.values()]}
        )
        assert result["errors"] == {"time_zones": "several_time_zones"}
        chosen = offered[f"{name}: Australia/Sydney"]
        await options.async_configure(result["flow_id"], {"time_zones": [chosen]})
        await hass.async_block_till_done()
        assert self._zones(account) == ["Europe/Berlin", "Australia/Sydney"]
        await account.restart()
        assert self._zones(account) == ["Europe/Berlin", "Australia/Sydney"]
        await hass.services.async_call(
            "smartpvms",
            "refresh_inventory",
            {"config_entry_id": account.entry.entry_id},
            blocking=True,
        )
        assert self._zones(account) == ["Europe/Berlin", "Australia/Sydney"]
        # Without the choice, the nearest zone is used again.
        await account.set_option("time_zones", [])
        assert self._zones(account) == ["Europe/Berlin", "Australia/Brisbane"]

    async def test_home_assistant_moves(
        self, hass: HomeAssistant, account: Account
    ) -> None:
        """Plants follow Home Assistant's zone if it has their offset."""
        await hass.config.async_set_time_zone("Europe/Madrid")
        await account.poll()
        assert self._zones(account) == ["Europe/Madrid", "Australia/Brisbane"]
        await hass.config.async_set_time_zone("Australia/Sydney")
        await account.poll()
        assert self._zones(account) == ["Europe/Berlin", "Australia/Sydney"]

    async def test_days(self, account: Account, simulator: Simulator) -> None:
        """A plant's day starts at its midnight."""
        plant = simulator.home.plants[1]
        state = account.state(plant.code, "day_power")
        assert state is not None
        assert state.attributes["last_reset"] == "2026-06-20T14:00:00+00:00"


async def test_zone_of_home_assistant_has_rules(hass: HomeAssistant) -> None:
    """A plant without its own zone follows Home Assistant's daylight saving time."""
    await hass.config.async_set_time_zone("Europe/Berlin")
    zone = zone_of(plant(None))
    for month, hours in ((1, 1), (7, 2)):
        noon = datetime(2026, month, 21, 12, tzinfo=UTC).astimezone(zone)
        assert noon.utcoffset() == timedelta(hours=hours)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("zones", "is_dated"),
    [
        (["America/Los_Angeles", "Europe/Berlin"], True),
        (["America/Los_Angeles", "Europe/Berlin"], False),
        (["Pacific/Kiritimati", "America/Los_Angeles", "Asia/Kolkata"], False),
    ],
)
async def test_days_go_on_in_another_zone(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    zones: list[str],
    is_dated: bool,
) -> None:
    """No energy of a day is lost or counted twice when Home Assistant's zone changes.

    A plant without the offset of its connection has Home Assistant's zone.
    """

    def without_date(payload: faults.Payload) -> faults.Payload:
        for row in payload["data"]["list"]:
            row["gridConnectionDate"] = None
        return payload

    if not is_dated:
        simulator.faults.add(faults.Rewrite(without_date), "stations")
    inverter = 1000000035436842
    await account.add()
    begin = simulator.device_items(inverter)["total_cap"]
    shown, start, counted = 0.0, "", 0.0
    for number in range(2 * 24 * 4):
        if number % 40 == 30 and zones:
            await hass.config.async_set_time_zone(zones.pop(0))
        await account.poll(timedelta(minutes=15))
        state = account.state(inverter, "day_cap")
        assert state
        value, began = float(state.state), state.attributes["last_reset"]
        if start:
            counted += value if began != start else value - shown
        else:
            begin = simulator.device_items(inverter)["total_cap"]
        shown, start = value, began
    true = simulator.device_items(inverter)["total_cap"] - begin
    assert true > 50
    # The last energy before an inverter sleeps is only in the next day's total.
    assert counted == pytest.approx(true, abs=0.5)
