"""Errors of the Northbound API: every failCode ends in one of these."""

from typing import Final, override


class NorthboundError(Exception):
    """Base of every error that the client raises."""

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        """Keep the seconds after which a call can succeed, where that is known."""
        super().__init__(message)
        self.retry_after = retry_after


class ConnectionFailed(NorthboundError):
    """The server cannot be reached: DNS, TCP, TLS, time-out or a broken answer."""

    def __init__(self, reason: str = "", *, sent: bool = True) -> None:
        """Keep whether the server may have received the call."""
        super().__init__(reason)
        self.sent = sent


class InvalidCredentials(NorthboundError):
    """The account is surely refused: wrong user or password, disabled or expired."""

    def __init__(self, code: int | None = None) -> None:
        """Keep the failCode; `None` where the server gave none."""
        super().__init__(f"credentials refused (failCode {code})")
        self.code = code


class AccountLocked(NorthboundError):
    """The login is refused for now: account locked or too many online sessions."""


class SessionTaken(NorthboundError):
    """The server does not know the token: another client logged in after us."""


class RateLimited(NorthboundError):
    """The interface was called too often, or would be."""

    retry_after: float

    def __init__(self, retry_after: float, code: int | None = None) -> None:
        """Keep the seconds to wait, and the failCode if the server refused."""
        super().__init__(retry_after=retry_after)
        self.code = code

    @override
    def __str__(self) -> str:
        """Tell how long to wait."""
        return f"called too often, retry after {self.retry_after:.0f} s"


class AccountLimited(RateLimited):
    """Every interface has to wait: the login, or the whole system, is limited."""


class PermissionDenied(NorthboundError):
    """The account lacks the permission for an interface, a plant or a device."""

    def __init__(self, what: str, code: int | None = None) -> None:
        """Keep the name of the refused interface, and the failCode."""
        super().__init__(f"no permission for {what} (failCode {code})")
        self.what = what
        self.code = code

    @property
    def unauthorized(self) -> bool:
        """Whether the plants' owners have not authorized the API."""
        return self.code in NOT_AUTHORIZED


class ServerBusy(NorthboundError):
    """The server has a passing problem of its own."""


class RequestRejected(NorthboundError):
    """The server does not accept the request as it was sent."""

    def __init__(self, code: int | None = None) -> None:
        """Keep the failCode; the gateway gives none."""
        super().__init__(f"request rejected (failCode {code})")
        self.code = code


class MalformedResponse(NorthboundError):
    """The answer is not one that a Northbound server gives."""


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

# What to wait where flow control does not know better.
_MINUTE: Final = 60.0


def error_for(interface: str, code: int, message: object) -> NorthboundError:
    """Return the error for a failCode that `interface` answered with."""
    if code in _SESSION_UNKNOWN:
        return SessionTaken(f"token unknown (failCode {code})")
    if code in _ACCOUNT_REFUSED:
        return InvalidCredentials(code)
    # 20400 means a wrong password, a lock, an expired password or too many sessions;
    # only the message tells the first from the others.
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
