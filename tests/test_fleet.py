"""Tests of large accounts: what is written, and that others get their turn."""

import asyncio
from typing import Any

import pytest

from custom_components.smartpvms import listeners
from custom_components.smartpvms.const import CONF_PLANTS
from homeassistant.const import EVENT_STATE_CHANGED
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.helpers import entity_registry as er
from tests.simulator import Simulator, homes
from tests.simulator.plants import Home

from .conftest import Account

INVERTER = 1000000035436842
BATTERY = 1000000035436843


async def test_only_rates_are_reported_unchanged(
    added: Account, simulator: Simulator
) -> None:
    """What adds up a power needs to know that it is still the same; nobody else."""
    power = added.state(INVERTER, "active_power")
    state = added.state(INVERTER, "inverter_state")
    capacity = added.state(BATTERY, "rated_capacity")
    assert power
    assert state
    assert capacity
    before = power.last_reported, state.last_reported, capacity.last_reported
    await added.poll()
    assert added.value(INVERTER, "active_power") == "8.0"
    assert power.last_reported > before[0]
    assert (state.last_reported, capacity.last_reported) == before[1:]


class TestNeighborhood:
    """Three plants with nine devices that have values."""

    @pytest.fixture
    def home(self) -> Home:
        """Return the plants."""
        return homes.fleet(plants=3, devices=12)

    @pytest.fixture
    async def added(self, hass: HomeAssistant, account: Account, home: Home) -> Account:
        """Return the account, added with all its plants."""
        result = await account.add()
        await hass.config_entries.flow.async_configure(
            result["flow_id"], {CONF_PLANTS: [plant.code for plant in home.plants]}
        )
        await hass.async_block_till_done()
        return account

    async def test_others_get_their_turn(
        self, hass: HomeAssistant, added: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between any two devices, others may do something."""
        monkeypatch.setattr(listeners, "LONGEST_TURN", -1.0)
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

        hass.bus.async_listen(EVENT_STATE_CHANGED, note)
        others = asyncio.create_task(take_turns())
        await added.poll()
        others.cancel()
        assert len(turns) >= 9
        # All that belongs to a device is written at once.
        assert all(len(of_device) == 1 for of_device in turns.values())
        assert len(set.union(*turns.values())) == len(turns)
