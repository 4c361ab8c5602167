"""Base of the coordinators that read less often than the real-time one."""

from abc import abstractmethod
import time
from typing import Final, override

from homeassistant.helpers.update_coordinator import DataUpdateCoordinator, UpdateFailed

from .northbound import (
    AccountLimited,
    AccountLocked,
    ConnectionFailed,
    Moment,
    NorthboundClient,
    NorthboundError,
    SessionTaken,
    is_service_failure,
)

# Errors that the calls for other plants would have as well.
ACCOUNT_ERRORS: Final = (AccountLocked, ConnectionFailed, SessionTaken)


class SecondaryCoordinator[DataT](DataUpdateCoordinator[DataT]):
    """Coordinator that does not log an outage of the server.

    The real-time coordinator logs it. If the server has answered other calls between
    two failures, these are no outage.
    """

    _client: NorthboundClient
    _hidden_since: Moment | None = None
    """Time of the first failure that is not logged."""

    @override
    async def _async_update_data(self) -> DataT:
        try:
            data = await self._async_read()
        except UpdateFailed as err:
            if self._may_be_outage(err.__cause__):
                if self.last_update_success:
                    self.last_update_success = False
                    self._hidden_since = time.monotonic()
            elif self._hidden_since is not None:
                self._show()
            raise
        if self._hidden_since is not None:
            self._show()
        return data

    def _may_be_outage(self, error: BaseException | None) -> bool:
        """Return whether an error may be one of an outage that is or was there."""
        service = self._client.service
        # Overload of the server pauses all interfaces.
        is_paused = isinstance(error, AccountLimited) and service.failing is not None
        if not isinstance(error, NorthboundError) or not (
            is_paused or is_service_failure(error)
        ):
            return False
        if service.answered is None or self._hidden_since is None:
            return True
        # A coordinator can repeat an error of the outage after its end.
        is_old = service.answering is not None and error.at < service.answering
        return is_old or service.answered < self._hidden_since

    def _show(self) -> None:
        """Let Home Assistant log the result as if there were no hidden failure."""
        self.last_update_success = True
        self._hidden_since = None

    @abstractmethod
    async def _async_read(self) -> DataT:
        """Read the data, or raise `UpdateFailed`."""
