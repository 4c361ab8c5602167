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
from .energy import EnergySum, HomeEnergy, Integral, pv_terms, storage_terms
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
    "CounterValue",
    "CounterValues",
    "EnergySum",
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
    "power_flow",
    "pv_terms",
    "storage_terms",
]
