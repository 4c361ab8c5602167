"""Browser tests of imported history in the Energy dashboard."""

from collections.abc import AsyncIterator
from datetime import datetime, time, timedelta
from itertools import pairwise
import math
import re
from zoneinfo import ZoneInfo

from playwright.async_api import Page
import pytest
import pytest_asyncio

from scripts.demo import HISTORY_DAYS, add_account, wait_for_history
from scripts.energy import TRUTHS, sources, true_hours
from scripts.home_assistant import ROOT, HomeAssistant, free_port
from tests.simulator import Home, Simulator, homes

from .pages import SCREENSHOTS, assert_readable, visible_texts

pytestmark = pytest.mark.asyncio(loop_scope="module")

BERLIN = ZoneInfo("Europe/Berlin")

# The sources for the rows of the dashboard's table.
NAMES = {
    "Home": ("home", "stat_energy_to"),
    "Solar total": ("solar", "stat_energy_from"),
    "Lindenweg 12 Grid import total": ("grid", "stat_energy_from"),
    "Lindenweg 12 Grid export total": ("grid", "stat_energy_to"),
    "Lindenweg 12 Battery charge total": ("battery", "stat_energy_to"),
    "Lindenweg 12 Battery discharge total": ("battery", "stat_energy_from"),
}

# Rounding of the dashboard's numbers.
TOLERANCE = 0.03


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def simulator() -> AsyncIterator[Simulator]:
    """Serve the family home with unlimited history."""
    simulator = Simulator(homes.family(), quotas="all but history")
    async with simulator.serve():
        yield simulator


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home_assistant(simulator: Simulator) -> AsyncIterator[HomeAssistant]:
    """Run Home Assistant with the account and its history."""
    config = ROOT / ".cache" / "e2e" / "energy"
    async with HomeAssistant(config, free_port(), "scripts.eager") as home_assistant:
        await add_account(home_assistant, simulator.url, "Family home", HISTORY_DAYS)
        await wait_for_history(home_assistant)
        yield home_assistant


async def shown(page: Page, period: str) -> dict[str, float]:
    """Return the totals of a period in the Energy dashboard, in kWh."""
    await page.add_init_script(
        f"localStorage['energy-default-period-_energy_dashboard'] = '{period}'"
    )
    table = "hui-energy-sources-table-card"
    # A screenshot beyond the visible part would squeeze the graphs.
    await page.set_viewport_size({"width": 1400, "height": 1660})
    # Only the summary has the totals.
    for view in ("overview", "electricity"):
        await page.goto(f"/energy/{view}")
        await page.locator(table).get_by_text("Solar total").wait_for()
        # The graphs are drawn last.
        await page.wait_for_timeout(3000)
        await page.screenshot(path=SCREENSHOTS / f"energy-{period}-{view}.png")
        assert_readable(await visible_texts(page))
    return {
        name: float(number[1].replace(",", ""))
        for name, text in pairwise(await visible_texts(page, table))
        if (number := re.fullmatch(r"-?([\d,.]+)\s+kWh", text))
    }


def assert_true(
    totals: dict[str, float],
    home: Home,
    start: datetime,
    end: datetime,
    tolerance: float,
) -> None:
    """Assert that the totals are the true ones."""
    [plant] = home.plants
    hours = true_hours(plant, start, end)
    assert {name: totals.get(name) for name in NAMES} == {
        name: pytest.approx(
            math.fsum(map(TRUTHS[source][1], hours)), rel=tolerance, abs=TOLERANCE
        )
        for name, source in NAMES.items()
    }


async def test_suggestion_is_valid(home_assistant: HomeAssistant) -> None:
    """Home Assistant accepts the suggested sources."""
    kinds = [source["type"] for source in await sources(home_assistant)]
    assert sorted(kinds) == ["battery", "grid", "home", "solar"]
    validation = await home_assistant.command("energy/validate")
    assert validation["energy_sources"] == [[] for _ in kinds]


async def test_yesterday(page: Page, simulator: Simulator) -> None:
    """The day before the account was added has its true energies."""
    today = datetime.combine(datetime.now(BERLIN), time(), tzinfo=BERLIN)
    totals = await shown(page, "yesterday")
    assert_true(totals, simulator.home, today - timedelta(days=1), today, 0.0)


async def test_thirty_days(page: Page, simulator: Simulator) -> None:
    """Thirty days have their true energies."""
    now = datetime.now(BERLIN)
    totals = await shown(page, "now-30d")
    start = now - timedelta(days=HISTORY_DAYS)
    assert_true(totals, simulator.home, start, now, 0.01)
