"""Counters of a plant's devices, from which its energies are calculated."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Final, NamedTuple, Self

from custom_components.smartpvms.counter_filter import CounterFilter
from custom_components.smartpvms.northbound import DeviceType

GRID_COUNTERS: Final[Mapping[int, tuple[str, str | None]]] = {
    DeviceType.GRID_METER: ("reverse_active_cap", "active_cap"),
    DeviceType.POWER_SENSOR: ("reverse_active_cap", "active_cap"),
    DeviceType.EMMA: ("active_cap", "reverse_active_cap"),
    DeviceType.MAINS: ("total_energy_consumption", None),
}
"""Counters of imported and exported energy, by device type."""

MPPTS: Final = tuple(f"mppt_{n}_cap" for n in range(1, 11))
DC_COUNTERS: Final = ("mppt_total_cap", *MPPTS)
STORED: Final = ("charge_cap", "discharge_cap")
# Each tuple holds counters of the same energy, the best one first.
YIELDS: Final = ("total_cap", "day_cap")
CHARGED: Final = ("total_charged_energy", "charge_cap")
DISCHARGED: Final = ("total_discharged_energy", "discharge_cap")
RACK_DISCHARGED: Final = "total_discharge"
SUBSTITUTES: Final[Mapping[str, str]] = {
    **dict.fromkeys(DC_COUNTERS, YIELDS[0]),
    **dict((YIELDS, CHARGED, DISCHARGED)),
}
"""The counter of the same device that replaces a counter that stays 0."""
COUNTERS: Final[Mapping[int, tuple[str, ...]]] = {
    DeviceType.STRING_INVERTER: (*YIELDS, *DC_COUNTERS),
    DeviceType.RESIDENTIAL_INVERTER: (*YIELDS, *MPPTS[:4]),
    DeviceType.BATTERY: (*CHARGED, *DISCHARGED),
    DeviceType.ESS: STORED,
    DeviceType.GRID_METER: ("active_cap", "reverse_active_cap"),
    DeviceType.POWER_SENSOR: ("active_cap", "reverse_active_cap"),
    DeviceType.EMMA: ("active_cap", "reverse_active_cap"),
    DeviceType.MAINS: ("total_energy_consumption",),
    DeviceType.BATTERY_RACK: (RACK_DISCHARGED,),
}
"""Counters from which the energies are calculated, by device type."""


class CounterValue(NamedTuple):
    """Energy of a filtered counter."""

    value: float
    start: datetime | None = None
    """Start of its period; `None` for lifetime counters."""
    confirmed: bool = True
    """Whether the last reading confirms the value; otherwise it may be outdated."""
    read: datetime | None = None
    """Time of the last reading."""
    reset_seen: bool = True
    """Whether the counter has started over in its period."""

    @property
    def reading(self) -> tuple[float, float | None, float | None, bool]:
        """Return the arguments of `DayEndEstimate.follow`."""
        if self.start is None:
            return self.value, None, None, self.reset_seen
        read = None if self.read is None else self.read.timestamp()
        return self.value, self.start.timestamp(), read, self.reset_seen

    @classmethod
    def of(cls, counter: CounterFilter, raw: float | None) -> Self | None:
        """Return the energy of a filter after a reading; `None` before the first one.

        The energy is below the published value if a rise turned out to be false.
        """
        if counter.counted is None:
            return None
        confirmed = raw is not None and raw >= 0 and not counter.is_incomplete
        return cls(
            counter.counted, counter.start, confirmed, counter.read, counter.reset_seen
        )


type CounterId = tuple[int | None, str]
"""Device id and data item of a counter; the id is `None` for a plant's counter."""

type CounterValues = Mapping[CounterId, CounterValue | None]
"""Energies of the counters of a plant and its devices."""

DAY_USE: Final = (None, "day_use_energy")
"""The plant's own counter of the energy used on the day."""

type Terms = Mapping[str, CounterValue | None]


def counters_of(type_id: int, types: Collection[int]) -> Collection[str]:
    """Return the counters of a device type that a plant with these types needs.

    Without a battery, the inverters' yield replaces the DC energy of the panels.
    """
    counters = COUNTERS.get(type_id, ())
    if DeviceType.BATTERY in types:
        return counters
    return set(counters).difference(DC_COUNTERS)


def as_terms(counts: CounterValues) -> dict[str, CounterValue | None]:
    """Return all counts as terms."""
    return terms_of(counts, counts)


def terms_of(
    counts: CounterValues, keys: Iterable[CounterId]
) -> dict[str, CounterValue | None]:
    """Return the counts of these counters as terms."""
    return {name_of(*key): counts.get(key) for key in keys}


def name_of(device_id: int | None, key: str) -> str:
    """Return the name of a counter in the stored state."""
    return key if device_id is None else f"{device_id}_{key}"
