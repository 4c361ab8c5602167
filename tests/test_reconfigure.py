"""Tests of reconfiguration and options."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.runtime import SmartPvmsConfigEntry
from homeassistant.config_entries import (
    SOURCE_RECONFIGURE,
    ConfigEntryState,
    ConfigFlowResult,
)
from homeassistant.const import STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import (
    device_registry as dr,
    entity_registry as er,
    issue_registry as ir,
)
from tests.simulator import Simulator, faults, homes
from tests.simulator.plants import Home

from .conftest import Account
from .test_config_flow import ERRORS

pytestmark = pytest.mark.fast

INVERTER = 1000000035436842


@pytest.fixture(autouse=True)
async def reloaded(hass: HomeAssistant, simulator: Simulator) -> AsyncIterator[None]:
    """Wait for a reload before the test ends."""
    yield
    await hass.async_block_till_done()


def _state(account: Account) -> ConfigEntryState:
    return account.entry.state


async def _start(hass: HomeAssistant, entry: SmartPvmsConfigEntry) -> ConfigFlowResult:
    return await hass.config_entries.flow.async_init(
        DOMAIN,
        context={"source": SOURCE_RECONFIGURE, "entry_id": entry.entry_id},
    )


async def _reconfigure(
    hass: HomeAssistant, account: Account, user_input: dict[str, Any]
) -> ConfigFlowResult:
    result = await _start(hass, account.entry)
    assert result["step_id"] == "reconfigure"
    return await hass.config_entries.flow.async_configure(result["flow_id"], user_input)


def _suggested(result: Any) -> dict[str, Any]:
    return {
        marker.schema: marker.description["suggested_value"]
        for marker in result["data_schema"].schema
        if marker.description
    }


async def test_fields_are_prefilled(hass: HomeAssistant, added: Account) -> None:
    """Host and user name are prefilled, the password is not."""
    result = await _start(hass, added.entry)
    credentials = added.credentials
    del credentials["password"]
    assert _suggested(result) == credentials


async def test_new_password(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """Entities are kept, with one login."""
    before = set(er.async_get(hass).entities)
    simulator.change_password("Changed-2")
    result = await _reconfigure(hass, added, added.credentials)
    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "reconfigure_successful"
    await hass.async_block_till_done()
    assert added.entry.data == added.credentials
    assert set(er.async_get(hass).entities) == before
    assert added.value(INVERTER, "active_power") == "8000.0"
    assert len(simulator.calls_to("login")) == 2


async def test_new_user_name(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """Another account with the same plants replaces the first one."""
    simulator.account.user_name = "Second_api"
    result = await _reconfigure(hass, added, added.credentials)
    assert result["reason"] == "reconfigure_successful"
    await hass.async_block_till_done()
    assert added.entry.unique_id == f"{simulator.url}_second_api"
    assert added.value(INVERTER, "active_power") == "8000.0"


@pytest.mark.slow
@ERRORS
async def test_errors(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    fault: faults.Fault,
    interface: str,
    errors: dict[str, str],
    placeholders: dict[str, str],
) -> None:
    """Each error keeps the input, and can be corrected."""
    simulator.faults.add(fault, interface)
    result = await _reconfigure(hass, added, added.credentials)
    assert result["errors"] == errors
    assert result["description_placeholders"] == placeholders
    assert _suggested(result) == added.credentials
    simulator.faults.clear()
    await added.poll(timedelta(minutes=int(placeholders.get("minutes", 0))))
    result = await hass.config_entries.flow.async_configure(
        result["flow_id"], added.credentials
    )
    assert result["reason"] == "reconfigure_successful"


async def test_no_host(hass: HomeAssistant, added: Account) -> None:
    """An invalid address is reported at its field."""
    result = await _reconfigure(hass, added, added.credentials | {"host": "ftp://x"})
    assert result["errors"] == {"host": "invalid_host"}
    result = await hass.config_entries.flow.async_configure(
        result["flow_id"], added.credentials
    )
    assert result["reason"] == "reconfigure_successful"


async def test_another_account(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """An account without any of the plants is rejected."""
    plants, simulator.home.plants = simulator.home.plants, homes.emma().plants
    simulator.account.user_name = "second_api"
    before = dict(added.entry.data)
    result = await _reconfigure(hass, added, added.credentials)
    assert result["errors"] == {"base": "wrong_account"}
    assert added.entry.data == before
    simulator.home.plants = [*plants, *homes.emma().plants]
    result = await hass.config_entries.flow.async_configure(
        result["flow_id"], added.credentials
    )
    assert result["reason"] == "reconfigure_successful"


async def test_same_account_with_other_plants(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """An account whose plants were all replaced is accepted."""
    simulator.home.plants = homes.emma().plants
    simulator.change_password("Changed-2")
    result = await _reconfigure(hass, added, added.credentials)
    assert result["reason"] == "reconfigure_successful"
    assert added.entry.data == added.credentials


async def test_account_that_never_worked(
    hass: HomeAssistant, account: Account, simulator: Simulator
) -> None:
    """An entry without known plants accepts any account."""
    simulator.withdraw_permission("getDevList")
    await account.add()
    assert _state(account) is ConfigEntryState.SETUP_RETRY
    simulator.account.user_name = "second_api"
    simulator.grant_permission("getDevList")
    result = await _reconfigure(hass, account, account.credentials)
    assert result["reason"] == "reconfigure_successful"
    await hass.async_block_till_done()
    assert _state(account) is ConfigEntryState.LOADED


async def test_instead_of_reauthentication(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """Reconfiguration can replace reauthentication."""
    simulator.change_password("Changed-2")
    simulator.expire_token()
    await added.pass_time(timedelta(minutes=6))
    assert hass.config_entries.flow.async_progress_by_handler(DOMAIN)
    result = await _reconfigure(hass, added, added.credentials)
    assert result["reason"] == "reconfigure_successful"
    await added.pass_time(timedelta(minutes=6))
    assert hass.config_entries.flow.async_progress_by_handler(DOMAIN) == []
    assert added.value(INVERTER, "active_power") == "8000.0"


async def test_account_of_another_entry(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """The account of another entry is rejected."""
    first = added.entry
    simulator.account.user_name = "second_api"
    simulator.home.plants = homes.emma().plants
    await added.add()
    simulator.calls.clear()
    result = await _start(hass, first)
    result = await hass.config_entries.flow.async_configure(
        result["flow_id"], added.credentials
    )
    assert result["reason"] == "already_configured"
    assert simulator.calls == []


class TestOptions:
    """The options of an account."""

    @pytest.fixture
    def home(self) -> Home:
        """Return an account with three plants."""
        return homes.fleet(plants=3, devices=6)

    @pytest.fixture
    async def added(
        self, hass: HomeAssistant, account: Account, simulator: Simulator
    ) -> Account:
        """Return the account, added with all its plants."""
        await account.add_plants(simulator.home.plants)
        return account

    async def test_plants(
        self, hass: HomeAssistant, added: Account, simulator: Simulator
    ) -> None:
        """The devices of a plant are removed and added with it."""
        registry = dr.async_get(hass)
        codes = [plant.code for plant in simulator.home.plants]
        devices = len(registry.devices)
        simulator.calls.clear()
        await added.set_option("plants", codes[:2])
        assert simulator.calls == []
        assert added.entry.options["plants"] == codes[:2]
        assert added.state(codes[2], "day_power") is None
        assert len(registry.devices) < devices
        assert added.value(codes[0], "day_power") is not None
        await added.set_option("plants", codes)
        await added.pass_time(timedelta(minutes=6))
        assert "plants" not in added.entry.options
        assert len(registry.devices) == devices
        assert added.value(codes[2], "day_power") is not None
        assert simulator.refusals == []

    async def test_no_plants(
        self, hass: HomeAssistant, added: Account, simulator: Simulator
    ) -> None:
        """At least one plant must be chosen."""
        result = await added.set_option("plants", [])
        assert result["errors"] == {"plants": "no_plants_chosen"}
        code = simulator.home.plants[1].code
        result = await hass.config_entries.options.async_configure(
            result["flow_id"], {"plants": [code]}
        )
        assert result["type"] is FlowResultType.CREATE_ENTRY

    async def test_currency(
        self, hass: HomeAssistant, added: Account, simulator: Simulator
    ) -> None:
        """The unit of revenues changes, without a call."""
        code = simulator.home.plants[0].code
        simulator.calls.clear()
        await added.set_option("currency", "PLN")
        assert simulator.calls == []
        income = added.state(code, "total_income")
        assert income is not None
        assert income.attributes["unit_of_measurement"] == "PLN"

    async def test_plant_without_a_server(
        self, hass: HomeAssistant, added: Account, simulator: Simulator
    ) -> None:
        """A plant that is added during an outage does not affect others."""
        codes = [plant.code for plant in simulator.home.plants]
        await added.set_option("plants", codes[:1])
        fault = simulator.faults.add(faults.DropConnection())
        await added.set_option("plants", codes[:2])
        assert _state(added) is ConfigEntryState.LOADED
        assert added.value(codes[0], "day_power") not in (None, STATE_UNAVAILABLE)
        await added.pass_time(timedelta(minutes=5))
        fault.remove()
        await added.pass_time(timedelta(minutes=16))
        assert added.value(codes[1], "day_power") not in (None, STATE_UNAVAILABLE)
        assert added.registered(codes[2], "day_power") is None

    @pytest.mark.slow
    async def test_choice_of_missing_plants_is_kept(
        self, hass: HomeAssistant, added: Account, simulator: Simulator
    ) -> None:
        """Changing the currency keeps the choice of plants that are not shown."""
        plants = simulator.home.plants
        codes = [plant.code for plant in plants]
        await added.set_option("plants", codes[:2])
        simulator.home.plants = plants[1:2]
        await added.pass_time(timedelta(days=1, minutes=1))
        assert "plants" not in await added.options_menu()
        await added.set_option("currency", "PLN")
        assert added.entry.options == {
            "plants": codes[:2],
            "currency": "PLN",
            "history": 0,
        }
        simulator.home.plants = plants[1:]
        await added.pass_time(timedelta(days=1, minutes=1))
        assert await self._offered(added) == codes[1:]
        await added.set_option("plants", codes[1:2])
        assert sorted(added.entry.options["plants"]) == codes[:2]

    @pytest.mark.slow
    async def test_other_plants_instead(
        self, hass: HomeAssistant, added: Account, simulator: Simulator
    ) -> None:
        """If none of the chosen plants is left, other plants can be chosen."""
        plants = simulator.home.plants
        await added.set_option("plants", [plants[0].code])
        simulator.home.plants = homes.emma().plants
        await added.pass_time(timedelta(days=1, minutes=1))
        [new] = simulator.home.plants
        assert await self._offered(added) == [new.code]
        await added.set_option("plants", [new.code])
        assert "plants" not in added.entry.options
        await added.pass_time(timedelta(minutes=6))
        assert added.value(new.code, "day_power") not in (None, STATE_UNAVAILABLE)
        assert ir.async_get(hass).issues == {}

    @staticmethod
    async def _offered(account: Account) -> list[str]:
        """Return the plants in the form."""
        result = await account.open_option("plants")
        assert result["data_schema"] is not None
        [plants] = result["data_schema"].schema.values()
        return [each["value"] for each in plants.config["options"]]

    async def test_not_loaded(self, hass: HomeAssistant, added: Account) -> None:
        """Without a loaded account, the options are aborted."""
        await hass.config_entries.async_unload(added.entry.entry_id)
        result = await hass.config_entries.options.async_init(added.entry.entry_id)
        assert result["reason"] == "not_loaded"
        await hass.config_entries.async_setup(added.entry.entry_id)
        result = await added.set_option("currency", "PLN")
        assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_single_plant_is_not_shown(added: Account) -> None:
    """A menu without plants, uncertain time zones and the Energy dashboard."""
    assert await added.options_menu() == ["grid_meters", "history", "currency"]


class TestWithoutMeter:
    """A flat without a device at the grid."""

    @pytest.fixture
    def home(self) -> Home:
        """Return a flat without a meter."""
        return homes.apartment()

    async def test_no_choice(self, added: Account) -> None:
        """The options contain no grid meter."""
        assert await added.options_menu() == ["history", "currency"]


class TestGridMeters:
    """The choice of the grid meter."""

    @pytest.fixture
    def home(self) -> Home:
        """Return two plants, one of them with two meters."""
        first, second = homes.family().plants[0], homes.emma().plants[0]
        meter = next(each for each in first.devices if each.type_id == 47)
        first.devices.append(replace(meter, id=meter.id + 500, name="Meter-2"))
        return Home([first, second])

    async def test_choice(
        self, hass: HomeAssistant, account: Account, simulator: Simulator
    ) -> None:
        """All meters are shown, also a single one, and the choice is stored."""
        await account.add_plants(simulator.home.plants)
        result = await account.open_option("grid_meters")
        assert result["data_schema"] is not None
        [selector] = result["data_schema"].schema.values()
        offered = selector.config["options"]
        assert [each["label"] for each in offered] == [
            "Lindenweg 12 Meter-1",
            "Lindenweg 12 Meter-2",
            "Ahornallee 3 EMMA-1",
        ]
        # Two meters that have counted both ways look the same.
        assert result["description_placeholders"] == {"meters": "Ahornallee 3 EMMA-1"}
        chosen = [offered[1]["value"]]
        await hass.config_entries.options.async_configure(
            result["flow_id"], {"grid_meters": chosen}
        )
        assert account.entry.options == {"history": 0, "grid_meters": chosen}

    @pytest.mark.parametrize("home", [homes.family()], ids=["family"])
    async def test_recognized(self, added: Account) -> None:
        """The form shows which meter is used without a choice, also after one."""
        result = await added.open_option("grid_meters")
        assert result["description_placeholders"] == {"meters": "Meter-1"}
        assert result["data_schema"] is not None
        [selector] = result["data_schema"].schema.values()
        [meter] = [each["value"] for each in selector.config["options"]]
        for chosen in ([meter], []):
            await added.set_option("grid_meters", chosen)
            result = await added.open_option("grid_meters")
            assert result["description_placeholders"] == {"meters": "Meter-1"}
