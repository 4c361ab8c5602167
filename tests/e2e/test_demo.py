"""Browser tests of the family home."""

from collections.abc import AsyncIterator
from datetime import datetime
import re
from zoneinfo import ZoneInfo

from playwright.async_api import Page
import pytest
import pytest_asyncio

from scripts.demo import HISTORY_DAYS, add_account, wait_for_history
from scripts.home_assistant import DOMAIN, ROOT, HomeAssistant, free_port, until
from tests.simulator import Simulator, homes

from .noon import next_noon
from .pages import SCREENSHOTS, VISIBLE_TEXT, assert_readable, cut_texts, visible_texts

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Names in the cards of the dashboard, of the plant and its devices.
PLANT = {
    "PV production today": ("day_power", "kWh"),
    "Home consumption today": ("day_use_energy", "kWh"),
    "Grid export today": ("day_on_grid_energy", "kWh"),
}
DEVICES = {
    "State of charge": (39, "battery_soc", "%"),
    "Charge today": (39, "charge_cap", "kWh"),
    "Discharge today": (39, "discharge_cap", "kWh"),
    "Inverter-1 Internal temperature": (38, "temperature", "°C"),
}
BERLIN = ZoneInfo("Europe/Berlin")
# Texts of the states of a healthy home at noon.
STATES = {
    "Health": "Healthy",
    "Inverter-1": "Grid-connected",
    "Meter-1": "Connected",
}
# Save an automation, as its editor does.
SAVE_AUTOMATION = """
automation => document.querySelector("home-assistant").hass.callApi(
    "POST", "config/automation/config/boiler", automation
)
"""
POWERS_OF_TEN = {"W": 0, "Wh": 0, "kW": 3, "kWh": 3, "MW": 6, "MWh": 6}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def simulator() -> AsyncIterator[Simulator]:
    """Serve the family home at noon with a fixed clock."""
    simulator = Simulator(homes.family(), next_noon(), quotas="all but history")
    async with simulator.serve():
        yield simulator


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home_assistant(simulator: Simulator) -> AsyncIterator[HomeAssistant]:
    """Run Home Assistant with the account and the demo's dashboard."""
    config = ROOT / ".cache" / "e2e" / "config"
    async with HomeAssistant(config, free_port(), "scripts.eager") as home_assistant:
        await add_account(home_assistant, simulator.url, "Family home", HISTORY_DAYS)
        await wait_for_history(home_assistant)
        yield home_assistant


def assert_shows(text: str, value: float, unit: str, noise: float = 0.0) -> None:
    """Assert that a text has a value, rounded and in any unit."""
    match = re.search(r"(-?[\d,]+(?:\.\d+)?)\s*([kM]?Wh?|%|°C)", text)
    assert match, text
    number, shown_unit = match.groups()
    scale = POWERS_OF_TEN.get(unit, 0) - POWERS_OF_TEN.get(shown_unit, 0)
    decimals = len(number.partition(".")[2])
    rounding = 0.501 * 10.0**-decimals
    assert float(number.replace(",", "")) == pytest.approx(
        value * 10.0**scale, abs=rounding + noise
    ), text


async def test_dashboard(
    page: Page, home_assistant: HomeAssistant, simulator: Simulator
) -> None:
    """The dashboard shows the simulator's values."""
    await page.goto("/")
    await page.wait_for_url("**/family-home/now")
    await page.get_by_text("Internal temperature").first.wait_for()
    # The graphs are drawn last.
    await page.wait_for_timeout(3000)
    await page.screenshot(path=SCREENSHOTS / "dashboard.png", full_page=True)
    assert_readable(await visible_texts(page))
    assert await cut_texts(page) == []

    cards: dict[str, list[str]] = {}
    for kind in ("hui-tile-card", "hui-gauge-card"):
        for card in await page.locator(kind).all():
            texts = await card.evaluate(VISIBLE_TEXT)
            # A tile of the other direction of a power is hidden.
            if not texts:
                continue
            # A gauge has its name below.
            name = texts[0 if kind == "hui-tile-card" else -1]
            cards.setdefault(name, []).append(" ".join(texts))

    [plant] = simulator.home.plants
    # The values were collected at the last five minutes.
    true = simulator.flows(plant.code, simulator.clock.now().replace(minute=0))
    grid, stored = true.grid_import - true.grid_export, true.discharge - true.charge

    def title(power: str, value: float, negative: str, positive: str) -> str:
        if not round(value):
            return power
        return f"{power} {negative if value < 0 else positive}"

    assert_shows(cards["Home power"][0], true.load, "W", noise=10)
    grid_name = title("Grid power", grid, "Export", "Import")
    assert_shows(cards[grid_name][0], grid, "W", noise=2)
    # On the AC side, after losses of the inverter.
    assert_shows(cards["PV power"][0], true.pv, "W", noise=true.losses + 2)
    battery_name = title("Battery power", stored, "Charging", "Discharging")
    assert_shows(cards[battery_name][0], stored, "W", noise=true.losses + 2)
    items = simulator.plant_items(plant.code)
    # Home Assistant's clock is real: in the first hours of its day, the energies of
    # the simulated morning belong to yesterday, and are not shown.
    is_early = datetime.now(BERLIN).hour < 6
    for name, (key, unit) in PLANT.items():
        if not (is_early and unit == "kWh"):
            assert_shows(cards[name][0], items[key], unit)
    of_type = {device.type_id: device.id for device in plant.devices}
    for name, (type_id, key, unit) in DEVICES.items():
        if not (is_early and unit == "kWh"):
            value = simulator.device_items(of_type[type_id])[key]
            assert_shows(cards[name][-1], value, unit)
    assert {name: cards[name][0] for name in STATES} == {
        name: f"{name} {state}" for name, state in STATES.items()
    }


async def test_energy_view(page: Page) -> None:
    """The second view of the dashboard shows energies."""
    # A screenshot beyond the visible part would squeeze the graphs.
    await page.set_viewport_size({"width": 1400, "height": 1300})
    await page.goto("/family-home/energy")
    await page.get_by_text("Solar total").wait_for()
    await page.wait_for_timeout(3000)
    await page.screenshot(path=SCREENSHOTS / "dashboard-energy.png")
    assert_readable(await visible_texts(page))


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
    """A device's page shows its entities with readable names."""
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
    """The dialog for adding an account explains its fields."""
    await page.goto(f"/config/integrations/dashboard/add?domain={DOMAIN}")
    await page.get_by_role("button", name="OK").click()
    await page.get_by_text("User name").first.wait_for()
    await page.wait_for_timeout(1000)
    await page.screenshot(path=SCREENSHOTS / "config-flow.png")
    assert_readable(await visible_texts(page))


async def test_automation(page: Page, home_assistant: HomeAssistant) -> None:
    """An automation from a blueprint turns on the boiler of the demo."""
    await page.goto("/")
    await page.wait_for_url("**/family-home/now")
    assert await home_assistant.state("switch.boiler") == "off"
    blueprint = {
        "path": f"{DOMAIN}/surplus_load.yaml",
        "input": {
            "power": "sensor.meter_1_export_power",
            "positive": "export",
            "load": "switch.boiler",
            # The meter reports more, whatever the weather of the day.
            "on_above": -100_000,
            "on_minutes": 0,
        },
    }
    automation = {"alias": "Surplus into the boiler", "use_blueprint": blueprint}
    await page.evaluate(SAVE_AUTOMATION, automation)

    async def is_on() -> bool | None:
        return await home_assistant.state("switch.boiler") == "on" or None

    await until("boiler", is_on, 30)


async def test_log(home_assistant: HomeAssistant, simulator: Simulator) -> None:
    """The log has no entries of the integration, and no secrets."""
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
