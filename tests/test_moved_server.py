"""Tests of a server that moves to another host."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
import socket
from typing import Any, Final

from aiodns.error import DNSError
from aiohttp.abc import ResolveResult
from aiohttp.resolver import AsyncResolver
from freezegun.api import FrozenDateTimeFactory
import pytest

from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.markdown import escape
from homeassistant.components.repairs import FlowType, repairs_flow_manager
from homeassistant.config_entries import SOURCE_RECONFIGURE
from homeassistant.const import STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import entity_registry as er, issue_registry as ir
from homeassistant.setup import async_setup_component
from homeassistant.util.ssl import get_default_context
from tests.certificates import certificate
from tests.simulator import Simulator, faults, homes
from tests.simulator.plants import Home

from . import history, statistics
from .conftest import POLL, Account
from .history import HOUR, Past, full_hour

recorder_config = statistics.recorder_config
past = history.past
start = history.start
days = history.days
simulator = history.simulator

QUARTER: Final = timedelta(minutes=15, seconds=2)
PLANT: Final = "NE=35436840"
INVERTER: Final = 1000000035436842
BATTERY: Final = 1000000035436843
METER: Final = 1000000035436844

type Mode = Callable[[Simulator], faults.Fault]


def _redirect(status: int) -> Mode:
    return lambda other: faults.Redirect(other.url, status)


# How the first server moves, and whether it names the new host.
MODES: Final[dict[str, tuple[Mode, bool]]] = {
    "301": (_redirect(301), True),
    "302": (_redirect(302), True),
    "307": (_redirect(307), True),
    "308": (_redirect(308), True),
    "gone": (lambda other: faults.HttpStatus(410), False),
    "401 for all": (lambda other: faults.HtmlPage(401), False),
    "web page": (lambda other: faults.HtmlPage(), False),
    "not found": (lambda other: faults.HtmlPage(404), False),
}


@pytest.fixture
def changes() -> dict[str, bool]:
    """Return what is different on the other server."""
    return {}


@pytest.fixture
async def other(
    simulator: Simulator, changes: dict[str, bool]
) -> AsyncIterator[Simulator]:
    """Serve the same plants at another port."""
    other = Simulator(homes.transferred(simulator.home, **changes))
    async with other.serve():
        yield other


def issue(hass: HomeAssistant) -> ir.IssueEntry | None:
    """Return the only repair, if there is one."""
    issues = list(ir.async_get(hass).issues.values())
    assert len(issues) <= 1
    return issues[0] if issues else None


async def repair(hass: HomeAssistant) -> Any:
    """Open the repair, and return its form."""
    found = issue(hass)
    assert found is not None
    assert found.translation_key == "server_moved"
    assert found.is_fixable
    assert await async_setup_component(hass, "repairs", {})
    manager = repairs_flow_manager(hass)
    assert manager is not None
    return await manager.async_init(DOMAIN, data={"issue_id": found.issue_id})


async def confirm(hass: HomeAssistant, result: Any, host: str) -> Any:
    """Enter a host in the repair."""
    manager = repairs_flow_manager(hass)
    assert manager is not None
    result = await manager.async_configure(result["flow_id"], {"host": host})
    await hass.async_block_till_done(wait_background_tasks=True)
    return result


def suggested(result: Any) -> str | None:
    """Return the host that the form suggests."""
    [marker] = result["data_schema"].schema
    host: str | None = (marker.description or {}).get("suggested_value")
    return host


def service(account: Account) -> str | None:
    """Return the state of the service."""
    return account.value(account.entry.entry_id, "service")


def follow(account: Account, changes: dict[str, bool]) -> None:
    """Find entities by their names before the move."""
    registered = account.registered
    codes, ids = changes.get("codes"), changes.get("ids")

    def renamed(source_id: str | int, key: str) -> er.RegistryEntry | None:
        if ids and isinstance(source_id, int):
            source_id += 5_000_000
        elif codes and isinstance(source_id, str) and source_id.startswith("NE="):
            source_id = f"NE=9{source_id[-7:]}"
        return registered(source_id, key)

    account.registered = renamed  # type: ignore[method-assign]


class TestStatistics:
    """The statistics go on, from one host to the other."""

    @staticmethod
    async def move(past: Past, other: Simulator, changes: dict[str, bool]) -> None:
        """Move the server for some hours, and compare the statistics with the truth."""
        hass, account = past.hass, past.run.account
        before = {each.entity_id: each.unique_id for each in account.entities()}
        await past.until("2026-06-21 13:20", QUARTER)
        past.run.simulator.faults.add(faults.Redirect(other.url))
        gone = full_hour(past.run.now)
        await past.run.until("2026-06-21 15:40", QUARTER)
        assert service(account) == "moved"
        assert other.calls == []
        result = await repair(hass)
        assert other.calls == []
        assert result["step_id"] == "known_host"
        result = await confirm(hass, result, suggested(result) or "")
        assert result["type"] is FlowResultType.CREATE_ENTRY
        past.run.simulator.calls.clear()
        follow(account, changes)
        past.record_past(gone + HOUR, past.run.at("2026-06-21 15:00"))
        await past.until("2026-06-21 18:00:30", POLL)
        assert past.run.simulator.calls == []
        assert service(account) == "ok"
        assert issue(hass) is None
        assert {each.entity_id for each in account.entities()} >= before.keys()
        end = past.run.at("2026-06-21 18:00")
        assert await past.problems(past.begin, end) == []
        assert other.refusals == []

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"codes": True},
            {"ids": True},
            {"codes": True, "ids": True},
            {"codes": True, "ids": True, "serial_numbers": False},
        ],
        ids=["same", "codes", "ids", "both", "names"],
    )
    async def test_moves(
        self, past: Past, other: Simulator, changes: dict[str, bool]
    ) -> None:
        """All entities go on, also with other plant codes and device ids."""
        await self.move(past, other, changes)


@pytest.mark.parametrize("mode", MODES)
async def test_modes(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    other: Simulator,
    mode: str,
) -> None:
    """The repair appears after an hour, and logs in after it was confirmed."""
    fault, is_named = MODES[mode]
    simulator.faults.add(fault(other))
    await added.pass_time(timedelta(minutes=55))
    assert issue(hass) is None
    await added.pass_time(timedelta(minutes=70))
    assert service(added) == "moved"
    result = await repair(hass)
    assert result["step_id"] == ("known_host" if is_named else "unknown_host")
    assert suggested(result) == (other.url if is_named else None)
    await added.pass_time(timedelta(minutes=10))
    assert other.calls == []
    result = await confirm(hass, result, other.url)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    await added.pass_time(timedelta(minutes=6))
    assert added.entry.data["host"] == other.url
    assert added.value(INVERTER, "active_power") not in (None, STATE_UNAVAILABLE)
    assert service(added) == "ok"
    assert issue(hass) is None


async def _moves(hass: HomeAssistant, account: Account, other: Simulator) -> None:
    """Wait until the server counts as moved, and log in to the other host."""
    await account.pass_time(timedelta(minutes=55))
    assert issue(hass) is None
    await account.pass_time(timedelta(minutes=10))
    assert service(account) == "moved"
    result = await repair(hass)
    assert result["step_id"] == "unknown_host"
    assert other.calls == []
    result = await confirm(hass, result, other.url)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    await account.pass_time(timedelta(minutes=6))
    assert account.value(INVERTER, "active_power") not in (None, STATE_UNAVAILABLE)
    assert issue(hass) is None


async def test_name_is_gone(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    other: Simulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The name of the server does not exist any more."""
    names = {"localhost"}

    async def resolve(
        resolver: AsyncResolver,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,
    ) -> list[ResolveResult]:
        if host not in names:
            raise OSError(None, "DNS") from DNSError(4, "Domain name not found")
        return [
            ResolveResult(
                hostname=host,
                host="127.0.0.1",
                port=port,
                family=socket.AF_INET,
                proto=0,
                flags=0,
            )
        ]

    monkeypatch.setattr(AsyncResolver, "resolve", resolve)
    simulator.url = simulator.url.replace("127.0.0.1", "localhost")
    await account.add()
    assert account.value(INVERTER, "active_power") is not None
    names.clear()
    simulator.faults.add(faults.DropConnection())
    await _moves(hass, account, other)


async def test_certificate_of_another_name(
    hass: HomeAssistant,
    hass_storage: dict[str, Any],
    enable_custom_integrations: None,
    home: Home,
    start: str,
    socket_enabled: None,
    freezer: FrozenDateTimeFactory,
    tmp_path: Path,
) -> None:
    """The server has the certificate of another name."""
    await hass.config.async_set_time_zone("Europe/Berlin")
    freezer.move_to(start)
    context, trusted = certificate(tmp_path, "127.0.0.1")
    _, of_other = certificate(tmp_path, "other.example")
    get_default_context().load_verify_locations(cadata=trusted + of_other)
    simulator, other = Simulator(home), Simulator(homes.transferred(home))
    async with simulator.serve(certificate=context), other.serve():
        account = Account(hass, simulator, freezer, hass_storage)
        await account.add()
        assert account.value(INVERTER, "active_power") is not None
        context.load_cert_chain(tmp_path / "other.example.pem")
        simulator.faults.add(faults.DropConnection())
        await _moves(hass, account, other)


@pytest.mark.parametrize("changes", [{"codes": True}])
async def test_login_that_is_refused(
    hass: HomeAssistant, added: Account, simulator: Simulator, other: Simulator
) -> None:
    """A login that the new host refuses is continued in the dialog of the account."""
    other.change_password("Changed-2")
    simulator.faults.add(faults.Redirect(other.url))
    await added.pass_time(timedelta(minutes=70))
    result = await confirm(hass, await repair(hass), other.url)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    kind, flow_id = result["next_flow"]
    assert kind is FlowType.CONFIG_FLOW
    form = hass.config_entries.flow.async_get(flow_id)
    assert form["step_id"] == "reconfigure"
    await added.pass_time(timedelta(minutes=6))
    assert issue(hass) is not None
    credentials = {**added.entry.data, "host": other.url, "password": "Changed-2"}
    result = await hass.config_entries.flow.async_configure(flow_id, credentials)
    assert result["reason"] == "reconfigure_successful"
    await added.pass_time(timedelta(minutes=6))
    follow(added, {"codes": True})
    assert added.value(INVERTER, "active_power") not in (None, STATE_UNAVAILABLE)
    assert added.value(PLANT, "day_power") not in (None, STATE_UNAVAILABLE)
    assert issue(hass) is None


async def test_account_of_another_entry(
    hass: HomeAssistant,
    hass_storage: dict[str, Any],
    added: Account,
    simulator: Simulator,
    other: Simulator,
    freezer: FrozenDateTimeFactory,
) -> None:
    """The account of another entry is rejected."""
    first = added.entry
    other.home.plants = homes.emma().plants
    await Account(hass, other, freezer, hass_storage).add()
    simulator.faults.add(faults.Redirect(other.url))
    await added.pass_time(timedelta(minutes=70))
    other.calls.clear()
    manager = repairs_flow_manager(hass)
    result = await confirm(hass, await repair(hass), other.url)
    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "already_configured"
    assert first.data["host"] == simulator.url
    assert manager is None or manager.async_progress() == []


async def test_redirect_in_the_dialog(
    hass: HomeAssistant, account: Account, simulator: Simulator, other: Simulator
) -> None:
    """The dialog names the host to which a server redirects."""
    simulator.faults.add(faults.Redirect(other.url))
    result = await account.add()
    assert result["errors"] == {"host": "server_moved"}
    assert result["description_placeholders"] == {"host": escape(other.url)}
    assert other.calls == []


@pytest.mark.parametrize("changes", [{"codes": True}])
async def test_not_loaded(
    hass: HomeAssistant, added: Account, simulator: Simulator, other: Simulator
) -> None:
    """Plants with other codes are recognized while the account is not loaded."""
    entries = hass.config_entries
    await entries.async_unload(added.entry.entry_id)
    result = await entries.flow.async_init(
        DOMAIN,
        context={"source": SOURCE_RECONFIGURE, "entry_id": added.entry.entry_id},
        data={**added.entry.data, "host": other.url},
    )
    assert result["reason"] == "reconfigure_successful"
    await hass.async_block_till_done(wait_background_tasks=True)
    follow(added, {"codes": True})
    assert added.value(PLANT, "day_power") is not None
