"""Tests of repairs: there as long as the user can do something, and no longer."""

from datetime import timedelta

import pytest

from custom_components.smartpvms.const import DOMAIN
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
from tests.simulator import Simulator, homes
from tests.simulator.plants import Home

from .conftest import Account


def _issues(hass: HomeAssistant) -> dict[str, dict[str, str] | None]:
    """Return the placeholders of all issues, by translation key."""
    issues = [
        issue for issue in ir.async_get(hass).issues.values() if issue.domain == DOMAIN
    ]
    for issue in issues:
        assert issue.severity is ir.IssueSeverity.WARNING
        assert issue.learn_more_url
        assert issue.learn_more_url.endswith("#troubleshooting")
        assert not issue.is_fixable
    return {
        str(issue.translation_key): issue.translation_placeholders for issue in issues
    }


async def test_nothing_to_repair(hass: HomeAssistant, added: Account) -> None:
    """An account that works has no issue."""
    await added.pass_time(timedelta(minutes=30))
    assert _issues(hass) == {}


async def test_another_client(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """T#84: who takes the session three times in an hour is a program."""
    for taken in range(3):
        assert _issues(hass) == {}, taken
        simulator.take_session()
        await added.pass_time(timedelta(minutes=6))
    assert _issues(hass) == {"session_taken": {"account": "Lindenweg 12"}}
    await added.pass_time(timedelta(hours=1))
    assert _issues(hass) == {}


@pytest.mark.parametrize(
    ("interface", "permission"),
    [
        ("getDevList", "Device list"),
        ("getStationRealKpi", "Real-time plant data"),
        ("getDevRealKpi", "Real-time device data"),
    ],
)
async def test_missing_permission(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    interface: str,
    permission: str,
) -> None:
    """T#144, T#272: it says what has to be ticked in the portal."""
    simulator.withdraw_permission(interface)
    await added.pass_time(timedelta(days=1, minutes=1))
    assert _issues(hass) == {
        "no_permission": {
            "account": "Lindenweg 12",
            "interface": interface,
            "permission": permission,
        }
    }
    simulator.grant_permission(interface)
    await added.pass_time(timedelta(minutes=16))
    assert _issues(hass) == {}


@pytest.mark.parametrize("code", [20002, 20003])
async def test_account_disabled(
    hass: HomeAssistant, added: Account, simulator: Simulator, code: int
) -> None:
    """An account that has expired is renewed by the administrator."""
    simulator.disable(code)
    await added.pass_time(timedelta(minutes=6))
    assert _issues(hass) == {"account_disabled": {"account": "Lindenweg 12"}}
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
    """20618: someone else has used up the calls of the day."""
    simulator.limit_day("getDevRealKpi", 0)
    await added.pass_time(timedelta(minutes=6))
    assert _issues(hass) == {
        "used_up": {"account": "Lindenweg 12", "interface": "getDevRealKpi"}
    }
    simulator.limit_day("getDevRealKpi", None)
    await added.pass_time(timedelta(hours=14, minutes=10))
    assert _issues(hass) == {}


class TestSeveralPlants:
    """What concerns one plant of many."""

    @pytest.fixture
    def home(self) -> Home:
        """Return an account with three plants."""
        return homes.fleet(plants=3, devices=3)

    @pytest.fixture
    async def added(
        self, hass: HomeAssistant, account: Account, simulator: Simulator
    ) -> Account:
        """Return the account, added with two of its plants."""
        result = await account.add()
        codes = [plant.code for plant in simulator.home.plants[:2]]
        await hass.config_entries.flow.async_configure(
            result["flow_id"], {"plants": codes}
        )
        await hass.async_block_till_done()
        return account

    async def test_owner_has_not_authorized(
        self, hass: HomeAssistant, added: Account, simulator: Simulator
    ) -> None:
        """T#265, T#289: 20056 names the plant, and the other one goes on."""
        plant, other, _ = simulator.home.plants
        simulator.unauthorize(plant.code)
        await added.pass_time(timedelta(minutes=6))
        issues = _issues(hass)
        assert issues == {
            "not_authorized": {"account": "2 plants", "plant": plant.name}
        }
        assert added.value(other.code, "day_power") is not None
        simulator.unauthorize(other.code)
        await added.pass_time(timedelta(minutes=6))
        assert len(ir.async_get(hass).issues) == 2
        simulator.authorize(plant.code)
        simulator.authorize(other.code)
        await added.pass_time(timedelta(minutes=6))
        assert _issues(hass) == {}

    async def test_none_of_the_chosen_plants(
        self, hass: HomeAssistant, added: Account, simulator: Simulator
    ) -> None:
        """The account has plants, but others."""
        plants = simulator.home.plants
        simulator.home.plants = plants[2:]
        await added.pass_time(timedelta(days=1, minutes=1))
        assert "no_chosen_plants" in _issues(hass)
        simulator.home.plants = plants
        await added.pass_time(timedelta(minutes=16))
        assert "no_chosen_plants" not in _issues(hass)

    async def test_removal(
        self, hass: HomeAssistant, added: Account, simulator: Simulator
    ) -> None:
        """Nothing is left to repair of an account that was removed."""
        simulator.unauthorize(simulator.home.plants[0].code)
        await added.pass_time(timedelta(minutes=6))
        assert _issues(hass)
        await hass.config_entries.async_remove(added.entry.entry_id)
        assert _issues(hass) == {}
