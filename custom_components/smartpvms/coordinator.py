"""Coordinators: the inventory of an account, and its real-time KPIs."""

import asyncio
import collections
from collections.abc import Collection, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from datetime import datetime, timedelta
import math
import time
from typing import Any, Final, cast, override

from homeassistant.components.sensor import SensorDeviceClass
from homeassistant.config_entries import ConfigEntry
from homeassistant.const import CONF_HOST, UnitOfPower
from homeassistant.core import CALLBACK_TYPE, Event, HomeAssistant, callback
from homeassistant.helpers import device_registry as dr, entity_registry as er
from homeassistant.helpers.update_coordinator import DataUpdateCoordinator, UpdateFailed
from homeassistant.util import dt as dt_util

from .batches import Batch, Batches
from .battery_health import with_module_health
from .const import CONF_GRID_METERS, CONF_PLANTS, CONF_TIME_ZONES, DOMAIN, LOGGER
from .counter_filter import CounterFilter, Period
from .counter_filters import CounterFilters
from .descriptions import FLOW_SENSORS, ItemSensorDescription, sensors
from .errors import as_update_error
from .listeners import Item, Listeners
from .models import Gap, Inventory, Reading, SourceId, changes, migrations
from .northbound import (
    DEVICE_TYPE_NAMES,
    AccountLimited,
    AccountLocked,
    ConnectionFailed,
    DataItems,
    Device,
    InvalidCredentials,
    NorthboundClient,
    NorthboundError,
    Plant,
    RealTimeKpis,
    RequestRejected,
    ServerClock,
    SessionTaken,
    base_url,
    number,
)
from .plant_flow import PlantFlows
from .plausibility import DevicePowers
from .power_units import MeterPowers
from .problems import HISTORY, INVENTORY, Problems
from .time_zones import with_time_zones

INVENTORY_INTERVAL: Final = timedelta(days=1)
# After which a second list tells that a device is really gone.
CONFIRMATION: Final = timedelta(hours=1)
# After a failure; as long again as it has been failing, up to `LEAST_REFRESH`.
INVENTORY_RETRY: Final = timedelta(minutes=15)
# After a failure that flow control has no opinion on.
REAL_TIME_RETRY: Final = timedelta(minutes=1)
# How often the inventory is confirmed at most, within its daily quota.
LEAST_REFRESH: Final = timedelta(hours=2)
# How long a device that the server does not know is left out.
DOUBTING: Final = timedelta(hours=1)
# Pause of a group that the server does not support.
UNSUPPORTED_RETRY: Final = timedelta(hours=1)
# Where nothing may be read, readings still grow too old to be shown.
LONGEST_WAIT: Final = timedelta(minutes=6)
# How long nothing has to be heard of a device until that is made up for.
LEAST_GAP: Final = timedelta(minutes=30)
# What a device has counted meanwhile, at least, in kWh.
MISSED: Final = 0.1
# What may be read within this time of one another is read together.
TOGETHER: Final = 1.0

# Errors that every other group would meet as well.
_ACCOUNT_ERRORS: Final = (
    AccountLimited,
    AccountLocked,
    ConnectionFailed,
    SessionTaken,
)
# The server does not know a device, or knows it as another type.
_UNKNOWN_DEVICE: Final = (20006, 20008)
# The server does not support the device type, or the interface.
_UNSUPPORTED: Final = 20013

_WATTS: Final[Mapping[str | None, float]] = {
    UnitOfPower.WATT: 1.0,
    UnitOfPower.KILO_WATT: 1000.0,
}


class InventoryCoordinator(DataUpdateCoordinator[Inventory]):
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
        """Go on from what is known, or from the plants that a flow has just listed."""
        super().__init__(hass, LOGGER, config_entry=entry, name="inventory")
        self._client = client
        self._listed = listed
        self._problems = problems
        if known is not None:
            self._listed = None
            self.data = self._adopt(known)
            if known.missing_plants(entry.options.get(CONF_PLANTS)):
                self._plan(timedelta())
            elif problems.has(INVENTORY) or problems.none_chosen:
                self._plan(INVENTORY_RETRY)

    @override
    async def _async_update_data(self) -> Inventory:
        failing = self._problems.duration(INVENTORY)
        retry = min(max(failing, INVENTORY_RETRY), LEAST_REFRESH)
        self._plan(retry)
        known: Inventory | None = self.data
        listed, self._listed = self._listed, None
        plants: dict[str, Plant] = {}
        try:
            listed = listed or await self._client.plants()
            replaced = {} if known is None else migrations(known, listed)
            chosen = self._chosen(replaced)
            offered = {plant.code: plant.name for plant in listed}
            plants = {
                plant.code: plant
                for plant in listed
                if chosen is None or plant.code in chosen
            }
            self._problems.none_chosen = bool(listed) and not plants
            if not plants:
                if known is not None and listed:
                    # What the user can choose instead.
                    self.data = replace(known, offered=offered)
                error = UpdateFailed(
                    translation_domain=DOMAIN, translation_key="no_plants"
                )
                self._problems.add(INVENTORY, error)
                raise error
            devices = {
                device.id: device
                for device in await self._client.devices(plants)
                if device.plant_code in plants
            }
        except NorthboundError as err:
            self._problems.add(INVENTORY, err, plants.values())
            # Home Assistant spaces the attempts to set up by itself.
            least = 0.0 if known is None else retry.total_seconds()
            raise as_update_error(err, max(least, err.retry_after or 0.0)) from err
        self._problems.clear(
            INVENTORY, {device.plant_code for device in devices.values()}
        )
        inventory = await async_with_time_zones(
            self.hass,
            self.config_entry,
            Inventory(
                plants,
                devices,
                dt_util.utcnow(),
                offered,
                {} if known is None else known.missing,
                renamed=replaced,
            ),
        )
        # Nothing is awaited from here on: a reload has to keep the new inventory.
        self._migrate(replaced)
        if known is not None and known.differs_in_types(devices):
            # Entities have the description of the type with which they were added.
            self._reload()
        return self._adopt(inventory)

    async def async_follow_time_zone(self) -> None:
        """Find the zones of the plants again if Home Assistant's has changed."""
        known = self.data
        if known.home != self.hass.config.time_zone:
            inventory = await async_with_time_zones(self.hass, self.config_entry, known)
            if self.data is known:
                self.data = inventory

    def _chosen(self, replaced: Mapping[str, str]) -> list[str] | None:
        """Return the plants to include, by the codes that they have now."""
        chosen = self.config_entry.options.get(CONF_PLANTS)
        return chosen and [replaced.get(code, code) for code in chosen]

    @callback
    def _adopt(self, inventory: Inventory) -> Inventory:
        """Let quotas, device registry and what is planned follow the inventory.

        Return the inventory with what is missing in it.
        """
        types = collections.Counter(
            device.type_id for device in inventory.devices.values()
        )
        self._client.measure(len(inventory.plants), types)
        self._register(inventory)
        inventory = self._remove_gone(inventory)
        confirmations = {since + CONFIRMATION for since in inventory.missing.values()}
        dues = {inventory.listed + INVENTORY_INTERVAL, *confirmations}
        due = min(due for due in dues if due > inventory.listed)
        self._plan(due - dt_util.utcnow())
        return inventory

    def _plan(self, wait: timedelta) -> None:
        """Let the next reading come after a time, but not a moment earlier.

        Home Assistant counts an interval from the full second.
        """
        self.update_interval = max(wait, timedelta()) + timedelta(seconds=1)

    @callback
    def _register(self, inventory: Inventory) -> None:
        """Register all devices, also those that have no KPIs and so no entities."""
        registry = dr.async_get(self.hass)
        registered: dict[str, str] = {}
        for plant in inventory.plants.values():
            registered[plant.code] = registry.async_get_or_create(
                config_entry_id=self.config_entry.entry_id,
                identifiers={(DOMAIN, plant.code)},
                entry_type=dr.DeviceEntryType.SERVICE,
                configuration_url=str(base_url(self.config_entry.data[CONF_HOST])),
                manufacturer="Huawei",
                model="FusionSolar plant",
                name=plant.name,
            ).id
        for device in inventory.devices.values():
            registry.async_get_or_create(
                config_entry_id=self.config_entry.entry_id,
                identifiers={(DOMAIN, str(device.id))},
                manufacturer="Huawei",
                model=device.model or DEVICE_TYPE_NAMES.get(device.type_id),
                name=device.name,
                serial_number=device.serial_number,
                sw_version=device.software_version,
                via_device_id=registered[device.plant_code],
            )

    @callback
    def _remove_gone(self, inventory: Inventory) -> Inventory:
        """Remove devices of plants that were deselected, and those that are gone.

        A list may lack a device by mistake, so only a second one is believed. Every
        plant has a device: of a bare one nobody knows what it has, since its owner or a
        mistake keeps that back.
        """
        registry = dr.async_get(self.hass)
        registered = {
            device.id: device
            for device in dr.async_entries_for_config_entry(
                registry, self.config_entry.entry_id
            )
        }
        listed = inventory.registered_names
        known: Inventory | None = self.data
        were_bare = set() if known is None else known.bare_plants
        missing: dict[str, datetime] = {}
        for device in registered.values():
            name = source_name(device)
            plant = source_name(registered.get(device.via_device_id or "", device))
            # The account has a device of its own.
            if name in listed or name == self.config_entry.entry_id:
                continue
            since = inventory.missing.get(name, inventory.listed)
            if plant in were_bare - inventory.bare_plants:
                since = inventory.listed
            deselected = plant in inventory.offered and plant not in inventory.plants
            gone = inventory.listed - since >= CONFIRMATION
            if deselected or (gone and plant not in inventory.bare_plants):
                registry.async_remove_device(device.id)
            else:
                missing[name] = since
        return replace(inventory, missing=missing)

    @callback
    def _migrate(self, replaced: Mapping[str, str]) -> None:
        """Let plants whose code was replaced keep device, entities and choice.

        Entities have their unique ids for life, so the account is reloaded; what is
        kept over the reload has to be the new inventory.
        """
        if not replaced:
            return
        devices, entities = dr.async_get(self.hass), er.async_get(self.hass)
        entry = self.config_entry
        for old, new in replaced.items():
            device = devices.async_get_device_by_identifier(
                (DOMAIN, old), entry.entry_id
            )
            if device is not None:
                devices.async_update_device(device.id, new_identifiers={(DOMAIN, new)})
            for entity in er.async_entries_for_config_entry(entities, entry.entry_id):
                if entity.unique_id.startswith(f"{old}_"):
                    entities.async_update_entity(
                        entity.entity_id,
                        new_unique_id=new + entity.unique_id.removeprefix(old),
                    )
        if (chosen := self._chosen(replaced)) is not None:
            self.hass.config_entries.async_update_entry(
                entry, options={**entry.options, CONF_PLANTS: chosen}
            )
        if zones := entry.options.get(CONF_TIME_ZONES):
            self.hass.config_entries.async_update_entry(
                entry,
                options={
                    **entry.options,
                    CONF_TIME_ZONES: {
                        replaced.get(code, code): zone for code, zone in zones.items()
                    },
                },
            )
        self._reload()

    @callback
    def _reload(self) -> None:
        """Reload the account once the new inventory is kept."""
        self.hass.loop.call_soon(
            self.hass.config_entries.async_schedule_reload, self.config_entry.entry_id
        )


async def async_with_time_zones(
    hass: HomeAssistant, entry: ConfigEntry, inventory: Inventory
) -> Inventory:
    """Return the inventory with the zones of its plants."""
    return await hass.async_add_executor_job(
        with_time_zones,
        inventory,
        hass.config.time_zone,
        entry.options.get(CONF_TIME_ZONES, {}),
        dt_util.utcnow(),
    )


def source_name(device: dr.DeviceEntry) -> str:
    """Return the plant's code or the device's id by which it is registered."""
    return next(name for domain, name in device.identifiers if domain == DOMAIN)


class RealTimeCoordinator(DataUpdateCoordinator[Mapping[SourceId, Reading]]):
    """Reads the KPIs of all plants and devices, batch by batch.

    A pass reads what flow control lets go now, the oldest first; the next pass is at
    the moment at which something may go again. What fails keeps its last readings and
    does not take the rest down.
    """

    config_entry: ConfigEntry

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry,
        client: NorthboundClient,
        inventory: InventoryCoordinator,
        readings: Mapping[SourceId, Reading],
        counters: CounterFilters,
        meters: dict[int, MeterPowers],
        flows: PlantFlows,
        problems: Problems,
    ) -> None:
        """Set the inventory and the stored state."""
        super().__init__(hass, LOGGER, config_entry=entry, name="real-time")
        self._client = client
        self._inventory = inventory
        self._batched = inventory.data
        self._batches = Batches(inventory.data)
        self._doubted = -math.inf
        """When the server first did not know a device of these batches."""
        self._asked = -math.inf
        """When the server was last asked whether the inventory is still true."""
        self._confirming = False
        self._read: dict[Batch, int] = {}
        self._passes = 0
        self._server_clock = ServerClock.after(
            (each.received, each.server_time) for each in readings.values()
        )
        self._unsupported: dict[int | None, float] = {}
        """When types may be read again that the server does not support."""
        self._problems = problems
        self.refused = False
        """Whether nothing is read any more until the user has logged in."""
        self.counters = counters
        self.meters = meters
        self._powers: dict[int, DevicePowers] = {}
        self.flows = flows
        """Powers and energies of plants, from the readings of their devices."""
        flows.expect(inventory.data, counters)
        self._gaps: list[Gap] = []
        self.created: dict[SourceId, set[str]] = {}
        """The items that have an entity, enabled or not, by plant or device."""
        self.novel: Mapping[SourceId, Collection[str]] = {}
        """The items that have no entity and are other than before."""
        self.data = {
            source_id: reading
            for source_id, reading in readings.items()
            if source_id in inventory.data
        }
        self.available: set[SourceId] = set()
        """The plants and devices whose items may be shown."""
        self.flowing: set[SourceId] = set()
        """The plants of which may be shown what follows from their devices."""
        self._listeners_to = Listeners()
        self._update_available()
        self.next_pass: float | None = None
        """When the next pass is planned, in monotonic seconds."""
        self._plan()

    @property
    def batches(self) -> list[Batch]:
        """Return what is read together at present."""
        return list(self._batches)

    @override
    async def _async_update_data(self) -> Mapping[SourceId, Reading]:
        await self._inventory.async_follow_time_zone()
        inventory = self._inventory.data
        self._follow(inventory)
        readings = {
            source_id: reading
            for source_id, reading in self.data.items()
            if source_id in inventory
        }
        self._passes += 1
        news: dict[SourceId, set[str]] = {}
        rows: dict[str, tuple[DataItems, datetime, datetime]] = {}
        failed = False
        wanted = self._wanted()
        self._forget_unwanted(wanted)
        for batch in sorted(wanted, key=lambda batch: self._read.get(batch, 0)):
            if self._client.real_time_wait(batch.type_id) or self._is_paused(batch):
                continue
            self._read[batch] = self._passes
            try:
                kpis = await self._call(batch)
            except InvalidCredentials as err:
                self.refused = True
                self.data = readings
                await self._tell(news)
                raise as_update_error(err) from err
            except _ACCOUNT_ERRORS as err:
                self._problems.account_error = err
                failed = True
                break
            except NorthboundError as err:
                self._problems.account_error = None
                self._fail(batch, err)
                continue
            self._problems.account_error = None
            self._succeed(batch, kpis.unauthorized)
            received = dt_util.utcnow()
            server_time = self._server_clock.moment(
                kpis.server_time, received, time.monotonic()
            )
            for source_id, items in kpis.rows.items():
                if isinstance(source_id, str):
                    # The counters of a plant follow the powers of its devices.
                    rows[source_id] = items, received, server_time
                elif source_id in inventory:
                    readings[source_id], news[source_id] = self._take(
                        source_id, items, received, server_time, readings
                    )
        await self._follow_flows(inventory, readings, rows, news)
        wait = self._plan(failed=failed)
        self.data = readings
        await self._tell(news)
        if (error := self._problems.account_error) is not None:
            # Home Assistant calls no listeners after a second failure.
            self.async_update_listeners()
            raise as_update_error(error, wait) from error
        return readings

    async def _follow_flows(
        self,
        inventory: Inventory,
        readings: dict[SourceId, Reading],
        rows: Mapping[str, tuple[DataItems, datetime, datetime]],
        news: dict[SourceId, set[str]],
    ) -> None:
        """Follow the flows of all plants, and take the rows of the plants themselves."""
        self.flows.keep(inventory.plants)
        for code in inventory.plants:
            devices = inventory.devices_of(code)
            is_read = any(each.id in news for each in devices)
            if is_read:
                powers = self.flows.update_powers(
                    code, devices, readings, self._grid_meters
                )
            else:
                powers = self._powers_of_plant(code)
            if code in rows:
                readings[code], news[code] = self._take(
                    code, *rows[code], readings, powers
                )
            if is_read:
                keys = self.flows.update_energies(
                    code, devices, readings, news, self.counters
                )
                news[code] = news.get(code, set()) | keys
            # Many plants must not hold up everything else.
            await asyncio.sleep(0)

    @callback
    @override
    def async_add_listener(
        self, update_callback: CALLBACK_TYPE, context: Item | None = None
    ) -> CALLBACK_TYPE:
        """Listen for every pass, or for what is new of an item."""
        if context is None:
            return super().async_add_listener(update_callback)
        return self._listeners_to.add(context, update_callback)

    def items(self) -> Iterator[tuple[SourceId, Iterable[str]]]:
        """Return the plants and devices with the items that are known of them.

        Plants come first: Home Assistant takes so many entities of an account only.
        """
        for source_id, reading in (
            *self.flows.readings.items(),
            *sorted(self.data.items(), key=lambda item: isinstance(item[0], int)),
        ):
            yield source_id, reading.items

    async def _tell(self, news: Mapping[SourceId, set[str]]) -> None:
        """Tell who listens what is new, and where all of it has come or gone."""
        self.novel = {
            source_id: novel
            for source_id, keys in news.items()
            if (novel := keys - self.created.get(source_id, set()))
        }
        turned = self._update_available()
        await self._listeners_to.tell({**news, **dict.fromkeys(turned)})

    def _update_available(self) -> set[SourceId]:
        """Find out what may be shown, and return where that has changed."""
        before = self.available, self.flowing
        self.available, self.flowing = (
            {
                source_id
                for source_id, reading in readings.items()
                if reading.fresh and not self.refused
            }
            for readings in (self.data, self.flows.readings)
        )
        return (before[0] ^ self.available) | (before[1] ^ self.flowing)

    @property
    def _grid_meters(self) -> set[int]:
        """Return the meters of which the user has said that they are at the grid."""
        return {
            int(each) for each in self.config_entry.options.get(CONF_GRID_METERS, ())
        }

    def grid_point(self, plant_code: str) -> int | None:
        """Return the device where a plant meets the grid, if that is sure."""
        devices = self._inventory.data.devices_of(plant_code)
        return self.flows.grid_point(plant_code, devices, self._grid_meters)

    async def _call(self, batch: Batch) -> RealTimeKpis[Any]:
        if batch.type_id is None:
            return await self._client.plant_real_time(
                cast("tuple[str, ...]", batch.source_ids)
            )
        return await self._client.device_real_time(
            batch.type_id, cast("tuple[int, ...]", batch.source_ids)
        )

    @callback
    def async_forget_removed(
        self, event: Event[dr.EventDeviceRegistryUpdatedData]
    ) -> None:
        """Let whoever comes back after having been removed get entities again."""
        if event.data["action"] != "remove":
            return
        device = event.data["device"]
        if device["config_entry_id"] == self.config_entry.entry_id:
            removed = {name for domain, name in device["identifiers"]}
            for source_id in [each for each in self.created if str(each) in removed]:
                del self.created[source_id]

    def _follow(self, inventory: Inventory) -> None:
        """Batch a new inventory, unless it only confirms one that was in doubt.

        What had to be left out is tried again now and then.
        """
        known, self._batched = self._batched, inventory
        if inventory is not known:
            confirmed = self._confirming and inventory.has_same_devices(known)
            self._confirming = False
        else:
            doubted_for = time.monotonic() - self._doubted
            confirmed = (
                not self._batches.in_doubt or doubted_for < DOUBTING.total_seconds()
            )
        if inventory is not known:
            self.flows.expect(inventory, self.counters)
        if not confirmed:
            self._batches = Batches(inventory)
            self._read.clear()

    def _wanted(self) -> list[Batch]:
        """Return the batches that have, or may come to have, an enabled entity."""
        enabled: set[SourceId] = set()
        for source_id, keys in self._listeners_to:
            enabled.add(source_id)
            if isinstance(source_id, str) and not FLOW_SENSORS.keys().isdisjoint(keys):
                devices = self._batched.devices_of(source_id)
                enabled.update(device.id for device in devices)
        return [
            batch
            for batch in self._batches
            if not (
                enabled.isdisjoint(batch.source_ids)
                # What follows from a plant's devices says nothing of its own items.
                and all(
                    self.created.get(each, set()) - FLOW_SENSORS.keys()
                    for each in batch.source_ids
                )
            )
        ]

    def _forget_unwanted(self, wanted: Iterable[Batch]) -> None:
        """Forget what is wrong with groups that are not read any more."""
        groups = {batch.group for batch in wanted}
        self._problems.keep({INVENTORY, HISTORY, *groups}, self._batched.plants)

    def _plan(self, *, failed: bool = False) -> float:
        """Let the next pass be as soon as something may be read; return in how long.

        What may be read soon after is waited for, so that values are of one moment.
        """
        batches = collections.Counter(
            batch.type_id for batch in self._wanted() if not self._is_paused(batch)
        )
        waits = sorted(
            self._client.real_time_wait(type_id, calls)
            for type_id, most in batches.items()
            for calls in {1, most}
        )
        least = REAL_TIME_RETRY.total_seconds() if failed else 0.0
        longest = LONGEST_WAIT.total_seconds()
        soonest = max(waits[0] if waits else longest, least)
        wait = max([soonest, *(each for each in waits if each <= soonest + TOGETHER)])
        wait = min(wait, longest)
        self.next_pass = time.monotonic() + wait
        # Home Assistant counts an interval from the full second.
        interval = max(wait, 0.1) + self.hass.loop.time() % 1
        self.update_interval = timedelta(seconds=interval)
        return interval

    def _is_paused(self, batch: Batch) -> bool:
        """Return whether a batch is left out because its type is not supported."""
        return self._unsupported.get(batch.type_id, -math.inf) > time.monotonic()

    def _fail(self, batch: Batch, err: NorthboundError) -> None:
        """Log that a group cannot be read, once; ask for devices that are unknown."""
        self._problems.add(batch.group, err, self._plants_of(batch), is_logged=True)
        if not isinstance(err, RequestRejected):
            return
        if err.code == _UNSUPPORTED:
            retry = time.monotonic() + UNSUPPORTED_RETRY.total_seconds()
            self._unsupported[batch.type_id] = retry
        if err.code not in _UNKNOWN_DEVICE:
            return
        now = time.monotonic()
        if not self._batches.in_doubt:
            self._doubted = now
        if (
            not self._batches.in_doubt
            and now - self._asked > LEAST_REFRESH.total_seconds()
        ):
            self._asked = now
            self._confirming = True
            self.config_entry.async_create_background_task(
                self.hass, self._confirm(), "confirm the inventory"
            )
        self._batches.rejected(batch)

    @callback
    def async_follow_inventory(self) -> None:
        """Read what a new inventory has brought, as soon as it may be read."""
        inventory = self._inventory.data
        for old, new in inventory.renamed.items():
            if old in self.data or old in self.flows.plants:
                self._rename(old, new)
        if not inventory.has_same_devices(self._batched):
            self.config_entry.async_create_background_task(
                self.hass, self.async_refresh(), "read what is new"
            )

    async def _confirm(self) -> None:
        """Ask whether the inventory is still true."""
        await self._inventory.async_refresh()
        if not self._inventory.last_update_success:
            self._confirming = False

    def _plants_of(self, batch: Batch) -> list[Plant]:
        """Return the plants that a batch is of; of devices it does not tell."""
        plants = self._batched.plants
        return [plants[str(code)] for code in batch.source_ids if code in plants]

    def _succeed(self, batch: Batch, unauthorized: Collection[SourceId]) -> None:
        self._batches.accepted(batch)
        if self._problems.has(batch.group):
            LOGGER.info("Reading %s recovered", batch.group)
        plants = {plant.code: plant.name for plant in self._plants_of(batch)}
        self._problems.clear(batch.group, plants)
        self._problems.unauthorized |= {
            code: plants[code] for code in plants.keys() & unauthorized
        }

    def _take(
        self,
        source_id: SourceId,
        items: DataItems,
        received: datetime,
        server_time: datetime,
        readings: Mapping[SourceId, Reading],
        powers: DataItems | None = None,
    ) -> tuple[Reading, set[str]]:
        """Take a row, and return the reading and what shows something new in it.

        `powers` are those of a plant, which has none of its own.
        """
        last = self.data.get(source_id)
        descriptions = sensors(self._batched.type_of(source_id))
        items = with_module_health(self._in_watts(source_id, items))
        if isinstance(source_id, int):
            items = self._without_false_powers(source_id, items, last, descriptions)
        changed = changes(last.items if last else {}, items)
        # Some measurement of a device always changes.
        live = last is not None and bool(changed)
        if isinstance(source_id, str):
            # A plant rests at night, but some of its devices report on.
            devices = self._batched.devices_of(source_id)
            live |= any(
                (each := readings.get(device.id)) and each.live for device in devices
            )
        reading = Reading(items, received, server_time, live, last_connected=received)
        if reading.disconnected:
            reading = replace(
                reading, last_connected=last.last_connected if last else None
            )
        else:
            self._look_for_gap(source_id, reading, last)
        if last is None or reading.disconnected is not last.disconnected:
            changed = {*items, *changed}
        plant = self._batched.plant_of(source_id)
        changed |= self.counters.update(
            source_id, reading, plant, descriptions, items if powers is None else powers
        )
        return reading, changed

    def _look_for_gap(
        self, source_id: SourceId, reading: Reading, last: Reading | None
    ) -> None:
        """Remember the time in which a device that is back was not heard."""
        heard, received = last.last_connected if last else None, reading.received
        if (
            isinstance(source_id, int)
            and last is not None
            and heard is not None
            and received - heard > LEAST_GAP
            # At night a sleeping inverter misses nothing.
            and (
                not last.disconnected
                or self._has_counted(source_id, reading.items, heard)
            )
        ):
            self._gaps.append(Gap(source_id, heard, received))

    def _has_counted(self, device_id: int, items: DataItems, heard: datetime) -> bool:
        """Return whether a lifetime counter is higher than when it was last heard."""
        for key, counter in self.counters.of(device_id).items():
            raw = number(items.get(key))
            if (
                counter.period is Period.LIFETIME
                and counter.current is not None
                # Others have no entity that is enabled.
                and counter.read is not None
                and heard - counter.read < LEAST_GAP
                and raw is not None
                and raw - counter.current.raw > MISSED
            ):
                return True
        return False

    def take_gaps(self) -> list[Gap]:
        """Return the gaps that have ended since this was last asked."""
        gaps, self._gaps = self._gaps, []
        return gaps

    def _in_watts(self, source_id: SourceId, items: DataItems) -> DataItems:
        if isinstance(source_id, str):
            return items
        type_id = self._batched.devices[source_id].type_id
        if not MeterPowers.known(type_id):
            return items
        meter = self.meters.get(source_id)
        if meter is None or meter.type_id != type_id:
            meter = self.meters[source_id] = MeterPowers(type_id)
        return meter.in_watts(items)

    def _without_false_powers(
        self,
        device_id: int,
        items: DataItems,
        last: Reading | None,
        descriptions: Mapping[str, ItemSensorDescription],
    ) -> DataItems:
        if device_id not in self._powers:
            watts = {
                key: _WATTS[description.native_unit_of_measurement]
                for key, description in descriptions.items()
                if description.device_class == SensorDeviceClass.POWER
                and description.entity_category is None
            }
            self._powers[device_id] = DevicePowers(watts, last.items if last else {})
        capacity = self._batched.plant_of(device_id).capacity
        return self._powers[device_id].without_false(items, capacity)

    def past_meter(self, device: Device) -> MeterPowers | None:
        """Return a copy of a meter's units, for its history."""
        return deepcopy(self.meters.get(device.id))

    def _rename(self, old: str, new: str) -> None:
        """Change the code of a plant."""
        self.counters.rename(old, new)
        self.data = {
            new if source_id == old else source_id: reading
            for source_id, reading in self.data.items()
        }
        self.flows.rename(old, new)

    def counter(
        self, source_id: SourceId, description: ItemSensorDescription
    ) -> CounterFilter:
        """Return the filter of an entity."""
        plant = self._inventory.data.plant_of(source_id)
        reading = self.data.get(source_id)
        if isinstance(source_id, str):
            powers = self._powers_of_plant(source_id)
        else:
            powers = reading.items if reading else {}
        return self.counters.get(source_id, description, reading, plant, powers)

    def _powers_of_plant(self, code: str) -> DataItems:
        """Return the last powers of a plant, unless they are too old."""
        flow = self.flows.readings.get(code)
        return flow.items if flow and flow.fresh else {}

    def counted(self, unique_id: str) -> float | None:
        """Return the filtered value of an entity's counter."""
        counter = self._counter(unique_id)
        return counter.value if counter else None

    def offset(self, unique_id: str) -> float:
        """Return the difference between the filtered and the raw value of an entity."""
        counter = self._counter(unique_id)
        return counter.offset if counter else 0.0

    def _counter(self, unique_id: str) -> CounterFilter | None:
        source = self._inventory.data.source_of(unique_id)
        return self.counters.of(source[0]).get(source[1]) if source else None
