"""Which statistics of a plant are made of those of its devices."""

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er

from .coordinator import RealTimeCoordinator
from .counter_filter import Period
from .models import Inventory, SourceId, zone_of
from .northbound import Device, DeviceType
from .past import Sum
from .plant import INVERTERS

_STORAGES: Final = (DeviceType.BATTERY, DeviceType.ESS, DeviceType.BATTERY_RACK)
# How far the yields of a plant and of its inverters differ by rounding, in kWh.
_ROUNDING: Final = 0.05

_YIELDS: Final[Mapping[str, tuple[str, Period]]] = {
    "day_power": ("day_cap", Period.DAY),
    "month_power": ("total_cap", Period.MONTH),
    "total_power": ("total_cap", Period.LIFETIME),
}
"""The yields of a plant: of what item of its inverters they are the sum, and when they
start over."""


def sums_of(
    hass: HomeAssistant,
    entry_id: str,
    inventory: Inventory,
    real_time: RealTimeCoordinator,
    plant_codes: Collection[str],
) -> Iterator[Sum]:
    """Return the sums of some plants, as far as they are exact."""
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
                yield Sum(whole, period, zone, tuple(filter(None, parts)))


def _flows(
    inventory: Inventory,
    real_time: RealTimeCoordinator,
    code: str,
    entities: Mapping[tuple[SourceId, str], str],
) -> Iterator[Sum]:
    """Return the energies of a plant that are made of counters of its devices."""
    zone = zone_of(inventory.plants[code])
    by_unique_id = {
        f"{source_id}_{key}": entity_id
        for (source_id, key), entity_id in entities.items()
    }
    for key, (gains, losses) in real_time.flows.terms(code).items():
        whole = entities.get((code, key))
        # What has never counted anything needs no entity.
        gains = {
            name: count
            for name, count in gains.items()
            if count and (count.value or count.start)
        }
        parts = [by_unique_id.get(name) for name in (*gains, *losses)]
        taken = [
            entities.get((device.id, "active_power"))
            for device in inventory.devices_of(code)
            if device.type_id in INVERTERS and losses
        ]
        if whole is not None and None not in (*parts, *taken):
            known = tuple(filter(None, parts))
            yield Sum(
                whole,
                Period.LIFETIME,
                zone,
                known[: len(gains)],
                known[len(gains) :],
                tuple(filter(None, taken)),
            )


def _is_exact(
    real_time: RealTimeCoordinator, code: str, devices: Collection[Device]
) -> bool:
    """Return whether the yields of a plant are those of its inverters.

    Behind a battery they are not; and a plant whose total is higher than its inverters'
    had others before.
    """
    inverters = [device for device in devices if device.type_id in INVERTERS]
    if not inverters or any(device.type_id in _STORAGES for device in devices):
        return False

    def counted(key: str, part: str) -> tuple[float, float] | None:
        whole = real_time.counted(f"{code}_{key}")
        parts = [real_time.counted(f"{each.id}_{part}") for each in inverters]
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
