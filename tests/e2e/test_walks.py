"""Browser tests of walks: to dashboards in English and German, and to a message."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Literal

from playwright.async_api import Browser, Page, ViewportSize
import pytest
import pytest_asyncio

from scripts.demo import SIMULATED_PASSWORD, SIMULATED_USERNAME
from scripts.home_assistant import ROOT, SETTINGS, HomeAssistant, free_port
from tests.simulator import Simulator, homes

from .noon import next_noon
from .pages import Clicks, cut_texts, look, open_page

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLICKS_LIMIT = 20
SIZES: dict[str, ViewportSize] = {
    "desktop": {"width": 1400, "height": 1400},
    "phone": {"width": 360, "height": 2400},
}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

HOMES = {"fleet": lambda: homes.fleet(10, 40), "home": homes.family}
LANGUAGES = ("en", "de")
WALKS = (("fleet", "en"), ("home", "de"))
# Texts of Home Assistant and of the integration.
GERMAN = {
    "Settings": "Einstellungen",
    "Tools": "Werkzeuge",
    "Actions": "Aktionen",
    "Action": "Aktion",
    "Suggest dashboard": "Dashboard vorschlagen",
    "Perform action": "Aktion ausführen",
    "Copy to clipboard": "In Zwischenablage kopieren",
    "Add dashboard": "Dashboard hinzufügen",
    "New dashboard from scratch": "Neues Dashboard von Grund auf",
    "Create": "Erstellen",
    "Edit dashboard": "Dashboard bearbeiten",
    "Menu": "Menü",
    "Raw configuration editor": "Raw-Konfigurationseditor",
    "Save": "Speichern",
    "Close": "Schließen",
    "Done": "Fertig",
    "Today": "Heute",
    "PV production": "PV-Erzeugung",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=HOMES)
async def walk(request: pytest.FixtureRequest) -> str:
    """Return the name of a home."""
    walk: str = request.param
    return walk


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=LANGUAGES)
async def language(request: pytest.FixtureRequest) -> str:
    """Return the language of Home Assistant and its user."""
    language: str = request.param
    return language


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def simulator(walk: str) -> AsyncIterator[Simulator]:
    """Serve the plants at noon with a fixed clock."""
    simulator = Simulator(HOMES[walk](), next_noon(), quotas=False)
    async with simulator.serve():
        yield simulator


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home_assistant(
    simulator: Simulator, walk: str, language: str
) -> AsyncIterator[HomeAssistant]:
    """Run Home Assistant with the account, in a language."""
    config = ROOT / ".cache" / "e2e-walks" / f"{walk}-{language}"
    async with HomeAssistant(config, free_port(), "scripts.eager") as home_assistant:
        await home_assistant.set_language(language)
        await home_assistant.add_integration(
            host=simulator.url,
            username=SIMULATED_USERNAME,
            password=SIMULATED_PASSWORD,
            history=0,
        )
        yield home_assistant


@contextmanager
def counted(
    name: str, click: Clicks, capsys: pytest.CaptureFixture[str]
) -> Iterator[None]:
    """Print the clicks and seconds of a walk, and limit the clicks."""
    begin = monotonic()
    yield
    with capsys.disabled():
        print(f"\n{name}: {click.count} clicks, {monotonic() - begin:.1f} s")
    assert click.count <= CLICKS_LIMIT


async def test_dashboard(
    page: Page,
    walk: str,
    language: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A user puts the suggested dashboard into the sidebar."""

    if (walk, language) not in WALKS:
        pytest.skip("the other language")

    def text(english: str) -> str:
        return GERMAN[english] if language == "de" else english

    click, title = Clicks(), f"Solar {walk}"
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.goto("/")
    with counted(f"Dashboard of the {walk}", click, capsys):
        await click(page.get_by_role("link", name=text("Settings")))
        await click(page.get_by_text(text("Tools"), exact=True))
        await click(page.get_by_text(text("Actions"), exact=True).first)
        await click(page.get_by_text(text("Action"), exact=True).last)
        await page.locator("ha-picker-combo-box input").fill("FusionSolar dashboard")
        await click(page.get_by_text(text("Suggest dashboard"), exact=True))
        await click(page.get_by_role("button", name=text("Perform action")))
        await click(
            page.get_by_role("button", name=text("Copy to clipboard"), exact=True)
        )
        await click(page.get_by_role("link", name=text("Settings")))
        await click(page.get_by_text("Dashboards", exact=True))
        await click(page.get_by_role("button", name=text("Add dashboard")))
        await click(page.get_by_text(text("New dashboard from scratch")))
        await page.locator("input[name=title]").last.fill(title)
        await click(page.get_by_role("button", name=text("Create")))
        await click(page.get_by_role("link", name=title))
        await click(page.get_by_role("button", name=text("Edit dashboard")))
        await click(page.get_by_role("button", name=text("Menu")).first)
        await click(page.get_by_text(text("Raw configuration editor")))
        await click(page.locator(".cm-content"))
        await page.keyboard.press("Control+a")
        await page.keyboard.press("Control+v")
        await click(page.get_by_role("button", name=text("Save")))
        await click(page.get_by_role("button", name=text("Close")).first)
        await click(page.get_by_role("button", name=text("Done")))
        await page.get_by_text(text("Today"), exact=True).first.wait_for()
    texts = await look(page, f"walk-{walk}")
    assert any(text("PV production") in each for each in texts)


async def _import_past(home_assistant: HomeAssistant, dashboard: Any) -> None:
    """Import hours for the graphs of a dashboard."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    hours = [now - timedelta(hours=number) for number in range(48, 0, -1)]
    graphs = [
        card
        for view in dashboard["views"]
        for section in view["sections"]
        for card in section["cards"]
        if card["type"] == "statistics-graph"
    ]
    assert graphs
    for graph in graphs:
        energy = graph["stat_types"] == ["change"]
        for number, entity in enumerate(graph["entities"], start=1):
            values = [number * (row if energy else row % 24) for row in range(48)]
            await home_assistant.import_statistics(
                entity["entity"],
                *(("energy", "kWh") if energy else ("power", "W")),
                [
                    {"start": start.isoformat(), "sum" if energy else "mean": value}
                    for start, value in zip(hours, values, strict=True)
                ],
            )


async def test_looks(
    browser: Browser, home_assistant: HomeAssistant, walk: str, language: str
) -> None:
    """No view of the suggested dashboard has a raw or a cut text."""
    suggested = await home_assistant.action("suggest_dashboard")
    await _import_past(home_assistant, suggested)
    path = await home_assistant.create_dashboard(f"Plants {walk}", suggested)
    async with open_page(
        browser, home_assistant, timezone_id=SETTINGS["time_zone"]
    ) as page:
        for width, size in SIZES.items():
            await page.set_viewport_size(size)
            await page.goto(path)
            await page.locator("hui-tile-card").first.wait_for()
            # The graphs are drawn last.
            await page.wait_for_timeout(2000)
            for scheme in SCHEMES:
                await page.emulate_media(color_scheme=scheme)
                await look(page, f"{walk}-{language}-{width}-{scheme}")
                assert await cut_texts(page) == []


async def test_message(
    page: Page, walk: str, language: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A user of the fleet gets the test message of a blueprint."""
    if (walk, language) != ("fleet", "en"):
        pytest.skip("only of the fleet in English")
    click = Clicks()
    await page.goto("/")
    with counted("Message of a blueprint", click, capsys):
        await click(page.get_by_role("link", name="Settings"))
        await click(page.get_by_text("Automations & scenes", exact=True))
        await click(page.get_by_role("link", name="Blueprints"))
        await click(page.get_by_text("Daily report").first)
        await click(page.get_by_role("button", name="Select an entity"))
        search = page.locator("ha-picker-combo-box")
        await search.locator("input").fill("Plant 0003 PV production today")
        await click(search.get_by_text("Plant 0003").first)
        await click(page.get_by_role("button", name="Save"))
        await page.get_by_text("Traces").wait_for()
        await click(page.get_by_role("button", name="Menu").first)
        await click(page.get_by_text("Run actions", exact=True))
        await click(page.get_by_text("Notifications", exact=True))
        await page.get_by_text("Test: Plant 0003 today").first.wait_for()
    await look(page, "walk-message")
