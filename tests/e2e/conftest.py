"""A browser, and a page in it."""

from collections.abc import AsyncIterator
import shutil

from playwright.async_api import Browser, Page, async_playwright
import pytest_asyncio

from scripts.home_assistant import SETTINGS, HomeAssistant

from .pages import SCREENSHOTS, open_page

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
)
CHROMIUM_FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Run Chromium."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=CHROMIUM_FLAGS
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser, home_assistant: HomeAssistant) -> AsyncIterator[Page]:
    """Open a page of the module's Home Assistant."""
    async with open_page(
        browser, home_assistant, timezone_id=SETTINGS["time_zone"]
    ) as page:
        yield page
