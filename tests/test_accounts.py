"""Tests of two accounts that have the same plants, such as owner and installer."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
import logging
from typing import Any

from freezegun.api import FrozenDateTimeFactory
import pytest

from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.statistics import HistoryImporter
from homeassistant.config_entries import (
    SOURCE_RECONFIGURE,
    ConfigEntryDisabler,
    ConfigEntryState,
    ConfigFlowResult,
)
from homeassistant.const import STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import device_registry as dr, entity_registry as er
from homeassistant.util import dt as dt_util
from tests.simulator import Clock, Simulator, faults, homes
from tests.simulator.plants import Home

from .conftest import Account

INVERTER = 1000000035436842


@pytest.fixture
def home() -> Home:
    """Return the owner's plants, in a list of their own."""
    return Home([*homes.family().plants])


@pytest.fixture
async def installer(
    hass: HomeAssistant,
    hass_storage: dict[str, Any],
    account: Account,
    home: Home,
    clock: Clock,
    freezer: FrozenDateTimeFactory,
) -> AsyncIterator[tuple[Account, Simulator]]:
    """Return another account with the same plants, and its server."""
    simulator = Simulator(Home([*home.plants]), clock, "installer", "Installer-1")
    async with simulator.serve():
        yield Account(hass, simulator, freezer, hass_storage), simulator


def _names(hass: HomeAssistant, account: Account) -> set[str]:
    """Return the unique ids of the entities of an account's plants and devices."""
    entry_id = account.entry.entry_id
    entities = er.async_entries_for_config_entry(er.async_get(hass), entry_id)
    names = {entity.unique_id for entity in entities}
    return {name for name in names if not name.startswith(entry_id)}


def _errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.ERROR
    ]


def _state(account: Account) -> ConfigEntryState:
    return account.entry.state


async def _reconfigure(
    hass: HomeAssistant, account: Account, user_input: dict[str, Any]
) -> ConfigFlowResult:
    flows = hass.config_entries.flow
    result = await flows.async_init(
        DOMAIN,
        context={"source": SOURCE_RECONFIGURE, "entry_id": account.entry.entry_id},
    )
    result = await flows.async_configure(result["flow_id"], user_input)
    await hass.async_block_till_done()
    return result


@pytest.mark.parametrize("state", ["loaded", "unloaded", "disabled", "failed"])
async def test_same_plant(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    installer: tuple[Account, Simulator],
    state: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A plant of an account cannot be taken, whatever the account's state is."""
    first, (second, _) = added.entry, installer
    before = _names(hass, added)
    entries = hass.config_entries
    if state == "unloaded":
        await entries.async_unload(first.entry_id)
    if state == "disabled":
        await entries.async_set_disabled_by(first.entry_id, ConfigEntryDisabler.USER)
    if state == "failed":
        simulator.change_password("Changed-2")
        simulator.expire_token()
        await added.poll()
    result = await second.add()
    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "plants_of_others"
    assert result["description_placeholders"] == {"accounts": "Lindenweg 12"}
    assert entries.async_entries(DOMAIN) == [first]
    assert _names(hass, added) == before
    assert not [each for each in _errors(caplog) if "unique" in each]


async def test_form_names_plants_that_are_left_out(
    hass: HomeAssistant, added: Account, installer: tuple[Account, Simulator]
) -> None:
    """The other plants can be added, now and later."""
    second, server = installer
    [plant], [new] = server.home.plants, homes.emma().plants
    server.home.plants = [plant, new]
    result = await second.add()
    assert result["step_id"] == "free_plants"
    assert result["description_placeholders"] == {"plants": "Lindenweg 12"}
    flows = hass.config_entries.flow
    result = await flows.async_configure(result["flow_id"], {"plants": []})
    assert result["errors"] == {"plants": "no_plants_chosen"}
    result = await flows.async_configure(result["flow_id"], {"plants": [new.code]})
    await hass.async_block_till_done()
    assert result["title"] == new.name
    assert "plants" not in result["options"]
    assert second.value(new.code, "day_power") is not None
    assert second.registered(plant.code, "day_power") is None
    assert "plants" not in await second.options_menu()


async def test_plant_that_another_account_has_is_not_taken(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    installer: tuple[Account, Simulator],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A plant that is granted to a second account stays with the first one."""
    second, server = installer
    [plant], [new] = server.home.plants, homes.emma().plants
    server.home.plants = [new]
    await second.add()
    before = _names(hass, added)
    server.home.plants = [plant, new]
    simulator.home.plants = [plant, new]
    await added.pass_time(timedelta(days=1, minutes=6))
    assert _names(hass, added) >= before
    assert _names(hass, added).isdisjoint(_names(hass, second))
    assert second.registered(plant.code, "day_power") is None
    assert added.registered(new.code, "day_power") is None
    # No further list is needed.
    server.calls.clear()
    await hass.config_entries.async_reload(second.entry.entry_id)
    await added.pass_time(timedelta(minutes=6))
    assert server.calls_to("stations") == []
    assert _errors(caplog) == []


async def test_accounts_that_are_set_up_at_the_same_time(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    installer: tuple[Account, Simulator],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of two new accounts with the same plants, one has them."""
    second, server = installer
    for each in (simulator, server):
        each.withdraw_permission("getDevList")
    await account.add()
    await second.add()
    for each in (simulator, server):
        each.grant_permission("getDevList")
    await account.pass_time(timedelta(minutes=3))
    states = {_state(account), _state(second)}
    assert states == {ConfigEntryState.LOADED, ConfigEntryState.SETUP_RETRY}
    failed = account if _state(second) is ConfigEntryState.LOADED else second
    assert failed.entry.error_reason_translation_key == "plants_of_others"
    assert _names(hass, failed) == set()
    assert not [each for each in _errors(caplog) if "unique" in each]
    # The other one follows at once when this one is removed.
    loaded = second if failed is account else account
    entities = _names(hass, loaded)
    await hass.config_entries.async_remove(loaded.entry.entry_id)
    await hass.async_block_till_done()
    assert _state(failed) is ConfigEntryState.LOADED
    # The sensors of reports are added a minute after the others.
    await failed.poll()
    assert _names(hass, failed) == entities


async def test_new_plant_of_two_accounts(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    installer: tuple[Account, Simulator],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Two lists at the same time do not both take a plant."""
    second, server = installer
    server.home.plants = homes.emma().plants
    await second.add()
    [new] = homes.apartment().plants
    for each in (simulator, server):
        each.home.plants = [*each.home.plants, new]
    await added.poll()
    lists = [each.entry.runtime_data.inventory for each in (added, second)]
    await asyncio.gather(*(each.async_refresh() for each in lists))
    await added.poll()
    assert sum(new.code in each.data.plants for each in lists) == 1
    assert _names(hass, added).isdisjoint(_names(hass, second))
    assert _errors(caplog) == []


async def test_removed_account_leaves_its_plants_to_another(
    hass: HomeAssistant,
    added: Account,
    installer: tuple[Account, Simulator],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A renamed entity keeps its name when another account takes its plant."""
    second, server = installer
    [plant], [new] = server.home.plants, homes.emma().plants
    server.home.plants = [plant, new]
    result = await second.add()
    await hass.config_entries.flow.async_configure(
        result["flow_id"], {"plants": [new.code]}
    )
    await hass.async_block_till_done()
    registry = er.async_get(hass)
    power = added.registered(INVERTER, "active_power")
    assert power is not None
    registry.async_update_entity(power.entity_id, new_entity_id="sensor.my_roof")
    entities = _names(hass, added)
    await hass.config_entries.async_remove(added.entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    await second.pass_time(timedelta(minutes=11))
    assert _names(hass, second) >= entities
    roof = hass.states.get("sensor.my_roof")
    assert roof is not None
    assert roof.state not in (STATE_UNAVAILABLE, "unknown")
    assert _errors(caplog) == []


async def test_reconfigured_account_with_plants_of_a_third(
    hass: HomeAssistant,
    added: Account,
    simulator: Simulator,
    installer: tuple[Account, Simulator],
) -> None:
    """An account whose plants all belong to another one is refused, with its name."""
    second, server = installer
    server.home.plants = homes.emma().plants
    await second.add()
    before = dict(second.entry.data)
    simulator.account.user_name = "third"
    result = await _reconfigure(hass, second, added.credentials)
    assert result["errors"] == {"base": "plants_of_others"}
    assert result["description_placeholders"] == {"accounts": "Lindenweg 12"}
    assert second.entry.data == before
    # The first account can be changed to it.
    hass.config_entries.flow.async_abort(result["flow_id"])
    result = await _reconfigure(hass, added, added.credentials)
    assert result["reason"] == "reconfigure_successful"


async def test_options_without_plants_of_others(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    installer: tuple[Account, Simulator],
) -> None:
    """A deselected plant that another account has taken is not offered any more."""
    second, server = installer
    [plant], [new] = server.home.plants, homes.emma().plants
    simulator.home.plants = [plant, new]
    await account.add_plants([plant])
    server.home.plants = [new]
    await second.add()
    assert "plants" not in await account.options_menu()
    await account.set_option("currency", "PLN")
    assert account.entry.options["plants"] == [plant.code]
    assert dr.async_get(hass).async_get_device_by_identifier(
        (DOMAIN, new.code), second.entry.entry_id
    )


async def test_dialog_during_a_removal(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """A dialog for an account waits for the logout of its removed entry."""
    simulator.faults.add(faults.Latency(20), "logout")
    removing = hass.async_create_task(
        hass.config_entries.async_remove(added.entry.entry_id)
    )
    await added.pass_time(timedelta(seconds=1))
    assert len(simulator.calls_to("logout")) == 1
    adding = hass.async_create_task(added.add())
    await added.pass_time(timedelta(seconds=10))
    assert not removing.done()
    assert len(simulator.calls_to("login")) == 1
    await added.pass_time(timedelta(seconds=30))
    assert adding.result()["type"] is FlowResultType.CREATE_ENTRY
    assert _state(added) is ConfigEntryState.LOADED
    assert len(simulator.calls_to("login")) == 2


async def test_pass_that_ends_during_a_removal(
    hass: HomeAssistant,
    added: Account,
    hass_storage: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Readings after the last save do not restore the files of a removed entry."""
    real_time = added.entry.runtime_data.real_time
    save = HistoryImporter.async_save

    async def last_save(importer: HistoryImporter) -> None:
        await save(importer)
        real_time.async_update_listeners()
        now = dt_util.utcnow()
        importer.async_request([INVERTER], now - timedelta(days=1), now)

    monkeypatch.setattr(HistoryImporter, "async_save", last_save)
    await hass.config_entries.async_remove(added.entry.entry_id)
    await added.poll(timedelta(minutes=1))
    assert not [key for key in hass_storage if key.startswith(DOMAIN)]
