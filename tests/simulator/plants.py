"""Homes, plants and devices of an account."""

from dataclasses import dataclass, field
from datetime import datetime, time
from enum import IntEnum
from typing import Literal
from zoneinfo import ZoneInfo

from .energy import Site


class DeviceType(IntEnum):
    """The device types that the ready-made homes use."""

    STRING_INVERTER = 1
    SMART_LOGGER = 2
    EMI = 10
    GRID_METER = 17
    RESIDENTIAL_INVERTER = 38
    BATTERY = 39
    ESS = 41
    POWER_SENSOR = 47
    DONGLE = 62
    EMMA = 23070
    MAINS = 60001
    GENSET = 60003
    AC_OUTPUT = 60010
    LITHIUM_RACK = 60014
    SSU_GROUP = 60043
    SSU = 60044
    POWER_CONVERTER = 60092


type Measured = Literal["grid", "inverters", "load"]
"""What a meter measures."""

type Silence = Literal["zeros", "nulls", "missing"]
"""What is reported for a device that has no connection."""


@dataclass(eq=False)
class Device:
    """A device of a plant."""

    id: int
    type_id: int
    name: str
    serial_number: str | None = None
    model: str | None = None
    software_version: str | None = None
    # Share of the plant's power of this kind.
    share: float = 1.0
    # The roof of each MPPT.
    mppts: tuple[int, ...] = ()
    strings_per_mppt: int = 1
    # Whether an inverter counts the DC energy of its MPPTs.
    counts_dc: bool = True
    modules_per_string: int = 14
    # Position of a meter: at the grid, at the inverters, or at a part of the load.
    measures: Measured = "grid"
    connected: bool = True
    disconnected_style: Silence = "zeros"


@dataclass(eq=False)
class Plant:
    """A plant: a site with its devices."""

    code: str
    name: str
    site: Site
    devices: list[Device] = field(default_factory=list)
    address: str | None = None
    # A plant may be a scaled copy of its site.
    size: float = 1.0
    phases: Literal[1, 3] = 3
    # Yield of the inverters before the plant was registered.
    earlier_yield_kwh: float = 0.0
    price_per_kwh: float = 0.3
    # "kw": meters of the older generation report kW where newer ones report W.
    firmware: Literal["w", "kw"] = "w"
    # Undocumented items of newer servers.
    newer_items: bool = True
    pv_inputs: int = 28
    # The side of a hybrid inverter on which reports count the energy of the panels;
    # the plant's own yields of today, this month and in total are on the AC side.
    yield_side: Literal["dc", "ac"] = "ac"
    # The entered capacity, if it is wrong.
    typed_capacity_kwp: float | None = None
    # Powers are instantaneous instead of means of the minute.
    instantaneous: bool = False
    # The sign of the C&I storage's power, which differs among clients.
    ess_positive: Literal["charge", "discharge"] = "discharge"

    @property
    def time_zone(self) -> ZoneInfo:
        """Return the time zone of the plant's days."""
        return self.site.time_zone

    @property
    def capacity_kwp(self) -> float:
        """Return the power of all panels."""
        return round(sum(roof.kwp for roof in self.site.roofs) * self.size, 3)

    @property
    def reported_capacity_kwp(self) -> float:
        """Return the capacity that the server reports."""
        return self.typed_capacity_kwp or self.capacity_kwp

    @property
    def connected_to_grid(self) -> datetime:
        """Return the time of the grid connection in the plant's zone."""
        return datetime.combine(
            self.site.commissioned, time(16, 23), tzinfo=self.time_zone
        )


@dataclass
class Home:
    """All plants of one account."""

    plants: list[Plant] = field(default_factory=list)

    def plant(self, code: str) -> Plant | None:
        """Return the plant with a code."""
        return next((plant for plant in self.plants if plant.code == code), None)

    def devices(self) -> list[tuple[Plant, Device]]:
        """Return all devices with their plants."""
        return [(plant, device) for plant in self.plants for device in plant.devices]
