"""What is known of an account at a moment, and how it is kept over restarts."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta, tzinfo
from itertools import compress
from operator import ne
import re
from sys import intern
from typing import Any, Final, Self

from homeassistant.util import dt as dt_util

from .northbound import (
    DataItems,
    Device,
    NorthboundError,
    PermissionDenied,
    Plant,
    RequestRejected,
    number,
)

MAX_AGE: Final = timedelta(minutes=15)

_OLD_CODE: Final = re.compile(r"[0-9a-f]{32}", re.IGNORECASE)

type SourceId = str | int
"""What a KPI row belongs to: a plant, by code, or a device, by id."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The plants and devices of an account."""

    plants: Mapping[str, Plant]
    devices: Mapping[int, Device]
    listed: datetime
    """When the server listed them."""
    offered: Mapping[str, str]
    """The names of all plants of the account, by code."""
    missing: Mapping[str, datetime] = field(default_factory=dict)
    """Since when registered plants and devices are not listed any more."""
    home: str | None = field(default=None, compare=False)
    """Home Assistant's time zone when the zones of the plants were found."""
    _sources: Mapping[str, SourceId] = field(init=False, repr=False, compare=False)
    """All plants and devices, by the names with which unique ids begin."""

    _devices: Mapping[str, list[Device]] = field(init=False, repr=False, compare=False)
    """The devices of each plant, by its code."""

    def __post_init__(self) -> None:
        """Index what thousands of entities ask for."""
        devices: dict[str, list[Device]] = {}
        for device in self.devices.values():
            devices.setdefault(device.plant_code, []).append(device)
        object.__setattr__(self, "_devices", devices)
        sources: dict[str, SourceId] = {code: code for code in self.plants}
        sources |= {str(device_id): device_id for device_id in self.devices}
        object.__setattr__(self, "_sources", sources)

    def plant_of(self, source_id: SourceId) -> Plant:
        """Return a plant by its code, or the plant of a device."""
        if isinstance(source_id, str):
            return self.plants[source_id]
        return self.plants[self.devices[source_id].plant_code]

    def devices_of(self, plant_code: str) -> Sequence[Device]:
        """Return the devices of a plant."""
        return self._devices.get(plant_code, ())

    def type_of(self, source_id: SourceId) -> int | None:
        """Return the type of a device; `None` for plants."""
        if isinstance(source_id, str):
            return None
        return self.devices[source_id].type_id

    def names(self, source_id: SourceId) -> bool:
        """Return whether a plant or device is listed."""
        return source_id in self.plants or source_id in self.devices

    def source_of(self, unique_id: str) -> tuple[SourceId, str] | None:
        """Return the plant or device of an entity, and the key of its item."""
        # Both the id and the key may contain an underscore.
        end = unique_id.find("_")
        while end > 0:
            if (source := self._sources.get(unique_id[:end])) is not None:
                return source, intern(unique_id[end + 1 :])
            end = unique_id.find("_", end + 1)
        return None

    @property
    def registered_names(self) -> set[str]:
        """Return the names by which plants and devices are registered."""
        return {*self.plants, *map(str, self.devices)}

    @property
    def bare_plants(self) -> set[str]:
        """Return the plants without any device."""
        return self.plants.keys() - self._devices.keys()

    def reads_like(self, other: Self) -> bool:
        """Return whether the same plants and devices have KPIs."""
        return self.plants.keys() == other.plants.keys() and {
            device.id: device.type_id for device in self.devices.values()
        } == {device.id: device.type_id for device in other.devices.values()}

    def differs_in_types(self, devices: Mapping[int, Device]) -> bool:
        """Return whether a device has another type among these devices."""
        return any(
            device.id in self.devices
            and device.type_id != self.devices[device.id].type_id
            for device in devices.values()
        )

    def restricted_to(self, chosen: Collection[str] | None) -> Self | None:
        """Return the part of the inventory that is chosen, if there is any."""
        plants = {
            code: plant
            for code, plant in self.plants.items()
            if chosen is None or code in chosen
        }
        if not plants:
            return None
        devices = {
            device.id: device
            for device in self.devices.values()
            if device.plant_code in plants
        }
        return replace(self, plants=plants, devices=devices)

    def lacks(self, chosen: Collection[str] | None) -> bool:
        """Return whether a plant is chosen that the inventory does not have."""
        wanted = self.offered.keys() & (self.offered if chosen is None else chosen)
        return not self.plants.keys() >= wanted

    def as_dict(self) -> dict[str, Any]:
        """Return the inventory as what JSON can hold."""
        return {
            "plants": [
                {
                    "code": plant.code,
                    "name": plant.name,
                    "capacity": plant.capacity,
                    "grid_connection": plant.grid_connection
                    and plant.grid_connection.isoformat(),
                    "address": plant.address,
                    "latitude": plant.latitude,
                    "longitude": plant.longitude,
                }
                for plant in self.plants.values()
            ],
            "devices": [asdict(device) for device in self.devices.values()],
            "listed": self.listed.isoformat(),
            "offered": dict(self.offered),
            "missing": {name: at.isoformat() for name, at in self.missing.items()},
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Restore what `as_dict` returned."""
        plants = [
            Plant(
                **row
                | {
                    "grid_connection": row["grid_connection"]
                    and datetime.fromisoformat(row["grid_connection"])
                }
            )
            for row in state["plants"]
        ]
        devices = [Device(**row) for row in state["devices"]]
        return cls(
            {plant.code: plant for plant in plants},
            {device.id: device for device in devices},
            datetime.fromisoformat(state["listed"]),
            dict(state["offered"]),
            {name: datetime.fromisoformat(at) for name, at in state["missing"].items()},
        )


def migrations(known: Inventory, listed: Iterable[Plant]) -> dict[str, str]:
    """Return the new codes of plants whose code the server has replaced, by the old.

    Plants of before 2022 had 32 hexadecimal digits. The new code is another plant's,
    unless name and address are those of one plant that is not listed any more.
    """
    listed = list(listed)
    codes = {plant.code for plant in listed}
    appeared = [plant for plant in listed if plant.code not in known.offered]
    migrated: dict[str, str] = {}
    for plant in known.plants.values():
        if plant.code in codes or not _OLD_CODE.fullmatch(plant.code):
            continue
        same = [new.code for new in appeared if _is_same(plant, new)]
        namesakes = [old for old in known.plants.values() if _is_same(old, plant)]
        if len(same) == len(namesakes) == 1:
            migrated[plant.code] = same[0]
    return migrated


def _is_same(plant: Plant, other: Plant) -> bool:
    return (plant.name, plant.address) == (other.name, other.address)


@dataclass(slots=True)
class Hindrances:
    """What keeps an account from being read, and only people can mend."""

    forbidden: dict[str, str] = field(default_factory=dict)
    """The interfaces that the account may not call, by what was to be read."""
    unauthorized: dict[str, str] = field(default_factory=dict)
    """The names of plants whose owner has not authorized the API, by code."""
    none_chosen: bool = False
    """Whether the account has plants, but none of those that were chosen."""

    def meet(
        self, reading: str, error: NorthboundError, plants: Iterable[Plant]
    ) -> None:
        """Learn why something could not be read, of which plants.

        An outage tells nothing; whoever is rejected for what was asked may ask.
        """
        if isinstance(error, PermissionDenied | RequestRejected):
            self.forbidden.pop(reading, None)
        if not isinstance(error, PermissionDenied):
            return
        if error.unauthorized:
            self.unauthorized |= {plant.code: plant.name for plant in plants}
        elif error.code == 401:
            self.forbidden[reading] = error.what

    def overcome(self, reading: str, plant_codes: Iterable[str]) -> None:
        """Learn that something could be read, and of which plants."""
        self.forbidden.pop(reading, None)
        for code in plant_codes:
            self.unauthorized.pop(code, None)

    def keep(self, readings: Collection[str], plant_codes: Collection[str]) -> None:
        """Forget what is not read any more: nobody would notice that it could be."""
        self.forbidden = {
            reading: interface
            for reading, interface in self.forbidden.items()
            if reading in readings
        }
        self.unauthorized = {
            code: name
            for code, name in self.unauthorized.items()
            if code in plant_codes
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the hindrances as what JSON can hold."""
        # Written by another thread, while more may be met.
        return {
            "forbidden": {**self.forbidden},
            "unauthorized": {**self.unauthorized},
            "none_chosen": self.none_chosen,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Restore what `as_dict` returned."""
        return cls(
            dict(state["forbidden"]), dict(state["unauthorized"]), state["none_chosen"]
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """The data items of a plant or device as last read."""

    items: DataItems
    received: datetime
    server_time: datetime
    """The server's clock when it answered."""
    live: bool
    """Whether the server surely does not just repeat what it once heard."""
    heard: datetime | None = None
    """When the device was last connected."""
    disconnected: bool = field(init=False)
    """Whether the device says that it has no connection."""

    def __post_init__(self) -> None:
        """Look once what every entity asks."""
        disconnected = number(self.items.get("run_state")) == 0
        object.__setattr__(self, "disconnected", disconnected)

    @property
    def fresh(self) -> bool:
        """Whether the items are young enough to be shown."""
        return dt_util.utcnow() - self.received <= MAX_AGE

    def as_dict(self) -> dict[str, Any]:
        """Return the reading as what JSON can hold."""
        return {
            "items": self.items,
            "received": self.received.isoformat(),
            "server_time": self.server_time.isoformat(),
            "live": self.live,
            "heard": self.heard and self.heard.isoformat(),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Restore what `as_dict` returned."""
        return cls(
            dict(state["items"]),
            datetime.fromisoformat(state["received"]),
            datetime.fromisoformat(state["server_time"]),
            state["live"],
            state["heard"] and datetime.fromisoformat(state["heard"]),
        )


def changes(before: DataItems, items: DataItems) -> set[str]:
    """Return the keys of what is another item than before."""
    # The server always sends them in the same order.
    if [*items] == [*before]:
        return {*compress(items, map(ne, items.values(), before.values()))}
    return {
        key
        for key in items.keys() | before.keys()
        if key not in items or key not in before or items[key] != before[key]
    }


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which nothing was heard of a device."""

    device_id: int
    heard: datetime
    heard_again: datetime


def zone_of(plant: Plant) -> tzinfo:
    """Return the zone whose midnights a plant keeps: its own, or Home Assistant's."""
    return plant.time_zone or dt_util.get_default_time_zone()


def readings_from(rows: Iterable[Mapping[str, Any]]) -> dict[SourceId, Reading]:
    """Restore what was kept of the readings."""
    return {row["source_id"]: Reading.from_dict(row) for row in rows}
