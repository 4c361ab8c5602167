"""Coordinator of the real-time KPIs of an account's plants and devices."""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
import math
import time
from typing import Any, Final, cast, override

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.helpers.update_coordinator import DataUpdateCoordinator, UpdateFailed
from homeassistant.util import dt as dt_util

from .const import LOGGER
from .counter_filter import CounterFilter
from .descriptions import FLOW_SENSORS, NOT_OF_ROWS, ItemSensorDescription
from .errors import as_update_error
from .inventory_coordinator import InventoryCoordinator
from .item_listeners import Item, ItemListeners
from .models import Inventory, Reading, SourceId
from .northbound import (
    UNKNOWN_DEVICE,
    AccountLimited,
    AccountLocked,
    ConnectionFailed,
    DataItems,
    FailCode,
    InvalidCredentials,
    MembersRefused,
    NorthboundClient,
    NorthboundError,
    Plant,
    RealTimeKpis,
    RequestRejected,
    ServerClock,
    SessionTaken,
    is_service_failure,
)
from .options import options_of
from .plant_flow import ENERGIES_TODAY, PlantFlows
from .polling import Batch, Polling
from .problems import HISTORY, INVENTORY, Problems
from .reported_items import ReportedItems
from .row_reader import KpiRow, RowReader

# Minimum interval between inventory refreshes triggered by refused members.
MIN_REFRESH_INTERVAL: Final = timedelta(hours=2)
# Errors that every other group would have as well.
_ACCOUNT_ERRORS: Final = (
    AccountLimited,
    AccountLocked,
    ConnectionFailed,
    SessionTaken,
)


class RealTimeCoordinator(DataUpdateCoordinator[Mapping[SourceId, Reading]]):
    """Reads the KPIs of all plants and devices, batch by batch.

    A pass reads the batches that flow control allows, those read longest ago first.
    `Polling` schedules the next pass. A group that fails keeps its last readings, and
    the others are read.
    """

    config_entry: ConfigEntry

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry,
        client: NorthboundClient,
        inventory: InventoryCoordinator,
        readings: Mapping[SourceId, Reading],
        rows: RowReader,
        flows: PlantFlows,
        problems: Problems,
    ) -> None:
        """Set the inventory and the stored state."""
        super().__init__(hass, LOGGER, config_entry=entry, name="real-time")
        self._client = client
        self._inventory = inventory
        self._polled = inventory.data
        """The inventory whose batches are polled."""
        self.polling = Polling(client, inventory.data)
        self._refreshed = -math.inf
        """Time of the last inventory refresh triggered by refused members."""
        self._server_clock = ServerClock.after(
            (each.received, each.server_time) for each in readings.values()
        )
        self._problems = problems
        self._unanswered: set[str] = set()
        """Groups with an error of the connection or the account since their answer."""
        self.refused = False
        """Whether polling has ended until the user enters a new password."""
        self.rows = rows
        self.flows = flows
        """Powers and energies of plants, from the readings of their devices."""
        flows.expect(inventory.data, rows.counters)
        self.reported = ReportedItems(entry.entry_id)
        self.data = {
            source_id: reading
            for source_id, reading in readings.items()
            if source_id in inventory.data
        }
        with problems.isolation:
            flows.restore(inventory.data, self.data, self._grid_meters)
        self._is_started = False
        self._refresh_job = HassJob(self._start_refresh, "real-time pass")
        self.available: set[SourceId] = set()
        """Plants and devices whose readings are available."""
        self.available_flows: set[SourceId] = set()
        """Plants whose powers and energies are available."""
        self._item_listeners = ItemListeners(problems.isolation)
        self._update_available()
        self.polling.plan(self._wanted())

    @callback
    def async_start(self) -> None:
        """Poll from now on, until the entry is unloaded."""
        self.config_entry.async_on_unload(self._stop)
        self._is_started = True
        self._schedule()

    @callback
    def _stop(self) -> None:
        self._is_started = False
        self.polling.async_cancel()

    @callback
    def _schedule(self) -> None:
        if self._is_started and not self.refused:
            self.polling.async_schedule(self.hass, self.config_entry, self._refresh_job)

    @callback
    def _start_refresh(self, now: datetime) -> None:
        self.config_entry.async_create_background_task(
            self.hass, self.async_refresh(), "read real-time KPIs"
        )

    @override
    async def _async_update_data(self) -> Mapping[SourceId, Reading]:
        self.polling.async_cancel()
        try:
            async with self._inventory.lock:
                return await self._read()
        except UpdateFailed:
            raise
        except Exception:
            # An unexpected error ends the pass before it plans the next one.
            self.polling.plan(())
            raise
        finally:
            self._schedule()

    async def _read(self) -> Mapping[SourceId, Reading]:
        """Read the batches that flow control allows."""
        if self._inventory.renamed:
            # The reload that follows goes on with the new names.
            self.polling.plan(())
            return self.data
        await self._inventory.async_follow_time_zone()
        inventory = self._inventory.data
        self._set_inventory(inventory)
        readings = {
            source_id: reading
            for source_id, reading in self.data.items()
            if source_id in inventory
        }
        changed: dict[SourceId, set[str]] = {}
        rows: dict[str, KpiRow] = {}
        failed = False
        wanted = self._wanted()
        groups = {batch.group for batch in (*wanted, *self.polling.refused)}
        self._problems.keep({INVENTORY, HISTORY, *groups}, inventory.plants)
        self._unanswered &= groups
        silent: list[tuple[Batch, NorthboundError]] = []
        for batch in self.polling.due(wanted):
            try:
                kpis = await self._call(batch)
            except InvalidCredentials as err:
                self.refused = True
                self.data = readings
                await self._call_listeners(changed)
                # Home Assistant calls no listeners after a second failure.
                self.async_update_listeners()
                raise as_update_error(err) from err
            except _ACCOUNT_ERRORS as err:
                self._problems.account_error = err
                self._unanswered.add(batch.group)
                failed = True
                break
            except NorthboundError as err:
                if is_service_failure(err):
                    silent.append((batch, err))
                else:
                    self._clear_account_error(batch)
                    self._fail(batch, err)
                continue
            self._clear_account_error(batch)
            self._succeed(batch, kpis.refused)
            for source_id, row in self._rows_of(kpis):
                if isinstance(source_id, str):
                    # The counters of a plant need the powers of its devices.
                    rows[source_id] = row
                elif source_id in inventory:
                    self._read_row(source_id, row, inventory, readings, changed)
        failed |= self._take_silent(silent, {batch.group for batch in wanted})
        await self._follow_flows(inventory, readings, rows, changed)
        wait = self.polling.plan(self._wanted(), failed=failed)
        self.data = readings
        await self._call_listeners(changed)
        if (error := self._problems.account_error) is not None:
            # Home Assistant calls no listeners after a second failure.
            self.async_update_listeners()
            raise as_update_error(error, wait) from error
        return readings

    def _rows_of(self, kpis: RealTimeKpis[Any]) -> Iterator[tuple[SourceId, KpiRow]]:
        """Yield the rows of an answer, with its times."""
        received = dt_util.utcnow()
        server_time = self._server_clock.moment(
            kpis.server_time, received, time.monotonic()
        )
        for source_id, items in kpis.rows.items():
            yield source_id, KpiRow(items, received, server_time)

    async def _follow_flows(
        self,
        inventory: Inventory,
        readings: dict[SourceId, Reading],
        rows: Mapping[str, KpiRow],
        changed: dict[SourceId, set[str]],
    ) -> None:
        """Update powers and energies of all plants, and the readings of plants."""
        self.flows.keep(inventory.plants)
        for code in inventory.plants:
            self._follow_flow(code, inventory, readings, rows.get(code), changed)
            # The event loop is free between two plants.
            await asyncio.sleep(0)

    def _follow_flow(
        self,
        code: str,
        inventory: Inventory,
        readings: dict[SourceId, Reading],
        row: KpiRow | None,
        changed: dict[SourceId, set[str]],
    ) -> None:
        """Update powers and energies of a plant, and its reading."""
        devices = inventory.devices_of(code)
        is_read = any(each.id in changed for each in devices)
        powers = None
        with self._problems.isolation:
            if is_read:
                powers = self.flows.update_powers(
                    code, devices, readings, self._grid_meters
                )
        if row is not None:
            self._read_row(
                code,
                row,
                inventory,
                readings,
                changed,
                self._powers_of_plant(code) if powers is None else powers,
            )
        with self._problems.isolation:
            if powers is not None:
                keys = self.flows.update_energies(
                    inventory.plants[code],
                    devices,
                    readings,
                    changed,
                    self.rows.counters,
                )
                changed[code] = changed.get(code, set()) | keys

    def _read_row(
        self,
        source_id: SourceId,
        row: KpiRow,
        inventory: Inventory,
        readings: dict[SourceId, Reading],
        changed: dict[SourceId, set[str]],
        powers: DataItems | None = None,
    ) -> None:
        """Add the reading of a row, unless it fails unexpectedly."""
        last = self.data.get(source_id)
        with self._problems.isolation:
            readings[source_id], changed[source_id] = self.rows.read(
                source_id, row, inventory, last, readings, powers
            )

    @callback
    @override
    def async_add_listener(
        self, update_callback: CALLBACK_TYPE, context: Item | None = None
    ) -> CALLBACK_TYPE:
        """Listen for every pass, or for changes of an item."""
        if context is None:
            return super().async_add_listener(update_callback)
        return self._item_listeners.add(context, update_callback)

    def items(self) -> Iterator[tuple[SourceId, Iterable[str]]]:
        """Return the plants and devices with the items of their readings.

        Plants come first: Home Assistant limits the entities of an account.
        """
        for source_id, reading in (
            *self.flows.readings.items(),
            *sorted(self.data.items(), key=lambda item: isinstance(item[0], int)),
        ):
            yield source_id, reading.items

    async def _call_listeners(self, changed: Mapping[SourceId, set[str]]) -> None:
        """Call the listeners of changed items, and of all that became (un)available."""
        self.reported.update(changed)
        sources = self._update_available()
        await self._item_listeners.call({**changed, **dict.fromkeys(sources)})

    def _update_available(self) -> set[SourceId]:
        """Update the availability, and return the sources where it has changed."""
        before = self.available, self.available_flows
        self.available, self.available_flows = (
            {
                source_id
                for source_id, reading in readings.items()
                if reading.fresh and not self.refused
            }
            for readings in (self.data, self.flows.readings)
        )
        return (before[0] ^ self.available) | (before[1] ^ self.available_flows)

    @property
    def _grid_meters(self) -> set[int]:
        return options_of(self.config_entry).grid_meter_ids

    def grid_point(self, plant_code: str) -> int | None:
        """Return the device at a plant's grid connection, `None` if unknown."""
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

    def _set_inventory(self, inventory: Inventory) -> None:
        """Poll a new inventory."""
        if inventory is not self._polled:
            self._polled = inventory
            self.flows.expect(inventory, self.rows.counters)
            self.polling.follow_inventory(inventory)

    def _wanted(self) -> list[Batch]:
        """Return the batches with an enabled entity, or with items without entities."""
        enabled: set[SourceId] = set()
        for source_id, keys in self._item_listeners:
            enabled.add(source_id)
            if isinstance(source_id, str) and self._are_calculated(source_id, keys):
                devices = self._polled.devices_of(source_id)
                enabled.update(device.id for device in devices)
        return [
            batch
            for batch in self.polling.batches
            if not (
                enabled.isdisjoint(batch.source_ids)
                # Powers, energies and reports of a plant are no items of its row.
                and all(
                    self.reported.with_entity.get(each, set()) - NOT_OF_ROWS
                    for each in batch.source_ids
                )
            )
        ]

    def _are_calculated(self, code: str, keys: Collection[str]) -> bool:
        """Return whether an item of a plant is calculated from its devices."""
        if not FLOW_SENSORS.keys().isdisjoint(keys):
            return True
        of_today = ENERGIES_TODAY.keys() & keys
        return not all(self.is_reported(code, key) for key in of_today)

    def is_reported(self, code: str, key: str) -> bool:
        """Return whether an energy of a plant today is the one that the server reports.

        If the server reports it for the first time when the calculated energy of the
        day has begun, it would add the energy counted before.
        """
        counter = self.rows.counters.of(code).get(key)
        if counter is None or counter.value is None or counter.start is None:
            return False
        calculated = self.flows.today(code, key)
        return calculated is None or calculated.start <= counter.start

    def _clear_account_error(self, batch: Batch) -> None:
        """Clear the error of the connection or the account after an answer.

        It can concern one interface only, and then remains while others answer.
        """
        self._unanswered.discard(batch.group)
        if not self._unanswered:
            self._problems.account_error = None

    def _take_silent(
        self, silent: Sequence[tuple[Batch, NorthboundError]], groups: set[str]
    ) -> bool:
        """Record reads without an answer; return whether no group has any."""
        unanswered = self._unanswered | {batch.group for batch, _ in silent}
        if silent and groups <= unanswered:
            self._unanswered = unanswered
            self._problems.account_error = silent[-1][1]
            return True
        for batch, error in silent:
            self._clear_account_error(batch)
            self._fail(batch, error)
        return False

    def _fail(self, batch: Batch, err: NorthboundError) -> None:
        """Record a failed read, and read the group without members that are refused."""
        if isinstance(err, MembersRefused):
            self._refuse(batch, err)
            if not self.polling.is_refused(batch.type_id):
                return
        self._problems.add(batch.group, err, is_logged=True)
        if (
            isinstance(err, RequestRejected)
            and err.code == FailCode.DEVICE_TYPE_UNSUPPORTED
        ):
            self.polling.pause(batch.type_id)

    def _refuse(self, batch: Batch, err: MembersRefused) -> None:
        """Find the members of a batch that the server refuses."""
        is_known = batch in self.polling.refused or self.polling.is_refused(
            batch.type_id
        )
        is_found = self.polling.refuse(batch)
        is_new = is_found and err.code in UNKNOWN_DEVICE
        if is_found and not is_new:
            for plant in self._plants_of(batch.source_ids):
                is_new |= self._problems.refuse(batch.group, plant, err.code)
        if is_known:
            return
        # The server may have withdrawn a member.
        if time.monotonic() - self._refreshed > MIN_REFRESH_INTERVAL.total_seconds():
            self._refreshed = time.monotonic()
            self._refresh_inventory()
        if is_new and not self.polling.is_refused(batch.type_id):
            LOGGER.warning("Skipping a part of %s: %s", batch.group, err)

    def _refresh_inventory(self) -> None:
        """Refresh the inventory after members of it were refused, or accepted again."""
        self.config_entry.async_create_background_task(
            self.hass, self._inventory.async_refresh(), "confirm the inventory"
        )

    @callback
    def async_follow_inventory(self) -> None:
        """Read new devices of an inventory."""
        inventory = self._inventory.data
        if not inventory.has_same_devices(self._polled):
            self.config_entry.async_create_background_task(
                self.hass, self.async_refresh(), "read new devices"
            )

    def _plants_of(self, source_ids: Iterable[SourceId]) -> list[Plant]:
        """Return the plants, and those of the devices."""
        plants = map(self._polled.plant_of, source_ids)
        return [*{plant.code: plant for plant in plants}.values()]

    def _succeed(self, batch: Batch, refused: Mapping[SourceId, int]) -> None:
        """Record a successful read, with the failCodes of refused members."""
        refused = {each: refused[each] for each in batch.source_ids if each in refused}
        is_complete = self.polling.accept(batch)
        if is_complete or self._problems.has(batch.group):
            LOGGER.info("Reading of %s recovered", batch.group)
        members = self.polling.refused_members(batch.type_id)
        self._problems.clear(batch.group)
        allowed = self._problems.allow(
            batch.group,
            {plant.code for plant in self._plants_of(batch.source_ids)}
            - {plant.code for plant in self._plants_of([*members, *refused])},
        )
        if allowed:
            self.polling.retry(allowed)
        self._problems.allow(INVENTORY, allowed)
        if not allowed.isdisjoint(self._inventory.unlisted):
            self._refresh_inventory()
        for source_id, code in refused.items():
            if code not in UNKNOWN_DEVICE:
                plant = self._polled.plant_of(source_id)
                self._problems.refuse(batch.group, plant, code)

    def plant_of(self, source_id: SourceId) -> Plant:
        """Return a plant, or the plant of a device."""
        return self._inventory.data.plant_of(source_id)

    def counter(
        self, source_id: SourceId, description: ItemSensorDescription
    ) -> CounterFilter:
        """Return the filter of an entity."""
        plant = self.plant_of(source_id)
        reading = self.data.get(source_id)
        if isinstance(source_id, str):
            powers = self._powers_of_plant(source_id)
        else:
            powers = reading.items if reading else {}
        return self.rows.counters.get(source_id, description, reading, plant, powers)

    def _powers_of_plant(self, code: str) -> DataItems:
        """Return the last powers of a plant, or none if they are too old."""
        flow = self.flows.readings.get(code)
        return flow.items if flow and flow.fresh else {}

    def filtered_value(self, unique_id: str) -> float | None:
        """Return the filtered value of an entity's counter."""
        counter = self._counter(unique_id)
        return counter.value if counter else None

    def offset(self, unique_id: str) -> float:
        """Return the difference between the filtered and the raw value of an entity."""
        counter = self._counter(unique_id)
        return counter.offset if counter else 0.0

    def _counter(self, unique_id: str) -> CounterFilter | None:
        source = self._inventory.data.source_of(unique_id)
        return self.rows.counters.of(source[0]).get(source[1]) if source else None
