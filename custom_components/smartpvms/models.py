"""Inventory and readings of an account."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo
from enum import StrEnum
from itertools import batched, compress
from operator import ne
import re
from sys import intern
from typing import ClassVar, Final, Self

from homeassistant.util import dt as dt_util

from .northbound import DataItems, Device, Plant, ReportItem, number

MAX_AGE: Final = timedelta(minutes=15)
MAX_AGE_OF_REPORTS: Final = timedelta(days=1)

_OLD_CODE: Final = re.compile(r"[0-9a-f]{32}", re.IGNORECASE)

type SourceId = str | int
"""The source of a KPI row: a plant, by code, or a device, by id."""


def unique_id(source_id: SourceId, key: str) -> str:
    """Return the unique id of the entity of a data item."""
    return f"{source_id}_{key}"


@dataclass(frozen=True, slots=True)
class Inventory:
    """The plants and devices of an account."""

    plants: Mapping[str, Plant]
    devices: Mapping[int, Device]
    listed: datetime
    """Time of the server's list."""
    offered: Mapping[str, str]
    """The names of all plants of the account, by code."""
    missing: Mapping[str, datetime] = field(default_factory=dict)
    """Times since which registered plants and devices are not listed, by name."""
    home_zone: str | None = field(
        default=None, compare=False, metadata={"stored": False}
    )
    """Home Assistant's time zone when the zones of the plants were found."""
    _sources: Mapping[str, SourceId] = field(init=False, repr=False, compare=False)
    """All plants and devices, by the names with which unique ids begin."""
    _devices: Mapping[str, list[Device]] = field(init=False, repr=False, compare=False)
    """The devices of each plant, by its code."""

    def __post_init__(self) -> None:
        """Index plants and devices for thousands of entities.

        Raises `ValueError` if a stored plant or device is under a false key.
        """
        if any(code != plant.code for code, plant in self.plants.items()) or any(
            device_id != device.id for device_id, device in self.devices.items()
        ):
            raise ValueError("false key")
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

    def __contains__(self, source_id: SourceId) -> bool:
        """Return whether the plant or device is in the inventory."""
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
    def plants_without_devices(self) -> set[str]:
        """Return the plants without any device."""
        return self.plants.keys() - self._devices.keys()

    def has_same_devices(self, other: Self) -> bool:
        """Return whether both inventories have the same plants, device ids and types."""
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

    def restricted_to(
        self, chosen: Collection[str] | None, others: Collection[str] = ()
    ) -> Self | None:
        """Return the part of the inventory that is chosen, if there is any.

        `others` are plants of other accounts.
        """
        plants = {
            code: plant
            for code, plant in self.plants.items()
            if (chosen is None or code in chosen) and code not in others
        }
        if not plants:
            return None
        devices = {
            device.id: device
            for device in self.devices.values()
            if device.plant_code in plants
        }
        offered = {
            code: name for code, name in self.offered.items() if code not in others
        }
        return replace(self, plants=plants, devices=devices, offered=offered)

    def missing_plants(self, chosen: Collection[str] | None) -> set[str]:
        """Return the codes of chosen plants that the inventory does not have."""
        wanted = self.offered.keys() & (self.offered if chosen is None else chosen)
        return wanted - self.plants.keys()


def halves[T](refused: Collection[T]) -> list[tuple[T, ...]]:
    """Return the halves of a refused call's members, one of which is to be found."""
    return [*batched(refused, (len(refused) + 1) // 2, strict=False)]


def new_codes(known: Inventory, listed: Iterable[Plant]) -> dict[str, str]:
    """Return the new codes of plants whose code the server has replaced, by the old.

    The new code is another plant's, unless name and place are those of one plant that
    is not listed any more.
    """
    listed = list(listed)
    codes = {plant.code for plant in listed}
    appeared = [plant for plant in listed if plant.code not in known.offered]
    replaced: dict[str, str] = {}
    for plant in known.plants.values():
        if plant.code in codes:
            continue
        same = [new.code for new in appeared if _is_same(plant, new)]
        namesakes = [old for old in known.plants.values() if _is_same(plant, old)]
        if len(same) == len(namesakes) == 1:
            replaced[plant.code] = same[0]
    return replaced


def _is_same(plant: Plant, other: Plant) -> bool:
    """Return whether name and place of two plants agree.

    Older servers had codes of 32 hexadecimal digits, which say enough without a place.
    """
    if (plant.name, plant.address) != (other.name, other.address):
        return False
    places = [(each.latitude, each.longitude) for each in (plant, other)]
    if (None, None) not in places:
        return places[0] == places[1]
    return plant.address is not None or _OLD_CODE.fullmatch(plant.code) is not None


def contradicts(
    known: Inventory, devices: Iterable[Device], old: str, new: str
) -> bool:
    """Return whether the devices of a new code are others than those of the old one."""
    before = {each.serial_number for each in known.devices_of(old)} - {None}
    now = {each.serial_number for each in devices if each.plant_code == new} - {None}
    return bool(before and now) and before.isdisjoint(now)


def new_ids(
    known: Inventory, listed: Mapping[int, Device], codes: Mapping[str, str]
) -> dict[int, int]:
    """Return the new ids of devices whose id the server has replaced, by the old.

    A device is recognized by its serial number, or else by its name, if this is unique
    within the plant. `codes` are the new codes of plants.
    """

    def serial_number(device: Device) -> tuple[str, int, str] | None:
        number = device.serial_number
        return None if number is None else (plant(device), device.type_id, number)

    def name(device: Device) -> tuple[str, int, str]:
        return plant(device), device.type_id, device.name

    def plant(device: Device) -> str:
        return codes.get(device.plant_code, device.plant_code)

    ids: dict[int, int] = {}
    before, now = (
        _unique(devices.values(), serial_number) for devices in (known.devices, listed)
    )
    for key in before.keys() & now.keys():
        ids[before[key].id] = now[key].id
    taken = {*ids.values()}
    before, now = (
        _unique(devices.values(), name) for devices in (known.devices, listed)
    )
    for key in before.keys() & now.keys():
        old, new = before[key], now[key]
        is_gone = old.id not in ids and not _has(listed, old)
        is_new = new.id not in taken and not _has(known.devices, new)
        if is_gone and is_new and None in (old.serial_number, new.serial_number):
            ids[old.id] = new.id
    ids = {
        old: new
        for old, new in ids.items()
        if old != new and str(new) not in known.missing
    }
    # The new id may still be that of another device, which may then keep its own as well.
    while kept := [
        device_id
        for device_id, new_id in ids.items()
        if new_id in known.devices and new_id not in ids
    ]:
        for device_id in kept:
            del ids[device_id]
    return ids


def _has(devices: Mapping[int, Device], device: Device) -> bool:
    """Return whether the id of a device is that of a device of the same type."""
    return device.id in devices and devices[device.id].type_id == device.type_id


def _unique[KeyT](
    devices: Iterable[Device], key: Callable[[Device], KeyT | None]
) -> dict[KeyT, Device]:
    """Return the devices that are the only ones with their key."""
    found: dict[KeyT, list[Device]] = {}
    for device in devices:
        if (of_device := key(device)) is not None:
            found.setdefault(of_device, []).append(device)
    return {each: same[0] for each, same in found.items() if len(same) == 1}


@dataclass(frozen=True, slots=True)
class Reading:
    """Data items of a plant or device, as last read."""

    is_record: ClassVar = True

    items: DataItems
    received: datetime
    server_time: datetime
    """The server's clock when it answered."""
    live: bool
    """Whether a value changed since the previous reading, so this is not a cached copy."""
    last_connected: datetime | None = None
    disconnected: bool = field(init=False)
    """Whether the device reports that it has no connection."""

    def __post_init__(self) -> None:
        """Read the connection once for all entities."""
        disconnected = number(self.items.get("run_state")) == 0
        object.__setattr__(self, "disconnected", disconnected)

    @property
    def fresh(self) -> bool:
        """Whether the items are young enough to be shown.

        A reading of the future was received before the clock was set back.
        """
        return abs(dt_util.utcnow() - self.received) <= MAX_AGE


class ReportSpan(StrEnum):
    """Spans of plant reports that sensors show."""

    YESTERDAY = "yesterday"
    THIS_MONTH = "this_month"
    THIS_YEAR = "this_year"
    ALL_YEARS = "all_years"


@dataclass(frozen=True, slots=True)
class ReportedValues:
    """Values of a plant report in one span; others are unknown."""

    values: Mapping[ReportItem, float]
    received: datetime

    @property
    def fresh(self) -> bool:
        """Return whether the values are young enough to be shown.

        Values of the future were received before the clock was set back.
        """
        return abs(dt_util.utcnow() - self.received) <= MAX_AGE_OF_REPORTS


def changes(before: DataItems, items: DataItems) -> set[str]:
    """Return the keys of items that differ."""
    # The server usually sends them in the same order.
    if [*items] == [*before]:
        return {*compress(items, map(ne, items.values(), before.values()))}
    # Items without a value are not stored.
    return {
        key for key in items.keys() | before.keys() if items.get(key) != before.get(key)
    }


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which a device was not connected, or its counters were in doubt."""

    device_id: int
    start: datetime
    end: datetime
    is_connected: bool = False
    """Whether the device was connected."""


def zone_of(plant: Plant) -> tzinfo:
    """Return the zone of a plant's days: its own, or Home Assistant's."""
    return plant.time_zone or dt_util.get_default_time_zone()
