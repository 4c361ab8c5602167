"""Visible contents of a page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
import json
import re
import time
from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Locator, Page

from scripts.home_assistant import DOMAIN, ROOT, HomeAssistant

SCREENSHOTS = ROOT / ".cache" / "screenshots"

# Text is in nested shadow roots, which innerText leaves out.
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
            // Who has no box may have children with one.
            const boxless = getComputedStyle(node).display === "contents";
            if (!boxless && !node.checkVisibility()) return;
            (node.shadowRoot ?? node).childNodes.forEach(visit);
        }
    };
    visit(element);
    return texts;
}
"""

# Texts that end in three dots because they do not fit.
CUT_TEXT = """
() => {
    const cut = [];
    const visit = element => {
        if (
            element.scrollWidth > element.clientWidth + 1
            && getComputedStyle(element).textOverflow === "ellipsis"
            && element.checkVisibility()
        ) cut.push(element.textContent.trim());
        [...(element.shadowRoot?.children ?? []), ...element.children].forEach(visit);
    };
    visit(document.body);
    return cut;
}
"""

# Texts that are not for users: missing values, translation keys, and names in code.
RAW = re.compile(
    rf"None|null|undefined|NaN|\bcomponent\.{DOMAIN}|\bui\.\w|\w*[a-z]_[a-z]\w*"
    r"|(?i:unknown error)"
)


class Clicks:
    """The number of clicks."""

    count = 0

    async def __call__(self, target: Locator) -> None:
        """Click an element."""
        await target.click()
        self.count += 1


# Number of looks at a page that loads.
LOOKS = 30


@asynccontextmanager
async def open_page(
    browser: Browser, home_assistant: HomeAssistant, **options: Any
) -> AsyncIterator[Page]:
    """Open a page as the logged-in user; an error in its console fails the test."""
    tokens = {
        **home_assistant.tokens,
        "hassUrl": home_assistant.url,
        "clientId": home_assistant.client_id,
        "expires": (time.time() + home_assistant.tokens["expires_in"]) * 1000,
    }
    language = await home_assistant.language()
    context = await browser.new_context(
        base_url=home_assistant.url,
        # A frontend that changes its language while it loads may keep raw keys.
        locale=language,
        **{"viewport": {"width": 1400, "height": 1000}, **options},
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
    assert errors == [], errors


async def visible_texts(page: Page, selector: str = "body") -> list[str]:
    """Return the visible texts."""
    texts: list[str] = await page.locator(selector).first.evaluate(VISIBLE_TEXT)
    return texts


def assert_readable(texts: list[str]) -> None:
    """Assert that all texts are readable."""
    raw = [text for text in texts if RAW.search(text)]
    assert raw == [], raw


async def look(
    page: Page, name: str, known: tuple[str, ...] = (), part: str | None = None
) -> list[str]:
    """Return the texts of a loaded page or part, and save a screenshot.

    `known` texts are Home Assistant's own, and may be unreadable.
    """
    texts: list[str] = []
    for _ in range(LOOKS):
        before, texts = texts, await visible_texts(page)
        # Home Assistant shows keys until it has loaded its translations.
        if texts == before and not any(map(RAW.search, {*texts} - {*known})):
            break
        await page.wait_for_timeout(300)
    seen = page if part is None else page.locator(part)
    await seen.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")
    assert_readable([text for text in texts if text not in known])
    return texts


async def cut_texts(page: Page) -> list[str]:
    """Return the texts that are partly hidden."""
    texts: list[str] = await page.evaluate(CUT_TEXT)
    return texts
