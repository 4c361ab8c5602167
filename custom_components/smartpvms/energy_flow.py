"""Where a plant's energy comes from and goes to, by what its devices report.

The API has no power and no consumption of a home: they follow from the inverters, the
batteries and the meter at the grid. `power_flow` gives the powers of one moment. All of
them are those of the AC side, so that PV + grid + battery = home, always:

- An inverter's AC output is what the panels and the battery behind it deliver together.
  While the battery is charged, PV is the output and what goes into the battery; while
  it is discharged, both share the output, and the conversion losses, in proportion. So
  PV and discharge are some percent below what is measured on the DC side, and no value
  has the wrong sign. The panels' DC energy has counters of its own.
- The few watts that an inverter draws while it sleeps are part of the home's power.
- A value that follows from a device without a fresh value is unknown. So is one that
  hangs on a meter or on a sign that is not sure: `Evidence` learns them.

`Balance` makes counters out of counters that were filtered. An
exact balance of counters beats the integral of powers that are minutes apart; `Integral`
is for what nothing counts.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final, NamedTuple, Self

from .counter_filter import CounterFilter
from .northbound import DataItems, DeviceType, number
from .tally import LONGEST_GAP, Tally

# Powers below this, in W, and differences below this share of what flows, say nothing.
NOISE: Final = 50.0
NOISE_SHARE: Final = 0.02
# A meter that shows this share of an inverter's power exactly may be its own.
MIRRORED: Final = 0.03
# A meter that differs from all inverters by this share is not theirs.
APART: Final = 0.25
# Inverters that yield less than this, in W, tell nothing about a meter.
LEAST_YIELD: Final = 300.0
# A meter that has counted this share of its energy the other way round counts both.
BOTH_WAYS: Final = 0.02
# Readings that one contradicting reading outweighs.
OUTWEIGHED: Final = 10
# How many readings are remembered: about three days of one kind.
REMEMBERED: Final = 1000
# Readings that have to agree before a sign is known, and how firmly it can be known.
_HOUR: Final = timedelta(hours=1)
AGREEING: Final = 2
FIRM: Final = 12
# A counter that has counted no more than the first of these while more than the second
# flowed, in kWh, is none.
STILL: Final = 0.05
UNCOUNTED: Final = 0.2

INVERTERS: Final = (DeviceType.STRING_INVERTER, DeviceType.RESIDENTIAL_INVERTER)
METERS: Final = (DeviceType.GRID_METER, DeviceType.POWER_SENSOR)
GRID_POINTS: Final = (*METERS, DeviceType.EMMA, DeviceType.MAINS)
"""The device types that can be where a plant meets the grid."""
_GRID_ITEMS: Final = (
    "active_power",
    "active_cap",
    "reverse_active_cap",
    "total_energy_consumption",
)
_POWER_M: Final = frozenset(
    {
        DeviceType.MAINS,
        DeviceType.GENSET,
        DeviceType.AC_OUTPUT,
        DeviceType.BATTERY_RACK,
        DeviceType.SSU_GROUP,
        DeviceType.SSU,
        DeviceType.POWER_CONVERTER,
    }
)
# The PV-ESS all-in-one: its items are not documented, but it generates and stores.
_OPAQUE: Final = frozenset({23093})

_NO_IRRADIATION: Final = 40960
_COMMUNICATION_INTERRUPTED: Final = 45056
# The states of a battery rack that tell where its energy goes.
_RACK_DISCHARGES: Final = {4: 1.0, 2: -1.0, 3: -1.0, 5: -1.0}

GRID_COUNTERS: Final[Mapping[int, tuple[str, str]]] = {
    DeviceType.GRID_METER: ("reverse_active_cap", "active_cap"),
    DeviceType.POWER_SENSOR: ("reverse_active_cap", "active_cap"),
    DeviceType.EMMA: ("active_cap", "reverse_active_cap"),
}
"""The counters of what is imported and exported, by device type."""

_MPPTS: Final = tuple(f"mppt_{n}_cap" for n in range(1, 11))
_DC_COUNTERS: Final = ("mppt_total_cap", *_MPPTS)
_STORED: Final = ("charge_cap", "discharge_cap")
# Counters of the same energy, the best first.
_YIELDS: Final = ("total_cap", "day_cap")
_CHARGED: Final = ("total_charged_energy", "charge_cap")
_DISCHARGED: Final = ("total_discharged_energy", "discharge_cap")
# The counter of a device that counts instead of one that stays 0.
_SUBSTITUTES: Final[Mapping[str, str]] = {
    **dict.fromkeys(_DC_COUNTERS, _YIELDS[0]),
    **dict((_YIELDS, _CHARGED, _DISCHARGED)),
}
COUNTERS: Final[Mapping[int, tuple[str, ...]]] = {
    DeviceType.STRING_INVERTER: (*_YIELDS, *_DC_COUNTERS),
    DeviceType.RESIDENTIAL_INVERTER: (*_YIELDS, *_MPPTS[:4]),
    DeviceType.BATTERY: (*_CHARGED, *_DISCHARGED),
    DeviceType.ESS: _STORED,
    DeviceType.GRID_METER: ("active_cap", "reverse_active_cap"),
    DeviceType.POWER_SENSOR: ("active_cap", "reverse_active_cap"),
    DeviceType.EMMA: ("active_cap", "reverse_active_cap"),
}
"""The counters that the energies are made of, by device type."""


def counters_of(type_id: int, types: Collection[int]) -> Collection[str]:
    """Return the counters of a device type that a plant of such types needs.

    Without a battery, what the panels yield is what the inverters do.
    """
    counters = COUNTERS.get(type_id, ())
    if DeviceType.BATTERY in types:
        return counters
    return set(counters).difference(_DC_COUNTERS)


@dataclass(frozen=True)
class Unit:
    """A device of the plant, as last read."""

    type_id: int
    items: DataItems | None
    """A fresh reading, with the powers of meters in W; `None` where there is none."""
    live: bool = True
    """Whether the server surely does not repeat itself."""

    def read(self, key: str) -> float | None:
        """Return a value; a device that has no connection reports none."""
        if self.items is None or self.has_no_connection:
            return None
        return number(self.items.get(key))

    @cached_property
    def has_no_connection(self) -> bool:
        """Whether it says that it is asleep or cannot be reached."""
        items = self.items or {}
        state = number(items.get("inverter_state"))
        return (
            number(items.get("run_state")) == 0 or state == _COMMUNICATION_INTERRUPTED
        )

    @cached_property
    def is_silent(self) -> bool:
        """Whether an inverter without connection reports no power either."""
        items = self.items
        return (
            items is not None
            and self.has_no_connection
            and not number(items.get("active_power"))
        )

    @cached_property
    def output(self) -> float | None:
        """Return an inverter's AC power in W, negative for what it takes."""
        if self.is_silent:
            return 0.0
        power = self.read("active_power")
        if power is None:
            return 0.0 if self.read("inverter_state") == _NO_IRRADIATION else None
        return power * 1000

    @cached_property
    def panels(self) -> float | None:
        """Return the DC power of an inverter's panels in W."""
        return 0.0 if self.is_silent else _watts(self.read("mppt_power"))

    @cached_property
    def imported(self) -> float | None:
        """Return the power at a meter in W, positive for import."""
        power = self.read("active_power")
        voltage = self.read(
            "meter_u" if self.type_id == DeviceType.POWER_SENSOR else "a_u"
        )
        # Not every meter says that it has no connection, but then all it says is 0.
        if power is None or power == voltage == 0:
            return None
        if self.type_id in METERS:
            return 0.0 - power
        # Where mains would take something back, its sign is not what it seems.
        if self.type_id == DeviceType.MAINS and power < 0:
            return None
        return power * 1000

    @property
    def rack_discharge(self) -> float | None:
        """Return the power of a battery rack in W, its direction by its state."""
        power = _watts(self.read("charge_discharge_power"))
        state = self.read("battery_state")
        if not power:
            return power
        if state is None or state not in _RACK_DISCHARGES:
            return None
        return _RACK_DISCHARGES[int(state)] * abs(power)


type Units = Mapping[int, Unit]
"""All devices of a plant, by id."""


@dataclass(frozen=True, slots=True)
class PowerFlow:
    """The powers of a plant at one moment, in W; `None` is unknown or not there."""

    pv: float | None = None
    grid: float | None = None
    """Positive for import."""
    battery: float | None = None
    """Positive for discharge."""
    home: float | None = None

    @property
    def self_consumption(self) -> float | None:
        """Return how much of the PV power is not exported, in percent."""
        if self.pv is None or self.grid is None or self.pv <= 0:
            return None
        return _percent(1 - max(-self.grid, 0.0) / self.pv)

    @property
    def self_sufficiency(self) -> float | None:
        """Return how much of the home's power is not imported, in percent."""
        if self.home is None or self.grid is None or self.home <= 0:
            return None
        return _percent(1 - max(self.grid, 0.0) / self.home)


@dataclass(slots=True)
class MeterEvidence:
    """What readings have told about whether a meter is the one at the grid."""

    mirrored: int = 0
    """Readings that showed just what an inverter yielded."""
    apart: int = 0
    """Readings that showed something else."""
    both_ways: int = 0
    """Positive where it has counted import and export, by its last readings."""

    @property
    def may_be_grid(self) -> bool:
        """Whether it does not repeat an inverter."""
        return self.both_ways > 0 or self.mirrored <= self.apart * OUTWEIGHED

    def weigh(self, unit: Unit, outputs: Iterable[float]) -> None:
        """Take the evidence of the powers of one reading.

        `outputs` are the powers of the inverters and of all of them.
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
        """Take the evidence of what a meter has counted."""
        forward, reverse = unit.read("active_cap"), unit.read("reverse_active_cap")
        if forward is None or reverse is None or max(forward, reverse) <= 0:
            return
        both = min(forward, reverse) > BOTH_WAYS * max(forward, reverse)
        self.both_ways = _voted(self.both_ways, both)


@dataclass(slots=True)
class SignEvidence:
    """What readings have told about the sign of a storage's power."""

    votes: int = 0
    """Positive where charging is."""
    last: DataItems = field(default_factory=dict, init=False)

    @property
    def charging(self) -> float | None:
        """Return the sign of the power while it charges, if that is known."""
        if abs(self.votes) < AGREEING:
            return None
        return 1.0 if self.votes > 0 else -1.0

    def weigh(self, unit: Unit) -> None:
        """Take the evidence of one reading and the one before.

        While the power kept its direction, the day's counters tell which one it was,
        and where they stood still or both moved, the state of charge does.
        """
        keys = ("ch_discharge_power", "battery_soc", *_STORED)
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
        charged, discharged = (rises.get(key, 0.0) for key in _STORED)
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

    A counter that begins to count is recognized with the reading after, so that the
    rise by which it caught up is not counted.
    """

    last: float
    before: float | None = None
    """The value of the reading before the last."""
    counted: float = 0.0
    flowed: float = 0.0
    power: float = 0.0
    """The power of the last reading in W."""
    counts: bool = False
    """Whether it had counted before the last reading."""
    is_dead: bool = False
    """Whether energy flows and is not counted."""

    @property
    def is_zero(self) -> bool:
        """Whether it has never counted anything."""
        return not (self.before or self.counts)

    def follow(self, value: float, power: float, passed: timedelta) -> None:
        """Take the next reading of a counter that does not count yet."""
        self.before = self.last
        self.counts = self.counted > STILL
        self.counted += value - self.last if value >= self.last else value
        self.last = value
        if passed <= LONGEST_GAP:
            # A single power may be false.
            self.flowed += min(power, self.power) / 1000 * (passed / _HOUR)
        self.power = power
        if self.counts:
            self.is_dead = False
        elif self.counted <= STILL:
            self.is_dead = self.flowed > UNCOUNTED


@dataclass(slots=True)
class Evidence:
    """Evidence from the readings of a plant: grid point, signs and dead counters.

    The first two take a few readings at most where the counters or the powers tell;
    where they do not, it stays unknown.
    """

    meters: dict[int, MeterEvidence] = field(default_factory=dict)
    storages: dict[int, SignEvidence] = field(default_factory=dict)
    reported: set[int] = field(default_factory=set)
    """The possible grid points that have reported a power or a counter."""
    activities: dict[str, Activity] = field(default_factory=dict)
    weighed: datetime | None = None
    """Time at which the counters were last weighed."""

    def learn(self, units: Units) -> None:
        """Take the evidence of new readings, once."""
        self.reported |= {
            device_id
            for device_id, unit in _of(units, *GRID_POINTS).items()
            if any(unit.read(key) is not None for key in _GRID_ITEMS)
        }
        for device_id, unit in _of(units, DeviceType.ESS).items():
            self.storages.setdefault(device_id, SignEvidence()).weigh(unit)
        meters = _of(units, *METERS)
        for device_id, unit in meters.items():
            self.meters.setdefault(device_id, MeterEvidence()).weigh_counters(unit)
        inverters = _of(units, *INVERTERS).values()
        outputs = [unit.output for unit in inverters if not unit.is_silent]
        known = [output for output in outputs if output is not None]
        # An inverter that is silent may be asleep, or yield without saying so.
        if len(known) < len(inverters) or _of(units, *_OPAQUE):
            return
        for device_id, unit in meters.items():
            self.meters[device_id].weigh(unit, [sum(known), *known])

    def weigh_counters(
        self, units: Units, counts: Counts, home: float | None, at: datetime
    ) -> None:
        """Take how far counters have counted, and the powers that they should count.

        `home` is the home's power; a counter of the plant has no device id.
        """
        is_first = self.weighed is None
        passed = at - (self.weighed or at)
        self.weighed = at
        powers = self._counted_powers(units)
        for key, count in counts.items():
            name = _name(*key)
            activity = self.activities.get(name)
            if count is None or (activity and activity.counts):
                continue
            unit = units.get(key[0] or 0)
            power = max(powers.get(key) or 0.0, 0.0)
            if key == DAY_USE:
                power = home or 0.0
            if activity is None:
                # Of a new counter no rise is known yet.
                before = count.value if is_first else None
                self.activities[name] = Activity(count.value, before, power=power)
                continue
            # A row that is repeated says nothing, nor does a value that is in doubt.
            if not count.sure or (unit is not None and not unit.live):
                power = 0.0
            activity.follow(count.value, power, passed)

    def _counted_powers(self, units: Units) -> dict[CounterId, float]:
        """Return the power in W that each counter should count, where it is known."""
        powers: dict[CounterId, float | None] = {}
        batteries = _of(units, DeviceType.BATTERY)
        charges = {
            device_id: unit.read("ch_discharge_power")
            for device_id, unit in batteries.items()
        }
        discharged = sum(max(-(charge or 0.0), 0.0) for charge in charges.values())
        for device_id, unit in _of(units, *INVERTERS).items():
            output = unit.output
            panels = max(unit.panels or 0.0, (output or 0.0) - discharged)
            powers |= {(device_id, key): output for key in _YIELDS}
            powers |= {(device_id, key): panels for key in _DC_COUNTERS}
        for device_id, unit in _of(units, DeviceType.ESS).items():
            power = self._discharge_of(device_id, unit)
            charges[device_id] = None if power is None else -power
        for device_id, charge in charges.items():
            given = None if charge is None else -charge
            powers |= {(device_id, key): charge for key in _CHARGED}
            powers |= {(device_id, key): given for key in _DISCHARGED}
        for device_id, unit in _of(units, *GRID_COUNTERS).items():
            imported, exported = GRID_COUNTERS[unit.type_id]
            power = unit.imported
            powers[device_id, imported] = power
            powers[device_id, exported] = None if power is None else -power
        return {key: power for key, power in powers.items() if power is not None}

    def is_dead(self, key: CounterId) -> bool:
        """Return whether a counter stands still while energy flows."""
        activity = self.activities.get(_name(*key))
        return activity is not None and activity.is_dead

    def usable(self, counts: Counts) -> Counts:
        """Return the counts without those of counters that do not count.

        These are dead counters, those that are still 0 while there is another one for
        the same energy, and those that are new, of which no rise is known yet.
        """
        usable = dict(counts)
        for device_id, key in counts:
            activity = self.activities.get(_name(device_id, key))
            substitute = device_id, _SUBSTITUTES.get(key, "")
            if (
                activity is None
                or activity.before is None
                or activity.is_dead
                or (activity.is_zero and counts.get(substitute) is not None)
            ):
                usable[device_id, key] = None
        for device_id in {device_id for device_id, key in counts if key in _MPPTS}:
            # A tracker that has counted is missing in the sum of the others.
            trackers = [(device_id, key) for key in _MPPTS]
            if any(
                (count := counts.get(key)) and count.value and usable[key] is None
                for key in trackers
            ):
                usable |= dict.fromkeys(trackers)
        return usable

    def storage_discharge(self, units: Units) -> float | None:
        """Return what the storages on the AC side deliver, in W."""
        return _sum(
            self._discharge_of(device_id, unit)
            for device_id, unit in _of(units, DeviceType.ESS).items()
        )

    def _discharge_of(self, device_id: int, unit: Unit) -> float | None:
        power = unit.read("ch_discharge_power")
        sign = self.storages.get(device_id, SignEvidence()).charging
        if power and sign is None:
            return None
        return power and -power * (sign or 1.0)

    def grid_point(self, units: Units, chosen: int | None = None) -> int | None:
        """Return the device where the plant meets the grid, if that is sure.

        It is the chosen one, if the plant has it; or the EMMA; or the only meter,
        unless it repeats an inverter; or, of several meters, the only one that has
        counted both ways. Devices that have never reported anything are passed over.
        """
        points = _of(units, *GRID_POINTS)
        if chosen in points:
            return chosen
        if reported := self.reported & points.keys():
            points = {device_id: points[device_id] for device_id in reported}
        if energy_managers := _of(points, DeviceType.EMMA):
            return _only(energy_managers)
        if _of(points, DeviceType.MAINS):
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


def power_flow(units: Units, evidence: Evidence, point: int | None) -> PowerFlow:
    """Return a plant's powers; `point` is the device where it meets the grid."""
    grid = None if point is None else units[point].imported
    if _of(units, *_OPAQUE):
        return PowerFlow(grid=grid)
    pv, battery, supply = _behind_inverters(units)
    stored = evidence.storage_discharge(units)
    racks = _of(units, DeviceType.BATTERY_RACK)
    parts = [battery] if _of(units, DeviceType.BATTERY) else []
    parts += [stored] if _of(units, DeviceType.ESS) else []
    parts += [unit.rack_discharge for unit in racks.values()]
    converters = _of(units, DeviceType.POWER_CONVERTER)
    if converters:
        powers = [_watts(unit.read("pv_input_power")) for unit in converters.values()]
        pv = _sum([*([pv] if _of(units, *INVERTERS) else []), *powers])
    home = None
    # What a telecom site uses is on both sides of its rectifiers.
    if grid is not None and supply is not None and not _of(units, *_POWER_M):
        home = None if stored is None else supply + stored + grid
    if home is not None and home < 0:
        contradictory = home < -_noise(supply or 0.0, stored or 0.0, grid or 0.0)
        inverters = _of(units, *INVERTERS).values()
        if contradictory and any(unit.is_silent for unit in inverters):
            # What is exported comes from an inverter that only seems to be asleep.
            pv = None
        home = None if contradictory else 0.0
    return PowerFlow(
        _rounded(pv),
        _rounded(grid),
        _rounded(_sum(parts)) if parts else None,
        _rounded(home),
    )


def _behind_inverters(
    units: Units,
) -> tuple[float | None, float | None, float | None]:
    """Return PV, battery on the DC side, and what both deliver, on the AC side."""
    inverters = _of(units, *INVERTERS).values()
    if not inverters:
        return None, None, None
    output = _sum(unit.output for unit in inverters)
    silent = any(unit.is_silent for unit in inverters)
    batteries = _of(units, DeviceType.BATTERY).values()
    if not batteries:
        if output is None or (silent and output > NOISE):
            # By day, whoever is silent has lost its connection.
            return None, None, None
        pv = max(output, 0.0)
        return pv, None, pv
    charge = _sum(unit.read("ch_discharge_power") for unit in batteries)
    battery = None if charge is None else 0.0 - charge
    if silent and output is not None:
        if output > NOISE or abs(battery or 0.0) > NOISE:
            output = None
        elif battery is None:
            return max(output, 0.0), None, None
    if output is None:
        return None, battery, None
    panels = _sum(unit.panels for unit in inverters)
    if battery is None:
        return 0.0 if panels == 0 else None, None, output
    pv, battery = _shares(output, panels, battery)
    return pv, battery, pv + battery


def _shares(output: float, panels: float | None, battery: float) -> tuple[float, float]:
    """Share an AC output between PV and battery; their DC powers tell how."""
    if output <= 0 <= battery:
        return 0.0, 0.0
    if battery > 0 and panels is not None:
        pv = output * max(panels, 0.0) / (max(panels, 0.0) + battery)
    else:
        pv = max(output - battery, 0.0)
        if panels is not None:
            # Readings of different moments would make more of it than there is.
            pv = min(pv, max(panels, 0.0))
    return pv, output - pv


class Count(NamedTuple):
    """Energy of a filtered counter."""

    value: float
    start: datetime | None = None
    """When its period began; `None` for lifetime counters."""
    sure: bool = True
    """Whether the last reading bears it out, or it is only what was true before."""
    read: datetime | None = None
    """When it was last read."""
    reset_seen: bool = True
    """Whether it has started over in its period."""

    @property
    def reading(self) -> tuple[float, float | None, float | None, bool]:
        """Return what a tally takes of it."""
        if self.start is None:
            return self.value, None, None, self.reset_seen
        read = None if self.read is None else self.read.timestamp()
        return self.value, self.start.timestamp(), read, self.reset_seen

    @classmethod
    def of(cls, counter: CounterFilter, raw: float | None) -> Self | None:
        """Return the energy of a filter after a reading; `None` is nothing yet.

        That is less than it publishes where a rise turned out to be false.
        """
        if counter.counted is None:
            return None
        sure = raw is not None and raw >= 0 and not counter.is_incomplete
        return cls(
            counter.counted, counter.start, sure, counter.read, counter.reset_seen
        )


type CounterId = tuple[int | None, str]
"""The device and the data item of a counter; one of the plant has no device."""

type Counts = Mapping[CounterId, Count | None]
"""Values of the counters of a plant and its devices."""

DAY_USE: Final = (None, "day_use_energy")
"""The plant's own counter of what was used on the day."""

type Terms = Mapping[str, Count | None]


@dataclass(slots=True)
class Balance:
    """A counter that is made of counters: it gains with some and loses with others.

    It never falls. Readings of different moments may make the balance dip: then it
    stays where it was until the balance is there again. It stays, too, while a loss is
    not sure, since it would be too high without; gains may be old or missing. What was
    missed arrives later.

    It begins with 0: what was counted before is not its own. Nothing is gained by the
    first value of a counter that is new, and all of it by the first value of a new day.
    """

    value: float | None = None
    level: float = 0.0
    """The balance, which may be below the value."""
    tallies: dict[str, Tally] = field(default_factory=dict)
    is_ahead: bool = False
    """Whether the value is of a later moment than the level."""
    is_read: bool = field(default=False, init=False)
    """Whether counters were read since the state was restored."""

    def resume(self, recorded: float) -> None:
        """Go on from a value that was recorded later than this state."""
        if self.value is not None and recorded <= self.value:
            return
        self.value = recorded
        if self.tallies and not self.is_read:
            # The counters may have counted that, or even more.
            self.is_ahead = True
        else:
            self.level = max(self.level, recorded)

    def update(
        self, gains: Terms, losses: Terms | None = None, spare: Terms | None = None
    ) -> float | None:
        """Take what the counters show, and return what the balance has come to.

        `spare` are counters that may take the place of others later. They are followed,
        so that nothing is lost or added then.
        """
        losses = losses or {}
        terms = {**(spare or {}), **gains, **losses}
        known = {key: count for key, count in terms.items() if count is not None}
        tallies = {key: each for key, each in self.tallies.items() if key in terms}
        is_followed = losses.keys() <= tallies.keys()
        gained = 0.0
        for key, count in known.items():
            if key not in tallies:
                tallies[key] = Tally(*count.reading)
                continue
            tallies[key], counted, left_out = tallies[key].follow(*count.reading)
            if key in losses:
                gained -= counted + left_out
            elif key in gains:
                gained += counted + left_out
        self.tallies = tallies
        self.is_read = True
        if known.keys().isdisjoint(gains):
            return self.value
        if self.value is None:
            self.value = 0.0 if losses.keys() <= known.keys() else None
        elif is_followed:
            self.level = round(self.level + gained, 6)
            if self.is_ahead:
                self.is_ahead = False
                self.level = max(self.level, self.value)
            if all(key in known and known[key].sure for key in losses):
                self.value = max(self.level, self.value)
        return self.value


@dataclass(slots=True)
class Integral:
    """The energy of a power that nothing counts, in kWh.

    Between two readings it takes the mean. That is right for what changes slowly; what
    comes and goes within the minutes between is only right on average.
    """

    value: float = 0.0
    last: tuple[datetime, float] | None = None
    """Time and size of the last power."""

    def update(self, power: float | None, at: datetime) -> float:
        """Take a power in W, or that it is unknown, and return the energy so far."""
        if power is None:
            return self.value
        power = max(power, 0.0)
        if self.last is not None:
            since, before = self.last
            if timedelta() < at - since <= LONGEST_GAP:
                hours = (at - since) / timedelta(hours=1)
                gained = (before + power) / 2 / 1000 * hours
                self.value = round(self.value + gained, 9)
        self.last = at, power
        return self.value


@dataclass(slots=True)
class HomeEnergy:
    """What the home has used, in kWh.

    It is what the inverters have yielded and what was imported and discharged, less
    what was exported and charged, and less what the inverters took: to charge a battery
    from the grid, or while they slept. Only the latter is an integral, since nothing
    counts it. Where counters are missing, it is what the plant itself says, and where
    that says nothing, the integral of the home's power.
    """

    balance: Balance = field(default_factory=Balance)
    inverter_use: Integral = field(default_factory=Integral)
    """What the inverters have taken."""
    home_use: Integral = field(default_factory=Integral)
    """The integral of the home's power."""
    terms: tuple[Terms, Terms] | None = field(default=None, init=False)
    """What it gains and loses with, if it can be counted."""

    @property
    def value(self) -> float | None:
        """Return what has been used so far."""
        return self.balance.value

    @property
    def taken(self) -> Terms:
        """Return what the inverters have taken."""
        return {"taken": Count(self.inverter_use.value)}

    def resume(self, recorded: float) -> None:
        """Go on from a value that was recorded later than this state."""
        self.balance.resume(recorded)

    def update(
        self,
        units: Units,
        counts: Counts,
        usable: Counts,
        flow: PowerFlow,
        *,
        point: int | None,
        at: datetime,
    ) -> float | None:
        """Take new readings, and return what has been used so far.

        `usable` are the counts of counters that count, and `point` is the grid point.
        """
        outputs = _sum(unit.output for unit in _of(units, *INVERTERS).values())
        self.inverter_use.update(None if outputs is None else -outputs, at)
        taken = self.taken
        used = Count(self.home_use.update(flow.home, at))
        self.terms = terms = home_terms(units, usable, point)
        spare = {**as_terms(counts), **taken, "used": used}
        # Without a meter at the grid, nobody can know what a home uses.
        if point is None or units[point].type_id not in GRID_COUNTERS:
            return self.balance.update({}, spare=spare)
        if terms is not None and None not in {**terms[0], **terms[1]}.values():
            gains, losses = terms
            return self.balance.update(gains, {**losses, **taken}, spare)
        if usable.get(DAY_USE) is not None:
            return self.balance.update(_terms(usable, [DAY_USE]), spare=spare)
        return self.balance.update({"used": used}, spare=spare)


def home_terms(
    units: Units, counts: Counts, point: int | None
) -> tuple[Terms, Terms] | None:
    """Return what the home's energy gains and loses with, if it can be counted."""
    inverters = _of(units, *INVERTERS)
    if not inverters or point is None or _of(units, *_POWER_M, *_OPAQUE):
        return None
    imported, exported = GRID_COUNTERS[units[point].type_id]
    storages = _of(units, DeviceType.ESS)
    gains = [_counting(device_id, counts, _YIELDS) for device_id in inverters]
    gains += [(point, imported)]
    gains += [(device_id, "discharge_cap") for device_id in storages]
    losses = [(point, exported)]
    losses += [(device_id, "charge_cap") for device_id in storages]
    # An idle storage repeats itself, but one that charges does not.
    repeated = {
        device_id
        for device_id, unit in {point: units[point], **storages}.items()
        if not unit.live and (device_id == point or unit.read("ch_discharge_power"))
    }
    lost = {
        key: count._replace(sure=False) if count and key[0] in repeated else count
        for key, count in counts.items()
    }
    return _terms(counts, gains), _terms(lost, losses)


def pv_terms(units: Units, counts: Counts) -> tuple[Terms, Terms] | None:
    """Return what the panels' energy is made of.

    That is what the inverters have yielded, unless a battery behind them hides it. Then
    it is their DC energy, where they count that. Otherwise it is what they have yielded
    and what went into the battery, less what came out of it and what the inverters took,
    which is lower by their losses.
    """
    inverters = _of(units, *INVERTERS)
    batteries = _of(units, DeviceType.BATTERY)
    if not inverters or _of(units, *_OPAQUE):
        return None
    yields = [_counting(device_id, counts, _YIELDS) for device_id in inverters]
    if not batteries:
        return _terms(counts, yields), {}
    gains: list[CounterId] = []
    for device_id in inverters:
        total = device_id, "mppt_total_cap"
        trackers = [(device_id, key) for key in _MPPTS]
        counted = [key for key in trackers if counts.get(key) is not None]
        if counts.get(total) is not None:
            counted = [total]
        if not counted:
            break
        gains += counted
    else:
        return _terms(counts, gains), {}
    gains = yields
    losses: list[CounterId] = []
    for device_id in batteries:
        gains.append(_counting(device_id, counts, _CHARGED))
        losses.append(_counting(device_id, counts, _DISCHARGED))
    return _terms(counts, gains), _terms(counts, losses)


def storage_terms(
    units: Units, counts: Counts, *, charged: bool
) -> tuple[Terms, Terms] | None:
    """Return what the energy is made of that the storages were charged with, or gave."""
    storages = _of(units, DeviceType.BATTERY, DeviceType.ESS)
    if not storages:
        return None
    candidates = _CHARGED if charged else _DISCHARGED
    keys = [_counting(device_id, counts, candidates) for device_id in storages]
    return _terms(counts, keys), {}


def _counting(device_id: int, counts: Counts, candidates: Sequence[str]) -> CounterId:
    """Return the first counter of a device that counts, or else the last."""
    keys = [(device_id, key) for key in candidates]
    return next((key for key in keys if counts.get(key) is not None), keys[-1])


def as_terms(counts: Counts) -> dict[str, Count | None]:
    """Return counts as terms."""
    return _terms(counts, counts)


def _terms(counts: Counts, keys: Iterable[CounterId]) -> dict[str, Count | None]:
    return {_name(*key): counts.get(key) for key in keys}


def _name(device_id: int | None, key: str) -> str:
    return key if device_id is None else f"{device_id}_{key}"


def _of(units: Units, *type_ids: int) -> dict[int, Unit]:
    return {key: unit for key, unit in units.items() if unit.type_id in type_ids}


def _only(ids: Iterable[int]) -> int | None:
    first, *others = [*ids, None]
    return first if others == [None] else None


def _sum(values: Iterable[float | None]) -> float | None:
    """Return a sum, which is unknown if a part of it is."""
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total


def _watts(kilowatts: float | None) -> float | None:
    return None if kilowatts is None else kilowatts * 1000


def _noise(*powers: float) -> float:
    return max(NOISE, NOISE_SHARE * max(map(abs, powers)))


def _voted(votes: int, yes: bool) -> int:
    return max(min(votes + (1 if yes else -1), FIRM), -FIRM)


def _percent(share: float) -> float:
    return round(100 * min(max(share, 0.0), 1.0), 1)


def _rounded(power: float | None) -> float | None:
    # Adding 0 turns -0.0 into 0.0.
    return None if power is None else round(power, 3) + 0
