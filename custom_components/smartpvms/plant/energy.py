"""Energies of a plant, made of the counters of its devices.

An exact sum of counters is better than the integral of powers that are minutes apart;
`Integral` is for an energy without a counter.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from custom_components.smartpvms.northbound import DeviceType

from .counters import (
    CHARGED,
    DAY_USE,
    DISCHARGED,
    GRID_COUNTERS,
    MPPTS,
    YIELDS,
    Count,
    CounterId,
    Counts,
    Terms,
    as_terms,
    terms_of,
)
from .day_end import LONGEST_GAP, DayEndEstimate
from .power_flow import PowerFlow
from .units import INVERTERS, OPAQUE, TELECOM, Units, of_type, total


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
    tallies: dict[str, DayEndEstimate] = field(default_factory=dict)
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
                tallies[key] = DayEndEstimate(*count.reading)
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
        outputs = total(unit.output for unit in of_type(units, *INVERTERS).values())
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
            return self.balance.update(terms_of(usable, [DAY_USE]), spare=spare)
        return self.balance.update({"used": used}, spare=spare)


def home_terms(
    units: Units, counts: Counts, point: int | None
) -> tuple[Terms, Terms] | None:
    """Return what the home's energy gains and loses with, if it can be counted."""
    inverters = of_type(units, *INVERTERS)
    if not inverters or point is None or of_type(units, *TELECOM, *OPAQUE):
        return None
    imported, exported = GRID_COUNTERS[units[point].type_id]
    storages = of_type(units, DeviceType.ESS)
    gains = [_counting(device_id, counts, YIELDS) for device_id in inverters]
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
    return terms_of(counts, gains), terms_of(lost, losses)


def pv_terms(units: Units, counts: Counts) -> tuple[Terms, Terms] | None:
    """Return what the panels' energy is made of.

    That is what the inverters have yielded, unless a battery behind them hides it. Then
    it is their DC energy, where they count that. Otherwise it is what they have yielded
    and what went into the battery, less what came out of it and what the inverters took,
    which is lower by their losses.
    """
    inverters = of_type(units, *INVERTERS)
    batteries = of_type(units, DeviceType.BATTERY)
    if not inverters or of_type(units, *OPAQUE):
        return None
    yields = [_counting(device_id, counts, YIELDS) for device_id in inverters]
    if not batteries:
        return terms_of(counts, yields), {}
    gains: list[CounterId] = []
    for device_id in inverters:
        total = device_id, "mppt_total_cap"
        trackers = [(device_id, key) for key in MPPTS]
        counted = [key for key in trackers if counts.get(key) is not None]
        if counts.get(total) is not None:
            counted = [total]
        if not counted:
            break
        gains += counted
    else:
        return terms_of(counts, gains), {}
    gains = yields
    losses: list[CounterId] = []
    for device_id in batteries:
        gains.append(_counting(device_id, counts, CHARGED))
        losses.append(_counting(device_id, counts, DISCHARGED))
    return terms_of(counts, gains), terms_of(counts, losses)


def storage_terms(
    units: Units, counts: Counts, *, charged: bool
) -> tuple[Terms, Terms] | None:
    """Return what the energy is made of that the storages were charged with, or gave."""
    storages = of_type(units, DeviceType.BATTERY, DeviceType.ESS)
    if not storages:
        return None
    candidates = CHARGED if charged else DISCHARGED
    keys = [_counting(device_id, counts, candidates) for device_id in storages]
    return terms_of(counts, keys), {}


def _counting(device_id: int, counts: Counts, candidates: Sequence[str]) -> CounterId:
    """Return the first counter of a device that counts, or else the last."""
    keys = [(device_id, key) for key in candidates]
    return next((key for key in keys if counts.get(key) is not None), keys[-1])
