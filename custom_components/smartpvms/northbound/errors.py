"""Errors of the Northbound API; every failCode maps to one of them."""

from typing import Final, override


class NorthboundError(Exception):
    """Base class of the errors that the client raises."""

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        """Set the seconds after which a call can succeed, if known."""
        super().__init__(message)
        self.retry_after = retry_after


class ConnectionFailed(NorthboundError):
    """The connection failed: DNS, TCP, TLS, timeout or an incomplete answer."""

    def __init__(self, reason: str = "", *, sent: bool = True) -> None:
        """Set whether the server may have received the call."""
        super().__init__(reason)
        self.sent = sent


class InvalidCredentials(NorthboundError):
    """The server refuses the account: wrong user or password, disabled or expired."""

    def __init__(self, code: int | None = None) -> None:
        """Set the failCode; `None` if the server sent none."""
        super().__init__(f"credentials refused (failCode {code})")
        self.code = code


class AccountLocked(NorthboundError):
    """The login is refused temporarily: account locked or too many online sessions."""


class SessionTaken(NorthboundError):
    """The server rejects the token: another client has logged in to the account."""


class RateLimited(NorthboundError):
    """The interface was called too often, or the call would exceed its quota."""

    retry_after: float

    def __init__(self, retry_after: float, code: int | None = None) -> None:
        """Set the seconds to wait, and the failCode if the server refused the call."""
        super().__init__(retry_after=retry_after)
        self.code = code

    @override
    def __str__(self) -> str:
        """Return the message, with the seconds to wait."""
        return f"called too often, retry after {self.retry_after:.0f} s"


class AccountLimited(RateLimited):
    """All interfaces have to wait: the login or the whole system is limited."""


class PermissionDenied(NorthboundError):
    """The account lacks the permission for an interface, a plant or a device."""

    def __init__(self, what: str, code: int | None = None) -> None:
        """Set the name of the refused interface, and the failCode."""
        super().__init__(f"no permission for {what} (failCode {code})")
        self.what = what
        self.code = code

    @property
    def unauthorized(self) -> bool:
        """Whether the plants' owners have not authorized the API."""
        return self.code in NOT_AUTHORIZED


class ServerBusy(NorthboundError):
    """The server has a temporary problem."""


class RequestRejected(NorthboundError):
    """The server rejects the request as invalid."""

    def __init__(self, code: int | None = None) -> None:
        """Set the failCode; `None` if the gateway rejected the request."""
        super().__init__(f"request rejected (failCode {code})")
        self.code = code


class MalformedResponse(NorthboundError):
    """The answer does not have the format of a Northbound server."""


_WRONG_CREDENTIALS: Final = "user.login.user_or_value_invalid"

_SESSION_UNKNOWN: Final = frozenset({305, 306, 307})
_ACCOUNT_REFUSED: Final = frozenset({20001, 20002, 20003})
_INTERFACE_LIMIT: Final = frozenset({407, 20618})
SYSTEM_LIMIT: Final = frozenset({403, 429})
_BUSY: Final = frozenset({20004, 20200, 30008, 30033})
NOT_AUTHORIZED: Final = frozenset({20056, 20621})
_NO_PERMISSION: Final = NOT_AUTHORIZED | {
    *(401, 20007, 20045, 20046, 20622, 20623, 30029)
}

# Default wait in seconds; flow control replaces it.
_MINUTE: Final = 60.0


def error_for(interface: str, code: int, message: object) -> NorthboundError:
    """Return the error for a failCode of an interface."""
    if code in _SESSION_UNKNOWN:
        return SessionTaken(f"token unknown (failCode {code})")
    if code in _ACCOUNT_REFUSED:
        return InvalidCredentials(code)
    # 20400 means a wrong password, a lock, an expired password or too many sessions;
    # only the message identifies a wrong password.
    if code == 20400 and message == _WRONG_CREDENTIALS:
        return InvalidCredentials(code)
    if code in (20400, 20403):
        return AccountLocked(f"login refused (failCode {code})")
    if code in SYSTEM_LIMIT or (code in _INTERFACE_LIMIT and interface == "login"):
        return AccountLimited(_MINUTE, code)
    if code in _INTERFACE_LIMIT:
        return RateLimited(_MINUTE, code)
    if code in _NO_PERMISSION:
        return PermissionDenied(interface, code)
    if code in _BUSY:
        return ServerBusy(f"server busy (failCode {code})")
    return RequestRejected(code)


def error_for_status(status: int) -> NorthboundError:
    """Return the error for an HTTP status other than 200 without a failCode."""
    if status == 401:
        return SessionTaken("token unknown (HTTP 401)")
    if status in SYSTEM_LIMIT:
        return AccountLimited(_MINUTE, status)
    if status >= 500:
        return ServerBusy(f"server busy (HTTP {status})")
    return MalformedResponse(f"HTTP {status}")
