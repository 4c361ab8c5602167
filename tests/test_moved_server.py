"""Tests of a server that moves to another host."""

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
import math
from pathlib import Path
import socket
import ssl
from typing import Any, Final

from aiodns.error import DNSError
from aiohttp.abc import ResolveResult
from aiohttp.resolver import AsyncResolver
from freezegun.api import FrozenDateTimeFactory
import pytest

from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.markdown import escape
from homeassistant.components.repairs import FlowType, repairs_flow_manager
from homeassistant.config_entries import SOURCE_RECONFIGURE, SOURCE_USER
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

QUARTER: Final = timedelta(minutes=15, seconds=2)
PLANT: Final = "NE=35436840"
INVERTER: Final = 1000000035436842
BATTERY: Final = 1000000035436843
METER: Final = 1000000035436844

type Move = Callable[[], None]


# Faults of the first server after its move, by mode.
MODES: Final[dict[str, Callable[[str], faults.Fault]]] = {
    **faults.MOVED,
    "no name": lambda _: faults.DropConnection(),
    "certificate": lambda _: faults.DropConnection(),
}
# Energies of a plant in the simulator, by key.
ENERGIES: Final = {
    "pv_energy": "pv",
    "home_energy": "load",
    "charged_energy": "charge",
    "discharged_energy": "discharge",
}
# In kWh.
ROUNDING: Final = 0.03
NAMES_HOST: Final = frozenset({"301", "302", "307", "308"})
VENDOR: Final = "huawei.com"
OTHER_NAME: Final = "other.example"


@pytest.fixture
def mode() -> str:
    """Return how the server moves."""
    return "301"


@pytest.fixture
def changes() -> dict[str, bool]:
    """Return what is different on the other server."""
    return {}


@pytest.fixture
def unknown() -> OSError:
    """Return the error of the resolver for a name that does not exist."""
    return _as_error(DNSError(4, "Domain name not found"))


def _as_error(cause: DNSError) -> OSError:
    error = OSError(None, "DNS")
    error.__cause__ = cause
    return error


@pytest.fixture
def names(unknown: OSError, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the names of hosts that exist."""
    names = {"localhost", VENDOR}

    async def resolve(
        resolver: AsyncResolver,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,
    ) -> list[ResolveResult]:
        if host not in names:
            raise unknown
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
    return names


@pytest.fixture
def context(mode: str, tmp_path: Path) -> ssl.SSLContext | None:
    """Return the certificate of the server, if it has one."""
    if mode != "certificate":
        return None
    context, trusted = certificate(tmp_path, "127.0.0.1")
    _, of_other = certificate(tmp_path, OTHER_NAME)
    get_default_context().load_verify_locations(cadata=trusted + of_other)
    return context


@pytest.fixture
async def simulator(
    home: Home,
    start: str,
    mode: str,
    names: set[str],
    context: ssl.SSLContext | None,
    socket_enabled: None,
    freezer: FrozenDateTimeFactory,
) -> AsyncIterator[Simulator]:
    """Serve a home at the old address."""
    freezer.move_to(start)
    simulator = Simulator(home)
    async with simulator.serve(certificate=context):
        if mode == "no name":
            simulator.url = simulator.url.replace("127.0.0.1", "localhost")
        yield simulator


@pytest.fixture
async def other(
    simulator: Simulator, changes: dict[str, bool]
) -> AsyncIterator[Simulator]:
    """Serve the same plants at another port."""
    other = Simulator(homes.transferred(simulator.home, **changes))
    async with other.serve():
        yield other


@pytest.fixture
def move(
    simulator: Simulator,
    other: Simulator,
    mode: str,
    names: set[str],
    context: ssl.SSLContext | None,
    tmp_path: Path,
) -> Move:
    """Return a function that moves the server."""

    def move() -> None:
        simulator.faults.add(MODES[mode](other.url))
        names.discard("localhost")
        if context is not None:
            context.load_cert_chain(tmp_path / f"{OTHER_NAME}.pem")

    return move


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


def follow(account: Account, other: Simulator, home: Home) -> None:
    """Find entities by their names before the move."""
    registered = account.registered
    new: dict[str | int, str | int] = {}
    for plant, same in zip(home.plants, other.home.plants, strict=True):
        new[plant.code] = same.code
        for device, same_device in zip(plant.devices, same.devices, strict=True):
            new[device.id] = same_device.id

    def renamed(source_id: str | int, key: str) -> er.RegistryEntry | None:
        return registered(new.get(source_id, source_id), key)

    account.registered = renamed  # type: ignore[method-assign]


# Modes, and what is different on the other server.
MOVES: Final[dict[str, tuple[str, dict[str, bool]]]] = {
    **{mode: (mode, {}) for mode in MODES},
    "codes": ("301", {"codes": True}),
    "ids": ("gone", {"ids": True}),
    "both": ("no name", {"codes": True, "ids": True}),
    "names": ("page", {"codes": True, "ids": True, "serial_numbers": False}),
    "exchanged": ("certificate", {"exchanged": True}),
}


@pytest.mark.parametrize(("mode", "changes"), MOVES.values(), ids=MOVES)
async def test_statistics(
    past: Past,
    hass_storage: dict[str, Any],
    other: Simulator,
    move: Move,
    mode: str,
) -> None:
    """The statistics go on after a move of some hours, and so do all entities."""
    hass, account, simulator = past.hass, past.run.account, past.run.simulator
    before = {each.entity_id for each in account.entities()}
    await past.until("2026-06-21 13:20", QUARTER)
    move()
    gone = full_hour(past.run.now)
    await past.run.until("2026-06-21 14:15", QUARTER)
    assert issue(hass) is None
    await past.run.until("2026-06-21 15:40", QUARTER)
    assert service(account) == "moved"
    result = await repair(hass)
    is_named = mode in NAMES_HOST
    assert result["step_id"] == ("known_host" if is_named else "unknown_host")
    assert suggested(result) == (other.url if is_named else None)
    assert other.connections == 0
    result = await confirm(hass, result, other.url)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert account.entry.data["host"] == other.url
    simulator.calls.clear()
    follow(account, other, simulator.home)
    past.record_past(gone + HOUR, past.run.at("2026-06-21 15:00"))
    await past.until("2026-06-21 18:00:30", POLL)
    assert simulator.calls == []
    assert service(account) == "ok"
    assert account.value(INVERTER, "active_power") not in (None, STATE_UNAVAILABLE)
    assert issue(hass) is None
    assert {each.entity_id for each in account.entities()} >= before
    end = past.run.at("2026-06-21 18:00")
    assert await past.problems(past.begin, end) == []
    await check_energies(past, end)
    assert other.refusals == []
    old, new = names_of(simulator.home), names_of(other.home)
    stored = str([each for key, each in hass_storage.items() if DOMAIN in key])
    assert [name for name in old - new if name in stored] == []


async def check_energies(past: Past, end: datetime) -> None:
    """Compare the sums of the plant's energies; the last reading is some minutes old."""
    simulator = past.run.simulator
    [plant] = simulator.home.plants
    least = simulator.energy(plant.code, past.begin, end - timedelta(minutes=11))
    most = simulator.energy(plant.code, past.begin, end)
    changes = await past.changes()
    for key, name in ENERGIES.items():
        state = past.run.account.state(plant.code, key)
        assert state is not None
        hours = changes[state.entity_id]
        total = math.fsum(hours[hour] for hour in hours if hour < end)
        # The inverter counts less than its panels produce.
        assert 0.99 * getattr(least, name) < total, key
        assert getattr(most, name) + ROUNDING > total, key


def names_of(home: Home) -> set[str]:
    """Return the codes of plants and the ids of devices."""
    return {plant.code for plant in home.plants} | {
        str(device.id) for _, device in home.devices()
    }


class TestImport:
    """A move in the middle of an import."""

    @pytest.fixture
    def days(self) -> int:
        """Return several windows."""
        return 7

    @pytest.mark.parametrize("changes", [{"codes": True, "ids": True}])
    async def test_goes_on(self, past: Past, other: Simulator, move: Move) -> None:
        """The history that is still to be imported is that of the new ids."""
        simulator, account = past.run.simulator, past.run.account
        while not simulator.calls_to("getDevHistoryKpi"):
            await past.poll(POLL)
        move()
        gone = full_hour(past.run.now)
        await past.run.until(past.run.now + timedelta(minutes=80), QUARTER)
        assert past.history_state != "idle"
        await confirm(past.hass, await repair(past.hass), other.url)
        follow(account, other, simulator.home)
        past.record_past(gone + HOUR, full_hour(past.run.now))
        await past.until(past.run.now + 6 * HOUR, POLL)
        assert past.history_state == "idle"
        assert await past.problems(past.begin, full_hour(past.run.now)) == []


@pytest.mark.parametrize("changes", [{"codes": True, "ids": True}])
async def test_partial_list(
    hass: HomeAssistant, added: Account, other: Simulator, move: Move
) -> None:
    """A device that the first list of the new server lacks keeps its entities."""
    await added.pass_time(timedelta(minutes=20))
    before = {each.id: each.unique_id for each in added.entities()}
    move()
    await added.pass_time(timedelta(minutes=70))
    of_meter = homes.transferred(homes.family(), ids=True).plants[0].devices[-1]
    other.faults.add(faults.MissingRows({of_meter.id}), "getDevList", times=1)
    await confirm(hass, await repair(hass), other.url)
    await added.pass_time(timedelta(hours=3))
    after = {each.id: each.unique_id for each in added.entities()}
    assert after.keys() >= before.keys()
    keys = ("active_power", "active_cap", "reverse_active_cap")
    meter_entities = {f"{of_meter.id}_{key}" for key in keys}
    assert meter_entities <= {after[each] for each in before}


@pytest.mark.parametrize("mode", ["no name"])
@pytest.mark.parametrize(
    ("unknown", "state"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "moved"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "maintenance"),
        (
            _as_error(DNSError(12, "Timeout while contacting DNS servers")),
            "maintenance",
        ),
    ],
)
async def test_resolvers(added: Account, move: Move, state: str) -> None:
    """A name is gone only if the resolver answers that there is no such name."""
    move()
    await added.pass_time(timedelta(hours=2))
    assert service(added) == state


@pytest.mark.parametrize("mode", ["no name"])
async def test_no_connection(
    hass: HomeAssistant, added: Account, names: set[str], move: Move
) -> None:
    """A router without a connection is no server that has moved."""
    names.clear()
    move()
    await added.pass_time(timedelta(hours=3))
    assert service(added) == "maintenance"
    assert issue(hass) is None


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
    follow(added, other, simulator.home)
    assert added.value(INVERTER, "active_power") not in (None, STATE_UNAVAILABLE)
    assert added.value(PLANT, "day_power") not in (None, STATE_UNAVAILABLE)
    assert issue(hass) is None


async def test_dialog_that_was_left_open(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    other: Simulator,
    move: Move,
) -> None:
    """The repair works again if its login failed and the dialog is still open."""
    other.change_password("Changed-2")
    move()
    await added.pass_time(timedelta(minutes=70))
    await confirm(hass, await repair(hass), other.url)
    other.change_password(simulator.account.system_code)
    await added.pass_time(timedelta(minutes=10))
    result = await confirm(hass, await repair(hass), other.url)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert added.entry.data["host"] == other.url
    assert hass.config_entries.flow.async_progress() == []


async def test_account_in_another_dialog(
    hass: HomeAssistant, added: Account, other: Simulator, move: Move
) -> None:
    """A dialog in which the new host was tried does not prevent the repair."""
    flows = hass.config_entries.flow
    result = await flows.async_init(DOMAIN, context={"source": SOURCE_USER})
    tried = {**added.credentials, "host": other.url, "history": 0}
    result = await flows.async_configure(
        result["flow_id"], {**tried, "password": "Wrong-1"}
    )
    assert result["type"] is FlowResultType.FORM
    move()
    await added.pass_time(timedelta(minutes=70))
    result = await confirm(hass, await repair(hass), other.url)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert added.entry.data["host"] == other.url


async def test_logins_alone_succeed(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """A server that rejects all new tokens has moved, and has no other client."""
    simulator.faults.add(
        faults.HtmlPage(401), when=lambda body: "systemCode" not in body
    )
    while (found := issue(hass)) is None:
        await added.pass_time(timedelta(minutes=5))
    assert found.translation_key == "server_moved"
    assert len(simulator.calls_to("login")) <= 6


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
    follow(added, other, simulator.home)
    assert added.value(PLANT, "day_power") is not None
