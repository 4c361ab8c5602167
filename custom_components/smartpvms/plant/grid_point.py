"""Grid point: the device at a plant's grid connection."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from custom_components.smartpvms.northbound import DeviceId, DeviceType

from .devices import (
    GRID_POINTS,
    INVERTERS,
    METERS,
    NOISE,
    OPAQUE,
    PlantDevice,
    PlantDevices,
    of_type,
)
from .votes import voted

# A meter may measure an inverter if their powers differ by at most this share.
MIRRORED: Final = 0.03
# A meter measures no inverter if its power differs from each by more than this share.
APART: Final = 0.25
# Inverter powers below this, in W, are no evidence about a meter.
MIN_YIELD: Final = 300.0
# A meter counts both ways if its smaller counter exceeds this share of the larger.
BOTH_WAYS: Final = 0.02
# Number of readings that one contradicting reading outweighs.
OUTWEIGHED: Final = 10
# Number of readings of one kind above which the counts are halved, about three days.
REMEMBERED: Final = 1000

_GRID_ITEMS: Final = (
    "active_power",
    "active_cap",
    "reverse_active_cap",
    "total_energy_consumption",
)


@dataclass(slots=True)
class MeterEvidence:
    """Evidence on whether a meter is at the grid connection."""

    mirrored: int = 0
    """Number of readings that matched the output of an inverter, or of all."""
    apart: int = 0
    """Number of readings that matched no output."""
    both_ways: int = 0
    """Votes of the last readings: positive if import and export have been counted."""

    @property
    def may_be_grid(self) -> bool:
        """Return whether the meter does not just repeat an inverter."""
        return self.both_ways > 0 or self.mirrored <= self.apart * OUTWEIGHED

    def weigh(self, device: PlantDevice, outputs: Iterable[float]) -> None:
        """Add the evidence of the powers of one reading.

        `outputs` are the power of each inverter and the sum of all.
        """
        imported = device.imported
        if imported is None:
            return
        outputs = list(outputs)
        highest = max(outputs, default=0.0)
        differences = [
            abs(abs(imported) - output) / output
            for output in outputs
            if output >= MIN_YIELD
        ]
        if any(difference <= MIRRORED for difference in differences):
            self.mirrored += 1
        elif (
            min(differences, default=0.0) > APART or highest < NOISE < abs(imported) / 2
        ):
            self.apart += 1
        if max(self.mirrored, self.apart) > REMEMBERED:
            self.mirrored //= 2
            self.apart //= 2

    def weigh_counters(self, device: PlantDevice) -> None:
        """Add the evidence of the meter's counters."""
        forward, reverse = device.read("active_cap"), device.read("reverse_active_cap")
        if forward is None or reverse is None or max(forward, reverse) <= 0:
            return
        both = min(forward, reverse) > BOTH_WAYS * max(forward, reverse)
        self.both_ways = voted(self.both_ways, both)


@dataclass(slots=True)
class GridPointDetector:
    """Finds the device at the grid connection of a plant.

    It is found within a few readings if counters or powers show it; otherwise it stays
    unknown.
    """

    meters: dict[int, MeterEvidence] = field(default_factory=dict)
    reported: set[DeviceId] = field(default_factory=set)
    """Possible grid points that have reported a power or a counter."""

    def update(self, devices: PlantDevices) -> None:
        """Add the evidence of new readings, once per reading."""
        self.reported |= {
            device_id
            for device_id, device in of_type(devices, *GRID_POINTS).items()
            if any(device.read(key) is not None for key in _GRID_ITEMS)
        }
        meters = of_type(devices, *METERS)
        for device_id, device in meters.items():
            self.meters.setdefault(device_id, MeterEvidence()).weigh_counters(device)
        inverters = of_type(devices, *INVERTERS).values()
        outputs = [device.output for device in inverters if not device.is_silent]
        known = [output for output in outputs if output is not None]
        # A silent inverter may be asleep, or yield without reporting it.
        if len(known) < len(inverters) or of_type(devices, *OPAQUE):
            return
        for device_id, device in meters.items():
            self.meters[device_id].weigh(device, [sum(known), *known])

    def find(self, devices: PlantDevices, chosen: int | None = None) -> int | None:
        """Return the device at the plant's grid connection, if it is known.

        It is the chosen device, if the plant has it; or the EMMA; or the mains, if
        there is no other candidate; or the only meter, unless it repeats an inverter;
        or, of several meters, the only one that has counted both directions. Devices
        that have never reported anything are skipped, unless none has.
        """
        points = of_type(devices, *GRID_POINTS)
        if chosen in points:
            return chosen
        if reported := self.reported & points.keys():
            points = {device_id: points[device_id] for device_id in reported}
        if energy_managers := of_type(points, DeviceType.EMMA):
            return _only(energy_managers)
        if of_type(points, DeviceType.MAINS):
            return _only(points)
        evidence = {
            device_id: self.meters.get(device_id, MeterEvidence())
            for device_id in points
        }
        return _only(
            [
                device_id
                for device_id, meter in evidence.items()
                if meter.may_be_grid and (len(points) == 1 or meter.both_ways > 0)
            ]
        )


def _only(ids: Iterable[int]) -> int | None:
    first, *others = [*ids, None]
    return first if others == [None] else None
