"""Shared fixtures."""

from collections.abc import AsyncIterator, Iterable
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from typing import Any

from freezegun.api import FrozenDateTimeFactory
import pytest

# Imported here, because otherwise the custom integrations of the test framework
# are found first.
from custom_components.smartpvms.account import ACCOUNTS
from custom_components.smartpvms.const import CONF_HISTORY, CONF_PLANTS, DOMAIN
from custom_components.smartpvms.runtime import SmartPvmsConfigEntry
from homeassistant.config_entries import SOURCE_USER, ConfigFlowResult
from homeassistant.const import (
    CONF_HOST,
    CONF_PASSWORD,
    CONF_USERNAME,
    EVENT_HOMEASSISTANT_FINAL_WRITE,
    EVENT_HOMEASSISTANT_STOP,
)
from homeassistant.core import HomeAssistant, State
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.entity import Entity
from homeassistant.util import dt as dt_util
from tests.simulator import Clock, RealClock, Simulator, homes
from tests.simulator.plants import Home, Plant
from tests.timeline import pass_time

# A clear noon in Berlin, the location of the simulated family.
NOON = "2026-06-21 12:00:00+02:00"

OLD_CODE = "0123456789abcdef0123456789ABCDEF"
POLL = timedelta(minutes=5, seconds=4)


@pytest.fixture
def home() -> Home:
    """Return the home of the simulator."""
    return homes.family()


@pytest.fixture
def clock() -> Clock:
    """Return the simulator's clock, which is the frozen clock of the test."""
    return RealClock()


@pytest.fixture
async def simulator(
    home: Home, clock: Clock, socket_enabled: None, freezer: FrozenDateTimeFactory
) -> AsyncIterator[Simulator]:
    """Serve a home."""
    freezer.move_to(NOON)
    simulator = Simulator(home, clock)
    async with simulator.serve():
        yield simulator


def home_with_old_code() -> Home:
    """Return a family home with a plant code that servers replace by a newer one."""
    home = homes.family()
    home.plants = [replace(home.plants[0], code=OLD_CODE)]
    return home


class Account:
    """The simulated account in Home Assistant."""

    def __init__(
        self,
        hass: HomeAssistant,
        simulator: Simulator,
        freezer: FrozenDateTimeFactory,
        storage: dict[str, Any],
    ) -> None:
        """Store the simulator."""
        self.history = 0
        self._hass = hass
        self._storage = storage
        self._simulator = simulator
        self._freezer = freezer

    @property
    def credentials(self) -> dict[str, Any]:
        """Return the credentials that the user enters."""
        return {
            CONF_HOST: self._simulator.url,
            CONF_USERNAME: self._simulator.account.user_name,
            CONF_PASSWORD: self._simulator.account.system_code,
        }

    @property
    def entry(self) -> SmartPvmsConfigEntry:
        """Return the config entry of the account."""
        entries = self._hass.config_entries.async_entries(DOMAIN)
        # With two accounts, each has its own server.
        if len(entries) > 1:
            url = self._simulator.url
            entries = [each for each in entries if each.data[CONF_HOST] == url]
        [entry] = entries
        return entry

    async def add(self) -> ConfigFlowResult:
        """Add the account in the config flow, up to its end or its next step."""
        flows = self._hass.config_entries.flow
        result = await flows.async_init(DOMAIN, context={"source": SOURCE_USER})
        result = await flows.async_configure(
            result["flow_id"], self.credentials | {CONF_HISTORY: self.history}
        )
        await self._hass.async_block_till_done()
        return result

    async def add_plants(self, plants: Iterable[Plant]) -> None:
        """Add the account with some of its several plants."""
        result = await self.add()
        await self._hass.config_entries.flow.async_configure(
            result["flow_id"], {CONF_PLANTS: [plant.code for plant in plants]}
        )
        await self._hass.async_block_till_done()

    async def options_menu(self) -> list[str]:
        """Return the options that the menu offers."""
        options = self._hass.config_entries.options
        result = await options.async_init(self.entry.entry_id)
        options.async_abort(result["flow_id"])
        menu = result["menu_options"]
        assert isinstance(menu, list)
        return menu

    async def open_option(self, option: str) -> ConfigFlowResult:
        """Open an option in the menu, and return its form."""
        options = self._hass.config_entries.options
        result = await options.async_init(self.entry.entry_id)
        assert option in result["menu_options"]
        return await options.async_configure(
            result["flow_id"], {"next_step_id": option}
        )

    async def set_option(self, option: str, value: Any) -> ConfigFlowResult:
        """Change an option in its form."""
        result = await self.open_option(option)
        result = await self._hass.config_entries.options.async_configure(
            result["flow_id"], {option: value}
        )
        await self._hass.async_block_till_done()
        return result

    async def poll(self, passed: timedelta = POLL) -> None:
        """Advance the time, and run the timers that are due."""
        # Not available in the environment of the browser tests.
        from pytest_homeassistant_custom_component.common import async_fire_time_changed

        self._freezer.tick(passed)
        async_fire_time_changed(self._hass)
        await self._hass.async_block_till_done(wait_background_tasks=True)

    async def pass_time(self, passed: timedelta) -> None:
        """Advance the time, and run each timer when it is due."""
        await pass_time(self._hass, self._freezer, dt_util.utcnow() + passed)

    async def restart(self, off: timedelta = timedelta()) -> None:
        """Stop Home Assistant cleanly, and start it again."""
        self._hass.bus.async_fire(EVENT_HOMEASSISTANT_STOP)
        self._hass.bus.async_fire(EVENT_HOMEASSISTANT_FINAL_WRITE)
        await self._hass.async_block_till_done()
        await self.kill(off)

    async def kill(self, off: timedelta = timedelta()) -> None:
        """Kill Home Assistant, and start it again with the contents of its files."""
        key = f"{DOMAIN}.{self.entry.entry_id}"
        kept = {
            name: deepcopy(content)
            for name, content in self._storage.items()
            if name.startswith(key)
        }
        entries = self._hass.config_entries
        await entries.async_unload(self.entry.entry_id)
        self._hass.data.pop(ACCOUNTS)
        self._storage |= kept
        self._freezer.tick(off)
        await entries.async_setup(self.entry.entry_id)
        await self._hass.async_block_till_done()

    async def stop_and_lose_file(self) -> None:
        """Stop Home Assistant, and delete the stored state of the account."""
        await self._hass.config_entries.async_unload(self.entry.entry_id)
        self._hass.data.pop(ACCOUNTS)
        del self._storage[f"{DOMAIN}.{self.entry.entry_id}"]

    def entities(self) -> list[er.RegistryEntry]:
        """Return the registry entries of the account's entities."""
        return er.async_entries_for_config_entry(
            er.async_get(self._hass), self.entry.entry_id
        )

    def registered(self, source_id: str | int, key: str) -> er.RegistryEntry | None:
        """Return the registry entry of a data item's entity."""
        by_unique_id = {entry.unique_id: entry for entry in self.entities()}
        return by_unique_id.get(f"{source_id}_{key}")

    def state(self, source_id: str | int, key: str) -> State | None:
        """Return the state of a data item's entity."""
        registered = self.registered(source_id, key)
        return self._hass.states.get(registered.entity_id) if registered else None

    def value(self, source_id: str | int, key: str) -> str | None:
        """Return the state string of a data item's entity."""
        state = self.state(source_id, key)
        return state.state if state else None


@pytest.fixture
async def account(
    hass: HomeAssistant,
    hass_storage: dict[str, Any],
    enable_custom_integrations: None,
    simulator: Simulator,
    freezer: FrozenDateTimeFactory,
) -> Account:
    """Return the account before it is added, in the location of its plant."""
    await hass.config.async_set_time_zone("Europe/Berlin")
    return Account(hass, simulator, freezer, hass_storage)


@pytest.fixture
async def added(account: Account) -> Account:
    """Return the account, added and loaded."""
    await account.add()
    return account


@pytest.fixture
def all_entities_enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enable entities that are disabled by default."""
    monkeypatch.setattr(Entity, "entity_registry_enabled_default", True)
