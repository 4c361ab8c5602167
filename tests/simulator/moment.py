"""A plant at one time, with all values its devices can measure."""

from datetime import date, datetime, time
from functools import cached_property
import math
from random import Random
from zoneinfo import ZoneInfo

from .energy import Row, State
from .plants import Plant
from .sun import Array

COLLECTION_SECONDS = 300

# Other counters per kWh of yield before registration.
_EARLIER = {
    Row.YIELD: 1.0,
    Row.OUTPUT: 0.98,
    Row.LOAD: 1.1,
    Row.IMPORT: 0.55,
    Row.EXPORT: 0.45,
    Row.CHARGE: 0.25,
    Row.DISCHARGE: 0.235,
}
_EARLIER_PV = 1.03
# Ratios of instantaneous powers to the mean of their minute.
_INSTANT_LIGHT = 0.8, 1.1
_INSTANT_LOAD = 0.6, 1.4


def last_collection(epoch: float) -> int:
    """Return the last collection of the cloud before a time."""
    return int(epoch // COLLECTION_SECONDS * COLLECTION_SECONDS)


def midnight_of(day: date, time_zone: ZoneInfo) -> int:
    """Return the local midnight at which a day starts."""
    return int(datetime.combine(day, time(), tzinfo=time_zone).timestamp())


def midnight(epoch: float, time_zone: ZoneInfo) -> int:
    """Return the last local midnight."""
    return midnight_of(datetime.fromtimestamp(epoch, time_zone).date(), time_zone)


def first_of_month(epoch: float, time_zone: ZoneInfo) -> int:
    """Return the local midnight of the last first of a month."""
    day = datetime.fromtimestamp(epoch, time_zone).date()
    return midnight_of(day.replace(day=1), time_zone)


class Moment:
    """A plant at one time; powers in W, energies in kWh."""

    def __init__(self, plant: Plant, epoch: int) -> None:
        """Store the plant and the time."""
        self.plant = plant
        self.epoch = epoch
        self._site = plant.site
        self._power = self._site.power(epoch) * plant.size
        if plant.instantaneous:
            self._power = self._instant(self._power)
        self._state = self._site.state(epoch)

    def power(self, row: int) -> float:
        """Return a power in W."""
        return float(self._power[row])

    def state(self, row: State) -> float:
        """Return a measured value without an integral."""
        return float(self._state[row])

    @cached_property
    def _energy(self) -> Array:
        return self._site.energy(self.epoch)

    def _since(self, start: int, row: int) -> float:
        start = max(start, int(self._site.begin))
        energy = self._energy[row] - self._site.energy_kept(start)[row]
        return float(energy * self.plant.size / 1000)

    def today(self, row: int) -> float:
        """Return the energy since local midnight."""
        return self._since(midnight(self.epoch, self.plant.time_zone), row)

    def this_month(self, row: int) -> float:
        """Return the energy since the local first of the month."""
        return self._since(first_of_month(self.epoch, self.plant.time_zone), row)

    def lifetime(self, row: int) -> float:
        """Return the energy since the start of the counter."""
        roofs = len(self._site.roofs)
        ratio = _EARLIER_PV / roofs if row >= Row.PV else _EARLIER.get(Row(row), 0.0)
        grown = float(self._energy[row]) * self.plant.size / 1000
        return grown + ratio * self.plant.earlier_yield_kwh

    def _instant(self, mean: Array) -> Array:
        """Return instantaneous powers: loads and clouds change within a minute."""
        dice = self.dice("instant")
        power = mean.copy()
        light = dice.uniform(*_INSTANT_LIGHT)
        for row in (Row.YIELD, Row.OUTPUT, Row.IRRADIATION):
            power[row] *= light
        power[Row.PV :] *= light
        power[Row.LOAD] *= dice.uniform(*_INSTANT_LOAD)
        # The grid delivers the difference, not the battery.
        changes = power - mean
        grid = power[Row.IMPORT] - power[Row.EXPORT]
        grid += changes[Row.LOAD] - changes[Row.OUTPUT]
        power[Row.IMPORT], power[Row.EXPORT] = max(grid, 0.0), max(-grid, 0.0)
        return power

    @property
    def pv(self) -> float:
        """Return the DC power of all panels."""
        return float(self._power[Row.PV :].sum())

    @property
    def inverter_power(self) -> float:
        """Return the inverters' AC power, negative while they sleep."""
        return self.power(Row.OUTPUT) - self.power(Row.STANDBY)

    @property
    def grid_power(self) -> float:
        """Return the power at the grid connection, positive for import."""
        return self.power(Row.IMPORT) - self.power(Row.EXPORT)

    @property
    def battery_power(self) -> float:
        """Return the battery's power, positive while it charges."""
        return self.power(Row.CHARGE) - self.power(Row.DISCHARGE)

    def dice(self, name: object) -> Random:
        """Return the noise of one measuring device at this time."""
        return Random(f"{self._site.seed}/{name}/{self.epoch}")

    @cached_property
    def voltages(self) -> tuple[float, float, float]:
        """Return the grid's three phase voltages."""
        dice = self.dice("grid")
        lift = -2.0 * self.grid_power / max(self.plant.size * 10_000.0, 1.0)
        common = 230.0 + dice.uniform(-1.5, 1.5) + min(max(lift, -4.0), 4.0)
        a, b, c = (round(common + dice.uniform(-1.2, 1.2), 1) for _ in range(3))
        return a, b, c

    @cached_property
    def line_voltages(self) -> tuple[float, float, float]:
        """Return the voltages between the phases: AB, BC, CA."""
        a, b, c = self.voltages
        return (
            round(math.sqrt(a * a + b * b + a * b), 1),
            round(math.sqrt(b * b + c * c + b * c), 1),
            round(math.sqrt(c * c + a * a + c * a), 1),
        )

    @cached_property
    def frequency(self) -> float:
        """Return the grid's frequency."""
        return round(50.0 + self.dice("frequency").uniform(-0.03, 0.03), 2)

    @cached_property
    def phase_powers(self) -> tuple[float, float, float]:
        """Return the power per phase at the grid connection, positive for import."""
        dice = self.dice("phases")
        weights = [0.42 + dice.uniform(-0.1, 0.1), 0.33 + dice.uniform(-0.1, 0.1)]
        shares = (*weights, 1.0 - sum(weights))
        load = self.power(Row.LOAD)
        rest = (self.grid_power - load) / 3
        a, b, c = (share * load + rest for share in shares)
        return a, b, c

    @cached_property
    def switched(self) -> tuple[float, float]:
        """Return the epochs of the inverters' last start and last stop."""
        opened = closed = 0.0
        moment = float(self.epoch)
        while moment >= self._site.begin and not (opened and closed):
            state = self._site.state(moment)
            opened = opened or float(state[State.OPENED])
            closed = closed or float(state[State.CLOSED])
            # One state a day is enough, because it contains the day's last switching.
            moment = self._site.day_start(moment) - 1.0
        return opened, closed
