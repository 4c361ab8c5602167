"""Statistics of a plant that are computed from those of its devices."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
import math
from typing import Final

from custom_components.smartpvms.coordinator import RealTimeCoordinator
from custom_components.smartpvms.counter_filter import Period
from custom_components.smartpvms.entity_registry import enabled_sensors
from custom_components.smartpvms.models import Inventory, SourceId, unique_id, zone_of
from custom_components.smartpvms.northbound import Device, DeviceType
from custom_components.smartpvms.plant import INVERTERS
from homeassistant.core import HomeAssistant
from homeassistant.util import dt as dt_util

from .counters import FilledHours, fill_counter
from .device_history import DayEndEnergy
from .recorder import Recorded
from .rows import FilteredValue, RecordedSums, SumRow

_STORAGES: Final = (DeviceType.BATTERY, DeviceType.ESS, DeviceType.BATTERY_RACK)
# Maximum rounding error of a yield of a plant or an inverter, in kWh.
_MAX_ROUNDING_ERROR: Final = 0.05

_YIELDS: Final[Mapping[str, tuple[str, Period]]] = {
    "day_power": ("day_cap", Period.DAY),
    "month_power": ("total_cap", Period.MONTH),
    "total_power": ("total_cap", Period.LIFETIME),
}
"""Yields of a plant, with the summed item of its inverters and the period."""


@dataclass(frozen=True, slots=True)
class DerivedStatistic:
    """Statistic that is computed from others, hour by hour."""

    statistic_id: str
    period: Period
    zone: tzinfo
    added: tuple[str, ...]
    subtracted: tuple[str, ...] = ()
    powers: tuple[str, ...] = ()
    """Powers of inverters, whose negative part is subtracted as well."""

    @property
    def counters(self) -> tuple[str, ...]:
        """Return the counters from which it is computed."""
        return self.added + self.subtracted

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the statistics from which it is computed."""
        return self.counters + self.powers


def fill_derived(
    statistic: DerivedStatistic,
    recorded: Mapping[str, Recorded],
    hours: frozenset[float],
    day_end_energy: DayEndEnergy,
) -> FilledHours | None:
    """Return the missing hours for which all parts are recorded.

    `day_end_energy` is that of the parts. The result is `None` until the row after the
    hours is recorded for the statistic and all parts.
    """
    sums = recorded[statistic.statistic_id].sums
    of_parts = [recorded[part].sums for part in statistic.counters]
    if sums is None or None in of_parts:
        return None
    parts = _Parts(statistic, recorded, list(filter(None, of_parts)), day_end_energy)
    after = sums.after
    if not all(after.start in rows for rows in parts.rows):
        return None
    common = parts.common_hours()
    values = parts.lifetime_values(common, after)
    if statistic.period is Period.DAY:
        values = parts.day_values(common, values)
    elif statistic.period is Period.MONTH:
        values = list(_month_values(values, common, after, statistic.zone))
    first = values[0]
    before = first.value - parts.energy_of_first(common[0])
    values.insert(0, replace(first, at=common[0], value=before))
    return fill_counter(values, hours & frozenset(common), sums, resumed=False)


class _Parts:
    """Recorded rows of the statistics from which a derived one is computed."""

    def __init__(
        self,
        statistic: DerivedStatistic,
        recorded: Mapping[str, Recorded],
        sums: Sequence[RecordedSums],
        day_end_energy: DayEndEnergy,
    ) -> None:
        """Initialize with the sums of the counters, the added ones first."""
        self._statistic = statistic
        self._recorded = recorded
        self._sums = sums
        self._day_end_energy = day_end_energy
        self.rows = [
            {row.start: row for row in (*each.rows, each.after)} for each in sums
        ]
        """Rows of each counter, by hour."""

    def common_hours(self) -> list[float]:
        """Return the hours that are recorded for all counters."""
        return sorted(set.intersection(*map(set, self.rows)))

    def lifetime_values(
        self, hours: Iterable[float], after: SumRow
    ) -> list[FilteredValue]:
        """Return the sums of the parts, shifted to the state of the row after."""
        values: list[FilteredValue] = []
        uncounted = shift = 0.0
        for hour in hours:
            uncounted += self._uncounted(hour)
            value = self._total(rows[hour].sum for rows in self.rows) + uncounted
            # A balance may fall for a short time; its values must not.
            value = max([value, *(each.value for each in values[-1:])])
            end = self.rows[0][hour].end
            values.append(FilteredValue(at=end, value=value, start=None, offset=0.0))
            if hour == after.start:
                shift = value
        return [
            replace(each, value=after.state + each.value - shift) for each in values
        ]

    def day_values(
        self, hours: Iterable[float], values: Iterable[FilteredValue]
    ) -> list[FilteredValue]:
        """Return values with the states of the added counters, which count days."""
        added = self.rows[: len(self._statistic.added)]
        return [
            replace(
                each,
                value=math.fsum(rows[hour].state for rows in added),
                start=added[0][hour].reset,
            )
            for each, hour in zip(values, hours, strict=True)
        ]

    def energy_of_first(self, hour: float) -> float:
        """Return the energy of the first common hour."""
        earlier = [
            max((row for row in rows.values() if row.start < hour), key=_start).sum
            if min(rows) < hour
            else sums.before or 0.0
            for sums, rows in zip(self._sums, self.rows, strict=True)
        ]
        energy = self._total(rows[hour].sum for rows in self.rows)
        return energy - self._total(earlier) + self._uncounted(hour)

    def _total(self, sums: Iterable[float]) -> float:
        """Return the added sums minus the subtracted ones."""
        statistic = self._statistic
        signs = [1.0] * len(statistic.added) + [-1.0] * len(statistic.subtracted)
        return math.fsum(sign * sum_ for sign, sum_ in zip(signs, sums, strict=True))

    def _uncounted(self, hour: float) -> float:
        """Return the energy of an hour that the counters do not include."""
        powers = self._statistic.powers
        means = (self._recorded[power].kilowatts(hour) for power in powers)
        drawn = math.fsum(max(-mean, 0.0) for mean in means)
        if self._statistic.period is Period.DAY:
            # A counter of a day misses the same energy as its parts.
            return -drawn
        counters = self._statistic.counters
        energies = (self._day_end_energy.get(part, {}) for part in counters)
        return self._total(by_hour.get(hour, 0.0) for by_hour in energies) - drawn


def _start(row: SumRow) -> float:
    return row.start


def _month_values(
    values: Sequence[FilteredValue],
    hours: Sequence[float],
    after: SumRow,
    zone: tzinfo,
) -> Iterator[FilteredValue]:
    """Yield the energy since the start of the month, or since its first known hour."""
    month: float | None = None
    base = 0.0
    last = values[0]
    for each, hour in zip(values, hours, strict=True):
        at = dt_util.utc_from_timestamp(hour)
        start = (Period.MONTH.start(at, zone) or at).timestamp()
        if start != month:
            base = 0.0 if start == after.reset else last.value
            month = start
        yield replace(each, value=max(each.value - base, 0.0), start=start)
        last = each


def derived_statistics(
    hass: HomeAssistant,
    entry_id: str,
    inventory: Inventory,
    real_time: RealTimeCoordinator,
    plant_codes: Collection[str],
) -> Iterator[DerivedStatistic]:
    """Yield the energy flows of plants, and the yields that equal their inverters'."""
    entities = {
        source: registered.entity_id
        for source, registered in enabled_sensors(hass, entry_id, inventory).items()
    }
    for code in plant_codes:
        devices = inventory.devices_of(code)
        yield from _flows(inventory, real_time, code, entities)
        if not _is_exact(real_time, code, devices):
            continue
        for key, (part, period) in _YIELDS.items():
            parts = [
                entities.get((device.id, part))
                for device in devices
                if device.type_id in INVERTERS
            ]
            if (whole := entities.get((code, key))) and None not in parts:
                zone = zone_of(inventory.plants[code])
                yield DerivedStatistic(
                    statistic_id=whole,
                    period=period,
                    zone=zone,
                    added=tuple(filter(None, parts)),
                )


def _flows(
    inventory: Inventory,
    real_time: RealTimeCoordinator,
    code: str,
    entities: Mapping[tuple[SourceId, str], str],
) -> Iterator[DerivedStatistic]:
    """Yield the energies of a plant that are computed from counters of its devices."""
    zone = zone_of(inventory.plants[code])
    by_unique_id = {
        unique_id(source_id, key): entity_id
        for (source_id, key), entity_id in entities.items()
    }
    for key, (added, subtracted) in real_time.flows.terms(code).items():
        whole = entities.get((code, key))
        # A counter that has never counted energy needs no entity.
        added = {
            name: count
            for name, count in added.items()
            if count and (count.value or count.start)
        }
        parts = [by_unique_id.get(name) for name in (*added, *subtracted)]
        powers = [
            entities.get((device.id, "active_power"))
            for device in inventory.devices_of(code)
            if device.type_id in INVERTERS and subtracted
        ]
        if whole is not None and parts and None not in (*parts, *powers):
            statistic_ids = tuple(filter(None, parts))
            yield DerivedStatistic(
                statistic_id=whole,
                period=Period.LIFETIME,
                zone=zone,
                added=statistic_ids[: len(added)],
                subtracted=statistic_ids[len(added) :],
                powers=tuple(filter(None, powers)),
            )


def _is_exact(
    real_time: RealTimeCoordinator, code: str, devices: Collection[Device]
) -> bool:
    """Return whether the yields of a plant equal the sums of its inverters.

    With a battery they differ. A total above the sum of the inverters includes earlier
    inverters.
    """
    inverters = [device for device in devices if device.type_id in INVERTERS]
    if not inverters or any(device.type_id in _STORAGES for device in devices):
        return False

    def yields(key: str, part: str) -> tuple[float, float] | None:
        whole = real_time.filtered_value(unique_id(code, key))
        parts = [
            real_time.filtered_value(unique_id(each.id, part)) for each in inverters
        ]
        if whole is None or None in parts:
            return None
        return whole, sum(filter(None, parts))

    today = yields("day_power", "day_cap")
    total = yields("total_power", "total_cap")
    rounding = _MAX_ROUNDING_ERROR * (1 + len(inverters))
    return (
        today is not None
        and total is not None
        and abs(today[0] - today[1]) <= rounding
        and total[0] <= total[1] + rounding
    )
