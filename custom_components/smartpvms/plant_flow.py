"""What flows at the plants of an account, from the readings of their devices."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Self

from homeassistant.util import dt as dt_util

from .counters import Counter, Period
from .descriptions import ItemSensorDescription, sensors
from .energy_flow import (
    COUNTERS,
    Balance,
    Count,
    Counts,
    Evidence,
    HomeEnergy,
    PowerFlow,
    Terms,
    Unit,
    Units,
    home_terms,
    power_flow,
    pv_terms,
    storage_terms,
)
from .northbound import Device, Plant, number
from .snapshot import Inventory, Reading, SourceId, zone_of

_DAY_USE: Final = "day_use_energy"


@dataclass(slots=True)
class PlantFlow:
    """The powers and energies of a plant that follow from those of its devices."""

    evidence: Evidence = field(default_factory=Evidence)
    guards: dict[str, Counter] = field(default_factory=dict)
    """The guards of the counters that the energies are made of. The entities of the
    counters have guards of their own, since either may be disabled."""
    home: HomeEnergy = field(default_factory=HomeEnergy)
    balances: dict[str, Balance] = field(default_factory=dict)
    """The other energies, by key."""
    terms: dict[str, tuple[Terms, Terms]] = field(default_factory=dict)
    """What the energies gain and lose with, by key."""
    reading: Reading | None = None
    """What followed last."""

    def update(
        self,
        units: Units,
        counts: Counts,
        *,
        chosen: int | None,
        day_use: Count | None,
        at: datetime,
    ) -> None:
        """Take new readings.

        `chosen` is the meter at the grid, where the user has said so; `day_use` is what
        the plant itself says that was used on the day.
        """
        self.evidence.learn(units)
        powers = power_flow(units, self.evidence, chosen)
        point = self.evidence.grid_point(units, chosen)
        values = _powers(powers)
        self.terms = {}
        for key, terms in (
            ("pv_energy", pv_terms(units, counts)),
            ("charged_energy", storage_terms(units, counts, charged=True)),
            ("discharged_energy", storage_terms(units, counts, charged=False)),
        ):
            if terms is not None:
                values[key] = self.balances.setdefault(key, Balance()).update(*terms)
                self.terms[key] = terms
        values["home_energy"] = self.home.update(
            units, counts, powers, point=point, day_use=day_use, at=at
        )
        if (terms := home_terms(units, counts, point)) is not None:
            self.terms["home_energy"] = terms
        self.reading = Reading(values, dt_util.utcnow(), at, live=True)

    def as_dict(self) -> dict[str, Any]:
        """Return the state as what JSON can hold."""
        return {
            "evidence": self.evidence.as_dict(),
            "guards": {
                key: (guard.period.value, guard.as_dict())
                for key, guard in self.guards.items()
            },
            "home": self.home.as_dict(),
            "balances": {key: each.as_dict() for key, each in self.balances.items()},
            "reading": self.reading and self.reading.as_dict(),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Restore what `as_dict` returned."""
        return cls(
            evidence=Evidence.from_dict(state["evidence"]),
            guards={
                key: Counter.from_dict(Period(period), guard)
                for key, (period, guard) in state["guards"].items()
            },
            home=HomeEnergy.from_dict(state["home"]),
            balances={
                key: Balance.from_dict(each) for key, each in state["balances"].items()
            },
            reading=state["reading"] and Reading.from_dict(state["reading"]),
        )


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
    """The flows of all plants of an account."""

    plants: dict[str, PlantFlow] = field(default_factory=dict)
    """By plant code."""

    def as_dict(self) -> dict[str, Any]:
        """Return the state as what JSON can hold."""
        return {code: flow.as_dict() for code, flow in self.plants.items()}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Restore what `as_dict` returned."""
        return cls({code: PlantFlow.from_dict(flow) for code, flow in state.items()})

    @property
    def readings(self) -> Mapping[SourceId, Reading]:
        """Return what followed last, by plant code."""
        return {
            code: flow.reading for code, flow in self.plants.items() if flow.reading
        }

    def terms(self, code: str) -> Mapping[str, tuple[Terms, Terms]]:
        """Return what the energies of a plant gain and lose with, by key."""
        flow = self.plants.get(code)
        return flow.terms if flow else {}

    def grid_point(
        self, code: str, devices: Iterable[Device], grid_meters: Collection[int]
    ) -> int | None:
        """Return the device where a plant meets the grid, if that is sure."""
        units = {
            device.id: Unit(device.type_id, None)
            for device in devices
            if device.plant_code == code
        }
        flow = self.plants.get(code, PlantFlow())
        return flow.evidence.grid_point(units, _chosen(units, grid_meters))

    def rename(self, old: str, new: str) -> None:
        """Let a plant go on under another code."""
        if old in self.plants:
            self.plants[new] = self.plants.pop(old)

    def follow(
        self,
        inventory: Inventory,
        readings: Mapping[SourceId, Reading],
        read: Collection[SourceId],
        grid_meters: Collection[int],
    ) -> Iterable[str]:
        """Take new readings of devices, plant by plant, as far as there are any.

        `read` are the plants and devices that were just read.
        """
        for code in self.plants.keys() - inventory.plants.keys():
            del self.plants[code]
        devices: dict[str, list[Device]] = {}
        for device in inventory.devices.values():
            devices.setdefault(device.plant_code, []).append(device)
        for code, of_plant in devices.items():
            if any(device.id in read for device in of_plant):
                self._update(
                    inventory.plants[code], of_plant, readings, read, grid_meters
                )
                yield code

    def _update(
        self,
        plant: Plant,
        devices: Iterable[Device],
        readings: Mapping[SourceId, Reading],
        read: Collection[SourceId],
        grid_meters: Collection[int],
    ) -> None:
        flow = self.plants.setdefault(plant.code, PlantFlow())
        units: dict[int, Unit] = {}
        counts: dict[tuple[int, str], Count | None] = {}
        moments = []
        for device in devices:
            reading = readings.get(device.id)
            fresh = reading is not None and reading.fresh
            units[device.id] = Unit(
                device.type_id,
                reading.items if reading and fresh else None,
                live=reading is not None and reading.live,
            )
            if reading is None:
                continue
            if device.id in read:
                moments.append(reading.server_time)
            for key in COUNTERS.get(device.type_id, ()):
                counts[device.id, key] = _count(
                    flow,
                    plant,
                    f"{device.id}_{key}",
                    sensors(device.type_id)[key],
                    reading,
                    device.id in read,
                )
        day_use = None
        if of_plant := readings.get(plant.code):
            day_use = _count(
                flow,
                plant,
                _DAY_USE,
                sensors(None)[_DAY_USE],
                of_plant,
                plant.code in read,
            )
        flow.update(
            units,
            counts,
            chosen=_chosen(units, grid_meters),
            day_use=day_use,
            at=max(moments),
        )


def _chosen(units: Units, grid_meters: Collection[int]) -> int | None:
    """Return the meter of a plant of which the user has said that it is at the grid."""
    return next((each for each in units if each in grid_meters), None)


def _count(
    flow: PlantFlow,
    plant: Plant,
    name: str,
    description: ItemSensorDescription,
    reading: Reading,
    new: bool,
) -> Count | None:
    """Return what the guard of a counter takes for true, after a new reading."""
    raw = None
    if not reading.disconnected:
        raw = number(reading.items.get(description.key))
    guard = flow.guards.get(name)
    if guard is None:
        if raw is None:
            return None
        guard = Counter(description.period or Period.LIFETIME)
        flow.guards[name] = guard
    zone = zone_of(plant)
    if new and raw is not None:
        place = description.place(plant, zone, reading.items)
        guard.update(raw, reading.server_time, place, live=reading.live)
    elif new:
        guard.pass_time(reading.server_time, zone)
    return Count.of(guard, raw)
