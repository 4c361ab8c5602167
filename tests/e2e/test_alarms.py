"""Browser tests of alarms, in English and German."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from playwright.async_api import Page
import pytest
import pytest_asyncio

from scripts.demo import SIMULATED_PASSWORD, SIMULATED_USERNAME
from scripts.home_assistant import DOMAIN, ROOT, Device, HomeAssistant, free_port, until
from tests.simulator import Simulator, alarms, homes

from .pages import cut_texts, look

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVENT = "event.lindenweg_12_alarm"
# Data items of the cards of alarms.
KEYS = ("active_alarms", "alarm")
# Name and event of the alarm, and names of the entities of plant and device.
TEXTS = {
    "en": ("Device abnormal", "Raised", "Active alarms", "Problem"),
    "de": ("Gerät gestört", "Ausgelöst", "Aktive Alarme", "Problem"),
}
AUTOMATION: dict[str, Any] = {
    "alias": "Alarms",
    "use_blueprint": {"path": f"{DOMAIN}/alarm.yaml", "input": {"plants": [EVENT]}},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def simulator() -> AsyncIterator[Simulator]:
    """Serve the family home, whose inverter has an alarm."""
    simulator = Simulator(homes.family(), quotas=False)
    inverter = simulator.home.plants[0].devices[1]
    at = datetime.now(UTC) - timedelta(minutes=20)
    simulator.alarms.start(inverter, alarms.FAULT, at)
    async with simulator.serve():
        yield simulator


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=TEXTS)
async def language(request: pytest.FixtureRequest) -> str:
    """Return the language of Home Assistant and its user."""
    language: str = request.param
    return language


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home_assistant(
    simulator: Simulator, language: str
) -> AsyncIterator[HomeAssistant]:
    """Run Home Assistant with the account, in a language."""
    config = ROOT / ".cache" / "e2e" / "alarms"
    async with HomeAssistant(config, free_port(), "scripts.eager") as home_assistant:
        await home_assistant.set_language(language)
        await home_assistant.request(
            "POST", "/api/config/automation/config/alarm", json=AUTOMATION
        )
        await home_assistant.add_integration(
            host=simulator.url,
            username=SIMULATED_USERNAME,
            password=SIMULATED_PASSWORD,
            history=0,
        )
        await _add_dashboard(home_assistant)
        yield home_assistant


async def _add_dashboard(home_assistant: HomeAssistant) -> None:
    """Create a dashboard of the suggested cards of alarms, in any language."""

    async def plant() -> Device | None:
        devices = await home_assistant.devices()
        return next((each for each in devices if "alarm" in each.entities), None)

    entities = (await until("alarms", plant, 60)).entities
    suggested = await home_assistant.action("suggest_dashboard")
    shown = [entities[key] for key in KEYS]
    cards = [
        card
        for section in suggested["views"][0]["sections"]
        for card in section["cards"]
        if card.get("entity") in shown
    ]
    assert len(cards) == len(KEYS)
    sections = [{"type": "grid", "cards": cards}]
    view = {"title": "Now", "path": "now", "type": "sections", "sections": sections}
    await home_assistant.create_dashboard("Family home", {"views": [view]})


async def _device(home_assistant: HomeAssistant, name: str) -> str:
    devices = await home_assistant.devices()
    return next(device.id for device in devices if device.name == name)


async def test_dashboard(page: Page, language: str) -> None:
    """The dashboard shows the number of alarms, and the last one."""
    await page.goto("/")
    await page.wait_for_url("**/family-home/now")
    name, _, active, _ = TEXTS[language]
    await page.get_by_text(active).first.wait_for()
    await page.wait_for_timeout(3000)
    texts = await look(page, f"alarms-dashboard-{language}")
    assert any(name in text for text in texts)
    assert active in texts


async def test_device_pages(
    page: Page, home_assistant: HomeAssistant, language: str
) -> None:
    """The pages of plant and inverter show their entities of alarms."""
    *_, active, problem = TEXTS[language]
    for device, shown in (
        ("Lindenweg 12", {active}),
        ("Inverter-1", {problem}),
    ):
        device_id = await _device(home_assistant, device)
        await page.goto(f"/config/devices/device/{device_id}")
        await page.get_by_text(device).first.wait_for()
        await page.wait_for_timeout(3000)
        texts = await look(
            page, f"alarms-{device.lower().replace(' ', '-')}-{language}"
        )
        assert shown <= {*texts}
        assert not shown & {*await cut_texts(page)}


async def test_event(page: Page, language: str) -> None:
    """The dialog of the event shows its activity."""
    _, raised, *_ = TEXTS[language]
    await page.goto("/")
    await page.wait_for_url("**/family-home/now")
    await page.evaluate(
        """entityId => document.querySelector("home-assistant").dispatchEvent(
            new CustomEvent("hass-more-info", {detail: {entityId}})
        )""",
        EVENT,
    )
    await page.get_by_text(raised).first.wait_for()
    await page.wait_for_timeout(2000)
    await look(page, f"alarms-event-{language}")


async def test_message(
    page: Page, home_assistant: HomeAssistant, language: str
) -> None:
    """The blueprint shows a notification with the texts of the server."""
    name, *_ = TEXTS[language]

    async def is_shown() -> bool | None:
        shown = await home_assistant.command("persistent_notification/get")
        return any(name in each["message"] for each in shown) or None

    await until("notification", is_shown, 30)
    await page.goto("/")
    await page.wait_for_url("**/family-home/now")
    await page.evaluate(
        """() => document.querySelector("home-assistant").shadowRoot
            .querySelector("home-assistant-main").dispatchEvent(
                new CustomEvent("hass-show-notifications")
            )"""
    )
    await page.get_by_text("Lindenweg 12: alarm raised").wait_for()
    texts = await look(page, f"alarms-message-{language}")
    assert any(name in text for text in texts)
