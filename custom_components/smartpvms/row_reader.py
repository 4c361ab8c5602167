"""Readings of rows: units of meters, false powers, counters and gaps."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from homeassistant.components.sensor import SensorDeviceClass
from homeassistant.const import UnitOfPower

from .battery_health import with_modules
from .counter_filter import Period
from .counter_filters import CounterFilters
from .descriptions import DOCUMENTED, MAX_UNDOCUMENTED, ItemSensorDescription, sensors
from .models import Gap, Inventory, Reading, SourceId, changes
from .northbound import DataItems, Device, number
from .plant import COUNTERS
from .plausibility import DevicePowers
from .power_units import MeterPowers

# Shortest time without a connection that is imported from history.
MIN_GAP: Final = timedelta(minutes=30)
# Energy in kWh that a device has counted without a connection, at least.
MIN_COUNTED: Final = 0.1

_WATTS: Final[Mapping[str | None, float]] = {
    UnitOfPower.WATT: 1.0,
    UnitOfPower.KILO_WATT: 1000.0,
}


@dataclass(frozen=True, slots=True)
class KpiRow:
    """Data items of a plant or device in an answer."""

    items: DataItems
    received: datetime
    server_time: datetime


class RowReader:
    """Makes readings of rows, with the state that this needs of each device."""

    def __init__(
        self, counters: CounterFilters, meters: dict[int, MeterPowers]
    ) -> None:
        """Set the stored state."""
        self.counters = counters
        self.meters = meters
        self._powers: dict[int, DevicePowers] = {}
        self._gaps: list[Gap] = []

    def read(
        self,
        source_id: SourceId,
        row: KpiRow,
        inventory: Inventory,
        last: Reading | None,
        readings: Mapping[SourceId, Reading],
        powers: DataItems | None = None,
    ) -> tuple[Reading, set[str]]:
        """Return the reading of a row, and the keys of the items that it changes.

        `powers` are those of a plant, whose row has none.
        """
        descriptions = sensors(inventory.type_of(source_id))
        items = _kept(with_modules(row.items))
        if isinstance(source_id, int):
            items = self._in_watts(inventory.devices[source_id], items)
            capacity = inventory.plant_of(source_id).capacity
            items = self._without_false_powers(
                source_id, items, last, descriptions, capacity
            )
        changed = changes(last.items if last else {}, items)
        # Measurements of a connected device change from row to row.
        live = last is not None and bool(changed)
        if isinstance(source_id, str):
            # At night, a plant's row stays the same, but not that of all its devices.
            live |= any(
                (each := readings.get(device.id)) and each.live
                for device in inventory.devices_of(source_id)
            )
        reading = Reading(
            items, row.received, row.server_time, live, last_connected=row.received
        )
        if reading.disconnected:
            reading = replace(
                reading, last_connected=last.last_connected if last else None
            )
        elif isinstance(source_id, int):
            self._look_for_gap(source_id, reading, last)
        if last is None or reading.disconnected is not last.disconnected:
            changed = {*items, *changed}
        changed |= self.counters.update(
            source_id,
            reading,
            inventory.plant_of(source_id),
            descriptions,
            items if powers is None else powers,
        )
        if isinstance(source_id, int):
            counters = COUNTERS.get(inventory.devices[source_id].type_id, ())
            since = self.counters.pending_since(
                source_id, reading.server_time, counters
            )
            if since is not None:
                start = reading.received - (reading.server_time - since)
                self._gaps.append(Gap(source_id, start, reading.received, True))
        return reading, changed

    def take_gaps(self) -> list[Gap]:
        """Return the gaps that have ended since the last call."""
        gaps, self._gaps = self._gaps, []
        return gaps

    def copy_of_meter(self, device: Device) -> MeterPowers | None:
        """Return a copy of a meter's units, for its history."""
        return deepcopy(self.meters.get(device.id))

    def _look_for_gap(
        self, device_id: int, reading: Reading, last: Reading | None
    ) -> None:
        """Add a gap if the device was not connected for some time."""
        if last is None or last.last_connected is None:
            return
        start, end = last.last_connected, reading.received
        elapsed = reading.server_time - last.server_time
        if abs(end - last.received - elapsed) > MIN_GAP:
            # One of the clocks was set. The history has the times of the server.
            start += last.server_time - last.received
            end = reading.server_time
        # A sleeping inverter reports no connection at night.
        if end - start > MIN_GAP and (
            not last.disconnected or self._has_counted(device_id, reading.items, start)
        ):
            self._gaps.append(Gap(device_id, start, end))

    def _has_counted(self, device_id: int, items: DataItems, since: datetime) -> bool:
        """Return whether a lifetime counter has risen without a connection."""
        for key, counter in self.counters.of(device_id).items():
            raw = number(items.get(key))
            if (
                counter.period is Period.LIFETIME
                and counter.current is not None
                # A counter without an enabled entity is not read.
                and counter.read is not None
                and since - counter.read < MIN_GAP
                and raw is not None
                and raw - counter.current.raw > MIN_COUNTED
            ):
                return True
        return False

    def _in_watts(self, device: Device, items: DataItems) -> DataItems:
        if not MeterPowers.known(device.type_id):
            return items
        meter = self.meters.get(device.id)
        if meter is None or meter.type_id != device.type_id:
            meter = self.meters[device.id] = MeterPowers(device.type_id)
        return meter.in_watts(items)

    def _without_false_powers(
        self,
        device_id: int,
        items: DataItems,
        last: Reading | None,
        descriptions: Mapping[str, ItemSensorDescription],
        capacity: float | None,
    ) -> DataItems:
        if device_id not in self._powers:
            watts = {
                key: _WATTS[description.native_unit_of_measurement]
                for key, description in descriptions.items()
                if description.device_class == SensorDeviceClass.POWER
                and description.entity_category is None
            }
            self._powers[device_id] = DevicePowers(watts, last.items if last else {})
        return self._powers[device_id].without_false(items, capacity)


def _kept(items: DataItems) -> DataItems:
    """Return the scalar items, without undocumented ones beyond their maximum number."""
    if not {dict, list}.isdisjoint(map(type, items.values())):
        items = {
            key: value
            for key, value in items.items()
            if not isinstance(value, dict | list)
        }
    undocumented = set(items).difference(DOCUMENTED)
    if len(undocumented) > MAX_UNDOCUMENTED:
        # Sorted, since the server may send the same items in another order.
        beyond = set(sorted(undocumented)[MAX_UNDOCUMENTED:])
        items = {key: value for key, value in items.items() if key not in beyond}
    return items
