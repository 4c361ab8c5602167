"""Powers and energies of a plant, from the readings of its devices."""

from .counter_activity import CounterActivities
from .counters import (
    CHARGED,
    COUNTERS,
    DAY_USE,
    DISCHARGED,
    GRID_COUNTERS,
    PV_COUNTERS,
    CounterId,
    CounterValue,
    CounterValues,
    Terms,
    counters_of,
    terms_of,
)
from .devices import GRID_POINTS, INVERTERS, PlantDevice, PlantDevices
from .energy import EnergySum, HomeEnergy, Integral, grid_terms, pv_terms, storage_terms
from .energy_today import EnergyToday
from .grid_point import GridPointDetector
from .power_flow import PowerFlow, power_flow
from .storage_sign import StorageSigns

__all__ = [
    "CHARGED",
    "COUNTERS",
    "DAY_USE",
    "DISCHARGED",
    "GRID_COUNTERS",
    "GRID_POINTS",
    "INVERTERS",
    "PV_COUNTERS",
    "CounterActivities",
    "CounterId",
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
    "counters_of",
    "grid_terms",
    "power_flow",
    "pv_terms",
    "storage_terms",
    "terms_of",
]
