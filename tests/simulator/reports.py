"""Plant reports: the energies of a plant by hour, day, month and year.

The energies are those of the counters of the plant and its devices, since the first
simulated moment. They are rounded as running totals, so that the rows of a day, a month
and a year, and the sums within a row, agree to the last digit.

The servers' balance has no losses, while a plant with a hybrid inverter has some.
Either the energy of the panels is on the DC side, and the losses are used by the home,
or it is on the AC side, after the losses (`Plant.yield_side`).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import numpy as np

from .cloud import Change, Cloud, Distortion
from .energy import Row
from .items import Items
from .moment import last_collection, midnight_of
from .plants import DeviceType, Plant

_QUARTER = 900
_CO2_T_PER_KWH = 0.475 / 1000
_COAL_T_PER_KWH = 0.4 / 1000
_TREES_PER_KWH = 0.000646

type Missing = Callable[[str, datetime], bool]


@dataclass(frozen=True, slots=True)
class _Energies:
    """Energies in kWh, and the irradiation in kWh/m²."""

    pv: float
    imported: float
    exported: float
    charge: float
    discharge: float
    irradiation: float

    def since(self, earlier: _Energies, digits: int) -> _Energies:
        """Return the difference of two rounded totals."""
        names = [field.name for field in fields(self)]
        return _Energies(
            **{
                name: round(
                    round(getattr(self, name), digits)
                    - round(getattr(earlier, name), digits),
                    digits,
                )
                for name in names
            }
        )


class Reports:
    """The reports of a home's plants, and their faults."""

    def __init__(self, cloud: Cloud) -> None:
        """Report the true energies up to the last collection."""
        # Time after which the reports contain an energy.
        self.lag = timedelta()
        # Decimal places of energies.
        self.digits = 2
        # Rows without data have null items, and are not omitted.
        self.nulls = False
        # Whether an interface has no data of the row that starts at a time.
        self.missing: Missing = lambda interface, start: False
        self._cloud = cloud
        self._distortions: list[Distortion] = []

    def distort(
        self, interface: str, plant_code: str, key: str, change: Change
    ) -> Distortion:
        """Change an item of the rows; the time of the change is the row's start."""
        handle = Distortion(
            f"{interface} {plant_code}", key, change, False, self._distortions
        )
        self._distortions.append(handle)
        return handle

    def rows(self, interface: str, plant: Plant, epoch: float) -> list[Items]:
        """Return the rows of a plant for the period that contains a time."""
        begin = plant.site.begin
        known = last_collection(
            self._cloud.clock.now().timestamp() - self.lag.total_seconds()
        )
        rows = []
        for start, end in pairwise(_BOUNDARIES[interface](plant, epoch, known)):
            at = datetime.fromtimestamp(start, UTC)
            row = {"stationCode": plant.code, "collectTime": start * 1000}
            if begin < end and start < known and not self.missing(interface, at):
                total, before = (
                    _total(plant, min(max(each, begin), known)) for each in (end, start)
                )
                energies = total.since(before, self.digits)
                items = self._items(interface, plant, energies)
                self._change(f"{interface} {plant.code}", items, at)
            # Months before the first one of the plant are reported without data.
            elif self.nulls or (end <= begin and interface == "getKpiStationMonth"):
                nothing = _Energies(0, 0, 0, 0, 0, 0)
                items = dict.fromkeys(self._items(interface, plant, nothing))
            else:
                continue
            rows.append(row | {"dataItemMap": items})
        return rows

    def _change(self, name: str, items: Items, at: datetime) -> None:
        for distortion in self._distortions:
            if distortion.name == name and distortion.key in items:
                key = distortion.key
                items[key] = distortion.change(at, items[key])

    def _items(self, interface: str, plant: Plant, energies: _Energies) -> Items:
        def sums(*parts: float) -> float:
            return round(sum(parts), self.digits)

        capacity = plant.reported_capacity_kwp
        pv, exported, imported = energies.pv, energies.exported, energies.imported
        inverter_yield = sums(pv, -energies.charge, energies.discharge)
        self_provide = sums(inverter_yield, -exported)
        use = sums(imported, self_provide)
        profit = round((exported - imported) * plant.price_per_kwh, 2)
        # The irradiation is measured by an EMI.
        measured = any(device.type_id == DeviceType.EMI for device in plant.devices)
        theory = round(energies.irradiation * capacity, self.digits)
        items: Items = {
            "radiation_intensity": energies.irradiation if measured else None,
            "theory_power": theory if measured else None,
            "inverter_power": pv,
            "ongrid_power": exported,
            "power_profit": profit,
        }
        if interface != "getKpiStationHour":
            ratio = round(100 * pv / theory, 2) if measured and theory else None
            items |= {
                "installed_capacity": capacity,
                "performance_ratio": ratio,
                "use_power": use,
                "perpower_ratio": round(pv / capacity, 3),
                "reduction_total_co2": round(inverter_yield * _CO2_T_PER_KWH, 3),
                "reduction_total_coal": round(inverter_yield * _COAL_T_PER_KWH, 3),
                "reduction_total_tree": round(inverter_yield * _TREES_PER_KWH, 3),
            }
        if plant.newer_items:
            stores = plant.site.battery is not None
            items |= {
                "use_power": use,
                "PVYield": pv,
                "inverterYield": inverter_yield,
                "selfUsePower": sums(pv, -exported),
                "selfProvide": self_provide,
                "buyPower": imported,
                "chargeCap": energies.charge if stores else None,
                "dischargeCap": energies.discharge if stores else None,
                "perpower_profit": round(profit / capacity, 3),
            }
        return items


def _total(plant: Plant, epoch: float) -> _Energies:
    """Return the energies since the first simulated moment."""
    rows = plant.site.energy(epoch) / 1000
    scaled = rows * plant.size
    charge, discharge = float(scaled[Row.CHARGE]), float(scaled[Row.DISCHARGE])
    battery = plant.site.battery
    if battery is None or battery.side != "dc":
        pv = scaled[Row.OUTPUT]
    elif plant.yield_side == "dc":
        pv = np.sum(scaled[Row.PV :])
    else:
        pv = scaled[Row.OUTPUT] - scaled[Row.STANDBY] + charge - discharge
    return _Energies(
        pv=float(pv),
        imported=float(scaled[Row.IMPORT]),
        exported=float(scaled[Row.EXPORT]),
        charge=charge,
        discharge=discharge,
        irradiation=float(rows[Row.IRRADIATION]),
    )


def _local_date(plant: Plant, epoch: float) -> date:
    return datetime.fromtimestamp(epoch, plant.time_zone).date()


def _hours(plant: Plant, epoch: float, known: float) -> list[int]:
    """Return the full hours of the local day; the change to winter time adds one."""
    today = _local_date(plant, epoch)
    start, end = (
        midnight_of(day, plant.time_zone) for day in (today, today + timedelta(days=1))
    )
    return [
        moment
        for moment in range(start, end + 1, _QUARTER)
        if moment in (start, end)
        or datetime.fromtimestamp(moment, plant.time_zone).minute == 0
    ]


def _days(plant: Plant, epoch: float, known: float) -> list[int]:
    """Return the midnights of the local month."""
    first = _local_date(plant, epoch).replace(day=1)
    days = (first + timedelta(days=number) for number in range(32))
    month = [day for day in days if day.month == first.month]
    return _midnights(plant, [*month, month[-1] + timedelta(days=1)])


def _months(plant: Plant, epoch: float, known: float) -> list[int]:
    """Return the first midnights of the months; none before the plant's first year."""
    year = _local_date(plant, epoch).year
    if year < _local_date(plant, plant.site.begin).year:
        return []
    months = [date(year, month, 1) for month in range(1, 13)]
    return _midnights(plant, [*months, date(year + 1, 1, 1)])


def _years(plant: Plant, epoch: float, known: float) -> list[int]:
    """Return the first midnights of all years of the plant."""
    first, last = (_local_date(plant, each).year for each in (plant.site.begin, known))
    return _midnights(plant, (date(year, 1, 1) for year in range(first, last + 2)))


def _midnights(plant: Plant, days: Iterable[date]) -> list[int]:
    return [midnight_of(day, plant.time_zone) for day in days]


_BOUNDARIES: dict[str, Callable[[Plant, float, float], list[int]]] = {
    "getKpiStationHour": _hours,
    "getKpiStationDay": _days,
    "getKpiStationMonth": _months,
    "getKpiStationYear": _years,
}
REPORTS = tuple(_BOUNDARIES)
