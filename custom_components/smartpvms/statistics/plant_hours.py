"""Hourly statistics of a plant's energies, from its hour reports."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import Enum, auto
import math
from typing import Final

from custom_components.smartpvms.northbound import PlantReport

from .counters import FilledHours
from .rows import HOUR, RecordedSums, SumRow

type Energies = dict[str, dict[float, float]]
"""Energies in kWh of full hours in UTC, by item and hour in epoch seconds."""

# Tolerance for the energy of a report: relative, in kWh, and as a share of an hour at
# both ends, since readings are late by some minutes.
RELATIVE_TOLERANCE: Final = 0.1
TOLERANCE: Final = 0.1
DELAY: Final = 1 / 6


def full_hours(reports: Iterable[PlantReport]) -> Energies:
    """Return the energies of full hours in UTC from the report of a plant's hours.

    In a zone with half hours, the energy of an hour is divided between two. An energy
    below 0 is a fault of the report, or what an inverter draws at night.
    """
    energies: Energies = {}
    for report in reports:
        epoch = report.start.timestamp()
        hour = epoch // HOUR * HOUR
        later = (epoch - hour) / HOUR
        for item, energy in report.values.items():
            of_item = energies.setdefault(item, {})
            for at, share in ((hour, 1 - later), (hour + HOUR, later)):
                if share:
                    of_item[at] = of_item.get(at, 0.0) + share * max(energy, 0.0)
    return energies


def merged(energies: Energies, others: Energies) -> Energies:
    """Return the sums of the energies of parts of hours."""
    return {
        item: {
            hour: energies.get(item, {}).get(hour, 0.0)
            + others.get(item, {}).get(hour, 0.0)
            for hour in {**energies.get(item, {}), **others.get(item, {})}
        }
        for item in {**energies, **others}
    }


class Comparison(Enum):
    """Comparison of a report with what was counted in the hours of a gap."""

    EQUAL = auto()
    MORE = auto()
    """The report has more: the rest is counted later, or is lost."""
    LESS = auto()
    """The report has less: it is late or wrong."""


def counted_hours(
    sums: RecordedSums, hours: Iterable[float], unit: float
) -> dict[float, float]:
    """Return the energies that were counted in hours, in kWh; 0 without a row.

    `unit` is 1 kWh in the recorded unit.
    """
    rows = {row.start: row.sum for row in sums.rows}
    ordered = sorted(hours)
    last = _last_sum(sums, ordered[0])
    counted = {}
    for hour in ordered:
        total = rows.get(hour, last)
        counted[hour] = (total - last) / unit
        last = total
    return counted


def compare(
    counted: Mapping[float, float], reported: Mapping[float, float], lead: float = 0.0
) -> Comparison:
    """Compare the energies of all hours, in kWh.

    Readings are late by some minutes, and a report can count on the other side of an
    inverter. `lead` is the energy that can be missing from what was counted.
    """
    total = math.fsum(counted.values())
    difference = math.fsum(reported.values()) - total
    allowed = tolerance(total, reported, RELATIVE_TOLERANCE)
    if difference < -allowed:
        return Comparison.LESS
    return Comparison.MORE if difference > allowed + lead else Comparison.EQUAL


def divide(
    counted: Mapping[float, float], reported: Mapping[float, float]
) -> dict[float, float]:
    """Return the counted energy, divided as in the report.

    The result is empty if it is divided like that already.
    """
    total = math.fsum(reported.values())
    share = math.fsum(counted.values()) / total if total else 0.0
    divided = {hour: share * energy for hour, energy in reported.items()}
    if not total or all(
        abs(counted[hour] - energy) <= TOLERANCE + DELAY * energy
        for hour, energy in divided.items()
    ):
        return {}
    return divided


def tolerance(total: float, reported: Mapping[float, float], share: float) -> float:
    """Return the possible difference between a report and the counted energy, in kWh.

    A share of the total can differ, and readings at both ends are late.
    """
    ends = reported[min(reported)] + reported[max(reported)]
    return share * total + TOLERANCE + DELAY * ends


def replace_hours(sums: RecordedSums, energies: Mapping[float, float]) -> FilledHours:
    """Return the rows of hours whose energies are known, and of those between them.

    Earlier rows keep their sums, and all other hours keep their energies.
    """
    recorded = {row.start: row for row in sums.rows}
    first = min(energies)
    last = total = _last_sum(sums, first)
    rows: list[SumRow] = []
    for hour in sorted({*energies, *(each for each in recorded if each > first)}):
        counted = 0.0
        if hour in recorded:
            counted, last = recorded[hour].sum - last, recorded[hour].sum
        total += energies.get(hour, counted)
        rows.append(
            SumRow(start=hour, end=hour + HOUR, state=0.0, sum=total, reset=None)
        )
    adjustment = total - last
    if abs(adjustment) <= 4 * math.ulp(max(abs(total), abs(sums.after.sum))):
        adjustment = 0.0
    elif adjustment > 0:
        # Rounding errors of floats must not make a sum fall.
        adjustment += 4 * math.ulp(max(abs(total), abs(sums.after.sum)))
    state = sums.after.state - (sums.after.sum - last)
    least = max(
        (row.state for row in sums.rows if row.start < first), default=-math.inf
    )
    with_states = [
        replace(row, state=round(max(state - (total - row.sum), least), 6))
        for row in rows
    ]
    return FilledHours(with_states, adjustment)


def has_earlier_rows(sums: RecordedSums, hour: float) -> bool:
    """Return whether there are rows before an hour."""
    return sums.before is not None or any(row.start < hour for row in sums.rows)


def _last_sum(sums: RecordedSums, before: float) -> float:
    """Return the sum of the last row before a time."""
    earlier = [row.sum for row in sums.rows if row.start < before]
    return earlier[-1] if earlier else sums.before or 0.0
