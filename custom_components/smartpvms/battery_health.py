"""Modules of a battery, whose health newer servers report instead of the battery's."""

from collections.abc import Iterator, Mapping
from typing import Final

from .northbound import DataItems, number

_HEALTH: Final = "battery_soh"
_UNITS: Final = "battery_unit_info"
_MODULES: Final = "battery_modules"


def with_modules(items: DataItems) -> DataItems:
    """Return the items of a battery with its modules and their mean health in percent.

    A health that the battery itself reports is kept, unless it is 0.
    """
    if _UNITS not in items:
        return items
    modules = list(_modules(items[_UNITS]))
    health = [each for each in map(_health, modules) if each is not None]
    items = {**items, _MODULES: len(modules)}
    if health and not number(items.get(_HEALTH)):
        items[_HEALTH] = round(sum(health) / len(health), 1)
    return items


def _modules(units: object) -> Iterator[Mapping[str, object]]:
    """Yield the modules in `{"unit1": [{"sn": "...", "soh": "95.0%"}]}`."""
    for modules in units.values() if isinstance(units, dict) else ():
        for module in modules if isinstance(modules, list) else ():
            if isinstance(module, dict):
                yield module


def _health(module: Mapping[str, object]) -> float | None:
    raw = module.get("soh")
    health = number(raw.rstrip("% ") if isinstance(raw, str) else raw)
    return health if health is not None and 0 < health <= 100 else None
