"""Problems of an account: failed reads, and plants without authorization.

Logs, repair issues and diagnostics are based on these records.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from homeassistant.util import dt as dt_util

from .const import LOGGER
from .northbound import (
    FailCode,
    NorthboundError,
    PermissionDenied,
    Plant,
    RequestRejected,
)

# Groups in addition to those of the real-time KPIs.
INVENTORY: Final = "inventory"
HISTORY: Final = "history"


@dataclass(slots=True)
class Problem:
    """Failed reads of a group, such as the devices of one type."""

    since: datetime
    """Time of the first failed read."""
    at: datetime
    """Time of the last failed read."""
    error: str
    interface: str | None = None
    """Interface for which the account has no permission."""
    is_over: bool = False
    """Whether the group was read after the failure."""


@dataclass(slots=True)
class Problems:
    """Problems of an account."""

    groups: dict[str, Problem] = field(default_factory=dict)
    """The last problem of each group."""
    unauthorized: dict[str, str] = field(default_factory=dict)
    """Names of plants that are not authorized by their owner, by code."""
    none_chosen: bool = False
    """Whether the account has none of the chosen plants, but others."""
    account_error: NorthboundError | None = field(default=None, init=False)
    """Error of the connection or the account that ended the last pass."""

    @property
    def forbidden_interfaces(self) -> list[str]:
        """Return the interfaces for which the account has no permission."""
        return [each.interface for each in self.groups.values() if each.interface]

    def has(self, group: str) -> bool:
        """Return whether the last read of a group failed."""
        return group in self.groups and not self.groups[group].is_over

    def duration(self, group: str) -> timedelta:
        """Return the time since the first failed read of a group."""
        if not self.has(group):
            return timedelta()
        return dt_util.utcnow() - self.groups[group].since

    def add(
        self,
        group: str,
        error: Exception,
        plants: Iterable[Plant] = (),
        *,
        is_logged: bool = False,
    ) -> None:
        """Record a failed read of a group of plants.

        Connection errors leave permissions unchanged. A rejected request proves that
        the permission exists.
        """
        now, known = dt_util.utcnow(), self.groups.get(group)
        if known is None or known.is_over:
            known = Problem(now, now, "")
            if is_logged:
                LOGGER.warning("Failed to read %s: %s", group, error)
        known.at, known.error = now, f"{type(error).__name__}: {error}"
        self.groups[group] = known
        if isinstance(error, PermissionDenied | RequestRejected):
            known.interface = None
        if not isinstance(error, PermissionDenied):
            return
        if error.unauthorized:
            self.unauthorized |= {plant.code: plant.name for plant in plants}
        elif error.code == FailCode.NO_PERMISSION:
            known.interface = error.what

    def clear(self, group: str, plant_codes: Iterable[str] = ()) -> None:
        """Record a successful read of a group, which included these plants."""
        if self.has(group):
            self.groups[group].is_over = True
            self.groups[group].interface = None
        for code in plant_codes:
            self.unauthorized.pop(code, None)

    def keep(self, groups: Collection[str], plant_codes: Collection[str]) -> None:
        """Drop the problems of groups and plants that are no longer read."""
        for group in self.groups.keys() - groups:
            del self.groups[group]
        for code in self.unauthorized.keys() - plant_codes:
            del self.unauthorized[code]
