"""Audit of the statistics of plants: the energies of a day beside those of its report."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
import math
from typing import ClassVar, Final

from .jobs import full_hour
from .plant_hours import tolerance
from .windows import hours_between

# Share of the energy of a day that can differ.
RELATIVE_TOLERANCE: Final = 0.005

# An energy is in doubt if it differs by this share on some days of a week.
LARGE: Final = 0.05
DAYS: Final = 3
WEEK: Final = timedelta(days=7)

# Time in which a reading follows.
READING: Final = timedelta(minutes=15)

# Time for which differences are kept.
KEPT: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Difference:
    """Energy of a day that differs from its report, in kWh."""

    is_record: ClassVar = True

    counted: float
    reported: float

    @property
    def is_possible(self) -> bool:
        """Return whether the report can be right: it is neither empty nor twice."""
        return self.counted < 2 * self.reported and self.reported < 2 * self.counted + 1

    @property
    def is_large(self) -> bool:
        """Return whether the energies differ by more than a reading can be late."""
        return abs(self.counted - self.reported) > LARGE * self.reported


@dataclass(slots=True)
class AuditedDay:
    """A day of a plant on which energies differ from the report."""

    is_record: ClassVar = True

    code: str
    start: datetime
    differences: Mapping[str, Difference]
    """By key of the energy."""
    is_decided: bool = False
    """Whether the user has decided which energies are right."""


@dataclass(slots=True)
class Audit:
    """Results of an account's plants."""

    until: dict[str, datetime] = field(default_factory=dict)
    """End of the last day, by plant code."""
    days: list[AuditedDay] = field(default_factory=list)
    """Days with differences."""
    doubts: dict[str, list[tuple[datetime, datetime]]] = field(default_factory=dict)
    """Times without a reading, or in which a counter was in doubt, by plant code."""

    def add(
        self,
        code: str,
        start: datetime,
        end: datetime,
        differences: Mapping[str, Difference],
    ) -> None:
        """Add the result of a day."""
        self.until[code] = end
        if later := [each for each in self.doubts.pop(code, ()) if each[1] >= end]:
            self.doubts[code] = later
        self.days = [
            day for day in self.days if day.code != code or day.start > end - KEPT
        ]
        if differences:
            self.days.append(AuditedDay(code, start, differences))

    def doubtful_hours(self, code: str) -> set[float]:
        """Return the hours without a reading of a plant, or with one in doubt.

        What was missing is counted by the reading after it.
        """
        return {
            hour
            for start, end in self.doubts.get(code, ())
            for hour in hours_between(full_hour(start), (end + READING).timestamp())
        }

    def undecided(self, code: str) -> list[AuditedDay]:
        """Return the days of the last week of a plant that the user can decide."""
        return [
            day
            for day in self.days
            if day.code == code
            and not day.is_decided
            and day.start >= self.until[code] - WEEK
        ]

    def doubtful(self, code: str) -> dict[str, Difference]:
        """Return the energies that differ much on some days of the last week, in all.

        The energies are by key, and added up over these days.
        """
        differences: dict[str, list[Difference]] = {}
        for day in self.undecided(code):
            for key, difference in day.differences.items():
                if difference.is_large:
                    differences.setdefault(key, []).append(difference)
        return {
            key: Difference(
                math.fsum(each.counted for each in of_key),
                math.fsum(each.reported for each in of_key),
            )
            for key, of_key in differences.items()
            if len(of_key) >= DAYS
        }

    def decide(self, code: str) -> None:
        """Record that the user has decided on the days of a plant."""
        for day in self.undecided(code):
            day.is_decided = True

    def keep(self, codes: Iterable[str]) -> None:
        """Drop the results of all other plants."""
        kept = {*codes}
        self.doubts = {
            code: times for code, times in self.doubts.items() if code in kept
        }
        self.until = {code: end for code, end in self.until.items() if code in kept}
        self.days = [day for day in self.days if day.code in kept]


def difference(
    counted: Mapping[float, float], reported: Mapping[float, float], losses: float = 0.0
) -> Difference | None:
    """Return the difference between the energies of the same hours, in kWh.

    It is `None` within the tolerance. `losses` is a share that one of the two can lack.
    """
    energy, report = math.fsum(counted.values()), math.fsum(reported.values())
    if abs(energy - report) <= tolerance(report, reported, RELATIVE_TOLERANCE + losses):
        return None
    return Difference(round(energy, 3), round(report, 3))


def agree_without(
    doubtful: Collection[float],
    counted: Mapping[float, float],
    reported: Mapping[float, float],
    losses: float,
) -> bool:
    """Return whether the energies of all hours that are not in doubt agree.

    Otherwise, the report is wrong as well.
    """
    others = counted.keys() - doubtful
    if not doubtful:
        return False
    if not others:
        return True
    return (
        difference(
            {hour: counted[hour] for hour in others},
            {hour: reported[hour] for hour in others},
            losses,
        )
        is None
    )
