"""Tests of repairs, which exist only while the user can resolve them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.descriptions import FLOW_SENSORS
from custom_components.smartpvms.repairs import OpenDialogFlow
from homeassistant.components.repairs import FlowType, repairs_flow_manager
from homeassistant.config_entries import (
    SOURCE_REAUTH,
    SOURCE_RECONFIGURE,
    ConfigEntryDisabler,
    ConfigEntryState,
)
from homeassistant.const import STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import entity_registry as er, issue_registry as ir
from homeassistant.setup import async_setup_component
from tests.simulator import Simulator, faults, homes
from tests.simulator.plants import Home

from .conftest import Account

BATTERY = 1000000035436843


def _state(account: Account) -> ConfigEntryState:
    return account.entry.state


def _entries(hass: HomeAssistant) -> list[ir.IssueEntry]:
    return [
        issue for issue in ir.async_get(hass).issues.values() if issue.domain == DOMAIN
    ]


def _issues(hass: HomeAssistant) -> dict[str, dict[str, str] | None]:
    """Return the placeholders of all issues, by translation key."""
    issues = _entries(hass)
    for issue in issues:
        assert issue.severity is ir.IssueSeverity.WARNING
        assert issue.learn_more_url
        assert issue.learn_more_url.endswith("#troubleshooting")
        assert issue.is_fixable == (issue.translation_key == "open_dialog")
    return {
        str(issue.translation_key): issue.translation_placeholders for issue in issues
    }


async def test_nothing_to_repair(hass: HomeAssistant, added: Account) -> None:
    """A working account has no issue."""
    await added.pass_time(timedelta(minutes=30))
    assert _issues(hass) == {}


async def test_another_client(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """T#84: three lost sessions in an hour are reported as another program."""
    for taken in range(3):
        assert _issues(hass) == {}, taken
        simulator.take_session()
        await added.pass_time(timedelta(minutes=6))
    assert _issues(hass) == {"session_taken": {"account": simulator.account.user_name}}
    await added.pass_time(timedelta(hours=1))
    assert _issues(hass) == {}


@pytest.mark.parametrize(
    ("interface", "permission"),
    [
        ("getDevList", "device_list"),
        ("getStationRealKpi", "plant_data"),
        ("getDevRealKpi", "device_data"),
    ],
)
async def test_missing_permission(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    interface: str,
    permission: str,
) -> None:
    """T#144, T#272: the repair names the permission in the portal."""
    simulator.withdraw_permission(interface)
    await added.pass_time(timedelta(days=1, minutes=1))
    assert _issues(hass) == {
        f"no_permission_{permission}": {"account": simulator.account.user_name}
    }
    simulator.grant_permission(interface)
    await added.pass_time(timedelta(minutes=16))
    assert _issues(hass) == {}


async def test_permission_that_is_missing_for_long(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """Repeated attempts leave enough calls for the time after the permission."""
    simulator.withdraw_permission("getDevList")
    simulator.calls.clear()
    await added.pass_time(timedelta(days=2, hours=1))
    assert "no_permission_device_list" in _issues(hass)
    assert len(simulator.calls_to("getDevList")) <= 16
    simulator.grant_permission("getDevList")
    await added.pass_time(timedelta(hours=2, minutes=1))
    assert _issues(hass) == {}
    assert simulator.refusals == []


@pytest.mark.parametrize(
    ("happen", "undo", "key"),
    [
        (
            lambda simulator: simulator.withdraw_permission("getDevList"),
            lambda simulator: simulator.grant_permission("getDevList"),
            "no_permission_device_list",
        ),
        (
            lambda simulator: simulator.unauthorize("NE=35436840"),
            lambda simulator: simulator.authorize("NE=35436840"),
            "not_authorized",
        ),
    ],
)
async def test_first_set_up(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    happen: Callable[[Simulator], None],
    undo: Callable[[Simulator], None],
    key: str,
) -> None:
    """T#144, T#265: a new account reports its missing permissions, too."""
    happen(simulator)
    await account.add()
    assert _state(account) is ConfigEntryState.SETUP_RETRY
    assert account.entry.error_reason_translation_key == key
    assert list(_issues(hass)) == [key]
    undo(simulator)
    await account.poll(timedelta(minutes=11))
    assert _state(account) is ConfigEntryState.LOADED
    assert _issues(hass) == {}


async def test_deleted_during_setup_retry(
    hass: HomeAssistant, account: Account, simulator: Simulator
) -> None:
    """An account that was never loaded leaves no issue."""
    simulator.withdraw_permission("getDevList")
    await account.add()
    assert _issues(hass)
    await hass.config_entries.async_remove(account.entry.entry_id)
    assert _issues(hass) == {}


def _deny_batteries(simulator: Simulator) -> None:
    simulator.faults.add(
        faults.FailCode(401),
        "getDevRealKpi",
        when=lambda body: str(body["devTypeId"]) == "39",
    )


async def test_permission_for_missing_devices(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """Devices that are no longer listed need no permission."""
    _deny_batteries(simulator)
    await added.pass_time(timedelta(minutes=6))
    assert "no_permission_device_data" in _issues(hass)
    plant = simulator.home.plants[0]
    plant.devices = [device for device in plant.devices if device.id != BATTERY]
    await added.pass_time(timedelta(days=1, minutes=1))
    assert _issues(hass) == {}


async def test_permission_for_disabled_devices(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """Devices without enabled entities need no permission."""
    _deny_batteries(simulator)
    await added.pass_time(timedelta(minutes=6))
    assert "no_permission_device_data" in _issues(hass)
    registry = er.async_get(hass)
    for entity in er.async_entries_for_config_entry(registry, added.entry.entry_id):
        registry.async_update_entity(
            entity.entity_id,
            disabled_by=er.RegistryEntryDisabler.USER
            if entity.unique_id.startswith(str(BATTERY))
            or entity.unique_id.partition("_")[2] in FLOW_SENSORS
            else entity.disabled_by,
        )
    await added.pass_time(timedelta(minutes=6))
    assert _issues(hass) == {}


@pytest.mark.parametrize(
    ("happen", "key"),
    [
        (lambda simulator: simulator.withdraw_permission("getDevList"), "permission"),
        (
            lambda simulator: simulator.withdraw_permission("getDevRealKpi"),
            "permission",
        ),
        (lambda simulator: simulator.unauthorize("NE=35436840"), "not_authorized"),
        (lambda simulator: simulator.disable(20003), "account_disabled"),
        (lambda simulator: simulator.limit_day("getDevRealKpi", 0), "used_up"),
    ],
)
async def test_ignored_repair_stays_ignored(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    happen: Callable[[Simulator], None],
    key: str,
) -> None:
    """An ignored repair stays ignored after a reload."""
    happen(simulator)
    await added.pass_time(timedelta(days=1, minutes=1))
    [issue] = _entries(hass)
    assert key in str(issue.translation_key)
    ir.async_ignore_issue(hass, DOMAIN, issue.issue_id, ignore=True)
    await hass.config_entries.async_reload(added.entry.entry_id)
    await hass.async_block_till_done()
    await added.restart()
    [issue] = _entries(hass)
    assert issue.dismissed_version
    simulator.faults.add(faults.FailCode(20004))
    await added.pass_time(timedelta(minutes=31))
    simulator.faults.clear()
    await added.pass_time(timedelta(hours=1))
    [issue] = _entries(hass)
    assert issue.dismissed_version


async def test_disabled_by_the_user(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """A disabled entry has no issues."""
    simulator.withdraw_permission("getDevRealKpi")
    await added.pass_time(timedelta(minutes=6))
    assert _issues(hass)
    entries = hass.config_entries
    await entries.async_set_disabled_by(added.entry.entry_id, ConfigEntryDisabler.USER)
    assert _issues(hass) == {}
    await entries.async_set_disabled_by(added.entry.entry_id, None)
    await added.pass_time(timedelta(minutes=6))
    assert _issues(hass)


@pytest.mark.parametrize("code", [20002, 20003])
async def test_account_disabled(
    hass: HomeAssistant, added: Account, simulator: Simulator, code: int
) -> None:
    """The administrator must renew an expired account."""
    simulator.disable(code)
    await added.pass_time(timedelta(minutes=6))
    assert _issues(hass) == {
        "account_disabled": {"account": simulator.account.user_name}
    }
    simulator.disable(None)
    [flow] = hass.config_entries.flow.async_progress_by_handler(DOMAIN)
    await hass.config_entries.flow.async_configure(
        flow["flow_id"], {"password": simulator.account.system_code}
    )
    await added.pass_time(timedelta(minutes=6))
    assert _issues(hass) == {}


async def test_daily_calls_used_up(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """20618: another program has used up the calls of the day."""
    simulator.limit_day("getDevRealKpi", 0)
    await added.pass_time(timedelta(minutes=6))
    assert _issues(hass) == {
        "used_up_device_data": {"account": simulator.account.user_name}
    }
    simulator.limit_day("getDevRealKpi", None)
    await added.pass_time(timedelta(hours=14, minutes=10))
    assert _issues(hass) == {}


class TestOpenDialog:
    """A password that is refused while the reconfiguration is open."""

    @pytest.fixture
    async def dialog(
        self, hass: HomeAssistant, added: Account, simulator: Simulator
    ) -> str:
        """Open the dialog, and return its id after the refusal."""
        assert await async_setup_component(hass, "repairs", {})
        result = await hass.config_entries.flow.async_init(
            DOMAIN,
            context={"source": SOURCE_RECONFIGURE, "entry_id": added.entry.entry_id},
        )
        simulator.change_password("Changed-2")
        # The refusal is not the first failure.
        fault = simulator.faults.add(faults.DropConnection())
        await added.pass_time(timedelta(minutes=6))
        fault.remove()
        simulator.expire_token()
        await added.pass_time(timedelta(minutes=6))
        assert _issues(hass) == {
            "open_dialog": {"account": simulator.account.user_name}
        }
        return result["flow_id"]

    @staticmethod
    def _reauth(hass: HomeAssistant) -> list[str]:
        """Return the ids of dialogs, which are all for the password."""
        flows = hass.config_entries.flow.async_progress_by_handler(DOMAIN)
        assert all(each["context"]["source"] == SOURCE_REAUTH for each in flows)
        return [each["flow_id"] for each in flows]

    async def test_fix(
        self, hass: HomeAssistant, added: Account, simulator: Simulator, dialog: str
    ) -> None:
        """The fix closes the dialog, and goes on to the form for the password."""
        flows = repairs_flow_manager(hass)
        assert flows is not None
        [issue] = _entries(hass)
        result = await flows.async_init(
            DOMAIN,
            context={"issue_id": issue.issue_id},
            # Home Assistant 2026.9 takes the issue from the data.
            data={"issue_id": issue.issue_id},
        )
        assert result["type"] is FlowResultType.FORM
        assert result["description_placeholders"] == issue.translation_placeholders
        result = await flows.async_configure(result["flow_id"], {})
        assert result["type"] is FlowResultType.CREATE_ENTRY
        [reauth] = self._reauth(hass)
        assert result["next_flow"] == (FlowType.CONFIG_FLOW, reauth)
        assert _issues(hass) == {}
        await hass.config_entries.flow.async_configure(
            reauth, {"password": "Changed-2"}
        )
        await added.pass_time(timedelta(minutes=6))
        assert added.value(BATTERY, "battery_soc") not in (None, STATE_UNAVAILABLE)
        assert _issues(hass) == {}

    async def test_end_of_the_dialog(
        self, hass: HomeAssistant, added: Account, dialog: str
    ) -> None:
        """Home Assistant asks for the password as soon as the dialog is closed."""
        hass.config_entries.flow.async_abort(dialog)
        await hass.async_block_till_done()
        assert len(self._reauth(hass)) == 1
        assert _issues(hass) == {}

    async def test_password_in_the_dialog(
        self, hass: HomeAssistant, added: Account, dialog: str
    ) -> None:
        """The dialog itself solves the problem, too."""
        await hass.config_entries.flow.async_configure(dialog, added.credentials)
        await added.pass_time(timedelta(minutes=6))
        assert self._reauth(hass) == []
        assert _issues(hass) == {}

    async def test_removal(
        self, hass: HomeAssistant, added: Account, dialog: str
    ) -> None:
        """A removed account leaves no issue, and its dialog can be closed."""
        await hass.config_entries.async_remove(added.entry.entry_id)
        assert _issues(hass) == {}
        hass.config_entries.flow.async_abort(dialog)
        assert self._reauth(hass) == []


async def test_fix_after_the_dialog(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """A fix that is confirmed after the dialog was used only ends."""
    assert await async_setup_component(hass, "repairs", {})
    flow = OpenDialogFlow(added.entry)
    flow.hass = hass
    result = await flow.async_step_confirm({})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert "next_flow" not in result


async def test_names_are_no_markdown(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """An image in the name of a plant is text."""
    [plant] = simulator.home.plants
    simulator.home.plants = [replace(plant, name="![a](https://example.com/b.png)")]
    await added.pass_time(timedelta(days=1, minutes=6))
    simulator.unauthorize(plant.code)
    await added.pass_time(timedelta(minutes=6))
    [placeholders] = _issues(hass).values()
    assert placeholders is not None
    assert placeholders["plant"] == r"!\[a\](https\://example.com/b.png)"


class TestSeveralPlants:
    """Repairs for one plant of several."""

    @pytest.fixture
    def home(self) -> Home:
        """Return an account with three plants."""
        return homes.fleet(plants=3, devices=3)

    @pytest.fixture
    async def added(
        self, hass: HomeAssistant, account: Account, simulator: Simulator
    ) -> Account:
        """Return the account, added with two of its plants."""
        await account.add_plants(simulator.home.plants[:2])
        return account

    async def test_owner_has_not_authorized(
        self, hass: HomeAssistant, added: Account, simulator: Simulator
    ) -> None:
        """T#265, T#289: 20056 names the plant; the other plant is read."""
        plant, other, _ = simulator.home.plants
        simulator.unauthorize(plant.code)
        await added.pass_time(timedelta(minutes=6))
        issues = _issues(hass)
        assert issues == {
            "not_authorized": {
                "account": simulator.account.user_name,
                "plant": plant.name,
            }
        }
        assert added.value(other.code, "day_power") is not None
        simulator.unauthorize(other.code)
        await added.pass_time(timedelta(minutes=6))
        assert len(ir.async_get(hass).issues) == 2
        simulator.authorize(plant.code)
        simulator.authorize(other.code)
        # The list, which was refused as well, is read again after a quarter of an hour.
        await added.pass_time(timedelta(minutes=21))
        assert _issues(hass) == {}

    async def test_none_of_the_chosen_plants(
        self, hass: HomeAssistant, added: Account, simulator: Simulator
    ) -> None:
        """The account has none of the chosen plants."""
        plants = simulator.home.plants
        simulator.home.plants = plants[2:]
        await added.pass_time(timedelta(days=1, minutes=1))
        assert "no_chosen_plants" in _issues(hass)
        simulator.home.plants = plants
        await added.pass_time(timedelta(hours=2))
        assert "no_chosen_plants" not in _issues(hass)

    async def test_removal(
        self, hass: HomeAssistant, added: Account, simulator: Simulator
    ) -> None:
        """A removed account leaves no issue."""
        simulator.unauthorize(simulator.home.plants[0].code)
        await added.pass_time(timedelta(minutes=6))
        assert _issues(hass)
        await hass.config_entries.async_remove(added.entry.entry_id)
        assert _issues(hass) == {}
