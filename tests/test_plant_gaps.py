"""Tests of gaps in a plant's energies, and of faults while its past is imported."""

from collections.abc import Callable
from datetime import datetime, timedelta
import math
from typing import Any, Final

import pytest

from custom_components.smartpvms.northbound import NorthboundClient
from homeassistant.components.recorder import get_instance
from homeassistant.helpers import entity_registry as er
from tests.simulator import homes
from tests.simulator.plants import Home

from . import history, statistics, test_plant_reports as reports
from .conftest import POLL
from .history import HOUR, Past, full_hour
from .test_history import request
from .test_plant_reports import ENERGIES, QUARTER, check, check_hours, reported, settle

recorder_config = statistics.recorder_config
simulator = history.simulator
past = history.past
home = reports.home
start = reports.start

LIVE: Final = ("getStationRealKpi", "getDevRealKpi")
REPORT: Final = "getKpiStationHour"


@pytest.fixture
def days() -> int:
    """Return the number of days to import when the account is added."""
    return 0


@pytest.fixture(autouse=True)
def recorded(past: Past) -> None:
    """Record the totals of the plant, and no devices, which takes less time."""
    get_instance(past.hass).entity_filter = lambda entity_id: (
        entity_id.startswith("sensor.lindenweg_12_") and entity_id.endswith("_total")
    )


async def outage(past: Past, begin: str, end: str, passed: timedelta = POLL) -> None:
    """Let the server have no live values for a time."""
    await past.until(begin, passed)
    for interface in LIVE:
        past.run.simulator.withdraw_permission(interface)
    await past.until(end, passed)
    for interface in LIVE:
        past.run.simulator.grant_permission(interface)


def distort(past: Past, item: str, change: Callable[[float], float]) -> None:
    """Change an item of the hour reports."""
    [plant] = past.run.simulator.home.plants
    past.run.simulator.reports.distort(
        REPORT, plant.code, item, lambda at, value: change(value)
    )


async def shown(past: Past, key: str) -> dict[datetime, float]:
    """Return the hours of an energy of the plant."""
    [plant] = past.run.simulator.home.plants
    registered = past.run.account.registered(plant.code, key)
    assert registered is not None
    return (await past.changes())[registered.entity_id]


async def sums_are_reported(past: Past, begin: datetime, end: datetime) -> None:
    """Check that a period has the energies of the reports, and no hour is negative.

    The readings at both ends are late by up to ten minutes, and the reports count the
    production on the other side of the inverter.
    """
    for key, hours in reported(past, begin, end).items():
        of_key = await shown(past, key)
        total = math.fsum(
            energy for hour, energy in of_key.items() if begin <= hour < end
        )
        true = math.fsum(hours.values())
        allowed = 0.1 + 0.005 * true + (hours[min(hours)] + hours[max(hours)]) / 6
        allowed += 0.05 * true * (ENERGIES[key] == "PVYield")
        assert total == pytest.approx(true, abs=allowed), key
        assert min(of_key.values()) >= 0, key


@pytest.mark.parametrize("days", [6])
async def test_unavailable(past: Past) -> None:
    """The past is complete although the server has no live values for a time."""
    importer = past.run.account.entry.runtime_data.history
    while importer.plants.days_left > 5:
        await past.poll(POLL)
    for interface in LIVE:
        past.run.simulator.withdraw_permission(interface)
    now = past.run.now
    await past.until(now + 2 * HOUR, QUARTER)
    [plant] = past.run.simulator.home.plants
    assert past.run.account.value(plant.code, "home_energy") == "unavailable"
    for interface in LIVE:
        past.run.simulator.grant_permission(interface)
    await past.until(now + 3 * HOUR, QUARTER)
    await settle(past)
    await check(past, past.begin, past.run.at("2026-06-21 10:00"))


async def test_added_again(past: Past) -> None:
    """The days between a removal and the next set-up are those of the reports."""
    await past.until("2026-06-21 13:00:30", QUARTER)
    await settle(past)
    begin = past.run.at("2026-06-21 11:00")
    await get_instance(past.hass).async_block_till_done()
    entries = past.hass.config_entries
    await entries.async_remove(past.run.account.entry.entry_id)
    await past.hass.async_block_till_done()
    past.run._freezer.tick(timedelta(days=3))  # noqa: SLF001
    past.run.account.history = 2
    await past.run.account.add()
    await past.hass.async_block_till_done(wait_background_tasks=True)
    past.run._open = full_hour(past.run.now)  # noqa: SLF001
    await past.until("2026-06-26 14:20", QUARTER)
    await settle(past)
    end = past.run.at("2026-06-24 14:00")
    await sums_are_reported(past, begin, end)


@pytest.mark.parametrize("days", [1])
@pytest.mark.parametrize("lag", [2, 2.5, 3])
async def test_late_set_up_hour(past: Past, lag: float) -> None:
    """The hour of the set-up waits for its complete report."""
    past.run.simulator.reports.lag = timedelta(hours=lag)
    await past.until("2026-06-21 15:40:30", QUARTER)
    await settle(past)
    past.run.simulator.reports.lag = timedelta()
    begin = past.run.at("2026-06-21 10:00")
    await check_hours(past, begin, begin + HOUR)


@pytest.mark.parametrize("days", [1])
@pytest.mark.parametrize("off", ["10:30", "10:50"])
@pytest.mark.parametrize("on", ["11:12", "14:10"])
async def test_gap_in_the_set_up_hour(past: Past, off: str, on: str) -> None:
    """A gap that begins in the hour of the set-up is counted once."""
    await past.until(f"2026-06-21 {off}", POLL)
    await past.off(f"2026-06-21 {on}")
    await past.until("2026-06-21 17:30:30", QUARTER)
    await settle(past)
    begin = past.run.at("2026-06-21 10:00")
    await sums_are_reported(past, begin, past.run.at("2026-06-21 17:00"))
    await check_hours(past, begin, begin + HOUR)


async def test_live_hours_are_kept(past: Past) -> None:
    """A wrong report of a gap changes no hour in which nothing was missing."""
    distort(past, "use_power", lambda energy: 1.4 * energy)
    await outage(past, "2026-06-21 20:05", "2026-06-21 20:50")
    await past.until("2026-06-21 23:00:30", QUARTER)
    before = await shown(past, "home_energy")
    await past.until("2026-06-23 04:00:30", QUARTER)
    await settle(past)
    after = await shown(past, "home_energy")
    gap = past.run.at("2026-06-21 20:00")
    assert {hour: after[hour] for hour in before if hour != gap} == {
        hour: energy for hour, energy in before.items() if hour != gap
    }


async def test_daily_outages(past: Past) -> None:
    """Gaps end, and their calls are few, while the reports are wrong."""
    distort(past, "use_power", lambda energy: 1.4 * energy)
    importer = past.run.account.entry.runtime_data.history
    for day in range(21, 26):
        await outage(past, f"2026-06-{day} 20:00", f"2026-06-{day} 21:10", QUARTER)
        await past.until(f"2026-06-{day} 23:30", QUARTER)
        assert len([span for span in importer.plants.spans if span.is_import]) <= 2
    assert len(past.run.simulator.calls_to(REPORT)) < 50


async def test_request_after_a_wrong_report(past: Past) -> None:
    """A request leaves the hours of a gap whose report has too little energy."""
    distort(past, "buyPower", lambda energy: energy / 2)
    await outage(past, "2026-06-21 18:40", "2026-06-22 05:10", QUARTER)
    await past.until("2026-06-23 19:00:30", QUARTER)
    await settle(past)
    before = await shown(past, "grid_import")
    await request(past, "2026-06-21 12:00:00")
    await past.until("2026-06-23 22:00:30", QUARTER)
    await settle(past)
    after = await shown(past, "grid_import")
    assert {hour: after[hour] for hour in before} == before


class TestRefused:
    """Plants that the server refuses after the set-up."""

    simulator = reports.TestFleet.simulator
    past = reports.TestFleet.past

    @pytest.fixture
    def home(self) -> Home:
        """Return a fleet."""
        return homes.fleet(plants=14, devices=14)

    @pytest.mark.parametrize("days", [60])
    async def test_others_go_on(self, past: Past) -> None:
        """Most calls read the reports of plants that are allowed."""
        get_instance(past.hass).entity_filter = lambda entity_id: (
            "pv_production_total" in entity_id
        )
        simulator = past.run.simulator
        await past.until("2026-06-21 12:30:30", QUARTER)
        refused = {plant.code for plant in simulator.home.plants[:12]}
        for code in refused:
            simulator.unauthorize(code)
        spans = past.run.account.entry.runtime_data.history.plants.spans

        def days_left() -> float:
            left = [span.days_left for span in spans if span.code not in refused]
            return max(left)

        await past.until("2026-06-22 12:30:30", QUARTER)
        before = days_left()
        await past.until("2026-06-23 12:30:30", QUARTER)
        assert before - days_left() > 15


class TestUnit:
    """A plant whose energies are recorded in MWh."""

    @pytest.fixture
    async def past(self, past: Past) -> Past:
        """Record the energies in MWh from the start."""
        for entity in past.run.account.entities():
            if entity.unique_id.startswith("NE="):
                er.async_get(past.hass).async_update_entity_options(
                    entity.entity_id, "sensor", {"unit_of_measurement": "MWh"}
                )
        await past.hass.async_block_till_done()
        return past

    async def test_wrong_report(self, past: Past) -> None:
        """The energy of a gap is kept if the report has half of it."""
        distort(past, "buyPower", lambda energy: energy / 2)
        await outage(past, "2026-06-21 18:40", "2026-06-22 05:10", QUARTER)
        await past.until("2026-06-22 06:00:30", QUARTER)
        before = await shown(past, "grid_import")
        await past.until("2026-06-23 19:00:30", QUARTER)
        await settle(past)
        after = await shown(past, "grid_import")
        assert 0 < max(before.values()) < 0.1
        assert {hour: after[hour] for hour in before} == before


async def test_wrong_clock(past: Past) -> None:
    """Stored times of a clock that was ahead do not delay a gap."""
    await past.until("2026-06-21 15:30", QUARTER)
    await past.until("2026-06-21 16:40", POLL)
    await past.off("2026-06-21 19:10")
    account = past.run.account
    key = f"smartpvms.{account.entry.entry_id}.history"
    await past.until("2026-06-21 19:20", POLL)
    await past.run.restart()
    [span, *_] = account._storage[key]["data"]["spans"]  # noqa: SLF001
    assert span["kind"] == "gap"
    wrong = "2027-06-21T19:20:00+00:00"
    span["planned"] = span["due"] = wrong
    await account.kill()
    await past.until("2026-06-21 20:10", POLL)
    await past.until("2026-06-22 23:30", QUARTER)
    assert not account.entry.runtime_data.history.days_left
    await sums_are_reported(
        past, past.run.at("2026-06-21 16:00"), past.run.at("2026-06-21 23:00")
    )
    produced = await shown(past, "pv_energy")
    assert all(produced[past.run.at(f"2026-06-21 {hour}:00")] > 1 for hour in (17, 18))


@pytest.mark.parametrize("days", [2])
@pytest.mark.parametrize("lag", [5.5, 12])
async def test_late_past(past: Past, lag: float) -> None:
    """Past days wait for their complete reports."""
    past.run.simulator.reports.lag = timedelta(hours=lag)
    await past.until("2026-06-21 16:00:30", QUARTER)
    await settle(past)
    past.run.simulator.reports.lag = timedelta()
    await check(past, past.begin, past.run.at("2026-06-21 11:00"))


@pytest.mark.parametrize("days", [2])
async def test_renamed_entity(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entity that is renamed during a request gets its whole past."""
    [plant] = past.run.simulator.home.plants
    read = NorthboundClient.plant_reports

    async def renaming(*args: Any) -> Any:
        result = await read(*args)
        if len(past.run.simulator.calls_to(REPORT)) == 2:
            registered = past.run.account.registered(plant.code, "home_energy")
            assert registered is not None
            er.async_get(past.hass).async_update_entity(
                registered.entity_id, new_entity_id="sensor.lindenweg_12_renamed_total"
            )
        return result

    monkeypatch.setattr(NorthboundClient, "plant_reports", renaming)
    await past.until("2026-06-21 13:00:30", QUARTER)
    await settle(past)
    assert "sensor.lindenweg_12_renamed_total" in await past.changes()
    await check(past, past.begin, past.run.at("2026-06-21 11:00"))


@pytest.mark.parametrize("days", [3])
@pytest.mark.parametrize("stop", ["reload", "kill"])
async def test_stop_while_plants_are_left(past: Past, stop: str) -> None:
    """A stop while only a plant's energies are left to import loses nothing."""
    run = past.run
    importer = run.account.entry.runtime_data.history
    while importer.queue.days_left or not importer.plants.spans:
        await past.poll(QUARTER)
    left = importer.plants.days_left
    assert left
    if stop == "reload":
        await run.restart()
    else:
        await run.account.kill(off=timedelta(minutes=1))
    assert run.account.entry.runtime_data.history.plants.days_left == left
    await past.until("2026-06-21 13:00:30", QUARTER)
    await settle(past)
    await check(past, past.begin, run.at("2026-06-21 11:00"))
