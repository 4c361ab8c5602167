"""Client of Huawei's SmartPVMS Northbound API; knows nothing of Home Assistant."""

from .client import BATCH, HISTORY_BATCH, HISTORY_REACH, HISTORY_SPAN, NorthboundClient
from .clock import coming, epoch
from .errors import (
    AccountLimited,
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
    HISTORY_TYPES,
    DataItems,
    Device,
    DeviceType,
    HistoryRow,
    Plant,
    RealTimeKpis,
    moment,
    number,
    text,
)
from .server_clock import ServerClock
from .session import Access, Session

__all__ = [
    "BATCH",
    "DEVICE_TYPE_NAMES",
    "HISTORY_BATCH",
    "HISTORY_REACH",
    "HISTORY_SPAN",
    "HISTORY_TYPES",
    "REGIONAL_HOSTS",
    "Access",
    "AccountLimited",
    "AccountLocked",
    "ConnectionFailed",
    "DataItems",
    "Device",
    "DeviceType",
    "HistoryRow",
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
    "ServerClock",
    "Session",
    "SessionTaken",
    "base_url",
    "coming",
    "epoch",
    "moment",
    "northbound_host",
    "number",
    "text",
]
