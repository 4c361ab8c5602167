"""Powers and energies of a plant, from the readings of its devices."""

from .counter_activity import CounterActivities
from .counters import (
    COUNTERS,
    DAY_USE,
    GRID_COUNTERS,
    Count,
    CounterId,
    Counts,
    Terms,
    as_terms,
    counters_of,
)
from .energy import Balance, HomeEnergy, Integral, pv_terms, storage_terms
from .grid_point import GridPointDetector
from .power_flow import PowerFlow, power_flow
from .storage_sign import StorageSigns
from .units import GRID_POINTS, INVERTERS, Unit, Units

__all__ = [
    "COUNTERS",
    "DAY_USE",
    "GRID_COUNTERS",
    "GRID_POINTS",
    "INVERTERS",
    "Balance",
    "Count",
    "CounterActivities",
    "CounterId",
    "Counts",
    "GridPointDetector",
    "HomeEnergy",
    "Integral",
    "PowerFlow",
    "StorageSigns",
    "Terms",
    "Unit",
    "Units",
    "as_terms",
    "counters_of",
    "power_flow",
    "pv_terms",
    "storage_terms",
]
