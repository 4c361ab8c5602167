"""A simulation of Huawei's SmartPVMS Northbound API with physical plants."""

from . import alarms, faults, homes
from .clock import Clock, RealClock, SetClock, SpedClock
from .plants import Device, DeviceType, Home, Plant
from .server import Call, Simulator
from .truth import Energies, Flows

__all__ = [
    "Call",
    "Clock",
    "Device",
    "DeviceType",
    "Energies",
    "Flows",
    "Home",
    "Plant",
    "RealClock",
    "SetClock",
    "Simulator",
    "SpedClock",
    "alarms",
    "faults",
    "homes",
]
