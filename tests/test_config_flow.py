"""Tests of the config flow: each error can be corrected."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.northbound import HOSTS, NorthboundClient
from homeassistant.config_entries import SOURCE_RECONFIGURE, SOURCE_USER
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from tests.simulator import Simulator, faults, homes
from tests.simulator.plants import Home

from .conftest import Account

pytestmark = pytest.mark.fast

INVERTER = 1000000035436842


ERRORS: Final = pytest.mark.parametrize(
    ("fault", "interface", "errors", "placeholders"),
    [
        (
            faults.FailCode(20400, message="user.login.user_locked"),
            "login",
            {"base": "account_locked"},
            {},
        ),
        (faults.FailCode(20403), "login", {"base": "account_locked"}, {}),
        (faults.FailCode(20002), "login", {"base": "account_disabled"}, {}),
        (faults.FailCode(20003), "login", {"base": "account_disabled"}, {}),
        (faults.FailCode(20001), "login", {"base": "invalid_auth"}, {}),
        (faults.EmptyBody(), "login", {"base": "invalid_auth"}, {}),
        (
            faults.FailCode(407),
            "login",
            {"base": "rate_limited"},
            {"minutes": "11"},
        ),
        (
            faults.Gateway403(),
            "stations",
            {"base": "rate_limited"},
            {"minutes": "1"},
        ),
        (faults.DropConnection(), "login", {"base": "cannot_connect"}, {}),
        (faults.HtmlPage(404), "login", {"host": "not_northbound"}, {}),
        (faults.HtmlPage(), "login", {"host": "not_northbound"}, {}),
        (faults.HttpStatus(503), "login", {"base": "server_busy"}, {}),
        (faults.FailCode(305), "stations", {"base": "session_taken"}, {}),
        (
            faults.FailCode(20604),
            "stations",
            {"base": "request_rejected"},
            {"code": "20604"},
        ),
        (
            faults.FailCode(401),
            "stations",
            {"base": "no_permission_plant_list"},
            {},
        ),
        (
            faults.Rewrite(lambda answer: answer | {"data": {"list": []}}),
            "stations",
            {"base": "no_plants"},
            {},
        ),
        (faults.FailCode(20056), "stations", {"base": "not_authorized"}, {}),
        (faults.NullData(), "stations", {"base": "no_plants"}, {}),
    ],
)
"""Login errors, and their keys in the form."""


async def _start(hass: HomeAssistant, typed: dict[str, Any]) -> Any:
    result = await hass.config_entries.flow.async_init(
        DOMAIN, context={"source": SOURCE_USER}
    )
    assert result["type"] is FlowResultType.FORM
    assert result["step_id"] == "user"
    return await hass.config_entries.flow.async_configure(result["flow_id"], typed)


async def _finish(hass: HomeAssistant, result: Any, typed: dict[str, Any]) -> Any:
    """Finish the flow from a form that showed an error."""
    result = await hass.config_entries.flow.async_configure(result["flow_id"], typed)
    await hass.async_block_till_done()
    return result


def _suggested(result: Any) -> dict[str, Any]:
    return {
        str(field): field.description["suggested_value"]
        for field in result["data_schema"].schema
        if field.description
    }


async def test_one_plant(
    hass: HomeAssistant, account: Account, simulator: Simulator
) -> None:
    """An account with one plant is added in one step, with the plant's name."""
    result = await account.add()
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["title"] == "Lindenweg 12"
    assert result["data"] == account.credentials
    assert result["options"] == {"history": 0}
    assert account.entry.unique_id == f"{simulator.url}_demo_api"


@pytest.fixture
def neighborhood() -> Home:
    """Return an account with three plants."""
    return Home(
        [*homes.family().plants, *homes.apartment().plants, *homes.emma().plants]
    )


async def _with_three_plants(
    hass: HomeAssistant, account: Account, simulator: Simulator, neighborhood: Home
) -> Any:
    simulator.home.plants = neighborhood.plants
    result = await account.add()
    assert result["type"] is FlowResultType.FORM
    assert result["step_id"] == "plants"
    return result


async def test_all_plants(
    hass: HomeAssistant, account: Account, simulator: Simulator, neighborhood: Home
) -> None:
    """By default, all plants are included, and plants that are added later."""
    result = await _with_three_plants(hass, account, simulator, neighborhood)
    result = await _finish(hass, result, result["data_schema"]({}))
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["title"] == "Lindenweg 12 + 2"
    assert result["options"] == {"history": 0}
    assert len(simulator.calls_to("login")) == 1
    assert len(simulator.calls_to("stations")) == 1


@pytest.mark.parametrize(
    ("chosen", "title"), [([1], "Calle Mayor 7"), ([0, 2], "Lindenweg 12 + 1")]
)
async def test_some_plants(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    neighborhood: Home,
    chosen: list[int],
    title: str,
) -> None:
    """The chosen plants are stored in the options, and only they are added."""
    result = await _with_three_plants(hass, account, simulator, neighborhood)
    codes = [plant.code for plant in neighborhood.plants]
    included = [codes[i] for i in chosen]
    result = await _finish(hass, result, {"plants": included})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["title"] == title
    assert result["options"] == {"history": 0, "plants": included}
    assert [
        code for code in codes if account.registered(code, "day_power") is not None
    ] == included


async def test_no_plant_chosen(
    hass: HomeAssistant, account: Account, simulator: Simulator, neighborhood: Home
) -> None:
    """An entry without plants is rejected by the form."""
    result = await _with_three_plants(hass, account, simulator, neighborhood)
    result = await _finish(hass, result, {"plants": []})
    assert result["errors"] == {"plants": "no_plants_chosen"}
    result = await _finish(
        hass, result, {"plants": [plant.code for plant in neighborhood.plants]}
    )
    assert result["type"] is FlowResultType.CREATE_ENTRY


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1."])
async def test_same_account_twice(
    hass: HomeAssistant, added: Account, simulator: Simulator, host: str
) -> None:
    """A second entry of an account is rejected before any login."""
    url = simulator.url.replace("127.0.0.1", host).replace("http", "HTTP")
    again = added.credentials | {"host": url, "username": "Demo_API"}
    result = await _start(hass, again)
    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "already_configured"
    assert len(simulator.calls_to("login")) == 1


async def test_wrong_password(
    hass: HomeAssistant, account: Account, simulator: Simulator
) -> None:
    """A wrong password is reported, sent once, and can be corrected."""
    typed = account.credentials | {"password": "wrong"}
    result = await _start(hass, typed)
    assert result["errors"] == {"base": "invalid_auth"}
    assert _suggested(result) == typed | {"history": 7}
    assert len(simulator.calls_to("login")) == 1
    result = await _finish(hass, result, account.credentials)
    assert result["type"] is FlowResultType.CREATE_ENTRY


@ERRORS
async def test_errors(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    fault: faults.Fault,
    interface: str,
    errors: dict[str, str],
    placeholders: dict[str, str],
) -> None:
    """Each error has its own text, keeps the input and can be corrected."""
    simulator.faults.add(fault, interface)
    result = await _start(hass, account.credentials)
    assert result["type"] is FlowResultType.FORM
    assert result["errors"] == errors
    assert result["description_placeholders"] == placeholders
    assert _suggested(result) == account.credentials | {"history": 7}
    simulator.faults.clear()
    await account.poll(timedelta(minutes=int(placeholders.get("minutes", 0))))
    result = await _finish(hass, result, account.credentials)
    assert result["type"] is FlowResultType.CREATE_ENTRY


@pytest.mark.parametrize("source", [SOURCE_USER, SOURCE_RECONFIGURE])
async def test_regions(
    hass: HomeAssistant,
    added: Account,
    source: str,
) -> None:
    """The frontend translates the regions to the language of the user."""
    result = await hass.config_entries.flow.async_init(
        DOMAIN, context={"source": source, "entry_id": added.entry.entry_id}
    )
    assert result["data_schema"] is not None
    selector = result["data_schema"].schema["host"]
    assert selector.config["custom_value"]
    assert selector.config["translation_key"] == "host"
    assert selector.config["options"] == [*HOSTS]


@pytest.mark.parametrize("region", HOSTS)
async def test_region(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    region: str,
) -> None:
    """A region that is picked is stored as its host."""
    host = replace(HOSTS[region], name=simulator.url)
    monkeypatch.setitem(HOSTS, region, host)
    result = await _start(hass, account.credentials | {"host": region})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["data"]["host"] == simulator.url


@pytest.mark.parametrize("host", ["", "ftp://example.com", "http://"])
async def test_no_host(
    hass: HomeAssistant, account: Account, simulator: Simulator, host: str
) -> None:
    """An invalid address is reported at its field."""
    result = await _start(hass, account.credentials | {"host": host})
    assert result["errors"] == {"host": "invalid_host"}
    result = await _finish(hass, result, account.credentials)
    assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_portal_host(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For a host of the web portal, the form names the base host."""
    monkeypatch.setattr(
        "custom_components.smartpvms.config_flow.northbound_host",
        {"127.0.0.1": "eu5.fusionsolar.huawei.com"}.get,
    )
    simulator.faults.add(faults.HtmlPage(404), "login")
    result = await _start(hass, account.credentials)
    assert result["errors"] == {"host": "portal_host"}
    assert result["description_placeholders"] == {"host": "eu5.fusionsolar.huawei.com"}
    simulator.faults.clear()
    result = await _finish(hass, result, account.credentials)
    assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_host_with_a_default_port(hass: HomeAssistant, account: Account) -> None:
    """The port of https is not part of the host."""
    typed = account.credentials | {"host": "https://127.0.0.1.:443"}
    result = await _start(hass, typed)
    assert result["errors"] == {"base": "cannot_connect"}
    [flow] = hass.config_entries.flow.async_progress_by_handler(DOMAIN)
    assert flow["context"]["unique_id"] == "127.0.0.1_demo_api"


async def test_unexpected_error(
    hass: HomeAssistant,
    account: Account,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An unexpected error is logged and does not end the flow."""
    with monkeypatch.context() as patched:
        patched.setattr(NorthboundClient, "plants", None)
        result = await _start(hass, account.credentials)
    assert result["errors"] == {"base": "unknown"}
    assert "Unexpected error while logging in" in caplog.text
    caplog.clear()
    result = await _finish(hass, result, account.credentials)
    assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_same_account_in_two_windows(
    hass: HomeAssistant, account: Account, simulator: Simulator, neighborhood: Home
) -> None:
    """The second of two flows for an account is aborted."""
    await _with_three_plants(hass, account, simulator, neighborhood)
    result = await _start(hass, account.credentials)
    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "already_in_progress"
    assert len(simulator.calls_to("login")) == 1


@pytest.mark.slow
@ERRORS
async def test_errors_of_reauthentication(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    fault: faults.Fault,
    interface: str,
    errors: dict[str, str],
    placeholders: dict[str, str],
) -> None:
    """Each error is shown in the form with one field, and can be corrected."""
    simulator.change_password("Changed-2")
    simulator.expire_token()
    await added.pass_time(timedelta(minutes=17))
    [flow] = hass.config_entries.flow.async_progress_by_handler(DOMAIN)
    before = dict(added.entry.data)
    simulator.faults.add(fault, interface)
    result = await _finish(hass, flow, {"password": "Changed-2"})
    assert result["step_id"] == "reauth_confirm"
    assert result["errors"] == {"base": next(iter(errors.values()))}
    assert result["description_placeholders"].items() >= placeholders.items()
    assert added.entry.data == before
    simulator.faults.clear()
    await added.poll(timedelta(minutes=int(placeholders.get("minutes", 0))))
    result = await _finish(hass, result, {"password": "Changed-2"})
    assert result["reason"] == "reauth_successful"
    assert added.entry.data == before | {"password": "Changed-2"}
    await added.pass_time(timedelta(minutes=6))
    assert hass.config_entries.flow.async_progress_by_handler(DOMAIN) == []
    assert added.value(INVERTER, "active_power") == "8000.0"


async def test_reauthentication(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """A new password is requested, checked and used without a second login."""
    old = added.credentials
    simulator.change_password("Changed-2")
    simulator.expire_token()
    await added.poll()
    [flow] = hass.config_entries.flow.async_progress_by_handler(DOMAIN)
    result = await hass.config_entries.flow.async_configure(flow["flow_id"])
    assert result["step_id"] == "reauth_confirm"
    assert result["description_placeholders"] == {
        "name": "Lindenweg 12",
        "username": "demo_api",
    }
    result = await _finish(hass, result, {"password": old["password"]})
    assert result["errors"] == {"base": "invalid_auth"}
    logins = len(simulator.calls_to("login"))
    result = await _finish(hass, result, {"password": "Changed-2"})
    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "reauth_successful"
    await hass.async_block_till_done()
    assert added.entry.data == old | {"password": "Changed-2"}
    assert len(simulator.calls_to("login")) == logins + 1
