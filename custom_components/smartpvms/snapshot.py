"""What is known of an account at a moment, and how it is kept over restarts."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Self

from homeassistant.util import dt as dt_util

from .northbound import DataItems, Device, Plant, number

MAX_AGE: Final = timedelta(minutes=15)

type SourceId = str | int
"""What a KPI row belongs to: a plant, by code, or a device, by id."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """The plants and devices of an account."""

    plants: Mapping[str, Plant]
    devices: Mapping[int, Device]
    listed: datetime
    """When the server listed them."""
    chosen: Collection[str] | None
    """The plants that the user had chosen then; `None` means all."""

    def plant_of(self, source_id: SourceId) -> Plant:
        """Return a plant by its code, or the plant of a device."""
        if isinstance(source_id, str):
            return self.plants[source_id]
        return self.plants[self.devices[source_id].plant_code]

    def names(self, source_id: SourceId) -> bool:
        """Return whether a plant or device is listed."""
        return source_id in self.plants or source_id in self.devices

    def reads_like(self, other: Self) -> bool:
        """Return whether the same plants and devices have KPIs."""
        return self.plants.keys() == other.plants.keys() and {
            device.id: device.type_id for device in self.devices.values()
        } == {device.id: device.type_id for device in other.devices.values()}

    def as_dict(self) -> dict[str, Any]:
        """Return the inventory as what JSON can hold."""
        return {
            "plants": [
                asdict(plant)
                | {
                    "grid_connection": plant.grid_connection
                    and plant.grid_connection.isoformat()
                }
                for plant in self.plants.values()
            ],
            "devices": [asdict(device) for device in self.devices.values()],
            "listed": self.listed.isoformat(),
            "chosen": self.chosen and list(self.chosen),
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
            state["chosen"],
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

    @property
    def disconnected(self) -> bool:
        """Whether the device says that it has no connection."""
        return number(self.items.get("run_state")) == 0

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
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Restore what `as_dict` returned."""
        return cls(
            dict(state["items"]),
            datetime.fromisoformat(state["received"]),
            datetime.fromisoformat(state["server_time"]),
            state["live"],
        )


def readings_from(rows: Iterable[Mapping[str, Any]]) -> dict[SourceId, Reading]:
    """Restore what was kept of the readings."""
    return {row["source_id"]: Reading.from_dict(row) for row in rows}
