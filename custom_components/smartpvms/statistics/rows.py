"""Rows of long-term statistics, and the values from which they are computed.

The data is independent of Home Assistant: 5-minute values become hourly rows that
continue the recorded ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from custom_components.smartpvms.counter_evidence import CounterContext

HOUR: Final = 3600.0

type Sample = tuple[float, float | None]
"""Time in epoch seconds, and value, `None` if it is unknown."""


@dataclass(frozen=True, slots=True)
class CounterSample:
    """Reading of a counter."""

    at: datetime
    raw: float | None
    context: CounterContext
    live: bool
    """Whether a value of the device changed since the row before."""
    disconnected: bool


@dataclass(frozen=True, slots=True)
class FilteredValue:
    """Filtered value of a counter; times are epoch seconds."""

    at: float
    value: float
    start: float | None
    """Start of the period; `None` for lifetime counters."""
    offset: float
    """Difference between the filtered and the raw value."""


@dataclass(frozen=True, slots=True)
class SumRow:
    """Row of the statistics of a counter; times are epoch seconds."""

    start: float
    end: float
    state: float
    sum: float
    reset: float | None
    """Start of the counter's period; `None` for lifetime counters."""


@dataclass(frozen=True, slots=True)
class MeanRow:
    """Hour of the statistics of a measurement."""

    start: float
    mean: float
    min: float
    max: float
    weight: float | None
    """Weight of a mean of angles."""


@dataclass(frozen=True, slots=True)
class RecordedSums:
    """Recorded rows of a counter around the hours to fill."""

    rows: Sequence[SumRow]
    """Recorded hours, starting with the one before the first hour to fill."""
    before: float | None
    """Sum before the first of these hours, `None` if there is none."""
    after: SumRow
    """First row after the hours to fill."""
