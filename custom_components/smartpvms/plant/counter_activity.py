"""Activity of counters: whether a counter counts the energy that flows."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar, Final

from custom_components.smartpvms.northbound import DeviceType

from .counters import (
    CHARGED,
    DAY_USE,
    DC_COUNTERS,
    DISCHARGED,
    GRID_COUNTERS,
    MPPTS,
    RACK_DISCHARGED,
    SUBSTITUTES,
    YIELDS,
    CounterId,
    CounterValues,
    name_of,
)
from .day_end import MAX_GAP
from .devices import INVERTERS, PlantDevices, of_type
from .storage_sign import StorageSigns

# A counter is dead if it has counted at most the first of these, in kWh, while more
# than the second has flowed.
STILL: Final = 0.05
UNCOUNTED: Final = 0.2

_HOUR: Final = timedelta(hours=1)


@dataclass(slots=True)
class CounterActivity:
    """Energy of a counter that has not counted yet, and energy that flowed, in kWh.

    A counter that begins to count is recognized one reading later, so that the rise by
    which it catches up is not counted.
    """

    is_record: ClassVar = True

    last: float
    before: float | None
    """Value of the reading before the last."""
    power: float
    """Power of the last reading in W."""
    counted: float = 0.0
    flowed: float = 0.0
    is_dead: bool = False
    """Whether energy flows that the counter does not count."""

    def follow(self, value: float, power: float, passed: timedelta) -> None:
        """Add the next reading of a counter that does not count yet."""
        self.before = self.last
        counted = value - self.last if value >= self.last else value
        self.counted = round(self.counted + counted, 6)
        self.last = value
        if passed <= MAX_GAP:
            # A single power may be false, so the lower of two applies.
            flowed = min(power, self.power) / 1000 * (passed / _HOUR)
            self.flowed = round(self.flowed + flowed, 6)
        self.power = power
        if self.counted <= STILL:
            self.is_dead = self.flowed > UNCOUNTED


@dataclass(slots=True)
class CounterActivities:
    """Activity of the counters of a plant and its devices."""

    activities: dict[str, CounterActivity] = field(default_factory=dict)
    """Activities of the counters that have not counted yet."""
    last_update: datetime | None = None

    def update(
        self,
        devices: PlantDevices,
        counts: CounterValues,
        known: Collection[str],
        home: float | None,
        at: datetime,
        signs: StorageSigns,
    ) -> None:
        """Compare the rises of counters with the powers that they should count.

        `known` are the names of all counters before this reading, and `home` is the
        home's power in W; a counter of the plant has no device id.
        """
        is_first = self.last_update is None
        passed = at - (self.last_update or at)
        self.last_update = at
        powers = _counted_powers(devices, signs)
        for key, count in counts.items():
            name = name_of(*key)
            activity = self.activities.get(name)
            if count is None or (activity is None and name in known):
                continue
            if activity and activity.counted > STILL:
                del self.activities[name]
                continue
            device = devices.get(key[0] or 0)
            power = max(powers.get(key) or 0.0, 0.0)
            if key == DAY_USE:
                power = home or 0.0
            if activity is None:
                # A counter that appears later has no known rise yet.
                before = count.value if is_first else None
                self.activities[name] = CounterActivity(
                    last=count.value, before=before, power=power
                )
                continue
            # A repeated row or an unconfirmed value is no evidence that energy flowed.
            if not count.confirmed or (device is not None and not device.live):
                power = 0.0
            activity.follow(count.value, power, passed)

    def is_dead(self, key: CounterId) -> bool:
        """Return whether a counter stands still while energy flows."""
        activity = self.activities.get(name_of(*key))
        return activity is not None and activity.is_dead

    def usable(self, counts: CounterValues) -> CounterValues:
        """Return the counts, with those of unusable counters set to `None`.

        Unusable are dead counters, counters that are still 0 while another one counts
        the same energy, and new counters without a known rise.
        """
        usable = dict(counts)
        for device_id, key in counts:
            activity = self.activities.get(name_of(device_id, key))
            if activity is None:
                continue
            substitute = device_id, SUBSTITUTES.get(key, "")
            if (
                activity.before is None
                or activity.is_dead
                # The counter was still 0 before the last reading.
                or (not activity.before and counts.get(substitute) is not None)
            ):
                usable[device_id, key] = None
        for device_id in {device_id for device_id, key in counts if key in MPPTS}:
            # Without a tracker that has counted, the sum of the others is too low.
            trackers = [(device_id, key) for key in MPPTS]
            if any(
                (count := counts.get(key)) and count.value and usable[key] is None
                for key in trackers
            ):
                usable |= dict.fromkeys(trackers)
        return usable


def _counted_powers(
    devices: PlantDevices, signs: StorageSigns
) -> dict[CounterId, float]:
    """Return the power in W that each counter should count, if it is known."""
    powers: dict[CounterId, float | None] = {}
    batteries = of_type(devices, DeviceType.BATTERY)
    charges = {
        device_id: device.read("ch_discharge_power")
        for device_id, device in batteries.items()
    }
    discharged = sum(max(-(charge or 0.0), 0.0) for charge in charges.values())
    for device_id, device in of_type(devices, *INVERTERS).items():
        output = device.output
        panels = max(device.panels or 0.0, (output or 0.0) - discharged)
        powers |= {(device_id, key): output for key in YIELDS}
        powers |= {(device_id, key): panels for key in DC_COUNTERS}
    for device_id, device in of_type(devices, DeviceType.ESS).items():
        power = signs.discharge_of(device_id, device)
        charges[device_id] = None if power is None else -power
    for device_id, charge in charges.items():
        given = None if charge is None else -charge
        powers |= {(device_id, key): charge for key in CHARGED}
        powers |= {(device_id, key): given for key in DISCHARGED}
    for device_id, device in of_type(devices, *GRID_COUNTERS).items():
        imported, exported = GRID_COUNTERS[device.type_id]
        power = device.imported
        powers[device_id, imported] = power
        if exported is not None:
            powers[device_id, exported] = None if power is None else -power
    for device_id, device in of_type(devices, DeviceType.BATTERY_RACK).items():
        powers[device_id, RACK_DISCHARGED] = device.rack_discharge
    return {key: power for key, power in powers.items() if power is not None}
