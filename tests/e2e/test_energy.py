"""Browser tests of imported history in the Energy dashboard."""

from collections.abc import AsyncIterator
from datetime import datetime, time, timedelta
from itertools import pairwise
import re
from zoneinfo import ZoneInfo

from playwright.async_api import Page
import pytest
import pytest_asyncio

from scripts.demo import HISTORY_DAYS, add_account, wait_for_history
from scripts.energy import sources
from scripts.home_assistant import ROOT, HomeAssistant, free_port
from tests.simulator import Energies, Simulator, homes

from .pages import SCREENSHOTS, assert_readable, visible_texts

pytestmark = pytest.mark.asyncio(loop_scope="module")

BERLIN = ZoneInfo("Europe/Berlin")

# The true energies for the rows of the dashboard's table.
NAMES = {
    "Home": "load",
    "Solar total": "pv",
    "Meter-1 Import total": "grid_import",
    "Meter-1 Export total": "grid_export",
    "Lindenweg 12 Battery charge total": "charge",
    "Lindenweg 12 Battery discharge total": "discharge",
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


def assert_true(totals: dict[str, float], true: Energies, tolerance: float) -> None:
    """Assert that the totals are the true ones."""
    assert {name: totals.get(name) for name in NAMES} == {
        name: pytest.approx(getattr(true, key), rel=tolerance, abs=TOLERANCE)
        for name, key in NAMES.items()
    }


async def test_suggestion_is_valid(home_assistant: HomeAssistant) -> None:
    """Home Assistant accepts the suggested sources."""
    kinds = [source["type"] for source in await sources(home_assistant)]
    assert sorted(kinds) == ["battery", "grid", "home", "solar"]
    validation = await home_assistant.command("energy/validate")
    assert validation["energy_sources"] == [[] for _ in kinds]


async def test_yesterday(page: Page, simulator: Simulator) -> None:
    """The day before the account was added has its true energies."""
    [plant] = simulator.home.plants
    today = datetime.combine(datetime.now(BERLIN), time(), tzinfo=BERLIN)
    true = simulator.energy(plant.code, today - timedelta(days=1), today)
    assert_true(await shown(page, "yesterday"), true, 0.0)


async def test_thirty_days(page: Page, simulator: Simulator) -> None:
    """Thirty days have their true energies."""
    [plant] = simulator.home.plants
    now = datetime.now(BERLIN)
    true = simulator.energy(plant.code, now - timedelta(days=HISTORY_DAYS), now)
    assert_true(await shown(page, "now-30d"), true, 0.01)
