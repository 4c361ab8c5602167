"""Translation of API errors into translation keys and Home Assistant exceptions."""

from math import ceil
from typing import Final

from homeassistant.exceptions import ConfigEntryAuthFailed
from homeassistant.helpers.update_coordinator import UpdateFailed

from .const import DOMAIN
from .northbound import (
    ACCOUNT_DISABLED,
    OWNER_REFUSALS,
    AccountLocked,
    ConnectionFailed,
    InvalidCredentials,
    MalformedResponse,
    MembersRefused,
    NorthboundError,
    PermissionDenied,
    RateLimited,
    RequestRejected,
    ServerBusy,
    SessionTaken,
)

# Names of the interfaces in translation keys. Each has a permission.
INTERFACES: Final = {
    "stations": "plant_list",
    "getStationList": "plant_list",
    "getDevList": "device_list",
    "getStationRealKpi": "plant_data",
    "getDevRealKpi": "device_data",
    "getDevHistoryKpi": "device_history",
    "device/history": "device_history",
}

# Translation keys of errors without placeholders.
_KEYS: Final[dict[type[NorthboundError], str]] = {
    AccountLocked: "account_locked",
    ConnectionFailed: "cannot_connect",
    MalformedResponse: "not_northbound",
    PermissionDenied: "no_permission",
    ServerBusy: "server_busy",
    SessionTaken: "session_taken",
}


def explain(error: NorthboundError) -> tuple[str, dict[str, str]]:
    """Return the translation key and the placeholders of an error."""
    match error:
        case InvalidCredentials() if error.code in ACCOUNT_DISABLED:
            return "account_disabled", {}
        case InvalidCredentials():
            return "invalid_auth", {}
        case RateLimited():
            return "rate_limited", {"minutes": str(ceil(error.retry_after / 60))}
        case MembersRefused() if error.code in OWNER_REFUSALS:
            return "not_authorized", {}
        case PermissionDenied() if name := INTERFACES.get(error.what):
            return f"no_permission_{name}", {}
        case RequestRejected() | MembersRefused():
            return "request_rejected", {"code": str(error.code)}
        case _:
            return next(
                (key for kind, key in _KEYS.items() if isinstance(error, kind)),
                "unknown",
            ), {}


def as_update_error(
    error: NorthboundError, retry_after: float | None = None
) -> UpdateFailed | ConfigEntryAuthFailed:
    """Return the exception that a coordinator raises for an error.

    `retry_after` replaces the error's seconds until the next attempt.
    """
    key, placeholders = explain(error)
    if isinstance(error, InvalidCredentials):
        return ConfigEntryAuthFailed(
            translation_domain=DOMAIN,
            translation_key=key,
            translation_placeholders=placeholders,
        )
    return UpdateFailed(
        translation_domain=DOMAIN,
        translation_key=key,
        translation_placeholders=placeholders,
        retry_after=retry_after or error.retry_after,
    )
