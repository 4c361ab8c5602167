"""Energies of a plant, calculated from the counters of its devices.

A sum of counters is exact, while the integral of powers that are minutes apart is not;
`Integral` is for an energy without a counter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar

from custom_components.smartpvms.northbound import DeviceType

from .counters import (
    CHARGED,
    DAY_USE,
    DISCHARGED,
    GRID_COUNTERS,
    MPPTS,
    RACK_DISCHARGED,
    YIELDS,
    CounterId,
    CounterValue,
    CounterValues,
    Terms,
    terms_of,
)
from .day_end import MAX_GAP, DayEndEstimate
from .devices import INVERTERS, OPAQUE, TELECOM, PlantDevices, of_type, total
from .power_flow import PowerFlow


@dataclass(slots=True)
class CounterRises:
    """Energies that a plant's counters have counted between two readings.

    The first reading of a counter is no rise; the first one of a new day is a rise in
    full. A reading after missing ones has the whole rise since the last one.
    """

    is_record: ClassVar = True

    estimates: dict[str, DayEndEstimate] = field(default_factory=dict)
    """By the name of the counter."""
    missing: set[str] = field(default_factory=set)
    """Counters that the last readings did not have."""
    last: dict[str, float] = field(default_factory=dict, init=False)
    """The last rises."""
    last_whole: dict[str, float] = field(default_factory=dict, init=False)
    """The last rises without those of counters that were missing before."""

    def update(self, terms: Terms) -> None:
        """Take the readings of all counters, `None` if one is unknown."""
        self.last = {key: 0.0 for key in terms if key in self.estimates}
        for key, count in terms.items():
            if count is None:
                continue
            estimate = self.estimates.get(key)
            if estimate is None:
                self.estimates[key] = DayEndEstimate(*count.reading)
                continue
            self.estimates[key], counted, left_out = estimate.follow(*count.reading)
            self.last[key] = counted + left_out
        self.last_whole = {
            key: rise for key, rise in self.last.items() if key not in self.missing
        }
        self.missing = self.estimates.keys() - terms.keys()


@dataclass(slots=True)
class EnergySum:
    """Monotonic sum of counters: added terms minus subtracted terms.

    The value never falls. Readings of different times may lower the level; the value
    then stays until the level reaches it again. The value also stays while a subtracted
    term is not confirmed, since it would be too high without it. Added terms may be old
    or missing: their energy is added later.

    The value begins at 0 and excludes the energy that was counted before.
    """

    is_record: ClassVar = True

    value: float | None = None
    level: float = 0.0
    """Current sum, which may be below the value."""
    is_ahead: bool = False
    """Whether the value was recorded later than the level."""
    is_read: bool = field(default=False, init=False)
    """Whether counters were read since the state was restored."""

    def resume(self, recorded: float) -> None:
        """Continue from a value that was recorded later than this state."""
        if self.value is not None and recorded <= self.value:
            return
        if self.value is None or self.is_read:
            self.level = max(self.level, recorded)
        else:
            # The next rises of the counters may include this energy, or more.
            self.is_ahead = True
        self.value = recorded

    def update(
        self, rises: Mapping[str, float], added: Terms, subtracted: Terms | None = None
    ) -> float | None:
        """Add the rises of the counters, and return the value."""
        subtracted = subtracted or {}
        self.is_read = True
        is_known = any(count is not None for count in added.values())
        if self.value is None:
            if is_known and None not in subtracted.values():
                self.value = 0.0
            return self.value
        # The losses of a new counter before its first reading are unknown.
        if subtracted.keys() <= rises.keys():
            gained = sum(rises.get(key, 0.0) for key in added)
            gained -= sum(rises[key] for key in subtracted)
            self.level = round(self.level + gained, 6)
        if is_known and self.is_ahead:
            self.is_ahead = False
            self.level = max(self.level, self.value)
        if is_known and all(count and count.confirmed for count in subtracted.values()):
            self.value = max(self.level, self.value)
        return self.value


@dataclass(slots=True)
class Integral:
    """Energy of a power without a counter, in kWh.

    The mean of two readings applies to the time between them. This is accurate for a
    power that changes slowly, and right on average for a load that is switched on and
    off within these minutes.
    """

    is_record: ClassVar = True

    value: float = 0.0
    last: tuple[datetime, float] | None = None
    """Time of the last known power, and the power in W."""

    def update(self, power: float | None, at: datetime) -> float:
        """Add a power in W, `None` if unknown, and return the energy so far."""
        if power is None:
            return self.value
        power = max(power, 0.0)
        if self.last is not None:
            since, before = self.last
            if timedelta() < at - since <= MAX_GAP:
                hours = (at - since) / timedelta(hours=1)
                gained = (before + power) / 2 / 1000 * hours
                self.value = round(self.value + gained, 9)
        self.last = at, power
        return self.value


@dataclass(slots=True)
class HomeEnergy:
    """Energy used by the home, in kWh.

    It is the sum of the inverters' yield, the import and the discharge, less the
    export, the charge, and the energy that the inverters draw to charge a battery from
    the grid or while they sleep. Only the drawn energy is an integral, since it has no
    counter. If counters are missing, the plant's own counter replaces the sum, and
    without that counter the integral of the home's power does.
    """

    is_record: ClassVar = True

    energy_sum: EnergySum = field(default_factory=EnergySum)
    inverter_use: Integral = field(default_factory=Integral)
    """Integral of the power that the inverters draw."""
    home_use: Integral = field(default_factory=Integral)
    """Integral of the home's power."""

    @property
    def drawn(self) -> Terms:
        """Return the energy drawn by the inverters as a term."""
        return {"drawn": CounterValue(self.inverter_use.value)}

    @property
    def used(self) -> Terms:
        """Return the integral of the home's power as a term."""
        return {"used": CounterValue(self.home_use.value)}

    def integrate(self, devices: PlantDevices, flow: PowerFlow, at: datetime) -> Terms:
        """Process new powers, and return the energies of both integrals."""
        outputs = total(
            device.output for device in of_type(devices, *INVERTERS).values()
        )
        self.inverter_use.update(None if outputs is None else -outputs, at)
        self.home_use.update(flow.home, at)
        return {**self.drawn, **self.used}

    def update(
        self,
        devices: PlantDevices,
        usable: CounterValues,
        rises: Mapping[str, float],
        *,
        point: int | None,
    ) -> float | None:
        """Add the energy since the last readings, and return the energy used so far.

        `usable` are the counts without those of counters that do not count, `rises`
        are without those of counters that were missing, since others have counted their
        energy, and `point` is the device at the grid connection.
        """
        terms = home_terms(devices, usable, point)
        # Without a meter at the grid, the home's energy is unknown.
        if point is None or devices[point].type_id == DeviceType.MAINS:
            return self.energy_sum.update({}, {})
        if terms is not None and None not in {**terms[0], **terms[1]}.values():
            added, subtracted = terms
            return self.energy_sum.update(rises, added, {**subtracted, **self.drawn})
        if usable.get(DAY_USE) is not None:
            return self.energy_sum.update(rises, terms_of(usable, [DAY_USE]))
        return self.energy_sum.update(rises, self.used)


def home_terms(
    devices: PlantDevices, counts: CounterValues, point: int | None
) -> tuple[Terms, Terms] | None:
    """Return the terms of the home's energy, if the devices allow the sum."""
    inverters = of_type(devices, *INVERTERS)
    if not inverters or point is None or of_type(devices, *TELECOM, *OPAQUE):
        return None
    imported, exported = _grid_counters(point, devices)
    storages = of_type(devices, DeviceType.ESS)
    added = [_counting(device_id, counts, YIELDS) for device_id in inverters]
    added += imported
    added += [(device_id, "discharge_cap") for device_id in storages]
    subtracted = exported
    subtracted += [(device_id, "charge_cap") for device_id in storages]
    # An idle storage repeats its row; any other repeated row is outdated.
    repeated = {
        device_id
        for device_id, device in {point: devices[point], **storages}.items()
        if not device.live and (device_id == point or device.read("ch_discharge_power"))
    }
    lost = {
        key: count._replace(confirmed=False) if count and key[0] in repeated else count
        for key, count in counts.items()
    }
    return terms_of(counts, added), terms_of(lost, subtracted)


def pv_terms(
    devices: PlantDevices, counts: CounterValues
) -> tuple[Terms, Terms] | None:
    """Return the added and subtracted terms of the panels' energy.

    Without a battery behind the inverters, the energy is their yield. With a battery,
    it is their DC energy, if all of them count it. Otherwise it is the yield plus the
    charge, less the discharge and the energy drawn by the inverters, which the caller
    adds to the subtracted terms; this sum is lower by the conversion losses.
    """
    inverters = of_type(devices, *INVERTERS)
    batteries = of_type(devices, DeviceType.BATTERY)
    if not inverters or of_type(devices, *OPAQUE):
        return None
    yields = [_counting(device_id, counts, YIELDS) for device_id in inverters]
    if not batteries:
        return terms_of(counts, yields), {}
    added: list[CounterId] = []
    for device_id in inverters:
        total = device_id, "mppt_total_cap"
        trackers = [(device_id, key) for key in MPPTS]
        counted = [key for key in trackers if counts.get(key) is not None]
        if counts.get(total) is not None:
            counted = [total]
        if not counted:
            break
        added += counted
    else:
        return terms_of(counts, added), {}
    added = yields
    subtracted: list[CounterId] = []
    for device_id in batteries:
        added.append(_counting(device_id, counts, CHARGED))
        subtracted.append(_counting(device_id, counts, DISCHARGED))
    return terms_of(counts, added), terms_of(counts, subtracted)


def grid_terms(point: int, devices: PlantDevices, counts: CounterValues) -> list[Terms]:
    """Return the terms of the imported and of the exported energy."""
    return [terms_of(counts, keys) for keys in _grid_counters(point, devices)]


def _grid_counters(point: int, devices: PlantDevices) -> list[list[CounterId]]:
    """Return the counters of the imported and of the exported energy."""
    keys = GRID_COUNTERS[devices[point].type_id]
    return [[] if key is None else [(point, key)] for key in keys]


def storage_terms(
    devices: PlantDevices, counts: CounterValues, *, charged: bool
) -> tuple[Terms, Terms] | None:
    """Return the terms of the storages' charged or discharged energy.

    A battery rack does not count its charge.
    """
    storages = of_type(devices, DeviceType.BATTERY, DeviceType.ESS)
    racks = of_type(devices, DeviceType.BATTERY_RACK)
    if not (storages or racks) or (racks and charged):
        return None
    candidates = CHARGED if charged else DISCHARGED
    keys = [_counting(device_id, counts, candidates) for device_id in storages]
    keys += [(device_id, RACK_DISCHARGED) for device_id in racks]
    return terms_of(counts, keys), {}


def _counting(
    device_id: int, counts: CounterValues, candidates: Sequence[str]
) -> CounterId:
    """Return the first candidate that has a count, or else the last."""
    keys = [(device_id, key) for key in candidates]
    return next((key for key in keys if counts.get(key) is not None), keys[-1])
