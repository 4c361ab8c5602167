"""Statistics of a plant that are computed from those of its devices."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
import math
from typing import Final

from custom_components.smartpvms.coordinator import RealTimeCoordinator
from custom_components.smartpvms.counter_filter import Period
from custom_components.smartpvms.models import Inventory, SourceId, unique_id, zone_of
from custom_components.smartpvms.northbound import Device, DeviceType
from custom_components.smartpvms.plant import INVERTERS
from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er

from .counters import FilledHours, fill_counter
from .device_history import LeftOut
from .recorder import Recorded
from .rows import Known, Point, Row

_STORAGES: Final = (DeviceType.BATTERY, DeviceType.ESS, DeviceType.BATTERY_RACK)
# Largest rounding error of a yield of a plant or an inverter, in kWh.
_ROUNDING: Final = 0.05

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
    drawn: tuple[str, ...] = ()
    """Powers of inverters, in kW, whose negative part is subtracted as well."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Return the statistics from which it is computed."""
        return self.added + self.subtracted + self.drawn


def fill_derived(
    made: DerivedStatistic,
    recorded: Mapping[str, Recorded],
    hours: frozenset[float],
    left_out: LeftOut,
) -> FilledHours | None:
    """Return the missing hours for which all parts are recorded.

    `left_out` is the energy that the parts lack at the ends of days. The result is
    `None` until the row after the hours is recorded for the statistic and all parts.
    """
    whole = recorded[made.statistic_id]
    parts = [recorded[part] for part in made.added + made.subtracted]
    rows = [
        {row.start: row for row in (*part.rows, part.after) if row is not None}
        for part in parts
    ]
    after = whole.after
    if after is None or not all(after.start in of_part for of_part in rows):
        return None
    common = sorted(set.intersection(*map(set, rows)))
    added = rows[: len(made.added)]
    signs = [1.0] * len(added) + [-1.0] * len(made.subtracted)

    def total(sums: Iterable[float]) -> float:
        return math.fsum(sign * sum_ for sign, sum_ in zip(signs, sums, strict=True))

    def uncounted(hour: float) -> float:
        means = (recorded[power].means.get(hour, 0.0) for power in made.drawn)
        drawn = math.fsum(max(-mean, 0.0) for mean in means)
        if made.period is Period.DAY:
            # A counter of a day lacks the same energy as its parts.
            return -drawn
        ends = (left_out.get(part, {}) for part in made.added + made.subtracted)
        return total(of_part.get(hour, 0.0) for of_part in ends) - drawn

    points: list[Point] = []
    more = 0.0
    for start in common:
        more += uncounted(start)
        sum_ = total(of_part[start].sum for of_part in rows) + more
        # A balance may fall for a short time; its values must not.
        sum_ = max([sum_, *(point.value for point in points[-1:])])
        points.append(Point(rows[0][start].end, sum_, None, 0.0))
    last = points[common.index(after.start)]
    # The recorded state after the hours corresponds to the sums of the parts.
    points = [
        replace(point, value=after.state + point.value - last.value) for point in points
    ]
    if made.period is Period.DAY:
        points = [
            replace(
                point,
                value=math.fsum(of_part[start].state for of_part in added),
                start=added[0][start].reset,
            )
            for point, start in zip(points, common, strict=True)
        ]
    elif made.period is Period.MONTH:
        points = list(_by_month(points, common, after, made.zone))
    # The sums of the parts at the start of the first common hour.
    earlier = [
        max((row for row in of_part.values() if row.start < common[0]), key=_start).sum
        if min(of_part) < common[0]
        else part.before or 0.0
        for part, of_part in zip(parts, rows, strict=True)
    ]
    counted = total(of_part[common[0]].sum for of_part in rows) - total(earlier)
    counted += uncounted(common[0])
    begun = replace(points[0], at=common[0], value=points[0].value - counted)
    points.insert(0, begun)
    return fill_counter(
        points,
        hours & frozenset(common),
        Known(whole.rows, whole.before, after, 0.0),
        resumed=False,
    )


def _start(row: Row) -> float:
    return row.start


def _by_month(
    points: Sequence[Point], starts: Sequence[float], after: Row, zone: tzinfo
) -> Iterator[Point]:
    """Yield the energy since the start of the month, or since its first known hour."""
    begun: float | None = None
    base = 0.0
    last = points[0]
    for point, hour in zip(points, starts, strict=True):
        at = datetime.fromtimestamp(hour, UTC)
        start = (Period.MONTH.start(at, zone) or at).timestamp()
        if start != begun:
            base = 0.0 if start == after.reset else last.value
            begun = start
        yield replace(point, value=max(point.value - base, 0.0), start=start)
        last = point


def derived_statistics(
    hass: HomeAssistant,
    entry_id: str,
    inventory: Inventory,
    real_time: RealTimeCoordinator,
    plant_codes: Collection[str],
) -> Iterator[DerivedStatistic]:
    """Yield the energy flows of plants, and the yields that equal their inverters'."""
    entities: dict[tuple[SourceId, str], str] = {
        source: registered.entity_id
        for registered in er.async_entries_for_config_entry(
            er.async_get(hass), entry_id
        )
        if registered.domain == Platform.SENSOR
        and not registered.disabled
        and (source := inventory.source_of(registered.unique_id))
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
                yield DerivedStatistic(whole, period, zone, tuple(filter(None, parts)))


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
        drawn = [
            entities.get((device.id, "active_power"))
            for device in inventory.devices_of(code)
            if device.type_id in INVERTERS and subtracted
        ]
        if whole is not None and None not in (*parts, *drawn):
            known = tuple(filter(None, parts))
            yield DerivedStatistic(
                whole,
                Period.LIFETIME,
                zone,
                known[: len(added)],
                known[len(added) :],
                tuple(filter(None, drawn)),
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

    def counted(key: str, part: str) -> tuple[float, float] | None:
        whole = real_time.filtered_value(unique_id(code, key))
        parts = [
            real_time.filtered_value(unique_id(each.id, part)) for each in inverters
        ]
        if whole is None or None in parts:
            return None
        return whole, sum(filter(None, parts))

    today = counted("day_power", "day_cap")
    total = counted("total_power", "total_cap")
    rounding = _ROUNDING * (1 + len(inverters))
    return (
        today is not None
        and total is not None
        and abs(today[0] - today[1]) <= rounding
        and total[0] <= total[1] + rounding
    )
