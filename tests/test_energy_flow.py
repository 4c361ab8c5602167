"""Tests of a plant's power balance and energies, by the truth of the simulator."""

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
import json
from typing import Any, Final, Self
from zoneinfo import ZoneInfo

from hypothesis import given, strategies as st
import pytest

from custom_components.smartpvms.counters import Counter, Period, Place
from custom_components.smartpvms.descriptions import DEVICE_SENSORS, PLANT_SENSORS
from custom_components.smartpvms.energy_flow import (
    COUNTERS,
    LONGEST_GAP,
    Balance,
    Count,
    Counts,
    Evidence,
    HomeEnergy,
    Integral,
    PowerFlow,
    Unit,
    power_flow,
    pv_terms,
)
from custom_components.smartpvms.power_units import MeterPowers
from tests.simulator import Device, Home, SetClock, Simulator, homes
from tests.simulator.counter_faults import (
    flipping,
    jittering,
    multiplied,
    reads,
    still_yesterday,
    without_yesterday,
)
from tests.simulator.counters import Counter as Reported
from tests.simulator.plants import DeviceType as Simulated
from tests.simulator.truth import Balance as Truth

BERLIN: Final = ZoneInfo("Europe/Berlin")
COLLECTION: Final = timedelta(minutes=5)
DAY: Final = timedelta(days=1)
SUMMER: Final = datetime(2026, 6, 20, tzinfo=BERLIN)
WINTER: Final = datetime(2026, 12, 20, tzinfo=BERLIN)
SPRING: Final = datetime(2026, 3, 27, tzinfo=BERLIN)

# A day's home consumption, by the requirement.
EXACT: Final = 0.005


def _meter(
    measures: Any, number: int, type_id: Simulated = Simulated.POWER_SENSOR
) -> Device:
    return Device(700 + number, type_id, f"Meter-{number}", measures=measures)


def _family(*more: Device) -> Home:
    home = homes.family()
    home.plants[0].devices += more
    return home


def _farm(sign: Any) -> Home:
    home = homes.farm()
    home.plants[0].ess_positive = sign
    return home


def _old_farm() -> Home:
    """Return a farm with meters and servers of the older generation."""
    home = homes.farm()
    home.plants[0].firmware = "kw"
    home.plants[0].newer_items = False
    return home


def _with_storage() -> Home:
    """Return a house whose storage has an inverter of its own."""
    home = homes.family()
    plant = home.plants[0]
    battery = plant.site.battery
    assert battery
    plant.site = replace(plant.site, battery=replace(battery, side="ac"))
    types = {Simulated.BATTERY: Simulated.ESS}
    for device in plant.devices:
        device.type_id = types.get(Simulated(device.type_id), device.type_id)
    return home


def _two_hybrids() -> Home:
    """Return a house with two inverters, each with a battery."""
    home = homes.family()
    plant = home.plants[0]
    [inverter] = [each for each in plant.devices if each.type_id == 38]
    [battery] = [each for each in plant.devices if each.type_id == 39]
    for device in (inverter, battery):
        plant.devices.remove(device)
        plant.devices += [
            replace(device, share=0.6),
            replace(device, share=0.4, id=device.id + 500),
        ]
    return home


def _commercial_hybrid() -> Home:
    """Return a house whose hybrid inverter is listed as a string inverter."""
    home = homes.family()
    [inverter] = [each for each in home.plants[0].devices if each.type_id == 38]
    inverter.type_id = Simulated.STRING_INVERTER
    return home


TOPOLOGIES: Final[dict[str, Callable[[], Home]]] = {
    "family": homes.family,
    "emma": homes.emma,
    "emma and meter": lambda: _with(homes.emma(), _meter("load", 1)),
    "apartment": lambda: homes.apartment(time_zone="Europe/Berlin", meter=True),
    "storage, + discharges": lambda: _farm("discharge"),
    "storage, + charges": lambda: _farm("charge"),
    "old farm": _old_farm,
    "storage at home": _with_storage,
    "two hybrids": _two_hybrids,
    "commercial hybrid": _commercial_hybrid,
    "generation meter": lambda: _family(_meter("inverters", 1)),
    "load meter": lambda: _family(_meter("load", 1)),
    "three meters": lambda: _family(_meter("load", 1), _meter("inverters", 2)),
}


def _with(home: Home, *devices: Device) -> Home:
    home.plants[0].devices += devices
    return home


@dataclass
class Watch:
    """Watches one plant the way the integration does, without Home Assistant."""

    home: Home
    start: datetime = SUMMER
    _: KW_ONLY
    chosen: int | None = None
    evidence: Evidence = field(default_factory=Evidence)
    energy: HomeEnergy = field(default_factory=HomeEnergy)
    sums: dict[str, Balance] = field(default_factory=dict)
    integrals: dict[str, Integral] = field(default_factory=dict)
    flow: PowerFlow = field(default_factory=PowerFlow)

    def __post_init__(self) -> None:
        """Begin at the start."""
        # What follows the clock of a zone jumps with it.
        self.clock = SetClock(self.start.astimezone(UTC))
        self.simulator = Simulator(self.home, self.clock)
        [self.plant] = self.home.plants
        self.units: dict[int, Unit] = {}
        self.counts: dict[tuple[int | str, str], Count | None] = {}
        self._guards: dict[tuple[int | str, str], Counter] = {}
        self._meters: dict[int, MeterPowers] = {}
        self._last: dict[int, Any] = {}

    def read(self) -> Self:
        """Read everything there is now."""
        self.units = {}
        for device in self.plant.devices:
            items = self.simulator.reported_items(device.id)
            if items and MeterPowers.known(device.type_id):
                meter = self._meters.setdefault(device.id, MeterPowers(device.type_id))
                items = dict(meter.in_watts(items))
            live = items != self._last.get(device.id)
            self._last[device.id] = items
            unit = self.units[device.id] = Unit(device.type_id, items, live)
            for key in COUNTERS.get(device.type_id, ()):
                self._guard(device.id, key, unit)
        plant = Unit(0, self.simulator.reported_items(self.plant.code))
        self._guard(self.plant.code, "day_use_energy", plant)
        self.evidence.learn(self.units)
        self.flow = power_flow(self.units, self.evidence, self.chosen)
        self._count()
        return self

    def _guard(self, name: int | str, key: str, unit: Unit) -> None:
        items = unit.items or {}
        table = DEVICE_SENSORS[unit.type_id] if unit.type_id else PLANT_SENSORS
        description = table[key]
        assert description.period
        guard = self._guards.setdefault((name, key), Counter(description.period))
        zone = self.plant.time_zone
        at = self.clock.now()
        raw = unit.read(key)
        guard.pass_time(at, zone)
        for value in [] if raw is None else [raw]:
            most = description.most_per_hour(self.plant.capacity_kwp, items)
            guard.update(value, at, Place(zone, most), live=unit.live)
        self.counts[name, key] = Count.of(guard, raw)

    def _count(self) -> None:
        counts: Counts = self.counts  # type: ignore[assignment]
        self.energy.update(
            self.units,
            counts,
            self.flow,
            point=self.evidence.grid_point(self.units, self.chosen),
            day_use=self.counts[self.plant.code, "day_use_energy"],
            at=self.clock.now(),
        )
        for terms in filter(None, [pv_terms(self.units, counts)]):
            self._sum("pv").update(*terms)
        for key in ("charge_cap", "discharge_cap"):
            named = {
                str(name): count
                for (name, item), count in self.counts.items()
                if item == key
            }
            self._sum(key).update(named)
        grid = self.flow.grid
        powers = {"import": grid, "export": grid and -grid, "home": self.flow.home}
        for name, power in powers.items():
            integral = self.integrals.setdefault(name, Integral())
            integral.update(power, self.clock.now())

    def _sum(self, name: str) -> Balance:
        return self.sums.setdefault(name, Balance())

    def restart(self) -> None:
        """Forget everything but what is kept."""
        self.evidence = Evidence.from_dict(_kept(self.evidence.as_dict()))
        self.energy = HomeEnergy.from_dict(_kept(self.energy.as_dict()))
        self.sums = {
            name: Balance.from_dict(_kept(each.as_dict()))
            for name, each in self.sums.items()
        }
        self._guards = {
            key: Counter.from_dict(each.period, _kept(each.as_dict()))
            for key, each in self._guards.items()
        }

    def until(self, end: datetime, step: timedelta = COLLECTION) -> Iterator[datetime]:
        """Read again and again, up to a moment."""
        while self.clock.now() < end:
            self.clock.tick(step)
            self.read()
            yield self.clock.now()

    def run(self, end: datetime, step: timedelta = COLLECTION) -> Self:
        """Read until a moment."""
        for _ in self.until(end, step):
            pass
        return self

    @property
    def truth(self) -> Truth:
        """Return the true powers."""
        return self.simulator.flows(self.plant.code)

    def true_energy(self, since: datetime) -> Truth:
        """Return the true energies since a moment."""
        return self.simulator.energy(self.plant.code, since, self.clock.now())

    def device(self, type_id: int) -> Device:
        """Return the first device of a type."""
        return next(each for each in self.plant.devices if each.type_id == type_id)

    def items(self, type_id: int, **changed: Any) -> None:
        """Report other values than the simulator from now on."""
        for key, value in changed.items():
            self.simulator.distort(
                self.device(type_id).id, key, lambda at, old, value=value: value
            )


@cache
def _learned(name: str) -> str:
    """Return what a summer's day tells of a topology."""
    watch = Watch(TOPOLOGIES[name]()).run(SUMMER + DAY)
    return json.dumps(watch.evidence.as_dict())


def _experienced(name: str, start: datetime) -> Watch:
    """Return a watch that has learned all there is, and was restarted."""
    evidence = Evidence.from_dict(json.loads(_learned(name)))
    return Watch(TOPOLOGIES[name](), start, evidence=evidence)


def _kept(state: Any) -> Any:
    return json.loads(json.dumps(state))


@pytest.mark.parametrize("start", [SUMMER, WINTER])
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_powers(name: str, start: datetime) -> None:
    """Every power is the true one, on the AC side, and together they make sense."""
    watch = _experienced(name, start)
    scale = watch.plant.site.ac_limit_w / 8000
    for _ in watch.until(start + 2 * DAY, timedelta(minutes=10)):
        flow, true = watch.flow, watch.truth
        assert flow.pv is not None
        assert flow.grid is not None
        assert flow.home is not None
        battery = flow.battery or 0.0
        # W or tenths of kW are rounded, and inverters draw 8 W while they sleep.
        assert flow.grid == pytest.approx(
            true.grid_import - true.grid_export, abs=2 * scale
        )
        assert flow.home == pytest.approx(true.load, abs=8 + 4 * scale)
        assert flow.pv + flow.grid + battery == pytest.approx(flow.home, abs=0.01)
        # PV and battery are lower, each by its part of what is lost on the way.
        lost = true.losses + 4 * scale
        assert flow.pv == pytest.approx(true.pv, abs=lost)
        assert battery == pytest.approx(true.discharge - true.charge, abs=lost)
        assert min(flow.pv, flow.home) >= 0


@pytest.mark.parametrize("start", [SUMMER, WINTER, SPRING])
@pytest.mark.parametrize("name", TOPOLOGIES)
def test_home_energy(name: str, start: datetime) -> None:
    """Day by day, what the home uses is what it truly used; summer time begins, too."""
    watch = _experienced(name, start).read()
    for day in range(3):
        midnight, before = start + day * DAY, watch.energy.value
        assert before is not None
        watch.run(midnight + DAY)
        watch.restart()
        assert watch.energy.value is not None
        true = watch.true_energy(midnight).load
        assert watch.energy.value - before == pytest.approx(true, rel=EXACT)


@pytest.mark.parametrize("start", [SUMMER, WINTER, SPRING])
@pytest.mark.parametrize("name", ["family", "two hybrids", "commercial hybrid"])
def test_pv_energy(name: str, start: datetime) -> None:
    """The DC counters of a hybrid's trackers add up to what its panels delivered."""
    watch = Watch(TOPOLOGIES[name](), start).run(start + COLLECTION)
    for day in range(3):
        midnight = start + day * DAY
        before = watch.sums["pv"].value or 0.0
        watch.run(midnight + DAY, 3 * COLLECTION)
        gained = (watch.sums["pv"].value or 0.0) - before
        # Every counter is rounded to 10 Wh.
        true = watch.true_energy(midnight).pv
        assert gained == pytest.approx(true, rel=EXACT, abs=0.02)


def test_pv_energy_without_dc_counters() -> None:
    """Without DC counters, PV is what was yielded and stored, less what came back."""
    watch = Watch(homes.family())
    watch.items(38, **{f"mppt_{n}_cap": None for n in range(1, 5)})
    watch.run(SUMMER + COLLECTION)
    before = watch.sums["pv"].value
    assert before == 0
    watch.run(SUMMER + DAY)
    true = watch.true_energy(SUMMER)
    yielded = true.load + true.grid_export - true.grid_import
    expected = yielded + true.charge - true.discharge
    assert watch.sums["pv"].value == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize("start", [SUMMER, WINTER, SPRING])
@pytest.mark.parametrize("name", ["family", "storage, + discharges"])
def test_battery_energy(name: str, start: datetime) -> None:
    """The daily counters add up over midnights and restarts.

    What is counted between the last reading of a day and midnight is in no counter.
    """
    watch = Watch(TOPOLOGIES[name](), start).read()
    for day in range(3):
        before = {key: watch.sums[key].value or 0.0 for key in DAILY}
        watch.run(start + (day + 1) * DAY - COLLECTION)
        watch.restart()
        since = start + day * DAY
        true = watch.true_energy(since)
        watch.run(start + (day + 1) * DAY)
        for key, energy in zip(DAILY, (true.charge, true.discharge), strict=True):
            gained = (watch.sums[key].value or 0.0) - before[key]
            assert gained == pytest.approx(energy, abs=0.011)


@pytest.mark.parametrize("start", [SUMMER, WINTER])
@pytest.mark.parametrize("name", ["apartment", "family", "storage, + charges"])
def test_integrals(name: str, start: datetime) -> None:
    """Without counters, powers five minutes apart come close: within some percent."""
    watch = _experienced(name, start).read()
    watch.run(start + DAY)
    true = watch.true_energy(start)
    energies = {"home": true.load, "import": true.grid_import}
    energies["export"] = true.grid_export
    for key, energy in energies.items():
        value = watch.integrals[key].value
        assert value == pytest.approx(energy, rel=0.03, abs=0.05)


def _of_reported(
    fault: Callable[[Reported], Any],
) -> Callable[[Watch, int, str], None]:
    def distort(watch: Watch, type_id: int, key: str) -> None:
        device = watch.device(type_id)
        change = fault(Reported(watch.plant, device, key))
        watch.simulator.distort(device.id, key, change)

    return distort


NOON: Final = SUMMER + timedelta(hours=12)
MIDNIGHT: Final = SUMMER + DAY
HOURS: Final = timedelta(hours=1)
DAILY: Final = ("charge_cap", "discharge_cap")

FAULTS: Final[dict[str, Callable[[Reported], Any]]] = {
    "0 once": lambda _: reads(0.0, NOON),
    "0 for hours": lambda _: reads(0.0, NOON, 3 * HOURS),
    "null for hours": lambda _: reads(None, NOON, 3 * HOURS),
    "junk": lambda _: reads("N/A", NOON, HOURS),
    "all ones": lambda _: reads(4294967.295, NOON, HOURS),
    "doubled": lambda _: multiplied(2.0, NOON, HOURS),
    "without yesterday": lambda counter: without_yesterday(counter, MIDNIGHT, HOURS),
    "jitter": lambda counter: jittering(counter.key, SUMMER, 2 * DAY),
}
DAILY_FAULTS: Final[dict[str, Callable[[Reported], Any]]] = {
    "yesterday": lambda counter: still_yesterday(counter, MIDNIGHT, 6 * HOURS),
    "flips": lambda counter: flipping(counter, MIDNIGHT, 4 * HOURS),
}


def _stays_true(watch: Watch, tolerance: float) -> None:
    """Hold the home's energy to the truth for two days, at every reading."""
    last = watch.energy.value or 0.0
    for _ in watch.until(SUMMER + 2 * DAY):
        value = watch.energy.value
        assert value is not None
        assert value >= last
        true = watch.true_energy(SUMMER).load
        assert value <= true * (1 + EXACT) + tolerance
        last = value
    true = watch.true_energy(SUMMER).load
    assert last == pytest.approx(true, abs=true * EXACT + tolerance)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    ("type_id", "key"),
    [(38, "total_cap"), (47, "active_cap"), (47, "reverse_active_cap")],
)
def test_counter_faults(type_id: int, key: str, fault: str) -> None:
    """No fault of a counter adds consumption that was none, not even for a while."""
    watch = Watch(homes.family())
    _of_reported(FAULTS[fault])(watch, type_id, key)
    _stays_true(watch.read(), tolerance=0.1)


@pytest.mark.parametrize("fault", [*FAULTS, *DAILY_FAULTS])
@pytest.mark.parametrize("key", DAILY)
def test_faults_of_daily_counters(key: str, fault: str) -> None:
    """Neither does a fault of the daily counters of a storage."""
    watch = Watch(_with_storage())
    _of_reported((FAULTS | DAILY_FAULTS)[fault])(watch, 41, key)
    _stays_true(watch.read(), tolerance=0.1)


@pytest.mark.parametrize("silence", ["zeros", "nulls", "missing"])
@pytest.mark.parametrize("type_id", [38, 39, 47])
def test_lost_connection(type_id: int, silence: Any) -> None:
    """A device that cannot be reached makes nothing wrong, and nothing lost."""
    watch = Watch(homes.family()).read()
    device = watch.device(type_id)
    watch.simulator.interrupt(
        device.id, lambda at: silence if NOON <= at < NOON + 3 * HOURS else None
    )
    _stays_true(watch, tolerance=0.1)


def test_meter_that_is_repeated() -> None:
    """Where the server repeats a meter, what is exported is not taken for used."""
    watch = Watch(homes.family()).read()
    meter = watch.device(47)
    watch.clock.set(NOON - COLLECTION)
    for key, value in watch.simulator.device_items(meter.id).items():
        watch.simulator.distort(
            meter.id, key, reads(value, NOON.astimezone(UTC), 3 * HOURS)
        )
    watch.clock.set(SUMMER.astimezone(UTC))
    _stays_true(watch, tolerance=0.1)
