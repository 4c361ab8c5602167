"""The Energy dashboard of the demo: its configuration, and the true energies."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
import math
from typing import Any, NamedTuple

from scripts.home_assistant import HomeAssistant
from tests.simulator import Energies, Home
from tests.simulator.plants import Plant
from tests.simulator.truth import energies

HOUR = timedelta(hours=1)

type Source = dict[str, Any]

# The statistics of each source type, with their true energies in an hour.
TRUTHS: Mapping[tuple[str, str], tuple[str, Callable[[Energies], float]]] = {
    # As in FusionSolar, after the losses of the inverter. What the inverter draws at
    # night is not subtracted from the hours of the day.
    ("solar", "stat_energy_from"): ("PV", lambda true: max(true.pv - true.losses, 0.0)),
    ("grid", "stat_energy_from"): ("import", lambda true: true.grid_import),
    ("grid", "stat_energy_to"): ("export", lambda true: true.grid_export),
    ("battery", "stat_energy_from"): ("discharge", lambda true: true.discharge),
    ("battery", "stat_energy_to"): ("charge", lambda true: true.charge),
    ("home", "stat_energy_to"): ("home", lambda true: true.load),
}


async def set_up(home_assistant: HomeAssistant, entry_id: str) -> None:
    """Configure the Energy dashboard as suggested by the integration."""
    for device in await home_assistant.devices():
        # Only a plant has a health.
        if "real_health_state" in device.entities:
            await home_assistant.action(
                "suggest_energy_dashboard",
                config_entry_id=entry_id,
                device_id=device.id,
                apply=True,
            )


async def sources(home_assistant: HomeAssistant) -> list[Source]:
    """Return the sources of the Energy dashboard."""
    preferences = await home_assistant.command("energy/get_prefs")
    return list(preferences["energy_sources"])


def statistic_ids(sources: Iterable[Source]) -> set[str]:
    """Return the energy statistics of the sources."""
    return {
        str(source[field])
        for source in sources
        for kind, field in TRUTHS
        if source["type"] == kind and source.get(field)
    }


def true_hours(plant: Plant, start: datetime, end: datetime) -> list[Energies]:
    """Return the true energies of a plant in the hours of a period, in kWh."""
    begin = start.astimezone(UTC)
    full = (end - begin) // HOUR
    bounds = [*(begin + number * HOUR for number in range(full + 1)), end]
    return [energies(plant, *hour) for hour in pairwise(bounds)]


class Total(NamedTuple):
    """A total of a period in the Energy dashboard, and the true one, in kWh."""

    name: str
    recorded: float
    true: float


def totals(
    sources: Iterable[Source],
    recorded: Mapping[str, float],
    home: Home,
    start: datetime,
    end: datetime,
) -> list[Total]:
    """Return the totals of a period from the statistics of the sources."""
    hours = [each for plant in home.plants for each in true_hours(plant, start, end)]
    totals = []
    for (kind, field), (name, truth) in TRUTHS.items():
        ids = [source[field] for source in sources if source["type"] == kind]
        if ids := list(filter(None, ids)):
            true = math.fsum(map(truth, hours))
            totals.append(
                Total(name, math.fsum(recorded.get(id_, 0.0) for id_ in ids), true)
            )
    return totals
