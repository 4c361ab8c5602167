"""Tests of the audit, which compares a plant's statistics with its reports."""

from datetime import UTC, datetime, timedelta
from typing import Final

from hypothesis import given, strategies as st
import pytest

from custom_components.smartpvms.account import ACCOUNTS
from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.diagnostics import async_get_config_entry_diagnostics
from custom_components.smartpvms.statistics.audit import Audit, Difference, difference
from homeassistant.components.recorder import get_instance
from homeassistant.components.repairs import repairs_flow_manager
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
from tests.simulator import homes
from tests.simulator.counter_faults import replaced
from tests.simulator.plants import Home

from . import history, statistics
from .conftest import POLL
from .history import Past
from .test_plant_reports import QUARTER, reported

recorder_config = statistics.recorder_config
simulator = history.simulator
past = history.past

DAY: Final = timedelta(days=1)
MIDNIGHT: Final = datetime(2026, 6, 20, 22, tzinfo=UTC)


@pytest.fixture
def home() -> Home:
    """Return a home with a battery."""
    return homes.family()


@pytest.fixture
def start() -> str:
    """Return when the account is added."""
    return "2026-06-21 22:10:30+02:00"


@pytest.fixture
def days() -> int:
    """Return the number of days to import when the account is added."""
    return 0


hours = st.dictionaries(
    st.integers(0, 23).map(lambda hour: hour * 3600.0), st.floats(0, 50), min_size=1
)


@given(hours, st.floats(0, 0.005))
@pytest.mark.fast
def test_small_differences(energies: dict[float, float], share: float) -> None:
    """A difference within the tolerance is none, and half of the energy is one."""
    counted = {hour: energy * (1 + share) for hour, energy in energies.items()}
    assert difference(counted, energies) is None
    more = {hour: energy + 1 for hour, energy in energies.items()}
    twice = {hour: 2 * energy for hour, energy in more.items()}
    assert difference(twice, more) is not None
    assert difference(twice, more, losses=1.0) is None


@pytest.mark.fast
def test_midnights() -> None:
    """The energy of ten minutes at both midnights may be missing."""
    energies = {0.0: 6.0, 3600.0: 0.0, 7200.0: 6.0}
    assert difference({0.0: 4.0, 3600.0: 0.0, 7200.0: 6.0}, energies) is None
    assert difference({0.0: 3.5, 3600.0: 0.0, 7200.0: 6.0}, energies) is not None


@pytest.mark.fast
def test_three_days_of_a_week() -> None:
    """An energy is in doubt after three days of a week that differ much."""
    audit = Audit()
    large, small = Difference(4.0, 5.0), Difference(4.9, 5.0)

    def add(number: int, **differences: Difference) -> None:
        start = MIDNIGHT + number * DAY
        audit.add("A", start, start + DAY, differences)

    for number in (0, 1, 7, 8):
        add(number, home_energy=large, grid_import=small)
        assert audit.doubtful("A") == {}
    add(9, home_energy=large)
    assert audit.doubtful("A") == {"home_energy": Difference(12.0, 15.0)}
    assert audit.doubtful("B") == {}
    audit.decide("A")
    assert audit.doubtful("A") == {}
    for number in (10, 11):
        add(number, home_energy=large)
    assert audit.doubtful("A") == {}
    add(12, home_energy=large)
    assert audit.doubtful("A") == {"home_energy": Difference(12.0, 15.0)}
    audit.keep({"A"})
    assert audit.days
    audit.keep({"B"})
    assert (audit.days, [*audit.until]) == ([], [])


def checked(past: Past) -> str | None:
    """Return the state of the sensor of the audit."""
    return past.run.account.value(past.run.account.entry.entry_id, "statistics_checked")


async def differences(past: Past) -> dict[str, dict[str, dict[str, float]]]:
    """Return the differences that the diagnostics show, by day and key."""
    diagnostics = await async_get_config_entry_diagnostics(
        past.hass, past.run.account.entry
    )
    [of_plant] = diagnostics["history"]["audit"].values()
    found: dict[str, dict[str, dict[str, float]]] = of_plant["differences"]
    return found


async def test_days_that_agree(past: Past) -> None:
    """A day is compared once with its report, by one call."""
    get_instance(past.hass).entity_filter = lambda entity_id: True
    assert checked(past) == "unknown"
    await past.until("2026-06-23 01:00:30", POLL)
    assert checked(past) == "unknown"
    calls = past.run.simulator.calls_to("getKpiStationHour")
    calls.clear()
    await past.until("2026-06-23 02:00:30", POLL)
    assert checked(past) == "2026-06-22T22:00:00+00:00"
    await past.until("2026-06-24 02:00:30", POLL)
    assert checked(past) == "2026-06-23T22:00:00+00:00"
    assert await differences(past) == {}
    assert len(past.run.simulator.calls_to("getKpiStationHour")) <= 4
    assert past.run.simulator.refusals == []


class TestDoubt:
    """A report that has another energy of the home on three days."""

    @pytest.fixture
    async def doubtful(self, past: Past) -> ir.IssueEntry:
        """Return the issue of the statistics."""
        get_instance(past.hass).entity_filter = lambda entity_id: True
        assert await async_setup_component(past.hass, "repairs", {})
        [plant] = past.run.simulator.home.plants
        past.run.simulator.reports.distort(
            "getKpiStationHour",
            plant.code,
            "use_power",
            lambda at, value: round(1.2 * value, 2),
        )
        await past.until("2026-06-26 01:00:30", QUARTER)
        assert self.issues(past.hass) == []
        await past.until("2026-06-26 12:00:30", QUARTER)
        of_days = await differences(past)
        assert {tuple(each) for each in of_days.values()} == {("home_energy",)}
        assert len(of_days) == 3
        [issue] = self.issues(past.hass)
        return issue

    @staticmethod
    def issues(hass: HomeAssistant) -> list[ir.IssueEntry]:
        """Return the active issues of the integration."""
        issues = ir.async_get(hass).issues.values()
        return [each for each in issues if each.domain == DOMAIN and each.active]

    async def decide(self, past: Past, issue: ir.IssueEntry, choice: str) -> None:
        """Choose from the menu of the issue."""
        flows = repairs_flow_manager(past.hass)
        assert flows is not None
        result = await flows.async_init(
            DOMAIN,
            context={"issue_id": issue.issue_id},
            data={"issue_id": issue.issue_id},
        )
        assert result["type"] is FlowResultType.MENU
        assert result["description_placeholders"] == issue.translation_placeholders
        result = await flows.async_configure(
            result["flow_id"], {"next_step_id": choice}
        )
        assert result["type"] is FlowResultType.CREATE_ENTRY
        assert self.issues(past.hass) == []

    async def energies(self, past: Past) -> dict[datetime, float]:
        """Return the statistics of the energy of the home."""
        [plant] = past.run.simulator.home.plants
        state = past.run.account.state(plant.code, "home_energy")
        assert state is not None
        return (await past.changes())[state.entity_id]

    async def test_issue(self, past: Past, doubtful: ir.IssueEntry) -> None:
        """The issue shows both numbers."""
        energies = await self.energies(past)
        begin, end = past.run.at("2026-06-22 00:00"), past.run.at("2026-06-25 00:00")
        counted = sum(each for hour, each in energies.items() if begin <= hour < end)
        placeholders = doubtful.translation_placeholders
        assert placeholders is not None
        report = sum(reported(past, begin, end)["home_energy"].values())
        assert placeholders["energies"] == (
            f"- Home consumption total: {counted:.1f} kWh, {report:.1f} kWh"
        )
        assert report == pytest.approx(1.2 * counted, rel=0.01)

    async def test_keep(self, past: Past, doubtful: ir.IssueEntry) -> None:
        """The statistics stay as they are if the user keeps them."""
        before = await past.rows()
        await self.decide(past, doubtful, "keep")
        await past.until("2026-06-26 14:00:30", QUARTER)
        after = await past.rows()
        assert {key: after[key] for key in before} == before
        assert self.issues(past.hass) == []

    async def test_use_reports(self, past: Past, doubtful: ir.IssueEntry) -> None:
        """The hours of these days become those of the report, and no others."""
        before = await past.changes()
        await self.decide(past, doubtful, "use_reports")
        await past.until("2026-06-26 14:00:30", QUARTER)
        begin, end = past.run.at("2026-06-22 00:00"), past.run.at("2026-06-25 00:00")
        energies = await self.energies(past)
        expected = reported(past, begin, end)["home_energy"]
        assert {hour: energies[hour] for hour in expected} == pytest.approx(
            expected, abs=0.01
        )
        for entity_id, of_entity in (await past.changes()).items():
            is_energy = of_entity == energies
            for hour, change in before[entity_id].items():
                if not (is_energy and begin <= hour < end):
                    assert of_entity[hour] == pytest.approx(change, abs=1e-6)
        assert self.issues(past.hass) == []


async def _lose_files(past: Past) -> None:
    """Start Home Assistant without the stored state of the account."""
    account = past.run.account
    entries = past.hass.config_entries
    assert await entries.async_unload(account.entry.entry_id)
    del past.hass.data[ACCOUNTS]
    for name in [each for each in account._storage if each.startswith(DOMAIN)]:  # noqa: SLF001
        del account._storage[name]  # noqa: SLF001
    assert await entries.async_setup(account.entry.entry_id)
    await past.hass.async_block_till_done(wait_background_tasks=True)


@pytest.mark.parametrize(("days", "is_lost"), [(0, False), (1, True)])
async def test_accepted_level(past: Past, is_lost: bool) -> None:
    """The energy that the filter left out of a replaced meter is that of the report.

    The same applies if the file is lost before the difference is confirmed.
    """
    get_instance(past.hass).entity_filter = lambda entity_id: True
    [plant] = past.run.simulator.home.plants
    at = past.run.at("2026-06-22 12:20")
    for truth in past.truths:
        counter = truth.counter
        if counter.device and counter.key in ("active_cap", "reverse_active_cap"):
            past.run.simulator.distort(
                counter.device.id, counter.key, replaced(counter, at)
            )
            past.run.simulator.distort(
                counter.device.id, "active_power", lambda at, value: None
            )
    await past.until("2026-06-22 18:00:30", POLL)
    if is_lost:
        await past.until("2026-06-23 08:00:30", QUARTER)
        await _lose_files(past)
    await past.until("2026-06-24 14:00:30", QUARTER)
    assert await differences(past) == {}
    changes = await past.changes()
    state = past.run.account.state(plant.code, "grid_export")
    assert state is not None
    begin, end = past.run.at("2026-06-22 00:00"), past.run.at("2026-06-23 00:00")
    expected = reported(past, begin, end)["grid_export"]
    hours = {hour: changes[state.entity_id][hour] for hour in expected}
    # All other hours are those of the counter, or of the report.
    assert hours == pytest.approx(expected, abs=0.05)
    doubtful = at.replace(minute=0)
    assert hours[doubtful] == pytest.approx(expected[doubtful], abs=0.01)
