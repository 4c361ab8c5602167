"""Powers and energies of a plant, from the readings of its devices."""

from .counter_activity import CounterActivities
from .counters import (
    COUNTERS,
    DAY_USE,
    GRID_COUNTERS,
    CounterId,
    CounterValue,
    CounterValues,
    Terms,
    as_terms,
    counters_of,
)
from .devices import GRID_POINTS, INVERTERS, PlantDevice, PlantDevices
from .energy import (
    CounterRises,
    EnergySum,
    HomeEnergy,
    Integral,
    grid_terms,
    pv_terms,
    storage_terms,
)
from .energy_today import EnergyToday
from .grid_point import GridPointDetector
from .power_flow import PowerFlow, power_flow
from .storage_sign import StorageSigns

__all__ = [
    "COUNTERS",
    "DAY_USE",
    "GRID_COUNTERS",
    "GRID_POINTS",
    "INVERTERS",
    "CounterActivities",
    "CounterId",
    "CounterRises",
    "CounterValue",
    "CounterValues",
    "EnergySum",
    "EnergyToday",
    "GridPointDetector",
    "HomeEnergy",
    "Integral",
    "PlantDevice",
    "PlantDevices",
    "PowerFlow",
    "StorageSigns",
    "Terms",
    "as_terms",
    "counters_of",
    "grid_terms",
    "power_flow",
    "pv_terms",
    "storage_terms",
]
