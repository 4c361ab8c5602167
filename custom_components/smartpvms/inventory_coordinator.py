"""Coordinator of the inventory: the plants and devices of an account."""

import asyncio
from collections import Counter, deque
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from itertools import batched
from typing import Final, override

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.update_coordinator import UpdateFailed
from homeassistant.util import dt as dt_util

from .const import DOMAIN, LOGGER
from .device_registry import (
    CONFIRMATION,
    async_owners,
    async_register,
    async_remove_stale,
    async_rename,
)
from .errors import as_update_error
from .models import Inventory, contradicts, halves, new_codes, new_ids
from .northbound import (
    BATCH,
    UNKNOWN_DEVICE,
    Device,
    MembersRefused,
    NorthboundClient,
    NorthboundError,
    Plant,
    RateLimited,
)
from .options import options_of
from .problems import INVENTORY, Problems
from .secondary_coordinator import SecondaryCoordinator
from .time_zones import async_with_time_zones

INVENTORY_INTERVAL: Final = timedelta(days=1)
# Wait after a failed list; it grows with the time since the first failure.
INVENTORY_RETRY: Final = timedelta(minutes=15)
MAX_INVENTORY_RETRY: Final = timedelta(hours=2)
# Wait after a list without all plants; it grows in the same way. The daily quota allows
# few calls more than one for each 100 plants.
INCOMPLETE_RETRY: Final = timedelta(hours=1)
MAX_INCOMPLETE_RETRY: Final = timedelta(hours=6)
# Calls of a day that attempts to set up use with the longest wait between them only: Home
# Assistant repeats the set-up every ten minutes.
RESERVED_LISTS: Final = 12


class InventoryCoordinator(SecondaryCoordinator[Inventory]):
    """Reads the plants and devices of the account, and registers them."""

    config_entry: ConfigEntry

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry,
        client: NorthboundClient,
        listed: list[Plant] | None,
        known: Inventory | None,
        problems: Problems,
    ) -> None:
        """Set the stored inventory, or the plants that a flow has listed."""
        super().__init__(hass, LOGGER, config_entry=entry, name="inventory")
        self._client = client
        self._listed = listed
        self._problems = problems
        self.unlisted = {*problems.refused.get(INVENTORY, ())}
        """Plants without devices in the last list."""
        self._retry = INCOMPLETE_RETRY
        """Wait for the next list after an incomplete one; it doubles each time."""
        self._refresh: asyncio.Task[None] | None = None
        """The last refresh that was requested."""
        self.lock = asyncio.Lock()
        """Held during a real-time pass, and while plants and devices are renamed."""
        self.renamed: dict[str, str] = {}
        """New plant codes and device ids, by the old ones, from the next set-up on."""
        if known is not None:
            self.data = self._apply(known)
            if known.missing_plants(options_of(entry).plants):
                self._plan(timedelta())
            elif problems.has(INVENTORY) or problems.none_chosen:
                self._plan(INVENTORY_RETRY)

    @override
    async def async_refresh(self) -> None:
        """Refresh, or wait for a refresh that is under way."""
        if self._refresh is None or self._refresh.done():
            self._refresh = self.config_entry.async_create_background_task(
                self.hass, super().async_refresh(), "list plants and devices"
            )
        await asyncio.wait([self._refresh])

    async def async_list(self) -> Inventory:
        """Refresh, and return the inventory or raise the error."""
        await self.async_refresh()
        if not self.last_update_success:
            error = self.last_exception
            if isinstance(error, HomeAssistantError):
                raise error
            raise HomeAssistantError(
                translation_domain=DOMAIN, translation_key="unknown"
            ) from error
        return self.data

    @override
    async def _async_read(self) -> Inventory:
        failing = self._problems.duration(INVENTORY)
        retry = min(max(failing, INVENTORY_RETRY), MAX_INVENTORY_RETRY)
        self._plan(retry)
        known: Inventory | None = self.data
        if known is None and self._listed is None:
            self._check_wait(retry)
        listed, self._listed = self._listed, None
        plants: dict[str, Plant] = {}
        try:
            listed = self._free(listed or await self._client.plants())
            codes = {} if known is None else new_codes(known, listed)
            plants = self._select(listed, codes)
            devices = await self._devices(plants)
        except NorthboundError as err:
            self._problems.add(INVENTORY, err)
            # Home Assistant delays further attempts to set up by itself.
            wait = 0.0 if known is None else retry.total_seconds()
            raise as_update_error(err, max(wait, err.retry_after or 0.0)) from err
        ids: dict[int, int] = {}
        if known is not None:
            codes = {
                old: new
                for old, new in codes.items()
                if not contradicts(known, devices.values(), old, new)
            }
            plants = self._select(listed, codes)
            devices = {
                each.id: each for each in devices.values() if each.plant_code in plants
            }
            ids = new_ids(known, devices, codes)
        inventory = Inventory(
            plants=plants,
            devices=devices,
            listed=dt_util.utcnow(),
            offered={plant.code: plant.name for plant in listed},
            missing={} if known is None else known.missing,
        )
        inventory = await async_with_time_zones(self.hass, self.config_entry, inventory)
        # New names would get lost in a pass that goes on with the old ones.
        async with self.lock if codes or ids else nullcontext():
            # Nothing is awaited from here on: the reload has to store the new inventory,
            # and another account must not take the same plants.
            owners = async_owners(self.hass, self.config_entry)
            own = inventory.restricted_to(None, owners)
            if own is None:
                raise self._plants_of_others()
            if known is not None and (codes or ids):
                async_rename(self.hass, self.config_entry, known, codes, ids)
                self.renamed |= codes
                self.renamed |= {str(old): str(new) for old, new in ids.items()}
                self._schedule_reload()
                return known
            if known and known.differs_in_types(own.devices):
                # Entities keep their unique id and the description of their device's type.
                self._schedule_reload()
            return self._apply(own)

    def _check_wait(self, retry: timedelta) -> None:
        """Raise `UpdateFailed` if the few calls that are left are for later attempts."""
        if (failed := self._problems.groups.get(INVENTORY)) is None:
            return
        wait = failed.at + retry - dt_util.utcnow()
        seconds = min(wait.total_seconds(), self._client.list_wait(RESERVED_LISTS))
        # A time of the future was set by a wrong clock.
        if seconds > 0 and wait <= retry:
            raise as_update_error(RateLimited(seconds))

    @property
    def stored(self) -> Inventory:
        """Return the inventory to store; one with old names is listed again at once."""
        if not self.renamed:
            return self.data
        return replace(self.data, listed=self.data.listed - INVENTORY_INTERVAL)

    def _schedule_reload(self) -> None:
        self.hass.loop.call_soon(
            self.hass.config_entries.async_schedule_reload, self.config_entry.entry_id
        )

    def _free(self, listed: Collection[Plant]) -> list[Plant]:
        """Return the plants that no other account has, or raise `UpdateFailed`."""
        owners = async_owners(self.hass, self.config_entry)
        free = [plant for plant in listed if plant.code not in owners]
        if listed and not free:
            raise self._plants_of_others()
        return free

    def _plants_of_others(self) -> UpdateFailed:
        """Record and return the error that other accounts have all plants."""
        error = UpdateFailed(
            translation_domain=DOMAIN, translation_key="plants_of_others"
        )
        self._problems.none_chosen = False
        self._problems.add(INVENTORY, error)
        return error

    async def _devices(self, plants: Mapping[str, Plant]) -> dict[int, Device]:
        """Return the devices of the plants, by id.

        A plant without a list keeps its devices.
        """
        known: Inventory | None = self.data
        listed = await self._list_devices(plants)
        self.unlisted = {code for code in plants if not listed.get(code)}
        devices = [each for of_plant in listed.values() for each in of_plant]
        if known is not None:
            for code in self.unlisted:
                devices += known.devices_of(code)
        self._problems.clear(INVENTORY)
        self._problems.allow(INVENTORY, listed)
        return {each.id: each for each in devices}

    async def _list_devices(
        self, plants: Mapping[str, Plant]
    ) -> dict[str, list[Device]]:
        """Return the listed devices by plant, without refused plants.

        The server refuses a whole call because of one plant, so it is halved then.
        Plants that were refused before, in any group, are tried with one call.
        """
        were_refused = self._problems.refused_plants.keys() & plants
        others = [code for code in plants if code not in were_refused]
        batches = deque(batched(others, BATCH, strict=False))
        batches.extend(batched(sorted(were_refused), BATCH, strict=False))
        listed: dict[str, list[Device]] = {}
        error: NorthboundError | None = None
        is_first = True
        while batches:
            batch = batches.popleft()
            try:
                devices = await self._client.devices(batch, is_first=is_first)
            except MembersRefused as err:
                error = err
                if batch[0] in were_refused:
                    continue
                if len(batch) > 1:
                    # Depth first: a plant is found before the calls are used up.
                    batches.extendleft(halves(batch))
                elif err.code in UNKNOWN_DEVICE:
                    listed[batch[0]] = []
                else:
                    LOGGER.warning("Skipping the devices of a plant: %s", err)
                    self._problems.refuse(INVENTORY, plants[batch[0]], err.code)
            except RateLimited as err:
                # The rest of the plants follows with the next list.
                error = err
                break
            else:
                listed |= {code: [] for code in batch}
                for device in devices:
                    if device.plant_code in batch:
                        listed[device.plant_code].append(device)
            is_first = False
        if error is not None and not listed:
            raise error
        return listed

    def _select(
        self, listed: Collection[Plant], codes: Mapping[str, str]
    ) -> dict[str, Plant]:
        """Return the plants that the user has chosen, or raise `UpdateFailed`."""
        chosen = options_of(self.config_entry).plants
        if chosen is not None:
            chosen = [codes.get(code, code) for code in chosen]
        plants = {
            plant.code: plant
            for plant in listed
            if chosen is None or plant.code in chosen
        }
        self._problems.none_chosen = bool(listed) and not plants
        if plants:
            return plants
        known: Inventory | None = self.data
        if known is not None and listed:
            # The user can choose one of these instead.
            offered = {plant.code: plant.name for plant in listed}
            self.data = replace(known, offered=offered)
        error = UpdateFailed(translation_domain=DOMAIN, translation_key="no_plants")
        self._problems.add(INVENTORY, error)
        raise error

    async def async_follow_time_zone(self) -> None:
        """Find the zones of the plants again after Home Assistant's has changed."""
        known = self.data
        if known.home_zone != self.hass.config.time_zone:
            inventory = await async_with_time_zones(self.hass, self.config_entry, known)
            if self.data is known:
                self.data = inventory

    @callback
    def _apply(self, inventory: Inventory) -> Inventory:
        """Apply a new inventory to the quotas, the device registry and the schedule.

        Return the inventory with the registered devices that are missing in it.
        """
        types = Counter(device.type_id for device in inventory.devices.values())
        self._client.set_account_size(len(inventory.plants), types)
        async_register(self.hass, self.config_entry, self.data, inventory)
        inventory = async_remove_stale(
            self.hass, self.config_entry, self.data, inventory
        )
        confirmations = {since + CONFIRMATION for since in inventory.missing.values()}
        dues = {inventory.listed + INVENTORY_INTERVAL, *confirmations}
        # A plant that is refused in real time is listed as soon as it is allowed.
        if self.unlisted - self._problems.refused_without(INVENTORY):
            dues.add(inventory.listed + self._retry)
            self._retry = min(2 * self._retry, MAX_INCOMPLETE_RETRY)
        else:
            self._retry = INCOMPLETE_RETRY
        due = min(due for due in dues if due > inventory.listed)
        # A list of the future was made with a wrong clock.
        self._plan(min(due - dt_util.utcnow(), INVENTORY_INTERVAL))
        return inventory

    def _plan(self, wait: timedelta) -> None:
        """Set the wait until the next list."""
        # Home Assistant cuts off fractions of a second.
        self.update_interval = max(wait, timedelta()) + timedelta(seconds=1)
