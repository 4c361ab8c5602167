"""The counters of a home: their data items, periods and true values."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, override
from zoneinfo import ZoneInfo

from .items import Items, device_items, plant_items
from .moment import Moment, last_collection, midnight
from .plants import Device, Home, Plant

COLLECTION = timedelta(minutes=5)


class Kind(Enum):
    """The period of a counter."""

    LIFETIME = "lifetime"
    DAILY = "daily"
    MONTHLY = "monthly"


_KINDS: dict[str, Kind] = {
    **dict.fromkeys(
        (
            "total_power",
            "total_income",
            "total_cap",
            "mppt_total_cap",
            *(f"mppt_{number}_cap" for number in range(1, 11)),
            "active_cap",
            "reverse_active_cap",
            "ex_active_cap",
            "ex_reverse_active_cap",
            "forward_reactive_cap",
            "reverse_reactive_cap",
            "total_charged_energy",
            "total_discharged_energy",
            "total_energy_consumption",
            "total_discharge",
        ),
        Kind.LIFETIME,
    ),
    **dict.fromkeys(
        (
            "day_power",
            "day_income",
            "day_on_grid_energy",
            "day_use_energy",
            "day_cap",
            "charge_cap",
            "discharge_cap",
            "radiant_total",
        ),
        Kind.DAILY,
    ),
    "month_power": Kind.MONTHLY,
}


class _ServersMoment(Moment):
    """A moment whose day started at the server's midnight."""

    def __init__(self, plant: Plant, epoch: int, time_zone: ZoneInfo) -> None:
        """Store the server's time zone."""
        super().__init__(plant, epoch)
        self._time_zone = time_zone

    @override
    def today(self, row: int) -> float:
        """Return the energy since the server's midnight."""
        return self._since(midnight(self.epoch, self._time_zone), row)


@dataclass(frozen=True)
class Counter:
    """A data item of a plant or device that counts."""

    plant: Plant
    device: Device | None
    key: str

    @property
    def name(self) -> int | str:
        """Return the ID of the device, or the code of the plant."""
        return self.plant.code if self.device is None else self.device.id

    @property
    def kind(self) -> Kind:
        """Return the period of the counter."""
        return _KINDS[self.key]

    @property
    def is_money(self) -> bool:
        """Return whether the counter is a revenue, which may fall."""
        return self.key.endswith("_income")

    def true(self, at: datetime) -> float:
        """Return the true value at a time."""
        return self._at(Moment(self.plant, last_collection(at.timestamp())))

    def true_by(self, at: datetime, time_zone: ZoneInfo) -> float:
        """Return the true value for days that start at another zone's midnight."""
        epoch = last_collection(at.timestamp())
        return self._at(_ServersMoment(self.plant, epoch, time_zone))

    def _at(self, moment: Moment) -> float:
        return float(_items(moment, self.device)[self.key])

    def midnight(self, at: datetime) -> datetime:
        """Return the plant's last midnight."""
        epoch = midnight(at.timestamp(), self.plant.time_zone)
        return datetime.fromtimestamp(epoch, UTC)

    def yesterday(self, at: datetime) -> float:
        """Return the energy of the previous day, up to its last collection."""
        end = self.midnight(at)
        last = self.true(end - COLLECTION)
        if self.kind is Kind.DAILY:
            return last
        return max(last - self.true(self.midnight(end - COLLECTION)), 0.0)


def _items(moment: Moment, device: Device | None) -> Items:
    if device is None:
        return plant_items(moment)
    return device_items(moment, device) or {}


def counters_of(home: Home, at: datetime) -> list[Counter]:
    """Return the counters of a home that have something to count."""
    found = []
    for plant in home.plants:
        moment = Moment(plant, last_collection(at.timestamp()))
        for device in (None, *plant.devices):
            items = _items(moment, device)
            found += [
                Counter(plant, device, key)
                for key, kind in _KINDS.items()
                if _counts(items.get(key), kind)
            ]
    return found


def _counts(value: Any, kind: Kind) -> bool:
    # An MPPT without strings is always 0, and null was never a counter.
    return value is not None and (kind is not Kind.LIFETIME or value > 0)
