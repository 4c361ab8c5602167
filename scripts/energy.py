"""The Energy dashboard of the demo: where its energies come from, and what is true."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
import math
import re
from typing import Any, NamedTuple

from scripts.home_assistant import Device
from tests.simulator import Home
from tests.simulator.truth import energies

type Source = dict[str, Any]

# What each field of the Energy dashboard's sources is called in the simulator's truth.
_TRUTHS = {
    ("solar", "stat_energy_from"): "pv",
    ("grid", "stat_energy_from"): "grid_import",
    ("grid", "stat_energy_to"): "grid_export",
    ("battery", "stat_energy_from"): "discharge",
    ("battery", "stat_energy_to"): "charge",
}


def sources(devices: Iterable[Device]) -> list[Source]:
    """Return the sources of the Energy dashboard whose past is there at once.

    The energies of plants are made of their devices', and their past an hour later.
    """
    return [
        source
        for device in devices
        if "day_power" not in device.entities
        for source in _sources(device)
    ]


def statistic_ids(sources: Iterable[Source]) -> list[str]:
    """Return the statistics that the sources name."""
    return [
        value
        for source in sources
        for field, value in source.items()
        if field.startswith("stat_")
    ]


def _sources(device: Device) -> Iterator[Source]:
    for key in _solar(device):
        yield {"type": "solar", "stat_energy_from": device.entities[key]}
    named = device.named
    if "imported_energy" in named:
        yield {
            "type": "grid",
            "stat_energy_from": named["imported_energy"],
            "stat_energy_to": named["exported_energy"],
            "cost_adjustment_day": 0.0,
        }
    for kind in ("", "day_"):
        if f"{kind}charged_energy" in named:
            yield {
                "type": "battery",
                "stat_energy_from": named[f"{kind}discharged_energy"],
                "stat_energy_to": named[f"{kind}charged_energy"],
            }
            break


def _solar(device: Device) -> list[str]:
    """Return the keys that together count all that the panels have yielded."""
    if "mppt_total_cap" in device.entities:
        return ["mppt_total_cap"]
    return sorted(key for key in device.entities if re.match(r"mppt_\d+_cap", key))


class Total(NamedTuple):
    """What the Energy dashboard tells of a time, and what is true, in kWh."""

    name: str
    told: float
    true: float


def totals(
    sources: Iterable[Source],
    told: Mapping[str, float],
    home: Home,
    start: datetime,
    end: datetime,
) -> list[Total]:
    """Return what was told of a time by the statistics of the sources."""
    balances = [energies(plant, start, end) for plant in home.plants]
    totals = []
    for (kind, field), name in _TRUTHS.items():
        ids = [source[field] for source in sources if source["type"] == kind]
        if ids:
            true = math.fsum(getattr(balance, name) for balance in balances)
            totals.append(
                Total(name, math.fsum(told.get(id_, 0.0) for id_ in ids), true)
            )
    return totals
