"""Problems of an account: failed reads, refused plants and unexpected errors.

Logs, repair issues and diagnostics are based on these records.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
import traceback
from types import TracebackType
from typing import Final

from homeassistant.util import dt as dt_util

from .const import LOGGER
from .northbound import (
    OWNER_REFUSALS,
    MembersRefused,
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


@dataclass(frozen=True, slots=True)
class RefusedPlant:
    """A plant of a group that the server refuses."""

    name: str
    code: int
    """The failCode."""

    @property
    def is_unauthorized(self) -> bool:
        """Return whether the plant's owner has not authorized the API."""
        return self.code in OWNER_REFUSALS


@dataclass(frozen=True, slots=True)
class Isolation:
    """Context in which an unexpected error is recorded and affects nothing else."""

    unexpected: dict[str, Problem] = field(default_factory=dict)
    """The errors, by place in the code."""

    def __enter__(self) -> None:
        """Enter the context."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        """Record an unexpected error, and log it once.

        The text of the error is left out, since it can contain values of the server.
        """
        if not isinstance(error, Exception):
            return False
        last_call = traceback.extract_tb(trace)[-1]
        file = Path(last_call.filename).name
        place = f"{type(error).__name__} in {file}, line {last_call.lineno}"
        now = dt_util.utcnow()
        if place not in self.unexpected:
            self.unexpected[place] = Problem(now, now, place)
            calls = "".join(traceback.format_tb(trace))
            LOGGER.error("Unexpected error in a value: %s\n%s", place, calls)
        self.unexpected[place].at = now
        return True


@dataclass(slots=True)
class Problems:
    """Problems of an account."""

    groups: dict[str, Problem] = field(default_factory=dict)
    """The last problem of each group."""
    refused: dict[str, dict[str, RefusedPlant]] = field(default_factory=dict)
    """Plants that the server refuses, by group and plant code."""
    none_chosen: bool = False
    """Whether the account has none of the chosen plants, but others."""
    isolation: Isolation = field(default_factory=Isolation, init=False)
    """Keeps errors in the values of a plant, device or entity from all others."""
    account_error: NorthboundError | None = field(default=None, init=False)
    """Error of the connection or the account that ended the last pass."""

    @property
    def forbidden_interfaces(self) -> list[str]:
        """Return the interfaces for which the account has no permission."""
        return [each.interface for each in self.groups.values() if each.interface]

    @property
    def refused_plants(self) -> dict[str, RefusedPlant]:
        """Return the plants that the server refuses in any group, by code."""
        return {
            code: plant
            for of_group in self.refused.values()
            for code, plant in of_group.items()
        }

    def refused_without(self, group: str) -> set[str]:
        """Return the codes of plants that the server refuses in another group."""
        return {
            code
            for each, plants in self.refused.items()
            for code in plants
            if each != group
        }

    def has(self, group: str) -> bool:
        """Return whether the last read of a group failed."""
        return group in self.groups and not self.groups[group].is_over

    def duration(self, group: str) -> timedelta:
        """Return the time since the first failed read of a group."""
        if not self.has(group):
            return timedelta()
        return dt_util.utcnow() - self.groups[group].since

    def add(self, group: str, error: Exception, *, is_logged: bool = False) -> None:
        """Record a failed read of a group.

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
        if isinstance(error, PermissionDenied):
            known.interface = error.what
        elif isinstance(error, MembersRefused | RequestRejected):
            known.interface = None

    def refuse(self, group: str, plant: Plant, code: int) -> bool:
        """Record that the server refuses a plant in a group, with a failCode.

        Return whether the plant was allowed before.
        """
        of_group = self.refused.setdefault(group, {})
        is_new = plant.code not in of_group
        of_group[plant.code] = RefusedPlant(plant.name, code)
        return is_new

    def allow(self, group: str, plant_codes: Iterable[str]) -> set[str]:
        """Record that the server allows these plants; return those it had refused."""
        of_group = self.refused.get(group, {})
        allowed = of_group.keys() & plant_codes
        for code in allowed:
            del of_group[code]
        return allowed

    def clear(self, group: str) -> None:
        """Record a successful read of a group."""
        if self.has(group):
            self.groups[group].is_over = True
            self.groups[group].interface = None

    def keep(self, groups: Collection[str], plant_codes: Collection[str]) -> None:
        """Drop the problems of groups and plants that are no longer read."""
        for group in self.groups.keys() - groups:
            del self.groups[group]
        self.refused = {
            group: {code: of_group[code] for code in of_group.keys() & plant_codes}
            for group, of_group in self.refused.items()
            if group in groups
        }
