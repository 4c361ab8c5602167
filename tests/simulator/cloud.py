"""Data items of a home that the cloud has collected."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from .clock import Clock
from .collection import Collection
from .items import Items, device_items, history_items, plant_items
from .moment import Moment
from .plants import Device, Home, Plant, Silence

_MOMENTS_KEPT = 1024

type Change = Callable[[datetime, Any], Any]
type Outage = Callable[[datetime], Silence | None]


@dataclass(eq=False)
class Distortion:
    """A fault of a data item."""

    name: int | str
    key: str
    change: Change
    history: bool
    _owner: list[Distortion] = field(repr=False)

    def remove(self) -> None:
        """Remove the fault."""
        if self in self._owner:
            self._owner.remove(self)


class Cloud:
    """Collects the items of a home every five minutes."""

    def __init__(self, home: Home, clock: Clock) -> None:
        """Store the home."""
        self.home = home
        self.clock = clock
        self.collection = Collection()
        self._distortions: list[Distortion] = []
        self._outages: dict[int, Outage] = {}
        self._moments: dict[tuple[str, int], Moment] = {}
        self._past: dict[str, Moment] = {}

    def warm_up(self) -> None:
        """Calculate the past of every site, so that no response has to wait for it."""
        now = self.clock.now().timestamp()
        for plant in self.home.plants:
            plant.site.energy(max(now, plant.site.begin))

    @property
    def collected(self) -> int:
        """Return the epoch of the last collection."""
        return self.collection.last(self.clock.now().timestamp())

    def plant(self, code: str) -> Plant:
        """Return the plant with a code."""
        if (plant := self.home.plant(code)) is None:
            raise KeyError(code)
        return plant

    def device(self, device_id: int) -> tuple[Plant, Device]:
        """Return the device with an id, and its plant."""
        for plant, device in self.home.devices():
            if device.id == device_id:
                return plant, device
        raise KeyError(device_id)

    def moment(self, plant: Plant, epoch: int | None = None) -> Moment:
        """Return a plant at a collection, by default the last one."""
        epoch = self.collected if epoch is None else epoch
        key = plant.code, epoch
        moment = self._moments.get(key)
        if moment is None or moment.plant is not plant:
            if len(self._moments) >= _MOMENTS_KEPT:
                self._moments.clear()
            moment = self._moments[key] = Moment(plant, epoch)
        return moment

    def distort(
        self, name: int | str, key: str, change: Change, history: bool
    ) -> Distortion:
        """Add a fault to an item of a device or a plant."""
        handle = Distortion(name, key, change, history, self._distortions)
        self._distortions.append(handle)
        return handle

    def interrupt(self, device_id: int, outage: Outage) -> None:
        """Disconnect a device at times."""
        self._outages[device_id] = outage

    def live_plant(self, plant: Plant) -> Items:
        """Return the reported items of a plant now."""
        items = plant_items(self.moment(plant))
        return self._distorted(plant.code, items, self.clock.now(), history=False)

    def live_device(self, plant: Plant, device: Device) -> Items | None:
        """Return the reported items of a device now; None for no row."""
        items = device_items(self.moment(plant), device)
        if items is None:
            return None
        if silence := self._outage(device):
            if silence == "missing":
                return None
            blank = 0 if silence == "zeros" else None
            state = {"run_state": 0} if "run_state" in items else {}
            return dict.fromkeys(items, blank) | state
        return self._distorted(device.id, items, self.clock.now(), history=False)

    def _outage(self, device: Device) -> Silence | None:
        if not device.connected:
            return device.disconnected_style
        outage = self._outages.get(device.id)
        return outage(self.clock.now()) if outage else None

    def past_device(self, plant: Plant, device: Device, epoch: int) -> Items:
        """Return the items of a device's history row."""
        # Devices of a plant share a moment, so that a long history does not fill the
        # cache.
        moment = self._past.get(plant.code)
        if moment is None or moment.plant is not plant or moment.epoch != epoch:
            moment = self._past[plant.code] = Moment(plant, epoch)
        items = history_items(moment, device, device_items(moment, device) or {})
        at = datetime.fromtimestamp(epoch, UTC)
        return self._distorted(device.id, items, at, history=True)

    def _distorted(
        self, name: int | str, items: Items, at: datetime, *, history: bool
    ) -> Items:
        for distortion in self._distortions:
            if distortion.name == name and distortion.key in items:
                if distortion.history or not history:
                    value = distortion.change(at, items[distortion.key])
                    items[distortion.key] = value
        return items
