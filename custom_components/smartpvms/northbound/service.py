"""Service of a server: whether it answers, and since when it does not."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
import time
from typing import ClassVar, Final

from .clock import PastMoment
from .errors import (
    SYSTEM_LIMIT,
    AccountLimited,
    ConnectionFailed,
    HttpUnauthorized,
    InvalidCredentials,
    MalformedResponse,
    NorthboundError,
    ServerBusy,
    ServerMoved,
)

# Times without an answer. Single failed calls are repeated within minutes.
BUSY_AFTER: Final = 5 * 60.0
MAINTENANCE_AFTER: Final = 30 * 60.0
MOVED_AFTER: Final = 60 * 60.0

_MOVED: Final = (MalformedResponse, ServerMoved, HttpUnauthorized)
_FAILURES: Final = (ConnectionFailed, MalformedResponse, ServerBusy, HttpUnauthorized)


class ServiceState(StrEnum):
    """States of the service of a server to an account."""

    OK = "ok"
    BUSY = "busy"
    MAINTENANCE = "maintenance"
    """No answer for half an hour: maintenance, or an outage of server or connection."""
    MOVED = "moved"
    """For an hour, all calls show that the API is not at this address any more."""
    LOGIN_NEEDED = "login_needed"


@dataclass(slots=True)
class Service:
    """Answers and failures of a server."""

    is_record: ClassVar = True

    answered: PastMoment | None = None
    """Last answer."""
    answering: PastMoment | None = None
    """First answer after the last failure."""
    failing: PastMoment | None = None
    """First failure after the last answer."""
    missing: PastMoment | None = None
    """First of the last failures, all of which show that the API is not there."""
    last_missing: PastMoment | None = None
    """Last of these failures."""
    host: str | None = None
    """Host to which the server redirects."""

    @contextmanager
    def call(self, *, is_login: bool = False) -> Iterator[None]:
        """Record the result of the call that the block makes.

        A successful login alone is no answer, since all other calls may fail.
        """
        try:
            yield
        except NorthboundError as error:
            if is_service_failure(error):
                self._fail(error)
            else:
                self._answer()
            raise
        if not is_login:
            self._answer()

    def _answer(self) -> None:
        self.answered = time.monotonic()
        if self.failing is not None or self.answering is None:
            self.answering = self.answered
        self.failing = self.missing = self.last_missing = self.host = None

    def _fail(self, error: NorthboundError) -> None:
        now = time.monotonic()
        if self.failing is None:
            self.failing = now
        if isinstance(error, _MOVED):
            self.last_missing = now
            if self.missing is None:
                self.missing = now
            if isinstance(error, ServerMoved) and error.host is not None:
                self.host = error.host
        elif not (self.is_moved and isinstance(error, ConnectionFailed)):
            self.missing = self.last_missing = self.host = None

    @property
    def is_moved(self) -> bool:
        """Return whether the API is not at this address any more."""
        if self.missing is None or self.last_missing is None:
            return False
        return self.last_missing - self.missing >= MOVED_AFTER

    @property
    def state(self) -> ServiceState:
        """Return the state, without that of the account."""
        if self.is_moved:
            return ServiceState.MOVED
        if self.failing is None:
            return ServiceState.OK
        failing = time.monotonic() - self.failing
        if failing >= MAINTENANCE_AFTER:
            return ServiceState.MAINTENANCE
        return ServiceState.BUSY if failing >= BUSY_AFTER else ServiceState.OK

    @property
    def since(self) -> PastMoment | None:
        """Return since when the state lasts."""
        match self.state:
            case ServiceState.OK:
                return self.answering
            case ServiceState.MOVED:
                return self.missing
            case _:
                return self.failing


def is_service_failure(error: BaseException | None) -> bool:
    """Return whether an error does not come from the API of a server that works."""
    match error:
        case InvalidCredentials():
            # An empty answer.
            return error.code is None
        case AccountLimited():
            return error.code in SYSTEM_LIMIT
        case _:
            return isinstance(error, _FAILURES)
