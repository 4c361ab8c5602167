"""Spans of plants: the hours to fill from their reports."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from typing import Final, Self

from homeassistant.util import dt as dt_util

from .jobs import full_hour
from .plant_hours import Energies
from .recorder import Recorded
from .windows import hours_between

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)


class SpanKind(StrEnum):
    """Kinds of spans."""

    PAST = "past"
    """Hours before the first recorded one."""
    GAP = "gap"
    """Hours in which energy may have been counted, too."""
    REPAIR = "repair"
    """A day whose energies become those of the report."""
    AUDIT = "audit"
    """A day that is only compared with the report."""


@dataclass(slots=True, eq=False)
class PlantSpan:
    """Full hours of a plant to fill, the newest day first."""

    code: str
    start: datetime
    end: datetime
    last: datetime
    """End of the hours that are compared, which may be later than that of the gap."""
    remaining_end: datetime
    """`last`, or midnight after the newest day whose report is not read."""
    planned: datetime
    """Time at which the span was planned."""
    kind: SpanKind = SpanKind.PAST
    first: datetime | None = None
    """The hour of the set-up, which is recorded in part, if the gap has it."""
    continued: list[str] | None = None
    """Statistics that were recorded before the set-up; `None` before that is known."""
    decided: list[str] = field(default_factory=list)
    """Statistics of a gap that are decided."""
    energies: Energies = field(default_factory=dict)
    """Energies that are read but not written yet."""
    due: datetime | None = None
    """Time of the next attempt."""

    @classmethod
    def of(
        cls,
        code: str,
        start: datetime,
        end: datetime,
        *,
        kind: SpanKind = SpanKind.PAST,
        first: datetime | None = None,
    ) -> Self:
        """Return a new span."""
        now = dt_util.utcnow()
        return cls(code, start, end, end, end, now, kind, first)

    @property
    def is_import(self) -> bool:
        """Return whether hours are written."""
        return self.kind is not SpanKind.AUDIT

    @property
    def is_gap(self) -> bool:
        """Return whether recorded hours may change, all together."""
        return self.kind in (SpanKind.GAP, SpanKind.REPAIR)

    @property
    def is_done(self) -> bool:
        """Return whether all days are filled."""
        return self.remaining_end <= self.start

    @property
    def days(self) -> float:
        """Return the number of days."""
        return (self.last - self.start) / DAY

    @property
    def days_left(self) -> float:
        """Return the number of days that are not filled."""
        return max(self.remaining_end - self.start, timedelta()) / DAY

    def next_day(self, zone: tzinfo) -> date:
        """Return the newest day whose report is not read."""
        return (self.remaining_end - timedelta.resolution).astimezone(zone).date()

    def join(self, other: PlantSpan) -> None:
        """Add the hours of another gap, and begin anew."""
        self.start, self.end = min(self.start, other.start), max(self.end, other.end)
        if other.first is not None:
            self.first, self.continued = other.first, other.continued
        self.planned = min(self.planned, other.planned)
        self.decided = []
        self.repeat(self.end)

    def repeat(self, last: datetime, due: datetime | None = None) -> None:
        """Read all reports again, up to another hour."""
        self.last = self.remaining_end = max(self.end, last)
        self.energies, self.due = {}, due


@dataclass(frozen=True, slots=True)
class SpanDay:
    """The hours of a span that can be written when the report of a day is read.

    The energies of a gap are compared with what was counted in all of its hours, so
    these are written with the oldest day.
    """

    span: PlantSpan
    day: date
    zone: tzinfo

    @property
    def midnight(self) -> datetime:
        """Return the start of the day."""
        return midnight_of(self.day, self.zone)

    @property
    def start(self) -> datetime:
        """Return the first hour."""
        return max(self.span.start, hour_from(self.midnight))

    @property
    def end(self) -> datetime:
        """Return the end of the last hour."""
        if self.span.is_gap:
            return self.span.last if self.start == self.span.start else self.start
        end = hour_from(midnight_of(self.day + DAY, self.zone))
        return min(self.span.end, end)

    @property
    def hours(self) -> frozenset[float]:
        """Return the hours, in epoch seconds."""
        return frozenset(hours_between(self.start, self.end.timestamp()))

    @property
    def proof(self) -> float:
        """Return the hour whose energy proves that the report of the hours is complete.

        It is the hour after the last one, unless another report has it.
        """
        end = self.end
        last_day = (end - timedelta.resolution).astimezone(self.zone).date()
        midnight = midnight_of(last_day + DAY, self.zone)
        return min(end, hour_from(midnight) - HOUR).timestamp()

    def is_recorded(self, recorded: Mapping[str, Recorded]) -> bool:
        """Return whether all hours are recorded, so that the report is not needed.

        If the day begins within an hour, its report is needed for the day before.
        """
        return self.midnight == full_hour(self.midnight) and not any(
            self.hours - each.hours for each in recorded.values()
        )


def midnight_of(day: date, zone: tzinfo) -> datetime:
    """Return the start of a day."""
    return dt_util.as_utc(datetime.combine(day, time(), zone))


def hour_from(moment: datetime) -> datetime:
    """Return the first full hour in UTC from a time on."""
    hour = full_hour(moment)
    return hour if hour == moment else hour + HOUR
