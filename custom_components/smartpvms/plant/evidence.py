"""Evidence from readings: grid point, signs of powers, and dead counters."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from custom_components.smartpvms.northbound import DataItems, DeviceType, number

from .counters import (
    CHARGED,
    DAY_USE,
    DC_COUNTERS,
    DISCHARGED,
    GRID_COUNTERS,
    MPPTS,
    STORED,
    SUBSTITUTES,
    YIELDS,
    CounterId,
    Counts,
    name_of,
)
from .day_end import LONGEST_GAP
from .units import GRID_POINTS, INVERTERS, METERS, OPAQUE, Unit, Units, of_type, total

# Powers below this, in W, are no evidence.
NOISE: Final = 50.0
# A meter may measure an inverter if their powers differ by at most this share.
MIRRORED: Final = 0.03
# A meter measures no inverter if its power differs from each by more than this share.
APART: Final = 0.25
# Inverter powers below this, in W, are no evidence about a meter.
LEAST_YIELD: Final = 300.0
# A meter counts both ways if its smaller counter exceeds this share of the larger.
BOTH_WAYS: Final = 0.02
# Number of readings that one contradicting reading outweighs.
OUTWEIGHED: Final = 10
# Number of readings of one kind above which the counts are halved, about three days.
REMEMBERED: Final = 1000
# Votes that decide, and the highest number of votes.
AGREEING: Final = 2
FIRM: Final = 12
# A counter is dead if it has counted at most the first of these, in kWh, while more
# than the second has flowed.
STILL: Final = 0.05
UNCOUNTED: Final = 0.2

_HOUR: Final = timedelta(hours=1)
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

    def weigh(self, unit: Unit, outputs: Iterable[float]) -> None:
        """Add the evidence of the powers of one reading.

        `outputs` are the power of each inverter and the sum of all.
        """
        imported = unit.imported
        if imported is None:
            return
        outputs = list(outputs)
        most = max(outputs, default=0.0)
        differences = [
            abs(abs(imported) - output) / output
            for output in outputs
            if output >= LEAST_YIELD
        ]
        if any(difference <= MIRRORED for difference in differences):
            self.mirrored += 1
        elif min(differences, default=0.0) > APART or most < NOISE < abs(imported) / 2:
            self.apart += 1
        if max(self.mirrored, self.apart) > REMEMBERED:
            self.mirrored //= 2
            self.apart //= 2

    def weigh_counters(self, unit: Unit) -> None:
        """Add the evidence of the meter's counters."""
        forward, reverse = unit.read("active_cap"), unit.read("reverse_active_cap")
        if forward is None or reverse is None or max(forward, reverse) <= 0:
            return
        both = min(forward, reverse) > BOTH_WAYS * max(forward, reverse)
        self.both_ways = _voted(self.both_ways, both)


@dataclass(slots=True)
class SignEvidence:
    """Evidence on the sign of a storage's power."""

    votes: int = 0
    """Positive if charging is positive."""
    last: DataItems = field(default_factory=dict, init=False)

    @property
    def charging(self) -> float | None:
        """Return the sign of the power while the storage charges, if it is known."""
        if abs(self.votes) < AGREEING:
            return None
        return 1.0 if self.votes > 0 else -1.0

    def weigh(self, unit: Unit) -> None:
        """Add the evidence of one reading and the one before.

        If the power keeps its sign, the day's counters show its direction. If none or
        both of them have risen, the state of charge shows it.
        """
        keys = ("ch_discharge_power", "battery_soc", *STORED)
        read = {key: unit.read(key) for key in keys}
        last = {key: number(self.last.get(key)) for key in keys}
        self.last = read
        rises = {
            key: now - before
            for key in keys
            if (now := read[key]) is not None and (before := last[key]) is not None
        }
        power, before = read[keys[0]], last[keys[0]]
        if power is None or before is None or min(abs(power), abs(before)) < NOISE:
            return
        if power * before < 0:
            return
        charged, discharged = (rises.get(key, 0.0) for key in STORED)
        if min(charged, discharged) < 0:
            return
        gained = charged - discharged if not (charged and discharged) else 0.0
        risen = rises.get("battery_soc", 0.0)
        if gained * risen < 0:
            return
        if gained := gained or risen:
            self.votes = _voted(self.votes, (gained > 0) == (power > 0))


@dataclass(slots=True)
class Activity:
    """Energy of a counter, and energy that flowed before it counted, in kWh.

    A counter that begins to count is recognized one reading later, so that the rise by
    which it catches up is not counted.
    """

    last: float
    before: float | None = None
    """Value of the reading before the last."""
    counted: float = 0.0
    flowed: float = 0.0
    power: float = 0.0
    """Power of the last reading in W."""
    counts: bool = False
    """Whether the counter had counted before the last reading."""
    is_dead: bool = False
    """Whether energy flows that the counter does not count."""

    @property
    def is_zero(self) -> bool:
        """Return whether the counter was still 0 before the last reading."""
        return not (self.before or self.counts)

    def follow(self, value: float, power: float, passed: timedelta) -> None:
        """Add the next reading of a counter that does not count yet."""
        self.before = self.last
        self.counts = self.counted > STILL
        self.counted += value - self.last if value >= self.last else value
        self.last = value
        if passed <= LONGEST_GAP:
            # A single power may be false, so the lower of two applies.
            self.flowed += min(power, self.power) / 1000 * (passed / _HOUR)
        self.power = power
        if self.counts:
            self.is_dead = False
        elif self.counted <= STILL:
            self.is_dead = self.flowed > UNCOUNTED


@dataclass(slots=True)
class Evidence:
    """Evidence from the readings of a plant: grid point, signs and dead counters.

    Grid point and signs are found within a few readings if the counters or the powers
    show them; otherwise they stay unknown.
    """

    meters: dict[int, MeterEvidence] = field(default_factory=dict)
    storages: dict[int, SignEvidence] = field(default_factory=dict)
    reported: set[int] = field(default_factory=set)
    """Possible grid points that have reported a power or a counter."""
    activities: dict[str, Activity] = field(default_factory=dict)
    weighed: datetime | None = None
    """Time at which the counters were last weighed."""

    def update(self, units: Units) -> None:
        """Add the evidence of new readings, once per reading."""
        self.reported |= {
            device_id
            for device_id, unit in of_type(units, *GRID_POINTS).items()
            if any(unit.read(key) is not None for key in _GRID_ITEMS)
        }
        for device_id, unit in of_type(units, DeviceType.ESS).items():
            self.storages.setdefault(device_id, SignEvidence()).weigh(unit)
        meters = of_type(units, *METERS)
        for device_id, unit in meters.items():
            self.meters.setdefault(device_id, MeterEvidence()).weigh_counters(unit)
        inverters = of_type(units, *INVERTERS).values()
        outputs = [unit.output for unit in inverters if not unit.is_silent]
        known = [output for output in outputs if output is not None]
        # A silent inverter may be asleep, or yield without reporting it.
        if len(known) < len(inverters) or of_type(units, *OPAQUE):
            return
        for device_id, unit in meters.items():
            self.meters[device_id].weigh(unit, [sum(known), *known])

    def weigh_counters(
        self, units: Units, counts: Counts, home: float | None, at: datetime
    ) -> None:
        """Compare the rises of counters with the powers that they should count.

        `home` is the home's power in W; a counter of the plant has no device id.
        """
        is_first = self.weighed is None
        passed = at - (self.weighed or at)
        self.weighed = at
        powers = self._counted_powers(units)
        for key, count in counts.items():
            name = name_of(*key)
            activity = self.activities.get(name)
            if count is None or (activity and activity.counts):
                continue
            unit = units.get(key[0] or 0)
            power = max(powers.get(key) or 0.0, 0.0)
            if key == DAY_USE:
                power = home or 0.0
            if activity is None:
                # A counter that appears later has no known rise yet.
                before = count.value if is_first else None
                self.activities[name] = Activity(count.value, before, power=power)
                continue
            # A repeated row or an unsure value is no evidence that energy flowed.
            if not count.sure or (unit is not None and not unit.live):
                power = 0.0
            activity.follow(count.value, power, passed)

    def _counted_powers(self, units: Units) -> dict[CounterId, float]:
        """Return the power in W that each counter should count, if it is known."""
        powers: dict[CounterId, float | None] = {}
        batteries = of_type(units, DeviceType.BATTERY)
        charges = {
            device_id: unit.read("ch_discharge_power")
            for device_id, unit in batteries.items()
        }
        discharged = sum(max(-(charge or 0.0), 0.0) for charge in charges.values())
        for device_id, unit in of_type(units, *INVERTERS).items():
            output = unit.output
            panels = max(unit.panels or 0.0, (output or 0.0) - discharged)
            powers |= {(device_id, key): output for key in YIELDS}
            powers |= {(device_id, key): panels for key in DC_COUNTERS}
        for device_id, unit in of_type(units, DeviceType.ESS).items():
            power = self._discharge_of(device_id, unit)
            charges[device_id] = None if power is None else -power
        for device_id, charge in charges.items():
            given = None if charge is None else -charge
            powers |= {(device_id, key): charge for key in CHARGED}
            powers |= {(device_id, key): given for key in DISCHARGED}
        for device_id, unit in of_type(units, *GRID_COUNTERS).items():
            imported, exported = GRID_COUNTERS[unit.type_id]
            power = unit.imported
            powers[device_id, imported] = power
            powers[device_id, exported] = None if power is None else -power
        return {key: power for key, power in powers.items() if power is not None}

    def is_dead(self, key: CounterId) -> bool:
        """Return whether a counter stands still while energy flows."""
        activity = self.activities.get(name_of(*key))
        return activity is not None and activity.is_dead

    def usable(self, counts: Counts) -> Counts:
        """Return the counts, with those of unusable counters set to `None`.

        Unusable are dead counters, counters that are still 0 while another one counts
        the same energy, and new counters without a known rise.
        """
        usable = dict(counts)
        for device_id, key in counts:
            activity = self.activities.get(name_of(device_id, key))
            substitute = device_id, SUBSTITUTES.get(key, "")
            if (
                activity is None
                or activity.before is None
                or activity.is_dead
                or (activity.is_zero and counts.get(substitute) is not None)
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

    def storage_discharge(self, units: Units) -> float | None:
        """Return the power in W that the storages on the AC side deliver."""
        return total(
            self._discharge_of(device_id, unit)
            for device_id, unit in of_type(units, DeviceType.ESS).items()
        )

    def _discharge_of(self, device_id: int, unit: Unit) -> float | None:
        power = unit.read("ch_discharge_power")
        sign = self.storages.get(device_id, SignEvidence()).charging
        if power and sign is None:
            return None
        return power and -power * (sign or 1.0)

    def grid_point(self, units: Units, chosen: int | None = None) -> int | None:
        """Return the device at the plant's grid connection, if it is sure.

        It is the chosen device, if the plant has it; or the EMMA; or the mains, if
        there is no other candidate; or the only meter, unless it repeats an inverter;
        or, of several meters, the only one that has counted both directions. Devices
        that have never reported anything are skipped, unless none has.
        """
        points = of_type(units, *GRID_POINTS)
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
                for device_id, told in evidence.items()
                if told.may_be_grid and (len(points) == 1 or told.both_ways > 0)
            ]
        )


def _only(ids: Iterable[int]) -> int | None:
    first, *others = [*ids, None]
    return first if others == [None] else None


def _voted(votes: int, yes: bool) -> int:
    return max(min(votes + (1 if yes else -1), FIRM), -FIRM)
