"""A browser in which somebody is logged in, and what can be read in it."""

from collections.abc import AsyncIterator
import json
import re
import shutil
import time

from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright
import pytest_asyncio

from scripts.home_assistant import DOMAIN, ROOT, SETTINGS, HomeAssistant

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
SCREENSHOTS = ROOT / ".cache" / "screenshots"

# Text lies in nested shadow roots, which innerText leaves out.
VISIBLE_TEXT = """
element => {
    const texts = [];
    const visit = node => {
        if (node.nodeType === Node.TEXT_NODE) {
            const text = node.textContent.trim();
            if (text) texts.push(text);
        } else if (node instanceof HTMLSlotElement && node.assignedNodes().length) {
            node.assignedNodes().forEach(visit);
        } else if (node instanceof Element) {
            if (["SCRIPT", "STYLE", "TEMPLATE"].includes(node.tagName)) return;
            if (!node.checkVisibility()) return;
            (node.shadowRoot ?? node).childNodes.forEach(visit);
        }
    };
    visit(element);
    return texts;
}
"""


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
    """Open a page as the logged-in user; an error in its console fails the test."""
    tokens = {
        **home_assistant.tokens,
        "hassUrl": home_assistant.url,
        "clientId": home_assistant.client_id,
        "expires": (time.time() + home_assistant.tokens["expires_in"]) * 1000,
    }
    context = await browser.new_context(
        base_url=home_assistant.url,
        viewport={"width": 1400, "height": 1000},
        timezone_id=SETTINGS["time_zone"],
    )
    await context.add_init_script(
        f"localStorage.hassTokens = {json.dumps(json.dumps(tokens))}"
    )
    errors: list[str] = []
    page = await context.new_page()

    def note(message: ConsoleMessage) -> None:
        # The images of brands come from the internet.
        if message.type == "error" and "/api/brands/" not in message.location["url"]:
            errors.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    await context.close()
    assert errors == []


async def visible_texts(page: Page, selector: str = "body") -> list[str]:
    """Return the pieces of text that can be seen."""
    texts: list[str] = await page.locator(selector).first.evaluate(VISIBLE_TEXT)
    return texts


def assert_readable(texts: list[str]) -> None:
    """Assert that nothing reads like a program's name for it."""
    raw = re.compile(
        rf"None|null|undefined|NaN|\bcomponent\.{DOMAIN}|\w*[a-z]_[a-z]\w*"
    )
    assert [text for text in texts if raw.search(text)] == []
