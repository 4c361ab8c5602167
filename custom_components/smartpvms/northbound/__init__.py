"""Client of Huawei's SmartPVMS Northbound API; knows nothing of Home Assistant."""

from .client import NorthboundClient
from .errors import (
    AccountLocked,
    ConnectionFailed,
    InvalidCredentials,
    MalformedResponse,
    NorthboundError,
    PermissionDenied,
    RateLimited,
    RequestRejected,
    ServerBusy,
    SessionTaken,
)
from .hosts import REGIONAL_HOSTS, base_url, northbound_host
from .models import (
    DEVICE_TYPE_NAMES,
    DataItems,
    Device,
    DeviceType,
    Plant,
    RealTimeKpis,
    moment,
    number,
)
from .session import Session

__all__ = [
    "DEVICE_TYPE_NAMES",
    "REGIONAL_HOSTS",
    "AccountLocked",
    "ConnectionFailed",
    "DataItems",
    "Device",
    "DeviceType",
    "InvalidCredentials",
    "MalformedResponse",
    "NorthboundClient",
    "NorthboundError",
    "PermissionDenied",
    "Plant",
    "RateLimited",
    "RealTimeKpis",
    "RequestRejected",
    "ServerBusy",
    "Session",
    "SessionTaken",
    "base_url",
    "moment",
    "northbound_host",
    "number",
]
