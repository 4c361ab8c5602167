"""The energy of a site: powers on a minute grid, and their exact integrals.

A simulated day lasts 24 hours from 03:00 local standard time, or from another hour of
the site. By then the battery is empty, so that every day is independent of the day
before, and any time can be calculated directly. Powers are constant within a minute,
which makes their integral exact at any time.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import IntEnum
from functools import cached_property, lru_cache
from zoneinfo import ZoneInfo

import numpy as np

from .load import Load, load_power
from .sun import MINUTES, Array, Place, Roof, panel_power, sky_over

_DAY = 86400
_HOURS = 24
_FIRST_HOUR = 3
# Days that are summed together: large enough for speed, small enough for a cache.
_BLOCK = 128
_DAYS_KEPT = 32
_GROUP = 8
_STEERING_MINUTES = 180


class Row(IntEnum):
    """The rows of a power table, in W; the roofs' DC powers follow after PV."""

    YIELD = 0
    OUTPUT = 1
    STANDBY = 2
    LOAD = 3
    IMPORT = 4
    EXPORT = 5
    CHARGE = 6
    DISCHARGE = 7
    LOSSES = 8
    GENSET = 9
    IRRADIATION = 10
    PV = 11


class State(IntEnum):
    """The rows of a state table: measured values without an integral."""

    SOC = 0
    AIR_TEMPERATURE = 1
    CELL_TEMPERATURE = 2
    WIND_SPEED = 3
    OPENED = 4
    CLOSED = 5


@dataclass(frozen=True, slots=True)
class Schedule:
    """Local hours in which a battery keeps the grid power constant, + for import."""

    start: float
    end: float
    grid_w: float


@dataclass(frozen=True, slots=True)
class Battery:
    """A battery on the DC or AC side; without a schedule, it uses the surplus."""

    capacity_wh: float
    power_w: float
    side: str = "dc"
    floor: float = 0.05
    efficiency: float = 0.97
    schedules: tuple[Schedule, ...] = ()


@dataclass(frozen=True, slots=True)
class Day:
    """One simulated day: powers, energies since its start (Wh), and states."""

    powers: Array
    energies: Array
    states: Array


@dataclass(slots=True)
class _Days:
    """The calculated days of a site, and its energies at full hours, by block."""

    days: OrderedDict[int, Day] = field(default_factory=OrderedDict)
    hours: dict[int, Array] = field(default_factory=dict)
    energies: dict[int, Array] = field(default_factory=dict)


@lru_cache(maxsize=32)
def _days_of(site: Site) -> _Days:
    """Return shared tables of equal sites, because every test creates its own site."""
    return _Days()


@dataclass(frozen=True)
class Site:
    """A place with roofs, an inverter, perhaps a battery, and a load."""

    place: Place
    time_zone: ZoneInfo
    roofs: tuple[Roof, ...]
    ac_limit_w: float
    load: Load
    battery: Battery | None = None
    export: bool = True
    genset: bool = False
    efficiency: float = 0.976
    standby_w: float = 0.0
    seed: int = 1
    commissioned: date = date(2025, 1, 1)
    first_hour: int = _FIRST_HOUR

    @cached_property
    def _kept(self) -> _Days:
        return _days_of(self)

    @cached_property
    def _shift(self) -> int:
        """Return the constant UTC offset of the simulated days."""
        january = datetime(2025, 1, 15, tzinfo=self.time_zone)
        standard = (january.utcoffset() or timedelta()) - (january.dst() or timedelta())
        return int(standard.total_seconds()) - self.first_hour * 3600

    @cached_property
    def _first(self) -> int:
        noon = datetime.combine(self.commissioned, time(12), tzinfo=self.time_zone)
        return self._index(noon.timestamp())

    @property
    def begin(self) -> float:
        """Return the epoch of the first simulated moment."""
        return self._start(self._first)

    def _index(self, epoch: float) -> int:
        return int((epoch + self._shift) // _DAY)

    def _start(self, index: int) -> float:
        return float(index * _DAY - self._shift)

    def day_start(self, epoch: float) -> float:
        """Return the start of the simulated day that contains a time."""
        return self._start(self._index(epoch))

    def power(self, epoch: float) -> Array:
        """Return every row's power at a moment, W."""
        day, minute, _ = self._at(epoch)
        return day.powers[:, minute]

    def state(self, epoch: float) -> Array:
        """Return every state at a moment."""
        day, minute, _ = self._at(epoch)
        return day.states[:, minute]

    def energy(self, epoch: float) -> Array:
        """Return every row's energy since commissioning, exact, in Wh."""
        index = self._index(epoch)
        hour, rest = divmod(epoch - self._start(index), 3600)
        if rest == 0 and index >= self._first:
            # Reports of any past day need no calculation of that day.
            return self._at_hour(index, int(hour))
        day, minute, rest = self._at(epoch)
        before = self._at_hour(index, 0)
        return before + day.energies[:, minute] + day.powers[:, minute] * (rest / 3600)

    def energy_kept(self, epoch: int) -> Array:
        """Return the energy at a time that is requested repeatedly."""
        if (kept := self._kept.energies.get(epoch)) is None:
            kept = self._kept.energies[epoch] = self.energy(epoch)
        return kept

    def _at(self, epoch: float) -> tuple[Day, int, float]:
        index = self._index(epoch)
        if index < self._first:
            raise ValueError(f"Nothing is known before {self.commissioned}")
        minute, rest = divmod(epoch - self._start(index), 60)
        return self._day(index), int(minute), rest

    def _day(self, index: int) -> Day:
        if (day := self._kept.days.get(index)) is not None:
            self._kept.days.move_to_end(index)
            return day
        # Eight days take hardly longer than one, and history requests the next days.
        first = index - index % _GROUP
        rows, states = self._play(range(first, first + _GROUP))
        for number in range(_GROUP):
            powers = np.array([row[number] for row in rows])
            energies = np.zeros((len(rows), MINUTES + 1))
            np.cumsum(powers / 60, axis=1, out=energies[:, 1:])
            self._kept.days[first + number] = Day(
                powers, energies, np.array([state[number] for state in states])
            )
        while len(self._kept.days) > _DAYS_KEPT:
            self._kept.days.popitem(last=False)
        return self._kept.days[index]

    def _at_hour(self, index: int, hour: int) -> Array:
        """Return the energy from commissioning to a full hour of a day, Wh."""
        block, offset = divmod(index - self._first, _BLOCK)
        for number in range(len(self._kept.hours), block + 1):
            self._kept.hours[number] = self._sum(number)
        return self._kept.hours[block][:, offset * _HOURS + hour]

    def _sum(self, block: int) -> Array:
        first = self._first + block * _BLOCK
        rows, _ = self._play(range(first, first + _BLOCK))
        sums = np.zeros((len(rows), _BLOCK * _HOURS + 1))
        if block:
            sums[:, 0] = self._kept.hours[block - 1][:, -1]
        for row, powers in enumerate(rows):
            sums[row, 1:] = powers.reshape(-1, 60).sum(axis=1) / 60
        return np.cumsum(sums, axis=1)

    def _play(self, indices: range) -> tuple[list[Array], list[Array]]:
        """Calculate whole days; return the rows and the states, each [day, minute]."""
        starts = np.array([self._start(index) for index in indices])
        sky = sky_over(self.place, self.roofs, starts, (self.seed, 1))
        panels = [
            panel_power(roof, light, cell)
            for roof, light, cell in zip(
                self.roofs, sky.irradiance, sky.cell_temperature, strict=True
            )
        ]
        available: Array = np.sum(panels, axis=0)
        load = load_power(self.load, self.time_zone, starts, (self.seed, 2))
        hours = _local_hours(self.time_zone, starts)
        if self.battery and self.battery.side == "dc":
            shares = self._share_dc(self.battery, available, load, hours)
        else:
            shares = self._share_ac(available, load, hours)
        standby = np.where(shares.output > 0, 0.0, self.standby_w) + shares.taken
        grid = load + standby - shares.output - shares.battery_ac
        imported, exported = np.maximum(grid, 0.0), np.maximum(-grid, 0.0)
        genset = np.zeros_like(grid)
        if self.genset:
            # A test run of a quarter of an hour, once a week.
            testing = np.array(indices) % 7 == 0
            genset[testing, 420:435] = imported[testing, 420:435]
        used = np.divide(
            shares.pv, available, out=np.zeros_like(grid), where=available > 0
        )
        rows = {
            Row.YIELD: shares.yielded,
            Row.OUTPUT: shares.output,
            Row.STANDBY: standby,
            Row.LOAD: load,
            Row.IMPORT: imported,
            Row.EXPORT: exported,
            Row.CHARGE: shares.charge,
            Row.DISCHARGE: shares.discharge,
            Row.LOSSES: np.maximum(
                shares.pv
                + imported
                + shares.discharge
                - load
                - exported
                - shares.charge,
                0.0,
            ),
            Row.GENSET: genset,
            Row.IRRADIATION: sky.irradiance[0],
        }
        opened, closed = _switching(shares.output, starts)
        states = {
            State.SOC: shares.soc,
            State.AIR_TEMPERATURE: sky.air_temperature,
            State.CELL_TEMPERATURE: sky.cell_temperature[0],
            State.WIND_SPEED: sky.wind_speed,
            State.OPENED: opened,
            State.CLOSED: closed,
        }
        return (
            [rows[row] for row in sorted(rows)] + [panel * used for panel in panels],
            [states[state] for state in State],
        )

    def _share_dc(
        self, battery: Battery, available: Array, load: Array, hours: Array
    ) -> _Shares:
        """Distribute the power with the battery behind the inverter."""
        # Without any export, the inverter follows the load.
        limit = np.minimum(self.ac_limit_w, np.inf if self.export else load)
        wanted = _wanted(battery, load, hours)
        losses = np.where(wanted < 0, self.efficiency, 1 / self.efficiency)
        want = available - wanted * losses
        headroom = np.maximum(limit / self.efficiency - available, 0.0)
        charge, discharge, soc = _run(battery, want, headroom)
        passed_on = available - charge + discharge
        output = np.minimum(np.maximum(passed_on, 0.0) * self.efficiency, limit)
        # The panels deliver only the power that the inverter can convert.
        pv = np.maximum(output / self.efficiency + charge - discharge, 0.0)
        taken = np.maximum(-passed_on, 0.0)
        pv = np.where(taken > 0, available, pv)
        return _Shares(
            pv=pv,
            yielded=pv * self.efficiency,
            output=output,
            taken=taken / self.efficiency,
            charge=charge,
            discharge=discharge,
            battery_ac=np.zeros_like(pv),
            soc=soc,
        )

    def _share_ac(self, available: Array, load: Array, hours: Array) -> _Shares:
        """Distribute the power with a separate inverter for the battery, if any."""
        pv = np.minimum(available, self.ac_limit_w / self.efficiency)
        ratio = pv / self.ac_limit_w
        output = np.minimum(
            pv * self.efficiency * np.sqrt(ratio / (ratio + 0.008)), self.ac_limit_w
        )
        charge = discharge = soc = np.zeros_like(pv)
        if self.battery:
            surplus = output - _wanted(self.battery, load, hours)
            unlimited = np.full_like(surplus, np.inf)
            charge, discharge, soc = _run(self.battery, surplus, unlimited)
        return _Shares(
            pv=pv,
            yielded=output,
            output=output,
            taken=np.zeros_like(pv),
            charge=charge,
            discharge=discharge,
            battery_ac=discharge - charge,
            soc=soc,
        )


@dataclass(frozen=True, slots=True)
class _Shares:
    """The distribution of the power in W, and the battery's state of charge."""

    pv: Array
    yielded: Array
    output: Array
    taken: Array
    charge: Array
    discharge: Array
    battery_ac: Array
    soc: Array


def _local_hours(time_zone: ZoneInfo, starts: Array) -> Array:
    """Return the hour of the local day, with fractions, [day, minute]."""
    hours = np.empty((len(starts), MINUTES))
    for row, start in enumerate(starts):
        noon = datetime.fromtimestamp(start, UTC) + timedelta(hours=9)
        offset = (noon.astimezone(time_zone).utcoffset() or timedelta()).total_seconds()
        hours[row] = (start + offset + np.arange(MINUTES) * 60) % _DAY / 3600
    return hours


def _wanted(battery: Battery, load: Array, hours: Array) -> Array:
    """Return the AC power requested from panels and battery."""
    wanted = load
    for each in battery.schedules:
        active = (hours >= each.start) & (hours < each.end)
        wanted = np.where(active, load - each.grid_w, wanted)
    return wanted


def _run(battery: Battery, want: Array, headroom: Array) -> tuple[Array, Array, Array]:
    """Run the battery for `want`: + is a surplus to store, - a demand to cover."""
    charge = np.clip(want, 0.0, battery.power_w).T.copy()
    discharge = np.clip(-want, 0.0, np.minimum(battery.power_w, headroom)).T.copy()
    free = np.minimum(battery.power_w, headroom).T
    soc = np.empty_like(charge)
    floor = battery.capacity_wh * battery.floor
    stored = np.full(charge.shape[1], floor)
    into, out_of = battery.efficiency / 60, 1 / battery.efficiency / 60
    for minute in range(MINUTES):
        soc[minute] = stored
        if (left := MINUTES - minute) <= _STEERING_MINUTES:
            # A battery that is not empty at the end of the night is emptied gradually.
            charge[minute] = 0.0
            pace = np.minimum((stored - floor) / left / out_of, free[minute])
            np.maximum(discharge[minute], pace, out=discharge[minute])
        np.minimum(
            charge[minute], (battery.capacity_wh - stored) / into, out=charge[minute]
        )
        np.minimum(discharge[minute], (stored - floor) / out_of, out=discharge[minute])
        stored = stored + charge[minute] * into - discharge[minute] * out_of
        np.maximum(stored, floor, out=stored)
    return charge.T, discharge.T, soc.T / battery.capacity_wh * 100


def _switching(output: Array, starts: Array) -> tuple[Array, Array]:
    """Return the epoch of the day's last start and last stop so far, 0 for none."""
    moments = starts[:, None] + np.arange(MINUTES) * 60.0
    running = output > 0
    before = np.zeros_like(running)
    before[:, 1:] = running[:, :-1]
    opened = np.maximum.accumulate(np.where(running & ~before, moments, 0.0), axis=1)
    closed = np.maximum.accumulate(np.where(~running & before, moments, 0.0), axis=1)
    return opened, closed
