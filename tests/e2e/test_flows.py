"""Browser tests of a user's steps, in order.

Each test starts at the end of the previous one, so they only work together.
"""

from collections.abc import AsyncIterator
import json
from pathlib import Path
import re
from typing import Any

from playwright.async_api import Browser, Locator, Page
import pytest
import pytest_asyncio

from scripts.home_assistant import (
    DOMAIN,
    ROOT,
    Device,
    HomeAssistant,
    HomeAssistantError,
    free_port,
    until,
)
from tests.simulator import Simulator, homes
from tests.simulator.plants import Home

from .noon import next_noon
from .pages import cut_texts, look, open_page

pytestmark = pytest.mark.asyncio(loop_scope="module")

USERNAME = "installer-7"
PASSWORD = "Simulated-1"
NEW_PASSWORD = "Changed-2"

INTEGRATION = f"/config/integrations/integration/{DOMAIN}"
TRANSLATIONS = ROOT / "custom_components" / DOMAIN / "translations"
# One language of each script is enough.
LANGUAGES = [
    language
    for language in ("en", "de", "zh-Hans")
    if (TRANSLATIONS / f"{language}.json").exists()
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def simulator() -> AsyncIterator[Simulator]:
    """Serve two plants at noon with a fixed clock."""
    home = Home([*homes.family().plants, *homes.apartment().plants])
    simulator = Simulator(home, next_noon(), USERNAME, PASSWORD)
    async with simulator.serve():
        yield simulator


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def home_assistant() -> AsyncIterator[HomeAssistant]:
    """Run Home Assistant without an account."""
    config = ROOT / ".cache" / "e2e-flows" / "config"
    async with HomeAssistant(config, free_port()) as home_assistant:
        yield home_assistant


@pytest_asyncio.fixture(loop_scope="module")
async def inverter(home_assistant: HomeAssistant) -> Device:
    """Return the inverter of the first plant."""
    return await _device(home_assistant, "Lindenweg 12 Inverter-1")


async def _device(home_assistant: HomeAssistant, name: str) -> Device:
    devices = await home_assistant.devices()
    return next(device for device in devices if device.name == name)


async def _entry(home_assistant: HomeAssistant) -> dict[str, Any]:
    entries = await home_assistant.command("config_entries/get", domain=DOMAIN)
    assert len(entries) == 1
    entry: dict[str, Any] = entries[0]
    return entry


async def _loaded(home_assistant: HomeAssistant) -> None:
    """Wait until the account is loaded again."""

    async def check() -> bool | None:
        return (await _entry(home_assistant))["state"] == "loaded" or None

    await until("reload of the account", check, 30)


async def _refresh(home_assistant: HomeAssistant) -> None:
    """List plants and devices now, since polls are minutes apart."""
    entry = await _entry(home_assistant)
    await home_assistant.command(
        "call_service",
        domain=DOMAIN,
        service="refresh_inventory",
        service_data={"config_entry_id": entry["entry_id"]},
    )


async def _open_menu(page: Page) -> None:
    """Open the menu of the account."""
    await page.goto(INTEGRATION)
    account = page.locator("ha-config-entry-row").first
    await account.get_by_role("button", name="Menu").first.click()


async def _submit(page: Page) -> None:
    await page.get_by_role("button", name="Submit").click()


def _field(page: Page, name: str) -> Locator:
    return page.get_by_role("textbox", name=name)


def _secrets(simulator: Simulator) -> list[str]:
    secrets = [USERNAME, PASSWORD, NEW_PASSWORD, simulator.url]
    for plant in simulator.home.plants:
        secrets += [plant.code, plant.name]
        numbers = (device.serial_number for device in plant.devices)
        secrets += filter(None, numbers)
    return secrets


async def test_add_account(
    page: Page, home_assistant: HomeAssistant, simulator: Simulator
) -> None:
    """A wrong password keeps the input; the plants can be chosen."""
    await page.goto(f"/config/integrations/dashboard/add?domain={DOMAIN}")
    await page.get_by_role("button", name="OK").click()
    await page.get_by_role("button", name="Host").wait_for()
    await page.mouse.move(0, 0)
    await look(page, "add-form", part="dialog[open]")
    await page.get_by_role("button", name="Host").click()
    await page.get_by_text("Europe - eu5.fusionsolar.huawei.com").wait_for()
    await look(page, "add-hosts")
    await page.get_by_placeholder("Add custom item").fill(simulator.url)
    await page.get_by_role("option", name="Add custom item").click()
    # Input before the form has its host is lost.
    await page.get_by_role("button", name=simulator.url).wait_for()
    await _field(page, "User name").fill(USERNAME)
    await _field(page, "Password").fill("wrong")
    await page.get_by_role("spinbutton", name="Days of history").fill("0")
    await _submit(page)

    await page.get_by_text("Check the user name, the password and the host").wait_for()
    texts = await look(page, "add-wrong-password")
    assert simulator.url in texts
    assert await _field(page, "User name").input_value() == USERNAME
    assert await _field(page, "Password").input_value() == "wrong"
    assert await page.get_by_role("spinbutton").input_value() == "0"

    await _field(page, "Password").fill(PASSWORD)
    await _submit(page)
    await page.get_by_text("The account has several plants.").wait_for()
    await look(page, "add-plants")
    for plant in simulator.home.plants:
        assert await page.get_by_role("checkbox", name=plant.name).is_checked()
    await _submit(page)

    await page.get_by_text("Name and assign").wait_for()
    await look(page, "add-done")
    await page.get_by_role("button", name="Skip and finish").click()
    await _loaded(home_assistant)
    entry = await _entry(home_assistant)
    assert entry["title"] == "Lindenweg 12 + 1"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "Lindenweg 12",
            {"FusionSolar plant", "Grid power", "Home power", "Health", "Healthy"},
        ),
        (
            "Lindenweg 12 Inverter-1",
            {"AC output total", "Connection", "Connected", "Grid-connected"},
        ),
    ],
)
async def test_device_page(
    page: Page, home_assistant: HomeAssistant, name: str, expected: set[str]
) -> None:
    """Entities and their states have readable names."""
    device = await _device(home_assistant, name)
    await page.goto(f"/config/devices/device/{device.id}")
    await page.get_by_text("Sensors").wait_for()
    texts = await look(page, f"flows-{name.lower().replace(' ', '-')}")
    assert expected <= set(texts)


@pytest_asyncio.fixture(loop_scope="module")
async def language(
    request: pytest.FixtureRequest, home_assistant: HomeAssistant
) -> AsyncIterator[str]:
    """Set the user's language, and English again afterwards."""
    await _speak(home_assistant, request.param)
    yield request.param
    await _speak(home_assistant, "en")


async def _speak(home_assistant: HomeAssistant, language: str) -> None:
    formats = dict.fromkeys(("number_format", "time_format"), "language")
    await home_assistant.command(
        "frontend/set_user_data",
        key="language",
        value={"language": language, **formats},
    )


@pytest.mark.parametrize("language", LANGUAGES, indirect=True)
async def test_language(language: str, page: Page, inverter: Device) -> None:
    """States are shown in the user's language."""
    file = TRANSLATIONS / f"{language}.json"
    sensors = json.loads(file.read_text())["entity"]["sensor"]
    state = sensors["inverter_state"]["state"]["grid_connected"]
    await page.goto(f"/config/devices/device/{inverter.id}")
    await page.get_by_text(state).first.wait_for()
    await look(page, f"flows-inverter-{language}")
    assert await cut_texts(page) == []
    spoken = await page.locator("html").get_attribute("lang")
    assert spoken == language


async def test_action(page: Page) -> None:
    """The action has a description, needs no account and has a response."""
    await page.goto("/config/tools/action")
    await page.get_by_role("button", name="Action", exact=True).click()
    await page.get_by_placeholder("Search", exact=True).fill("Refresh plants")
    await page.get_by_role("option", name="Refresh plants and devices").click()
    await page.get_by_text("The account to refresh.").wait_for()
    await page.get_by_role("button", name="Perform action").click()
    await page.get_by_text("Response").wait_for()
    shown = " ".join(await look(page, "action", (f"{DOMAIN}.refresh_inventory",)))
    assert re.search(r"plants\W+2\b", shown)
    assert re.search(r"devices\W+5\b", shown)


async def test_repair(
    page: Page, home_assistant: HomeAssistant, simulator: Simulator
) -> None:
    """A missing permission is shown until it is granted."""
    await page.goto("/config/repairs")
    await page.get_by_text("There are currently no repairs").wait_for()
    simulator.withdraw_permission("getDevList")
    with pytest.raises(HomeAssistantError, match="has no permission for “device list”"):
        await _refresh(home_assistant)
    await page.get_by_text(
        f"A permission of the account “{USERNAME}” is missing: device list"
    ).click()
    await page.get_by_text("to tick device list for the account").wait_for()
    await look(page, "repair")
    await page.get_by_role("button", name="Close").click()

    await _speak(home_assistant, "de")
    await page.goto("/config/repairs")
    await page.get_by_text(
        f"Eine Berechtigung des Kontos „{USERNAME}“ fehlt: Geräteliste"
    ).click()
    await page.get_by_text("für das Konto Geräteliste anzuhaken").wait_for()
    await look(page, "repair-de")
    await _speak(home_assistant, "en")
    await page.goto("/config/repairs")

    simulator.grant_permission("getDevList")
    await _refresh(home_assistant)
    await page.get_by_text("There are currently no repairs").wait_for()


async def _open_option(page: Page, name: str) -> None:
    """Open an option in the menu of the options."""
    await page.goto(INTEGRATION)
    await page.get_by_role("button", name="Configure").click()
    await page.get_by_text(name, exact=True).click()


async def test_options(page: Page, home_assistant: HomeAssistant) -> None:
    """The options show the current values, and the plant's page the changed ones."""
    await page.goto(INTEGRATION)
    await page.get_by_role("button", name="Configure").click()
    await page.get_by_text("Set up the Energy dashboard").wait_for()
    texts = await look(page, "options")
    assert {"Plants", "Grid meters", "Days of history", "Currency"} <= set(texts)
    await _open_option(page, "Plants")
    await page.get_by_role("checkbox", name="Calle Mayor 7").wait_for()
    await look(page, "options-plants")
    await _open_option(page, "Days of history")
    days = page.get_by_role("spinbutton", name="Days of history")
    assert await days.input_value() == "0"
    await _open_option(page, "Currency")
    await page.get_by_role("button", name="Currency").click()
    await page.get_by_role("menuitem", name="CHF").click()
    await _submit(page)
    await page.get_by_text("Options successfully saved.").wait_for()
    await look(page, "options-saved")
    await _loaded(home_assistant)

    plant = await _device(home_assistant, "Lindenweg 12")
    await page.goto(f"/config/devices/device/{plant.id}")
    await page.get_by_text("CHF").first.wait_for()


async def test_energy_dashboard(page: Page, home_assistant: HomeAssistant) -> None:
    """The options list what the Energy dashboard lacks, and add it."""
    await _open_option(page, "Set up the Energy dashboard")
    await page.get_by_role("radio", name="Lindenweg 12").check()
    await look(page, "options-energy-plant")
    await page.get_by_role("button", name="Next").click()
    await page.get_by_text("These entities are added").wait_for()
    await look(page, "options-energy")
    await page.get_by_role("button", name="Add", exact=True).click()
    await page.get_by_text("The entities were added to the Energy dashboard").wait_for()
    preferences = await home_assistant.command("energy/get_prefs")
    kinds = {source["type"] for source in preferences["energy_sources"]}
    assert kinds == {"grid", "solar", "battery"}


async def test_new_password(
    page: Page, home_assistant: HomeAssistant, simulator: Simulator
) -> None:
    """After a password change, the new password is requested."""
    simulator.change_password(NEW_PASSWORD)
    simulator.expire_token()
    with pytest.raises(HomeAssistantError, match="refuses this login"):
        await _refresh(home_assistant)
    await page.goto(INTEGRATION)
    await page.get_by_text("Attention required").wait_for()
    await look(page, "password-wanted")
    await page.get_by_role("button", name="Reconfigure").click()
    await page.get_by_text(
        f"refuses the password of the account “{USERNAME}”"
    ).wait_for()
    await look(page, "password")
    await _field(page, "Password").fill(NEW_PASSWORD)
    await _submit(page)
    await page.get_by_text("The password was changed.").wait_for()
    await look(page, "password-changed")
    await _loaded(home_assistant)
    await _refresh(home_assistant)


async def test_reconfigure(
    page: Page, home_assistant: HomeAssistant, simulator: Simulator
) -> None:
    """The form shows the account's values, but not its password."""
    await _open_menu(page)
    await page.get_by_role("menuitem", name="Reconfigure").click()
    await _field(page, "User name").wait_for()
    texts = await look(page, "reconfigure")
    assert simulator.url in texts
    assert await _field(page, "User name").input_value() == USERNAME
    assert await _field(page, "Password").input_value() == ""
    await _field(page, "Password").fill(NEW_PASSWORD)
    await _submit(page)
    await page.get_by_text("The account was changed.").wait_for()
    await look(page, "reconfigured")
    await _loaded(home_assistant)


async def test_diagnostics(page: Page, inverter: Device, simulator: Simulator) -> None:
    """Diagnostics contain no personal data."""
    await _open_menu(page)
    files: list[Path] = []
    async with page.expect_download() as download:
        await page.get_by_role("menuitem", name="Download diagnostics").click()
    files.append(await (await download.value).path())
    await page.goto(f"/config/devices/device/{inverter.id}")
    async with page.expect_download() as download:
        await page.get_by_role("button", name="Download diagnostics").click()
    files.append(await (await download.value).path())

    of_account, of_inverter = (file.read_text() for file in files)
    assert json.loads(of_account)["data"]["inventory"]["plants"] == 2
    assert len(json.loads(of_inverter)["data"]["readings"]) == 1
    for secret in _secrets(simulator):
        assert secret not in of_account + of_inverter


@pytest.mark.parametrize(
    ("name", "options", "dark"),
    [
        ("phone", {"viewport": {"width": 390, "height": 844}, "is_mobile": True}, None),
        ("dark", {"color_scheme": "dark"}, True),
    ],
)
async def test_appearance(
    browser: Browser,
    home_assistant: HomeAssistant,
    inverter: Device,
    name: str,
    options: dict[str, Any],
    *,
    dark: bool | None,
) -> None:
    """No page is wider than a phone, and all texts are readable in dark mode."""
    async with open_page(browser, home_assistant, **options) as page:
        await _open_option(page, "Days of history")
        await page.get_by_role("spinbutton", name="Days of history").wait_for()
        await look(page, f"{name}-options")
        form = await page.locator("dialog[open]").bounding_box()
        assert form
        assert page.viewport_size
        assert form["width"] <= page.viewport_size["width"]
        for number, (path, text) in enumerate(
            [
                (INTEGRATION, "Lindenweg 12"),
                (f"/config/devices/device/{inverter.id}", "Grid-connected"),
            ]
        ):
            await page.goto(path)
            await page.get_by_text(text).first.wait_for()
            await look(page, f"{name}-{number + 1}")
            assert await cut_texts(page) == []
            # The frontend sets the mode after loading the themes.
            await page.wait_for_function(
                """() => document.querySelector("home-assistant")
                    .hass?.themes?.darkMode !== undefined"""
            )
            too_wide, is_dark = await page.evaluate(
                """() => [
                    document.scrollingElement.scrollWidth > window.innerWidth,
                    document.querySelector("home-assistant").hass.themes.darkMode,
                ]"""
            )
            assert not too_wide
            assert is_dark is bool(dark)


async def test_log(home_assistant: HomeAssistant, simulator: Simulator) -> None:
    """The integration's log has the expected warnings, and no secrets."""
    log = home_assistant.log.read_text()
    records = [
        record
        for record in re.split(r"\n(?=\d{4}-\d\d-\d\d )", log)
        if f"[custom_components.{DOMAIN}" in record
    ]
    assert records
    for secret in _secrets(simulator):
        assert [record for record in records if secret in record] == []
