"""Errors of the Northbound API; every failCode maps to one of them."""

from enum import IntEnum
import time
from typing import Final, override


class FailCode(IntEnum):
    """failCodes that are handled, with their meaning in the API document."""

    NOT_LOGGED_IN = 305
    """Not in the login state; log in again."""
    NO_PERMISSION = 401
    """No permission for this data interface."""
    TOO_FREQUENT = 407
    """Access frequency too high."""
    ACCOUNT_UNKNOWN = 20001
    """The third-party system ID does not exist."""
    ACCOUNT_FORBIDDEN = 20002
    """The third-party system is forbidden."""
    ACCOUNT_EXPIRED = 20003
    """The third-party system has expired."""
    SERVER_ABNORMAL = 20004
    """The server is abnormal."""
    DEVICE_TYPE_MISMATCH = 20006
    """Some devices do not match the device type."""
    PLANT_NOT_FOUND = 20007
    """The system does not have the plants."""
    DEVICE_NOT_FOUND = 20008
    """The system does not have the devices."""
    DEVICE_TYPE_UNSUPPORTED = 20013
    """The interface does not support the device type."""
    LANGUAGE_INCORRECT = 20025
    """The language is incorrect."""
    PLANTS_FORBIDDEN = 20045
    """HttpUnauthorized plants in the input."""
    DEVICES_FORBIDDEN = 20046
    """HttpUnauthorized devices in the input."""
    PLANT_UNAUTHORIZED = 20056
    """The owner has not authorized the API, or has disabled it for the plant."""
    SYSTEM_BUSY = 20200
    """The system is busy; try again later."""
    LOGIN_REFUSED = 20400
    """Wrong password, account locked, password expired or too many sessions."""
    LOGIN_RESTRICTED = 20403
    """The login of the third-party user is restricted."""
    DAILY_LIMIT = 20618
    """The calls reached the maximum per user and day."""
    RESOURCE_UNAUTHORIZED = 20621
    """The owner has not authorized the resource."""
    PLANT_INVALID = 20622
    """The plant is invalid, or there is no permission for it."""
    PLANT_OF_OTHER_COMPANY = 20623
    """The plant is not in the owner's company."""
    INTERNAL_CALL_FAILED = 30008
    """Failed to call the internal interface."""
    AUTHENTICATION_FAILED = 30029
    """Authentication failed: no permission for a plant or device."""
    TASK_IN_PROGRESS = 30033
    """A task is in progress."""


def _with_code(message: str, code: int | None) -> str:
    return message if code is None else f"{message} (failCode {code})"


class NorthboundError(Exception):
    """Base class of the client's errors."""

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        """Set the seconds until a call can succeed, if known."""
        super().__init__(message)
        self.retry_after = retry_after
        self.at = time.monotonic()


class ConnectionFailed(NorthboundError):
    """The connection failed: DNS, TCP, TLS, timeout, or incomplete answer."""

    def __init__(self, reason: str = "", *, sent: bool = True) -> None:
        """Set whether the server may have received the call."""
        super().__init__(reason)
        self.sent = sent


class ServerMoved(ConnectionFailed):
    """The API is not at this address, or not any more.

    The address redirects to another host or is gone, its host has no address, or the
    certificate is one of another host.
    """

    def __init__(
        self, reason: str, host: str | None = None, *, sent: bool = True
    ) -> None:
        """Set the host to which the address redirects."""
        super().__init__(reason, sent=sent)
        self.host = host


class InvalidCredentials(NorthboundError):
    """The server refuses the account: wrong user or password, disabled or expired."""

    def __init__(self, code: int | None = None) -> None:
        """Set the failCode; `None` if the server sent none."""
        super().__init__(_with_code("credentials refused", code))
        self.code = code


class AccountLocked(NorthboundError):
    """The login is refused temporarily: account locked or too many online sessions."""


class SessionTaken(NorthboundError):
    """The server rejects the token: another client has logged in to the account."""


class HttpUnauthorized(SessionTaken):
    """The server rejects the token, or the address, with HTTP 401."""


class RateLimited(NorthboundError):
    """The interface was called too often, or a call would exceed its quota."""

    retry_after: float

    def __init__(self, retry_after: float, code: int | None = None) -> None:
        """Set the seconds to wait, and the failCode; `None` if no call was made."""
        super().__init__(retry_after=retry_after)
        self.code = code

    @override
    def __str__(self) -> str:
        """Return the message, with the seconds to wait."""
        return f"rate limited, retry after {self.retry_after:.0f} s"


class AccountLimited(RateLimited):
    """The login or the whole system is limited, so all interfaces are."""


class PermissionDenied(NorthboundError):
    """The account lacks the permission for an interface."""

    def __init__(self, what: str, code: int | None = None) -> None:
        """Set the name of the refused interface, and the failCode."""
        super().__init__(_with_code(f"no permission for {what}", code))
        self.what = what
        self.code = code


class MembersRefused(NorthboundError):
    """The server refuses a call because of some of its plants or devices."""

    def __init__(self, code: int) -> None:
        """Set the failCode."""
        super().__init__(_with_code("plants or devices refused", code))
        self.code = code


class ServerBusy(NorthboundError):
    """The server has a temporary problem."""


class RequestRejected(NorthboundError):
    """The server rejects the request as invalid."""

    def __init__(self, code: int | None = None) -> None:
        """Set the failCode; `None` if the gateway rejected the request."""
        super().__init__(_with_code("request rejected", code))
        self.code = code


class MalformedResponse(NorthboundError):
    """The answer does not have the format of a Northbound server."""


class InterfaceMissing(MalformedResponse):
    """The server does not have the interface: HTTP 404 or 410."""


_WRONG_CREDENTIALS: Final = "user.login.user_or_value_invalid"

OPTIONAL: Final = frozenset({"getDevHistoryKpi", "getAlarmList"})
"""Interfaces without which an account works, and which servers may withdraw.

A refusal of one says nothing about the account: other interfaces are refused as well if
it concerns them.
"""

# The document does not list 306 and 307.
_SESSION_UNKNOWN: Final = frozenset({FailCode.NOT_LOGGED_IN, 306, 307})
ACCOUNT_DISABLED: Final = frozenset(
    {FailCode.ACCOUNT_FORBIDDEN, FailCode.ACCOUNT_EXPIRED}
)
_ACCOUNT_REFUSED: Final = ACCOUNT_DISABLED | {FailCode.ACCOUNT_UNKNOWN}
_LOGIN_REFUSED: Final = frozenset({FailCode.LOGIN_REFUSED, FailCode.LOGIN_RESTRICTED})
_INTERFACE_LIMIT: Final = frozenset({FailCode.TOO_FREQUENT, FailCode.DAILY_LIMIT})
# failCodes and HTTP statuses: the calls of all users exceed the limit of the system.
SYSTEM_LIMIT: Final = frozenset({403, 429})
_BUSY: Final = frozenset(
    {
        FailCode.SERVER_ABNORMAL,
        FailCode.SYSTEM_BUSY,
        FailCode.INTERNAL_CALL_FAILED,
        FailCode.TASK_IN_PROGRESS,
    }
)
OWNER_REFUSALS: Final = frozenset(
    {FailCode.PLANT_UNAUTHORIZED, FailCode.RESOURCE_UNAUTHORIZED}
)
"""failCodes for a plant whose owner has not authorized the API."""
UNKNOWN_DEVICE: Final = frozenset(
    {FailCode.DEVICE_TYPE_MISMATCH, FailCode.DEVICE_NOT_FOUND}
)
"""failCodes for a device that the server does not list, or lists with another type."""
MEMBER_REFUSALS: Final = (
    OWNER_REFUSALS
    | UNKNOWN_DEVICE
    | {
        FailCode.PLANT_NOT_FOUND,
        FailCode.PLANTS_FORBIDDEN,
        FailCode.DEVICES_FORBIDDEN,
        FailCode.PLANT_INVALID,
        FailCode.PLANT_OF_OTHER_COMPANY,
        FailCode.AUTHENTICATION_FAILED,
    }
)
"""failCodes for calls, or rows, whose plants or devices may not be read."""

# Default wait in seconds; flow control replaces it.
_MINUTE: Final = 60.0


def error_for(interface: str, code: int, message: object) -> NorthboundError:
    """Return the error for a failCode of an interface."""
    if code in _SESSION_UNKNOWN:
        return SessionTaken(f"session ended (failCode {code})")
    if code in SYSTEM_LIMIT | _INTERFACE_LIMIT:
        return _limit(interface, code)
    if code == FailCode.NO_PERMISSION or (
        code in _ACCOUNT_REFUSED | _LOGIN_REFUSED and interface in OPTIONAL
    ):
        return PermissionDenied(interface, code)
    if code in _ACCOUNT_REFUSED:
        return InvalidCredentials(code)
    # Only the message distinguishes a wrong password from the other causes.
    if code == FailCode.LOGIN_REFUSED and message == _WRONG_CREDENTIALS:
        return InvalidCredentials(code)
    if code in _LOGIN_REFUSED:
        return AccountLocked(f"login refused (failCode {code})")
    if code in MEMBER_REFUSALS:
        return MembersRefused(code)
    if code in _BUSY:
        return ServerBusy(f"server busy (failCode {code})")
    return RequestRejected(code)


def error_for_status(interface: str, status: int) -> NorthboundError:
    """Return the error for an HTTP status other than 200 without a failCode."""
    if status == 401:
        return HttpUnauthorized("session ended (HTTP 401)")
    if status in SYSTEM_LIMIT:
        return _limit(interface, status)
    if status >= 500:
        return ServerBusy(f"server busy (HTTP {status})")
    if status in (404, 410):
        return InterfaceMissing(f"HTTP {status}")
    return MalformedResponse(f"HTTP {status}")


def _limit(interface: str, code: int) -> RateLimited:
    """Return the error for a limit, which concerns the whole account or an interface."""
    is_of_account = interface == "login" or code in SYSTEM_LIMIT
    if is_of_account and interface not in OPTIONAL:
        return AccountLimited(_MINUTE, code)
    return RateLimited(_MINUTE, code)
