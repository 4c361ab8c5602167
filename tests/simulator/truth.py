"""The true powers and energies of a plant."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np

from .energy import Row
from .plants import Plant
from .sun import Array


@dataclass(frozen=True, slots=True)
class Balance:
    """A plant's energy balance in W or kWh; no value is negative.

    pv + grid_import + discharge = load + grid_export + charge + losses. PV is on the DC
    side, and import includes what a genset delivers in place of the grid.
    """

    pv: float
    load: float
    grid_import: float
    grid_export: float
    charge: float
    discharge: float
    losses: float


# The same balance, for powers in W and energies in kWh.
type Flows = Balance
type Energies = Balance


def _balance(rows: Array, scale: float) -> Balance:
    scaled = rows * scale
    return Balance(
        pv=float(np.sum(scaled[Row.PV :])),
        load=float(scaled[Row.LOAD]),
        grid_import=float(scaled[Row.IMPORT]),
        grid_export=float(scaled[Row.EXPORT]),
        charge=float(scaled[Row.CHARGE]),
        discharge=float(scaled[Row.DISCHARGE]),
        losses=float(scaled[Row.LOSSES]),
    )


def flows(plant: Plant, at: datetime) -> Flows:
    """Return the powers at a time, in W."""
    return _balance(plant.site.power(at.timestamp()), plant.size)


def energies(plant: Plant, start: datetime, end: datetime) -> Energies:
    """Return the exact energies between two times, in kWh."""
    site = plant.site
    rows = site.energy(end.timestamp()) - site.energy(start.timestamp())
    return _balance(rows, plant.size / 1000)
