"""Tests of large accounts: written states, and turns of the event loop."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from custom_components.smartpvms import item_listeners
from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.counter_filters import StoredCounter
from custom_components.smartpvms.models import SourceId, changes
from custom_components.smartpvms.runtime import restored
from homeassistant.const import EVENT_STATE_CHANGED, STATE_UNKNOWN
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.helpers import entity_platform, entity_registry as er
from tests.simulator import Simulator, faults, homes
from tests.simulator.plants import Home

from .conftest import Account

INVERTER = 1000000035436842
# Loggers have no KPIs.
DONGLE = 62
BATTERY = 1000000035436843


async def test_only_rates_are_reported_unchanged(
    added: Account, simulator: Simulator
) -> None:
    """Only powers and irradiance are reported without a change."""
    power = added.state(INVERTER, "active_power")
    state = added.state(INVERTER, "inverter_state")
    capacity = added.state(BATTERY, "rated_capacity")
    assert power
    assert state
    assert capacity
    before = power.last_reported, state.last_reported, capacity.last_reported
    await added.poll()
    assert added.value(INVERTER, "active_power") == "8000.0"
    assert power.last_reported > before[0]
    assert (state.last_reported, capacity.last_reported) == before[1:]


@pytest.mark.parametrize(
    ("items", "changed"),
    [
        ({"power": 1.0, "yield": 2.0}, set()),
        ({"yield": 2.0, "power": 1.0}, set()),
        ({"power": 1.5, "yield": 2.0}, {"power"}),
        ({"power": None, "yield": 2.0}, {"power"}),
        ({"yield": 2.5, "power": 1.0}, {"yield"}),
        ({"power": 1.0}, {"yield"}),
        ({"power": 1.0, "yield": 2.0, "state": 3.0}, {"state"}),
        ({"power": 1.0, "yield": 2.0, "state": None}, set()),
        ({}, {"power", "yield"}),
    ],
)
def test_changes(items: dict[str, Any], changed: set[str]) -> None:
    """Added, removed and different items have changed; their order is ignored.

    An item without a value is the same as none, since it is not stored.
    """
    assert changes({"power": 1.0, "yield": 2.0}, items) == changed


async def test_row_without_items(added: Account, simulator: Simulator) -> None:
    """A row without items makes the items unknown until they return."""
    fault = simulator.faults.add(faults.EmptyItemMap(), "getDevRealKpi")
    await added.poll()
    shown = ("active_power", "total_cap", "inverter_state", "run_state")
    assert {added.value(INVERTER, key) for key in shown} == {STATE_UNKNOWN}
    fault.remove()
    await added.poll()
    assert STATE_UNKNOWN not in {added.value(INVERTER, key) for key in shown}


async def test_one_filter_for_each_counter(hass: HomeAssistant, added: Account) -> None:
    """Counters that are shown or needed have one filter each, and others none."""
    [plant] = added.entry.runtime_data.inventory.data.plants
    for source_id, key in ((plant, "month_power"), (INVERTER, "total_cap")):
        registered = added.registered(source_id, key)
        assert registered
        er.async_get(hass).async_update_entity(
            registered.entity_id, disabled_by=er.RegistryEntryDisabler.USER
        )
    await added.restart(timedelta(minutes=5))
    energy, counters = (
        added.value(plant, "home_energy"),
        _counters(added),
    )
    await added.pass_time(timedelta(hours=1))
    new_energy, new_counters = (
        added.value(plant, "home_energy"),
        _counters(added),
    )
    assert energy
    assert new_energy
    assert float(new_energy) > float(energy)
    read, last_read = (
        each[INVERTER]["total_cap"].counter.read for each in (counters, new_counters)
    )
    assert read
    assert last_read
    assert last_read > read
    assert new_counters[plant]["month_power"] == counters[plant]["month_power"]


def _counters(added: Account) -> Mapping[SourceId, Mapping[str, StoredCounter]]:
    stored = restored(added.entry.runtime_data.stored())
    counters = stored.plant_counters | stored.device_counters
    return {source_id: each.counters for source_id, each in counters.items()}


async def test_only_derived_sensors(
    hass: HomeAssistant, added: Account, simulator: Simulator
) -> None:
    """Devices are read for the powers and energies of their plant alone."""
    [plant] = added.entry.runtime_data.inventory.data.plants
    registry = er.async_get(hass)
    kept = added.registered(plant, "home_power")
    assert kept
    for entity in er.async_entries_for_config_entry(registry, added.entry.entry_id):
        if entity.entity_id != kept.entity_id and entity.disabled_by is None:
            registry.async_update_entity(
                entity.entity_id, disabled_by=er.RegistryEntryDisabler.USER
            )
    await added.restart(timedelta(minutes=5))
    simulator.calls.clear()
    await added.pass_time(timedelta(minutes=11))
    types = {each.type_id for each in simulator.home.plants[0].devices} - {DONGLE}
    read = [call.body["devTypeId"] for call in simulator.calls_to("getDevRealKpi")]
    assert sorted(read) == sorted([*types] * 3)
    assert added.value(plant, "home_power") not in (None, STATE_UNKNOWN)


async def test_counters_stored_by_an_older_version(
    added: Account, hass_storage: dict[str, Any]
) -> None:
    """Counters that an older version stored with the plant flows are ignored."""
    [plant] = added.entry.runtime_data.inventory.data.plants
    await added.restart()
    before = added.value(plant, "home_energy")
    [flow] = hass_storage[f"{DOMAIN}.{added.entry.entry_id}"]["data"]["flows"].values()
    flow["counters"] = {f"{INVERTER}_total_cap": ["lifetime", {}]}
    await added.kill(timedelta(minutes=1))
    assert before is not None
    assert added.value(plant, "home_energy") == before


class TestNeighborhood:
    """Three plants with nine devices that have values."""

    @pytest.fixture
    def most(self) -> int:
        """Return Home Assistant's maximum number of enabled entities."""
        return entity_platform.MAX_ENABLED_ENTITIES_PER_CONFIG_ENTRY

    @pytest.fixture
    def home(self) -> Home:
        """Return the plants."""
        return homes.fleet(plants=3, devices=12)

    @pytest.fixture
    async def added(
        self,
        hass: HomeAssistant,
        account: Account,
        home: Home,
        most: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Account:
        """Return the account, added with all its plants."""
        monkeypatch.setattr(
            entity_platform, "MAX_ENABLED_ENTITIES_PER_CONFIG_ENTRY", most
        )
        await account.add_plants(home.plants)
        return account

    @pytest.mark.parametrize("most", [90])
    async def test_more_entities_than_allowed(
        self, hass: HomeAssistant, added: Account, home: Home, most: int
    ) -> None:
        """Entities of plants come first."""
        for plant in home.plants:
            assert added.state(plant.code, "home_power")
            assert added.state(plant.code, "total_power")
        entities = er.async_get(hass).entities
        entry_id = added.entry.entry_id
        assert entities.get_enabled_count_for_config_entry_id(entry_id) == most

    async def test_other_tasks_run(
        self, hass: HomeAssistant, added: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Other tasks run between any two devices."""
        monkeypatch.setattr(item_listeners, "MAX_BLOCKING", -1.0)
        turn = 0
        turns: dict[str, set[int]] = {}

        @callback
        def note(event: Event[Any]) -> None:
            entry = er.async_get(hass).async_get(event.data["entity_id"])
            assert entry
            turns.setdefault(str(entry.device_id), set()).add(turn)

        async def take_turns() -> None:
            nonlocal turn
            while True:
                await asyncio.sleep(0)
                turn += 1

        # The first poll also adds the sensors of reports.
        await added.poll()
        hass.bus.async_listen(EVENT_STATE_CHANGED, note)
        others = asyncio.create_task(take_turns())
        await added.poll()
        others.cancel()
        assert len(turns) >= 9
        # All entities of a device are written together.
        assert all(len(of_device) == 1 for of_device in turns.values())
        assert len(set.union(*turns.values())) == len(turns)
