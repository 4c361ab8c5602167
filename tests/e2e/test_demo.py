"""What a person sees of the family home in Home Assistant."""

from collections.abc import AsyncIterator
from datetime import datetime
import re
from typing import Any
from zoneinfo import ZoneInfo

from playwright.async_api import Page
import pytest
import pytest_asyncio

from scripts.dashboard import SECTIONS
from scripts.demo import add_account
from scripts.home_assistant import DOMAIN, ROOT, HomeAssistant, free_port
from tests.simulator import Simulator, homes
from tests.simulator.clock import SetClock

from .pages import SCREENSHOTS, VISIBLE_TEXT, assert_readable, visible_texts

pytestmark = pytest.mark.asyncio(loop_scope="module")

# In what the server reports the numbers that the dashboard shows; energies are kWh.
REPORTED = {
    ("Solar", "active_power"): "kW",
    ("Solar", "mppt_power"): "kW",
    ("Battery", "battery_soc"): "%",
    ("Battery", "ch_discharge_power"): "W",
    ("Grid", "active_power"): "W",
}
POWERS_OF_TEN = {"%": 0, "W": 0, "Wh": 0, "kW": 3, "kWh": 3, "MW": 6, "MWh": 6}

# How the numbered states of a healthy home at noon read.
STATES = {
    "battery_status": {1: "Standby", 2: "Running"},
    "inverter_state": {512: "Grid-connected"},
    "real_health_state": {3: "Healthy"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def simulator() -> AsyncIterator[Simulator]:
    """Serve the family home as it is at noon today: its clock stands still."""
    noon = datetime.now(ZoneInfo("Europe/Berlin")).replace(
        hour=12, minute=2, second=0, microsecond=0
    )
    simulator = Simulator(homes.family(), SetClock(noon))
    async with simulator.serve():
        yield simulator


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home_assistant(simulator: Simulator) -> AsyncIterator[HomeAssistant]:
    """Run Home Assistant with the account and the demo's dashboard."""
    config = ROOT / ".cache" / "e2e" / "config"
    async with HomeAssistant(config, free_port()) as home_assistant:
        await add_account(home_assistant, simulator.url, "Family home")
        yield home_assistant


def assert_shows(text: str, value: float, unit: str) -> None:
    """Assert that a text has a value, rounded and in whatever unit."""
    match = re.search(r"(-?[\d,]+(?:\.\d+)?)\s*([kM]?Wh?|%)", text)
    assert match, text
    number, shown_unit = match.groups()
    factor = 10.0 ** (POWERS_OF_TEN[unit] - POWERS_OF_TEN[shown_unit])
    decimals = len(number.partition(".")[2])
    rounding = 0.501 * 10.0**-decimals
    assert float(number.replace(",", "")) == pytest.approx(
        value * factor, abs=rounding
    ), text


async def test_dashboard(
    page: Page, home_assistant: HomeAssistant, simulator: Simulator
) -> None:
    """The dashboard shows what the simulator holds."""
    await page.goto("/")
    await page.wait_for_url("**/family-home/now")
    await page.get_by_text("Inverter state").first.wait_for()
    # The graphs are drawn last.
    await page.wait_for_timeout(3000)
    await page.screenshot(path=SCREENSHOTS / "dashboard.png", full_page=True)
    assert_readable(await visible_texts(page))

    true: dict[str, dict[str, Any]] = {}
    for plant in simulator.home.plants:
        true["Plant"] = simulator.plant_items(plant.code)
        for device in plant.devices:
            items = simulator.device_items(device.id)
            true |= {
                section.kind: items for section in SECTIONS if section.having in items
            }

    cards = [
        (section.kind, key)
        for section in SECTIONS
        for device in await home_assistant.devices()
        if section.having in device.entities
        for key in section.tiles
        if key in device.entities
    ]
    assert {kind for kind, _ in cards} == {section.kind for section in SECTIONS}
    shown = await page.locator("hui-gauge-card, hui-tile-card").all()
    for (kind, key), card in zip(cards, shown, strict=True):
        text = " ".join(await card.evaluate(VISIBLE_TEXT))
        value = true[kind][key]
        if key in STATES:
            assert text.endswith(STATES[key][value]), (kind, key, text)
        else:
            assert_shows(text, value, REPORTED.get((kind, key), "kWh"))


async def test_integration_page(page: Page, simulator: Simulator) -> None:
    """The integration's page lists the plant and all its devices."""
    await page.goto(f"/config/integrations/integration/{DOMAIN}")
    await page.get_by_text("FusionSolar SmartPVMS").first.wait_for()
    for plant in simulator.home.plants:
        await page.get_by_text(plant.name).first.wait_for()
    await page.wait_for_timeout(2000)
    await page.screenshot(path=SCREENSHOTS / "integration.png", full_page=True)
    assert_readable(await visible_texts(page))


async def test_device_pages(
    page: Page, home_assistant: HomeAssistant, simulator: Simulator
) -> None:
    """A device's page shows its entities under readable names."""
    devices = await home_assistant.devices()
    expected = {"FusionSolar account"}
    expected |= {plant.name for plant in simulator.home.plants}
    for plant in simulator.home.plants:
        expected |= {device.name for device in plant.devices}
    assert {device.name for device in devices} == expected

    for device_id, name, *_ in devices:
        await page.goto(f"/config/devices/device/{device_id}")
        await page.get_by_text(name).first.wait_for()
        await page.wait_for_timeout(2000)
        file = re.sub(r"\W+", "-", name.lower())
        await page.screenshot(path=SCREENSHOTS / f"device-{file}.png", full_page=True)
        assert_readable(await visible_texts(page))


async def test_config_flow_dialog(page: Page) -> None:
    """The dialog that adds an account explains its fields."""
    await page.goto(f"/config/integrations/dashboard/add?domain={DOMAIN}")
    await page.get_by_role("button", name="OK").click()
    await page.get_by_text("User name").first.wait_for()
    await page.wait_for_timeout(1000)
    await page.screenshot(path=SCREENSHOTS / "config-flow.png")
    assert_readable(await visible_texts(page))


async def test_log(home_assistant: HomeAssistant, simulator: Simulator) -> None:
    """The log has nothing to say about the integration, and keeps its secrets."""
    log = home_assistant.log.read_text()
    records = re.split(r"\n(?=\d{4}-\d\d-\d\d )", log)
    assert [
        record
        for record in records
        if re.search(rf"{DOMAIN}|deprecated|will stop working", record)
        and re.search(r" (WARNING|ERROR|CRITICAL) ", record)
        and "has not been tested by Home Assistant" not in record
    ] == []

    plant = simulator.home.plants[0]
    secrets = ["Simulated-1", "demo_api", plant.code, plant.name]
    secrets += [device.serial_number or plant.code for device in plant.devices]
    assert [secret for secret in secrets if secret in log] == []
