"""Coordinators: the inventory of an account, and its real-time KPIs."""

from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any, Final, override

from homeassistant.config_entries import ConfigEntry
from homeassistant.const import CONF_HOST
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.storage import Store
from homeassistant.helpers.update_coordinator import DataUpdateCoordinator, UpdateFailed
from homeassistant.util import dt as dt_util

from .const import CONF_PLANTS, DOMAIN, LOGGER
from .counters import Counter, Period
from .errors import as_update_error
from .northbound import (
    DEVICE_TYPE_NAMES,
    AccountLocked,
    ConnectionFailed,
    DataItems,
    Device,
    DeviceType,
    InvalidCredentials,
    NorthboundClient,
    NorthboundError,
    Plant,
    RealTimeKpis,
    SessionTaken,
    base_url,
    number,
)
from .power_units import MeterPowers

INVENTORY_INTERVAL: Final = timedelta(days=1)
# The published quota lets every group be read once in 5 minutes; the margin absorbs
# the difference between the server's clock and ours.
REAL_TIME_INTERVAL: Final = timedelta(minutes=5, seconds=3)
MAX_AGE: Final = timedelta(minutes=15)

# Errors that every other group would meet as well.
_ACCOUNT_ERRORS: Final = (
    AccountLocked,
    ConnectionFailed,
    InvalidCredentials,
    SessionTaken,
)

type SourceId = str | int
"""What a KPI row belongs to: a plant, by code, or a device, by id."""

type SmartPvmsConfigEntry = ConfigEntry[SmartPvmsData]


@dataclass(frozen=True, slots=True)
class SmartPvmsData:
    """What a loaded entry works with."""

    inventory: InventoryCoordinator
    real_time: RealTimeCoordinator
    store: Store[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Inventory:
    """The plants and devices of an account."""

    plants: Mapping[str, Plant]
    devices: Mapping[int, Device]

    def plant_of(self, source_id: SourceId) -> Plant:
        """Return a plant by its code, or the plant of a device."""
        if isinstance(source_id, str):
            return self.plants[source_id]
        return self.plants[self.devices[source_id].plant_code]


@dataclass(frozen=True, slots=True)
class Reading:
    """The data items of a plant or device as last read."""

    items: DataItems
    received: datetime
    server_time: datetime
    """The server's clock when it answered."""
    live: bool
    """Whether the server surely does not just repeat what it once heard."""

    @property
    def disconnected(self) -> bool:
        """Whether the device says that it has no connection."""
        return number(self.items.get("run_state")) == 0

    @property
    def age(self) -> timedelta:
        """How long ago the items were read."""
        return dt_util.utcnow() - self.received

    @property
    def fresh(self) -> bool:
        """Whether the items are young enough to be shown."""
        return self.age <= MAX_AGE


class InventoryCoordinator(DataUpdateCoordinator[Inventory]):
    """Reads the plants and devices of the account, and registers them."""

    config_entry: SmartPvmsConfigEntry

    def __init__(
        self,
        hass: HomeAssistant,
        entry: SmartPvmsConfigEntry,
        client: NorthboundClient,
        plants: list[Plant] | None,
    ) -> None:
        """Take the plants that the config flow has just listed, if it has."""
        super().__init__(
            hass,
            LOGGER,
            config_entry=entry,
            name="inventory",
            update_interval=INVENTORY_INTERVAL,
        )
        self._client = client
        self._listed = plants

    @override
    async def _async_update_data(self) -> Inventory:
        listed, self._listed = self._listed, None
        chosen = self.config_entry.options.get(CONF_PLANTS)
        try:
            plants = {
                plant.code: plant
                for plant in listed or await self._client.plants()
                if chosen is None or plant.code in chosen
            }
            if not plants:
                raise UpdateFailed(
                    translation_domain=DOMAIN, translation_key="no_plants"
                )
            devices = {
                device.id: device
                for device in await self._client.devices(plants)
                if device.plant_code in plants
            }
        except NorthboundError as err:
            raise as_update_error(err) from err
        inventory = Inventory(plants, devices)
        self._register(inventory)
        return inventory

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


class RealTimeCoordinator(DataUpdateCoordinator[Mapping[SourceId, Reading]]):
    """Reads the KPIs of all plants and devices, group by group.

    A group that fails keeps its last readings and does not take the others down.
    """

    config_entry: SmartPvmsConfigEntry

    def __init__(
        self,
        hass: HomeAssistant,
        entry: SmartPvmsConfigEntry,
        client: NorthboundClient,
        inventory: InventoryCoordinator,
        readings: Mapping[SourceId, Reading] | None,
        counters: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Read what the inventory lists, going on from what was known before."""
        super().__init__(
            hass,
            LOGGER,
            config_entry=entry,
            name="real-time",
            update_interval=REAL_TIME_INTERVAL,
        )
        self._client = client
        self._inventory = inventory
        self._before = readings
        self._stored_counters = counters
        self._counters: dict[str, Counter] = {}
        self._meters: dict[SourceId, MeterPowers] = {}
        self._failing: set[str] = set()
        self.created: set[SourceId] = set()
        """The plants and devices that have entities, enabled or not."""

    @override
    async def _async_update_data(self) -> Mapping[SourceId, Reading]:
        inventory = self._inventory.data
        known = {*inventory.plants, *inventory.devices}
        before, self._before = self._before, None
        readings: dict[SourceId, Reading] = {
            source_id: reading
            for source_id, reading in (before or self.data or {}).items()
            if source_id in known
        }
        if before and any(
            reading.age < REAL_TIME_INTERVAL for reading in readings.values()
        ):
            return readings
        failure: NorthboundError | None = None
        for group, answers in self._groups():
            try:
                async for kpis in answers:
                    received = dt_util.utcnow()
                    server_time = kpis.server_time or received
                    for source_id, items in kpis.rows.items():
                        if source_id in known:
                            readings[source_id] = self._reading(
                                source_id, items, received, server_time
                            )
            except InvalidCredentials as err:
                raise as_update_error(err) from err
            except NorthboundError as err:
                failure = err
                if group not in self._failing:
                    self._failing.add(group)
                    LOGGER.warning("Reading %s failed: %s", group, err)
                if isinstance(err, _ACCOUNT_ERRORS):
                    break
            else:
                if group in self._failing:
                    self._failing.remove(group)
                    LOGGER.info("Reading %s recovered", group)
        if failure and not any(reading.fresh for reading in readings.values()):
            raise as_update_error(failure) from failure
        return readings

    def _reading(
        self,
        source_id: SourceId,
        items: DataItems,
        received: datetime,
        server_time: datetime,
    ) -> Reading:
        items = self._in_watts(source_id, items)
        last = (self.data or {}).get(source_id)
        # Some measurement of a device always changes. A plant has only counters.
        live = isinstance(source_id, int) and last is not None and items != last.items
        return Reading(items, received, server_time, live)

    def _in_watts(self, source_id: SourceId, items: DataItems) -> DataItems:
        if isinstance(source_id, str):
            return items
        type_id = self._inventory.data.devices[source_id].type_id
        if not MeterPowers.known(type_id):
            return items
        if source_id not in self._meters:
            self._meters[source_id] = MeterPowers(type_id)
        return self._meters[source_id].in_watts(items)

    def counter(self, unique_id: str, period: Period) -> Counter:
        """Return the guard of an entity, going on from where it was."""
        if unique_id not in self._counters:
            try:
                state = self._stored_counters[unique_id]
                self._counters[unique_id] = Counter.from_dict(period, state)
            except KeyError, TypeError, ValueError:
                self._counters[unique_id] = Counter(period)
        return self._counters[unique_id]

    def counters_to_store(self) -> dict[str, Any]:
        """Return the state of all guards, also of entities that are disabled now."""
        states = {key: counter.as_dict() for key, counter in self._counters.items()}
        return {"counters": {**self._stored_counters, **states}}

    def zone_of(self, plant: Plant) -> tzinfo:
        """Return the zone whose midnights a plant keeps.

        It is Home Assistant's, unless the plant was connected with another offset than
        that zone had on that day.
        """
        zone = dt_util.get_default_time_zone()
        connected = plant.grid_connection
        if connected is None or connected.tzinfo is None:
            return zone
        if connected.astimezone(zone).utcoffset() == connected.utcoffset():
            return zone
        return connected.tzinfo

    def _groups(
        self,
    ) -> Iterator[
        tuple[str, AsyncIterator[RealTimeKpis[str]] | AsyncIterator[RealTimeKpis[int]]]
    ]:
        """Yield what the API reads together, by name."""
        plants = self._inventory.data.plants
        devices: dict[int, list[int]] = {}
        for device in self._inventory.data.devices.values():
            if device.type_id in DeviceType:
                devices.setdefault(device.type_id, []).append(device.id)
        enabled = set(self.async_contexts())
        if self._wanted(plants, enabled):
            yield "plants", self._client.plant_real_time(plants)
        for type_id, ids in devices.items():
            if self._wanted(ids, enabled):
                yield (
                    f"devices of type {type_id}",
                    self._client.device_real_time(type_id, ids),
                )

    def _wanted(self, source_ids: Collection[SourceId], enabled: set[SourceId]) -> bool:
        """Return whether a group has, or may come to have, an enabled entity."""
        return not (
            enabled.isdisjoint(source_ids) and self.created.issuperset(source_ids)
        )
