"""Powers and energies of a plant, from the readings of its devices."""

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
from .evidence import Evidence
from .power_flow import PowerFlow, power_flow
from .units import GRID_POINTS, INVERTERS, Unit, Units

__all__ = [
    "COUNTERS",
    "DAY_USE",
    "GRID_COUNTERS",
    "GRID_POINTS",
    "INVERTERS",
    "Balance",
    "Count",
    "CounterId",
    "Counts",
    "Evidence",
    "HomeEnergy",
    "Integral",
    "PowerFlow",
    "Terms",
    "Unit",
    "Units",
    "as_terms",
    "counters_of",
    "power_flow",
    "pv_terms",
    "storage_terms",
]
