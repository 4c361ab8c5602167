"""Powers and energies of an account's plants, from the readings of their devices."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from typing import ClassVar, Final

from homeassistant.util import dt as dt_util

from .counter_filter import CounterFilter, midnight_before
from .counter_filters import CounterFilters
from .models import MAX_AGE, Inventory, Reading, SourceId, changes, zone_of
from .northbound import DataItems, Device, Plant, number
from .plant import (
    COUNTERS,
    DAY_USE,
    CounterActivities,
    CounterId,
    CounterRises,
    CounterValue,
    CounterValues,
    EnergySum,
    EnergyToday,
    GridPointDetector,
    HomeEnergy,
    PlantDevice,
    PlantDevices,
    PowerFlow,
    StorageSigns,
    as_terms,
    counters_of,
    grid_terms,
    power_flow,
    pv_terms,
    storage_terms,
)

ENERGIES_TODAY: Final[Mapping[str, str]] = {
    "day_use_energy": "home_energy",
    "day_on_grid_energy": "grid_export",
    "day_import_energy": "grid_import",
    "day_charged_energy": "charged_energy",
    "day_discharged_energy": "discharged_energy",
}
"""Accumulated energies by the item of their energy today, which a server may report."""


@dataclass(slots=True)
class PlantFlow:
    """Powers and energies of a plant, calculated from those of its devices."""

    is_record: ClassVar = True

    grid_point: GridPointDetector = field(default_factory=GridPointDetector)
    signs: StorageSigns = field(default_factory=StorageSigns)
    activities: CounterActivities = field(default_factory=CounterActivities)
    rises: CounterRises = field(default_factory=CounterRises)
    home: HomeEnergy = field(default_factory=HomeEnergy)
    energy_sums: dict[str, EnergySum] = field(default_factory=dict)
    """Sums of the other energies, by key."""
    today: dict[str, EnergyToday] = field(default_factory=dict)
    """Energies since midnight, by item."""
    reading: Reading | None = field(default=None, init=False)
    """The last powers and energies."""
    devices: PlantDevices = field(default_factory=dict, init=False)
    point: int | None = field(default=None, init=False)
    powers: PowerFlow | None = field(default=None, init=False)
    """Powers of the current pass, calculated from `devices` and `point`."""

    def update_powers(self, devices: PlantDevices, *, chosen: int | None) -> DataItems:
        """Process new readings, and return the powers.

        `chosen` is the meter at the grid, if the user has selected one.
        """
        self.grid_point.update(devices)
        self.signs.update(devices)
        self.devices, self.point = devices, self.grid_point.find(devices, chosen)
        self.powers = power_flow(devices, self.signs, self.point)
        return _powers(self.powers)

    def update_energies(
        self,
        counts: CounterValues,
        *,
        at: datetime,
        plant: Plant,
        counters: Mapping[str, CounterFilter],
    ) -> Reading:
        """Process the counters of the readings, and return the powers and energies.

        `counters` are those of the plant's own items.
        """
        devices, powers = self.devices, self.powers
        assert powers is not None
        values = _powers(powers)
        self.activities.update(
            devices, counts, self.rises.estimates, powers.home, at, self.signs
        )
        usable = self.activities.usable(counts)
        integrals = self.home.integrate(devices, powers, at)
        self.rises.update({**as_terms(counts), **integrals})
        rises = self.rises.last
        values["home_energy"] = self.home.update(
            devices, usable, self.rises.last_whole, point=self.point
        )
        for key, terms in (
            ("pv_energy", pv_terms(devices, usable)),
            ("charged_energy", storage_terms(devices, usable, charged=True)),
            ("discharged_energy", storage_terms(devices, usable, charged=False)),
        ):
            if terms is not None:
                added, subtracted = terms
                energy_sum = self.energy_sums.setdefault(key, EnergySum())
                if subtracted:
                    subtracted = {**subtracted, **self.home.drawn}
                values[key] = energy_sum.update(rises, added, subtracted)
        if self.point is not None:
            of_grid = grid_terms(self.point, devices, usable)
            for key, added in zip(("grid_import", "grid_export"), of_grid, strict=True):
                energy_sum = self.energy_sums.setdefault(key, EnergySum())
                values[key] = energy_sum.update(rises, added)
        values |= self._update_today(at, zone_of(plant), counters)
        values["installed_capacity"] = plant.capacity
        self.reading = Reading(values, dt_util.utcnow(), at, live=True)
        return self.reading

    @property
    def _sums(self) -> dict[str, EnergySum]:
        return {**self.energy_sums, "home_energy": self.home.energy_sum}

    def _update_today(
        self, at: datetime, zone: tzinfo, counters: Mapping[str, CounterFilter]
    ) -> dict[str, float]:
        """Return the energies since midnight, by item."""
        midnight = midnight_before(at, zone).astimezone(UTC)
        sums = self._sums
        values: dict[str, float] = {}
        for key, accumulated in ENERGIES_TODAY.items():
            energy = sums.get(accumulated)
            if energy is None or energy.value is None:
                continue
            if key not in self.today:
                counter = counters.get(key)
                start = counter.start if counter and counter.value is not None else None
                self.today[key] = EnergyToday(start or at, at, energy.value)
            values[key] = self.today[key].update(energy.value, midnight, at)
        return values

    def restore(
        self,
        devices: PlantDevices,
        plant: Plant,
        received: datetime,
        chosen: int | None,
    ) -> None:
        """Calculate the powers and energies of the last readings again."""
        at = self.activities.last_update
        if at is None:
            return
        point = self.grid_point.find(devices, chosen)
        items = {
            **_powers(power_flow(devices, self.signs, point)),
            **{key: energy.value for key, energy in self._sums.items()},
            **{key: today.value for key, today in self.today.items()},
            "installed_capacity": plant.capacity,
        }
        self.reading = Reading(items, received, at, live=True)

    def resume(self, key: str, recorded: float) -> None:
        """Continue an energy from the recorded value, if that is higher."""
        if key == "home_energy":
            energy = self.home.energy_sum
        else:
            energy = self.energy_sums.setdefault(key, EnergySum())
        energy.resume(recorded)
        if energy.value is not None and not energy.is_ahead:
            # The difference was counted before this state began.
            for item, today in self.today.items():
                if ENERGIES_TODAY.get(item) == key:
                    today.total = energy.value
        if self.reading is not None and key in self.reading.items:
            items = {**self.reading.items, key: energy.value}
            self.reading = replace(self.reading, items=items)


def _powers(flow: PowerFlow) -> dict[str, float | None]:
    return {
        "pv_power": flow.pv,
        "grid_power": flow.grid,
        "battery_power": flow.battery,
        "home_power": flow.home,
        "self_consumption": flow.self_consumption,
        "self_sufficiency": flow.self_sufficiency,
    }


@dataclass(slots=True)
class PlantFlows:
    """Powers and energies of all plants of an account."""

    plants: dict[str, PlantFlow] = field(default_factory=dict)
    """By plant code."""
    readings: dict[SourceId, Reading] = field(default_factory=dict, init=False)
    """The last powers and energies, by plant code."""

    def restore(
        self,
        inventory: Inventory,
        readings: Mapping[SourceId, Reading],
        grid_meters: Collection[int],
    ) -> None:
        """Calculate the powers and energies of the restored readings."""
        for code, plant in inventory.plants.items():
            last = {
                device: readings[device.id]
                for device in inventory.devices_of(code)
                if device.id in readings
            }
            if not last or (flow := self.plants.get(code)) is None:
                continue
            received = max(each.received for each in last.values())
            devices = {
                device.id: PlantDevice(
                    device.type_id,
                    each.items if received - each.received <= MAX_AGE else None,
                    live=each.live,
                )
                for device, each in last.items()
            }
            flow.restore(devices, plant, received, _chosen(devices, grid_meters))
            if flow.reading is not None:
                self.readings[code] = flow.reading

    def today(self, code: str, key: str) -> EnergyToday | None:
        """Return an energy of a plant since midnight."""
        flow = self.plants.get(code)
        return flow.today.get(key) if flow else None

    def resume(self, code: str, key: str, recorded: float) -> None:
        """Continue an energy of a plant from the recorded value, if that is higher."""
        flow = self.plants.setdefault(code, PlantFlow())
        flow.resume(key, recorded)
        if flow.reading is not None:
            self.readings[code] = flow.reading

    def resume_today(
        self, code: str, key: str, start: datetime, recorded: float
    ) -> None:
        """Continue an energy of a day from the recorded value, if that is higher."""
        if (today := self.today(code, key)) is not None:
            today.recorded = max(today.shown, (start, recorded))

    def grid_point(
        self, code: str, devices: Iterable[Device], grid_meters: Collection[int]
    ) -> int | None:
        """Return the device at a plant's grid connection, if it is sure."""
        plant_devices = {
            device.id: PlantDevice(device.type_id, None) for device in devices
        }
        flow = self.plants.get(code, PlantFlow())
        return flow.grid_point.find(plant_devices, _chosen(plant_devices, grid_meters))

    def expect(self, inventory: Inventory, counters: CounterFilters) -> None:
        """Create filters for the counters from which the energies are calculated."""
        for code in inventory.plants:
            devices = inventory.devices_of(code)
            types = {device.type_id for device in devices}
            if devices:
                counters.expect(code, ENERGIES_TODAY)
            for device in devices:
                counters.expect(device.id, counters_of(device.type_id, types))

    def keep(self, plants: Collection[str]) -> None:
        """Remove the state of all plants except these."""
        for code in self.plants.keys() - plants:
            del self.plants[code]
            self.readings.pop(code, None)

    def update_powers(
        self,
        code: str,
        devices: Iterable[Device],
        readings: Mapping[SourceId, Reading],
        grid_meters: Collection[int],
    ) -> DataItems:
        """Process new readings of the devices of a plant, and return its powers."""
        flow = self.plants.setdefault(code, PlantFlow())
        plant_devices = {
            each.id: _plant_device(each, readings.get(each.id)) for each in devices
        }
        return flow.update_powers(
            plant_devices, chosen=_chosen(plant_devices, grid_meters)
        )

    def update_energies(
        self,
        plant: Plant,
        devices: Sequence[Device],
        readings: Mapping[SourceId, Reading],
        read: Collection[SourceId],
        counters: CounterFilters,
    ) -> set[str]:
        """Process the counters of a plant, and return the keys of the changed items.

        `read` are the plants and devices that were just read, whose counters are
        filtered.
        """
        at = max(readings[each.id].server_time for each in devices if each.id in read)
        code = plant.code
        counts = _counts(code, devices, readings, counters, read)
        reading = self.plants[code].update_energies(
            counts, at=at, plant=plant, counters=counters.of(code)
        )
        last = self.readings.get(code)
        self.readings[code] = reading
        return changes(last.items if last else {}, reading.items)


def _plant_device(device: Device, reading: Reading | None) -> PlantDevice:
    if reading is None:
        return PlantDevice(device.type_id, None, live=False)
    items = reading.items if reading.fresh else None
    return PlantDevice(device.type_id, items, live=reading.live)


def _chosen(plant_devices: PlantDevices, grid_meters: Collection[int]) -> int | None:
    """Return the plant's meter that the user has selected as its grid meter."""
    return next((each for each in plant_devices if each in grid_meters), None)


def _counts(
    code: str,
    devices: Iterable[Device],
    readings: Mapping[SourceId, Reading],
    counters: CounterFilters,
    read: Collection[SourceId],
) -> CounterValues:
    """Return the energies of the counters of a plant and its devices.

    The energy of a device that was not read is not confirmed.
    """
    day_use = DAY_USE[1]
    counts: dict[CounterId, CounterValue | None] = {
        DAY_USE: _count(counters.of(code).get(day_use), day_use, readings.get(code))
    }
    return counts | {
        (device.id, key): _count(
            counter, key, readings.get(device.id), was_read=device.id in read
        )
        for device in devices
        for key, counter in counters.of(device.id).items()
        if key in COUNTERS.get(device.type_id, ())
    }


def _count(
    counter: CounterFilter | None,
    key: str,
    reading: Reading | None,
    *,
    was_read: bool = True,
) -> CounterValue | None:
    """Return the energy of a counter, confirmed only if it was just read."""
    if counter is None or reading is None:
        return None
    raw = None
    if was_read and not reading.disconnected:
        raw = number(reading.items.get(key))
    return CounterValue.of(counter, raw)
