"""An account from the day it is added to the day it is deleted."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from custom_components.smartpvms.const import DOMAIN
from custom_components.smartpvms.descriptions import NOT_OF_ROWS
from homeassistant.config_entries import SOURCE_REAUTH, ConfigFlowResult
from homeassistant.const import STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant
from homeassistant.helpers import (
    device_registry as dr,
    entity_registry as er,
    issue_registry as ir,
)
from tests.simulator import Simulator, homes
from tests.simulator.plants import Device, Plant

from .conftest import Account

# Loggers have no values, and therefore no entities.
DONGLE = 62

MINUTE = timedelta(minutes=1)
A_PASS = 6 * MINUTE
TOO_OLD = 16 * MINUTE
AN_HOUR = 61 * MINUTE
A_DAY = timedelta(days=1) + A_PASS


class Life:
    """An account in Home Assistant, its events, and checks after each of them."""

    def __init__(
        self,
        hass: HomeAssistant,
        account: Account,
        simulator: Simulator,
        storage: dict[str, Any],
    ) -> None:
        """Start before the account is added."""
        self._hass = hass
        self._account = account
        self._simulator = simulator
        self._storage = storage
        self._logins = 0
        self._entity_ids: dict[str, str] = {}

    async def is_added_with_one_plant(self) -> None:
        """One login adds the plant and its devices at once."""
        await self._account.add()
        self._entry_id = self._account.entry.entry_id
        self._sees(self._listed, logins=1)

    async def grows_to_three_plants(self) -> None:
        """Plants that are granted later are added the next day, without a reload."""
        self._plants += homes.apartment().plants + homes.emma().plants
        await self._account.pass_time(A_DAY)
        self._sees(self._listed)

    async def has_an_inverter_replaced(self) -> None:
        """The new inverter is added on request, and the old one removed later."""
        devices = self._plants[0].devices
        old = next(device for device in devices if device.type_id == 38)
        new = replace(old, id=old.id + 1000, serial_number="HV0000000007")
        devices[devices.index(old)] = new
        await self._hass.services.async_call(
            DOMAIN,
            "refresh_inventory",
            {"config_entry_id": self._account.entry.entry_id},
            blocking=True,
        )
        await self._account.pass_time(A_PASS)
        self._sees({*self._listed, old.id}, unavailable={old.id})
        await self._account.pass_time(AN_HOUR)
        self._sees(self._listed, gone={old.id})

    async def loses_a_plant(self) -> None:
        """A withdrawn plant is removed with its devices, without a repair."""
        before = self._listed
        self._plants.remove(self._plants[1])
        withdrawn = before - self._listed
        await self._account.pass_time(TOO_OLD)
        self._sees(before, unavailable=withdrawn)
        await self._account.pass_time(A_DAY)
        self._sees(before, unavailable=withdrawn)
        await self._account.pass_time(AN_HOUR)
        self._sees(self._listed, gone=withdrawn)

    async def loses_a_permission_and_regains_it(self) -> None:
        """A repair names the permission, and disappears once it is granted."""
        self._simulator.withdraw_permission("getDevRealKpi")
        await self._account.pass_time(A_PASS)
        self._sees(self._listed, repairs={"no_permission_device_data"})
        await self._account.pass_time(TOO_OLD)
        devices = {name for name in self._listed if isinstance(name, int)}
        self._sees(
            self._listed, unavailable=devices, repairs={"no_permission_device_data"}
        )
        self._simulator.grant_permission("getDevRealKpi")
        await self._account.pass_time(A_PASS)
        self._sees(self._listed)

    async def has_its_password_changed(self) -> None:
        """The wrong password is sent once; a new one is requested."""
        self._simulator.change_password("Changed-2")
        await self._account.pass_time(AN_HOUR)
        self._sees(self._listed)
        self._simulator.expire_token()
        await self._account.pass_time(AN_HOUR)
        self._sees(self._listed, unavailable=self._listed, logins=1)
        result = await self._log_in_again("Simulated-1")
        assert result["errors"] == {"base": "invalid_auth"}
        result = await self._log_in_again("Changed-2")
        assert result["reason"] == "reauth_successful"
        await self._account.pass_time(A_PASS)
        self._sees(self._listed, logins=2)

    async def expires_and_is_renewed(self) -> None:
        """A repair asks for the renewal until the user has logged in."""
        self._simulator.disable(20003)
        await self._account.pass_time(AN_HOUR)
        self._sees(
            self._listed,
            unavailable=self._listed,
            repairs={"account_disabled"},
            logins=1,
        )
        result = await self._log_in_again("Changed-2")
        assert result["errors"] == {"base": "account_disabled"}
        self._simulator.disable(None)
        result = await self._log_in_again("Changed-2")
        assert result["reason"] == "reauth_successful"
        await self._account.pass_time(A_PASS)
        self._sees(self._listed, logins=2)

    async def is_deleted(self) -> None:
        """No data remains, neither here nor on the server."""
        everything = self._listed
        entry_id = self._account.entry.entry_id
        assert f"{DOMAIN}.{entry_id}" in self._storage
        await self._hass.config_entries.async_remove(entry_id)
        await self._hass.async_block_till_done()
        self._sees(set(), gone=everything)
        assert self._hass.states.async_all() == []
        assert f"{DOMAIN}.{entry_id}" not in self._storage
        assert len(self._simulator.calls_to("logout")) == 1

    @property
    def _plants(self) -> list[Plant]:
        return self._simulator.home.plants

    @_plants.setter
    def _plants(self, plants: list[Plant]) -> None:
        self._simulator.home.plants = plants

    @property
    def _listed(self) -> set[str | int]:
        """Return the plants and devices listed by the server."""
        plants = self._plants
        return {plant.code for plant in plants} | {
            device.id for plant in plants for device in plant.devices
        }

    async def _log_in_again(self, password: str) -> ConfigFlowResult:
        """Complete the only flow, which asks for the password."""
        flows = self._hass.config_entries.flow
        [flow] = flows.async_progress_by_handler(DOMAIN)
        assert flow["context"]["source"] == SOURCE_REAUTH
        result = await flows.async_configure(flow["flow_id"], {"password": password})
        await self._hass.async_block_till_done()
        return result

    def _sees(
        self,
        registered: set[str | int],
        *,
        gone: Iterable[str | int] = (),
        unavailable: Iterable[str | int] = (),
        repairs: Iterable[str] = (),
        logins: int = 0,
    ) -> None:
        """Check registries, states, repairs, and the logins since the last check."""
        names = {str(name) for name in registered}
        # The import of history has a device of the account.
        entries = self._hass.config_entries.async_entries(DOMAIN)
        names |= {entry.entry_id for entry in entries}
        assert {
            name
            for device in dr.async_get(self._hass).devices
            for domain, name in device.identifiers
            if domain == DOMAIN
        } == names
        entities = {
            entity.unique_id: entity
            for entity in er.async_get(self._hass).entities.values()
            if entity.platform == DOMAIN
        }
        assert {_source(unique_id) for unique_id in entities} == names - self._loggers
        lost = self._entity_ids.keys() - entities.keys()
        assert {_source(unique_id) for unique_id in lost} - self._removed <= {
            *map(str, gone)
        }
        entity_ids = {key: entity.entity_id for key, entity in entities.items()}
        assert entity_ids == entity_ids | {
            key: entity_id
            for key, entity_id in self._entity_ids.items()
            if key not in lost
        }
        self._entity_ids = entity_ids
        states = {
            (_source(key), state.state == STATE_UNAVAILABLE)
            for key, entity in entities.items()
            # Derived values of a plant appear and disappear with its devices, those of
            # reports are shown for a day, and those of alarms for an hour.
            if key.partition("_")[2] not in NOT_OF_ROWS
            and (state := self._hass.states.get(entity.entity_id)) is not None
        }
        silent = {*map(str, unavailable)}
        assert states == {(name, name in silent) for name in names - self._loggers}
        assert {
            issue.translation_key
            for issue in ir.async_get(self._hass).issues.values()
            if issue.domain == DOMAIN
        } == {*repairs}
        self._logins += logins
        assert len(self._simulator.calls_to("login")) == self._logins
        assert self._simulator.refusals == []

    @property
    def _removed(self) -> set[str]:
        """Return the account after it is deleted."""
        entries = self._hass.config_entries.async_entries(DOMAIN)
        return {self._entry_id} - {entry.entry_id for entry in entries}

    @property
    def _loggers(self) -> set[str]:
        devices: list[Device] = [
            device for plant in self._plants for device in plant.devices
        ]
        return {str(device.id) for device in devices if device.type_id == DONGLE}


def _source(unique_id: str) -> str:
    """Return the plant or device of an entity."""
    return unique_id.partition("_")[0]


async def test_life_of_an_account(
    hass: HomeAssistant,
    account: Account,
    simulator: Simulator,
    hass_storage: dict[str, Any],
) -> None:
    """The account never needs a reload or a new setup."""
    life = Life(hass, account, simulator, hass_storage)
    await life.is_added_with_one_plant()
    await life.grows_to_three_plants()
    await life.has_an_inverter_replaced()
    await life.loses_a_plant()
    await life.loses_a_permission_and_regains_it()
    await life.has_its_password_changed()
    await life.expires_and_is_renewed()
    await life.is_deleted()
