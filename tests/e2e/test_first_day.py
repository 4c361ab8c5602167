"""Browser test of the first day: from no account to a right Energy dashboard."""

from collections.abc import AsyncIterator
from time import monotonic

from playwright.async_api import Browser
import pytest
import pytest_asyncio

from scripts.demo import (
    SIMULATED_PASSWORD,
    SIMULATED_USERNAME,
    check_energy,
    wait_for_history,
)
from scripts.energy import sources
from scripts.home_assistant import ROOT, SETTINGS, HomeAssistant, free_port
from tests.simulator import Simulator, homes

from .noon import next_noon
from .pages import Clicks, look, open_page

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLICKS_LIMIT = 12

SOURCES = {
    "grid": {
        "stat_energy_from": "sensor.lindenweg_12_grid_import_total",
        "stat_energy_to": "sensor.lindenweg_12_grid_export_total",
        "stat_rate": "sensor.lindenweg_12_grid_power",
    },
    "solar": {
        "stat_energy_from": "sensor.lindenweg_12_pv_production_total",
        "stat_rate": "sensor.lindenweg_12_pv_power",
    },
    "battery": {
        "stat_energy_from": "sensor.lindenweg_12_battery_discharge_total",
        "stat_energy_to": "sensor.lindenweg_12_battery_charge_total",
        "stat_rate": "sensor.lindenweg_12_battery_power",
        "stat_soc": "sensor.battery_1_state_of_charge",
    },
    "home": {
        "stat_energy_to": "sensor.lindenweg_12_home_consumption_total",
        "stat_rate": "sensor.lindenweg_12_home_power",
    },
}
# Elements that show an error or a missing entity.
WARNINGS = "ha-alert[alert-type=warning], ha-alert[alert-type=error], hui-warning, hui-error-card"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def simulator() -> AsyncIterator[Simulator]:
    """Serve the family home at noon with a fixed clock."""
    simulator = Simulator(
        homes.family(),
        next_noon(),
        SIMULATED_USERNAME,
        SIMULATED_PASSWORD,
        quotas="all but history",
    )
    async with simulator.serve():
        yield simulator


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home_assistant() -> AsyncIterator[HomeAssistant]:
    """Run Home Assistant without an account."""
    config = ROOT / ".cache" / "e2e-first-day" / "config"
    async with HomeAssistant(config, free_port(), "scripts.eager") as home_assistant:
        yield home_assistant


async def test_first_day(
    browser: Browser,
    home_assistant: HomeAssistant,
    simulator: Simulator,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A new owner sees the Energy dashboard after a few clicks."""
    click = Clicks()
    async with open_page(
        browser,
        home_assistant,
        timezone_id=SETTINGS["time_zone"],
        viewport={"width": 1280, "height": 900},
    ) as page:
        begin = monotonic()
        await page.goto("/")
        await click(page.get_by_role("link", name="Settings"))
        await click(page.get_by_text("Devices & services"))
        await click(page.get_by_role("button", name="Add integration"))
        await page.get_by_placeholder("Search for a brand name").fill("fusionsolar")
        await click(page.get_by_text("FusionSolar SmartPVMS"))
        await click(page.get_by_role("button", name="Host"))
        await page.get_by_placeholder("Add custom item").fill(simulator.url)
        await click(page.get_by_role("option", name="Add custom item"))
        # Input before the form has its host is lost.
        await page.get_by_role("button", name=simulator.url).wait_for()
        await page.get_by_role("textbox", name="User name").fill(SIMULATED_USERNAME)
        await page.get_by_role("textbox", name="Password").fill(SIMULATED_PASSWORD)
        await click(page.get_by_role("button", name="Submit"))
        clicks_to_log_in = click.count

        await page.get_by_text("You can set up the Energy dashboard").wait_for()
        await look(page, "first-day-created")
        await click(page.get_by_role("button", name="Skip and finish"))
        await click(page.get_by_role("button", name="Configure"))
        await click(page.get_by_text("Set up the Energy dashboard"))
        await page.get_by_text("These entities are added").wait_for()
        await look(page, "first-day-entities")
        await click(page.get_by_role("button", name="Add", exact=True))
        await page.get_by_text("The entities were added").wait_for()
        await look(page, "first-day-added")
        await click(page.get_by_role("link", name="Energy dashboard"))
        await page.get_by_text("Energy distribution").wait_for()
        seconds = monotonic() - begin
        clicks = click.count - clicks_to_log_in
        with capsys.disabled():
            print(
                f"\nFirst day: {clicks} clicks after the credentials, {seconds:.1f} s"
            )
        assert clicks <= CLICKS_LIMIT
        assert page.url == f"{home_assistant.url}/energy/overview"
        await look(page, "first-day-dashboard")
        assert await page.locator(WARNINGS).count() == 0

        chosen = await sources(home_assistant)
        assert {
            source["type"]: {
                key: value
                for key, value in source.items()
                if key.startswith("stat_") and value
            }
            for source in chosen
        } == SOURCES
        await wait_for_history(home_assistant)
        await check_energy(home_assistant, simulator.home)
        problems = await home_assistant.command("energy/validate")
        assert problems["energy_sources"] == [[]] * len(chosen)
        for path in ("/energy", "/config/energy"):
            await page.goto(path)
            await page.get_by_text("Grid").first.wait_for()
            await look(page, f"first-day{path.replace('/', '-')}")
            assert await page.locator(WARNINGS).count() == 0
