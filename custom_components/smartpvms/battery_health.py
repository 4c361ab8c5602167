"""State of health of a battery, which newer servers report only for its modules."""

from collections.abc import Iterator
from typing import Final

from .northbound import DataItems, number

_HEALTH: Final = "battery_soh"
_UNITS: Final = "battery_unit_info"


def with_module_health(items: DataItems) -> DataItems:
    """Return the items of a battery with the mean health of its modules in percent.

    A health that the battery itself reports is kept, unless it is 0.
    """
    if _UNITS not in items or number(items.get(_HEALTH)):
        return items
    modules = list(_module_healths(items[_UNITS]))
    if not modules:
        return items
    return {**items, _HEALTH: round(sum(modules) / len(modules), 1)}


def _module_healths(units: object) -> Iterator[float]:
    """Yield the health of each module from `{"unit1": [{"soh": "95.0%"}]}`."""
    for modules in units.values() if isinstance(units, dict) else ():
        for module in modules if isinstance(modules, list) else ():
            raw = module.get("soh") if isinstance(module, dict) else None
            health = number(raw.rstrip("% ") if isinstance(raw, str) else raw)
            if health is not None and 0 < health <= 100:
                yield health
