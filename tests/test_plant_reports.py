"""Tests of the past of a plant's energies, which comes from its hour reports."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from freezegun.api import FrozenDateTimeFactory
import pytest

from custom_components.smartpvms.statistics import recorder as recording
from homeassistant.components.recorder import Recorder, get_instance
from homeassistant.components.recorder.statistics import async_import_statistics
from homeassistant.core import HomeAssistant
from tests.simulator import Simulator, homes
from tests.simulator.plants import Home
from tests.statistics import Run

from . import history, statistics
from .conftest import POLL, Account
from .history import HOUR, Past, full_hour
from .test_history import request

recorder_config = statistics.recorder_config
simulator = history.simulator
past = history.past
start = history.start

QUARTER: Final = timedelta(minutes=15, seconds=2)
ENERGIES: Final = {
    "pv_energy": "PVYield",
    "total_power": "PVYield",
    "home_energy": "use_power",
    "grid_import": "buyPower",
    "grid_export": "ongrid_power",
    "charged_energy": "chargeCap",
    "discharged_energy": "dischargeCap",
}
"""Items of the reports, by key of the plant's energy."""


def older(home: Home) -> Home:
    """Return a home with an older server."""
    home.plants[0].newer_items = False
    return home


@pytest.fixture
def home() -> Home:
    """Return a home with a battery."""
    return homes.family()


@pytest.fixture
def days() -> int:
    """Return the number of days to import when the account is added."""
    return 7


def reported(
    past: Past, begin: datetime, end: datetime
) -> dict[str, dict[datetime, float]]:
    """Return the energies of the reports, by key and hour."""
    simulator = past.run.simulator
    [plant] = simulator.home.plants
    energies: dict[str, dict[datetime, float]] = {key: {} for key in ENERGIES}
    day = begin
    while day < end + timedelta(days=1):
        rows = simulator.reports.rows("getKpiStationHour", plant, day.timestamp())
        for row in rows:
            at = datetime.fromtimestamp(row["collectTime"] / 1000, UTC)
            for key, item in ENERGIES.items():
                if begin <= at < end and row["dataItemMap"].get(item) is not None:
                    # An inverter that draws energy at night reports less than 0.
                    energies[key][at] = max(row["dataItemMap"][item], 0.0)
        day += timedelta(days=1)
    return energies


async def settle(past: Past) -> None:
    """Poll until nothing is left to import."""
    end = past.run.now + timedelta(days=4)
    while past.run.account.entry.runtime_data.history.days_left:
        await past.poll(QUARTER)
        assert past.run.now < end


async def check(past: Past, begin: datetime, end: datetime) -> None:
    """Compare the hours of all energies with the reports; nothing is earlier."""
    [plant] = past.run.simulator.home.plants
    changes = await past.changes()
    for key, hours in reported(past, begin, end).items():
        state = past.run.account.state(plant.code, key)
        if state is not None and hours:
            assert min(changes[state.entity_id]) == begin, key
    await check_hours(past, begin, end)


async def check_hours(past: Past, begin: datetime, end: datetime) -> None:
    """Compare the hours of all energies with the reports."""
    [plant] = past.run.simulator.home.plants
    changes = await past.changes()
    for key, hours in reported(past, begin, end).items():
        state = past.run.account.state(plant.code, key)
        if state is None:
            continue
        shown = changes[state.entity_id]
        wrong = {
            f"{hour:%d %H}": (shown.get(hour), energy)
            for hour, energy in hours.items()
            if shown.get(hour) != pytest.approx(energy, abs=0.01)
        }
        assert wrong == {}, key


async def test_past(past: Past) -> None:
    """Hours before the set-up, and that of the set-up, are those of the reports."""
    get_instance(past.hass).entity_filter = lambda entity_id: True
    await past.until("2026-06-21 13:00:30", QUARTER)
    await settle(past)
    await check(past, past.begin, past.run.at("2026-06-21 11:00"))


@pytest.mark.parametrize(
    ("home", "start", "days"),
    [
        pytest.param(homes.family(), "2026-03-30 10:20:30+02:00", 3, id="summer time"),
        pytest.param(homes.family(), "2026-10-26 10:20:30+01:00", 3, id="winter time"),
        pytest.param(homes.farm(), "2026-06-21 00:20:30+02:00", 2, id="farm"),
        pytest.param(older(homes.family()), "2026-06-21 10:20:30+02:00", 2, id="older"),
    ],
)
async def test_past_of_homes(past: Past) -> None:
    """The past has every hour of the reports, and nothing else."""
    get_instance(past.hass).entity_filter = lambda entity_id: True
    now = past.run.now
    await past.until(now + timedelta(hours=3), QUARTER)
    await settle(past)
    await check(past, past.begin, full_hour(now) + HOUR)


async def test_again(past: Past) -> None:
    """Importing the same days again changes nothing, and makes no call."""
    get_instance(past.hass).entity_filter = lambda entity_id: True
    await past.until("2026-06-21 13:00:30", QUARTER)
    await settle(past)
    rows, calls = (
        await past.rows(),
        len(past.run.simulator.calls_to("getKpiStationHour")),
    )
    await request(past, "2026-06-15 00:00:00")
    await past.until("2026-06-21 14:40", QUARTER)
    await settle(past)
    again = await past.rows()
    assert {key: again[key] for key in rows} == rows
    assert len(past.run.simulator.calls_to("getKpiStationHour")) == calls


async def energies_of_gap(
    past: Past, begin: datetime, end: datetime, divided: datetime | None = None
) -> None:
    """Check that a gap has the counted energy, divided as in the reports."""
    [plant] = past.run.simulator.home.plants
    changes = await past.changes()
    for key, hours in reported(past, begin, end).items():
        state = past.run.account.state(plant.code, key)
        assert state is not None
        shown = changes[state.entity_id]
        assert sum(shown[hour] for hour in hours) == pytest.approx(
            sum(hours.values()), rel=0.05, abs=0.3
        )
        wrong = {
            f"{hour:%d %H}": (shown.get(hour), energy)
            for hour, energy in hours.items()
            if hour < (divided or end)
            and shown.get(hour) != pytest.approx(energy, rel=0.1, abs=0.05)
        }
        assert wrong == {}, key
        assert min(shown.values()) >= 0


async def off_over_midnight(past: Past) -> tuple[datetime, datetime]:
    """Stop Home Assistant over a midnight, and return the hours of the gap."""
    get_instance(past.hass).entity_filter = lambda entity_id: True
    await past.until("2026-06-21 20:40", QUARTER)
    await past.off("2026-06-22 14:10")
    return past.run.at("2026-06-21 20:00"), past.run.at("2026-06-22 15:00")


@pytest.mark.parametrize("days", [0])
async def test_gap(past: Past) -> None:
    """The hours in which Home Assistant was off are those of the reports."""
    gap = await off_over_midnight(past)
    await past.until("2026-06-22 17:00:30", POLL)
    await settle(past)
    await energies_of_gap(past, *gap)


@pytest.mark.parametrize("days", [0])
async def test_late_reports(past: Past) -> None:
    """A gap is filled when its report is complete."""
    past.run.simulator.reports.lag = timedelta(hours=5)
    gap = await off_over_midnight(past)
    await past.until("2026-06-22 17:00:30", POLL)
    before = await past.changes()
    await past.until("2026-06-22 23:00:30", QUARTER)
    await settle(past)
    assert await past.changes() != before
    # The report of the last hour is not complete yet.
    await energies_of_gap(past, *gap, divided=gap[1] - HOUR)


@pytest.mark.parametrize("days", [0])
async def test_wrong_reports(past: Past) -> None:
    """A gap keeps what was counted if the report has less for a day."""
    [plant] = past.run.simulator.home.plants
    past.run.simulator.reports.distort(
        "getKpiStationHour", plant.code, "buyPower", lambda at, value: -value / 2
    )
    begin, end = await off_over_midnight(past)
    await past.until("2026-06-22 15:00:30", POLL)
    state = past.run.account.state(plant.code, "grid_import")
    assert state is not None
    before = (await past.changes())[state.entity_id]
    await past.until("2026-06-23 19:00:30", QUARTER)
    await settle(past)
    after = (await past.changes())[state.entity_id]
    assert {hour: after[hour] for hour in before} == before
    assert begin <= max(before) < end


@pytest.mark.parametrize("stop", [0, 3, 7, 8, 12, 15])
@pytest.mark.parametrize("days", [2])
async def test_killed(past: Past, stop: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a kill during the import, it goes on, and every hour is right."""
    get_instance(past.hass).entity_filter = lambda entity_id: True
    steps = iter(range(100))

    def stopping(step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> None:
            if next(steps) == stop:
                raise asyncio.CancelledError
            step(*args)

        return run

    plants = {
        entity.entity_id
        for entity in past.run.account.entities()
        if entity.unique_id.startswith("NE=")
    }
    imports, adjust = async_import_statistics, recording._adjust  # noqa: SLF001

    def importing(hass: HomeAssistant, metadata: Any, rows: Any) -> None:
        if metadata["statistic_id"] in plants and next(steps) == stop:
            raise asyncio.CancelledError
        imports(hass, metadata, rows)

    with monkeypatch.context() as patch:
        patch.setattr(recording, "async_import_statistics", importing)
        patch.setattr(recording, "_adjust", stopping(adjust))
        await past.until("2026-06-21 13:10:30", QUARTER)
    assert next(steps) == stop + 1
    await past.run.account.kill(off=timedelta(minutes=5))
    await past.until("2026-06-21 15:00:30", QUARTER)
    await settle(past)
    await check(past, past.begin, past.run.at("2026-06-21 11:00"))


class TestZone:
    """A plant in a zone with half hours."""

    @pytest.fixture
    def home(self) -> Home:
        """Return a home in India."""
        return homes.family(time_zone="Asia/Kolkata")

    @pytest.mark.parametrize("days", [3])
    async def test_half_hours(self, past: Past) -> None:
        """An hour of the report is divided, and the days keep their sums."""
        get_instance(past.hass).entity_filter = lambda entity_id: True
        await past.until("2026-06-21 14:00:30", QUARTER)
        await settle(past)
        [plant] = past.run.simulator.home.plants
        changes = await past.changes()
        end = past.run.at("2026-06-21 10:00").astimezone(UTC)
        half = timedelta(minutes=30)
        for key, hours in reported(past, past.begin - HOUR, end + HOUR).items():
            state = past.run.account.state(plant.code, key)
            assert state is not None
            shown = changes[state.entity_id]
            for hour, energy in shown.items():
                if past.begin < hour < end:
                    parts = hours[hour - half] + hours[hour + half]
                    assert energy == pytest.approx(parts / 2, abs=0.01)


async def test_without_permission(past: Past) -> None:
    """Without the permission for reports, the energies have no past."""
    past.run.simulator.withdraw_permission("getKpiStationHour")
    get_instance(past.hass).entity_filter = lambda entity_id: True
    await past.until("2026-06-21 13:00:30", QUARTER)
    [plant] = past.run.simulator.home.plants
    state = past.run.account.state(plant.code, "home_energy")
    assert state is not None
    hours = (await past.changes())[state.entity_id]
    assert min(hours) == full_hour(past.run.begin)
    past.run.simulator.grant_permission("getKpiStationHour")
    await past.until("2026-06-21 18:00:30", QUARTER)
    await settle(past)
    await check(past, past.begin, past.run.at("2026-06-21 11:00"))


class TestFleet:
    """Ten plants, of which the server refuses one."""

    @pytest.fixture
    def home(self) -> Home:
        """Return a fleet."""
        return homes.fleet(plants=10, devices=30)

    @pytest.fixture
    def simulator(self, simulator: Simulator) -> Simulator:
        """Return a simulator that refuses a plant."""
        simulator.unauthorize(simulator.home.plants[3].code)
        return simulator

    @pytest.fixture
    async def past(
        self,
        simulator: Simulator,
        recorder_mock: Recorder,
        hass: HomeAssistant,
        account: Account,
        freezer: FrozenDateTimeFactory,
        days: int,
    ) -> Past:
        """Return a run with all plants."""
        account.history = days
        run = Run(hass, account, simulator, freezer)
        await hass.config.async_set_time_zone("Europe/Berlin")
        await account.add_plants(simulator.home.plants)
        return Past(hass, run, full_hour(run.begin - timedelta(days=days)))

    @pytest.mark.parametrize("days", [2])
    async def test_refused_plant(self, past: Past) -> None:
        """The past of the other plants is complete, with few calls."""
        get_instance(past.hass).entity_filter = lambda entity_id: True
        await past.until("2026-06-21 14:00:30", QUARTER)
        changes = await past.changes()
        for number, plant in enumerate(past.run.simulator.home.plants):
            state = past.run.account.state(plant.code, "pv_energy")
            if number != 3:
                assert state is not None
                assert min(changes[state.entity_id]) == past.begin
        assert len(past.run.simulator.calls_to("getKpiStationHour")) <= 24
