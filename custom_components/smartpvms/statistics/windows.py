"""Windows of jobs: hours that are filled at once."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from custom_components.smartpvms.northbound import Device
from homeassistant.core import HomeAssistant
from homeassistant.util import dt as dt_util

from .device_history import ImportBatch, ImportTarget, MissingHours
from .jobs import Job, Priority
from .recorder import Recorded, async_read
from .rows import HOUR

type TargetEnds = Mapping[ImportTarget, float]
"""End of the hours to fill of each data item, in epoch seconds."""


@dataclass(frozen=True, slots=True)
class Window:
    """Hours of a batch of devices; the batch has one type."""

    job: Job
    devices: tuple[Device, ...]
    start: datetime
    end: datetime

    @property
    def is_gap_end(self) -> bool:
        """Return whether the window ends with a gap in live readings."""
        return self.job.priority is Priority.GAP and self.end == self.job.end

    @property
    def can_resume(self) -> bool:
        """Return whether counters can continue from the row before the window.

        Rows within a gap only repeat values: counters cannot continue them.
        """
        return self.job.priority is not Priority.GAP or self.start == self.job.start

    def ends(self, targets: Iterable[ImportTarget]) -> TargetEnds:
        """Return the ends of the hours to fill.

        Counters that lack the hours up to their first filled one end there.
        """
        first_hours = self.job.first_filled_hours
        end = self.end.timestamp()
        return {target: first_hours.get(target.statistic_id, end) for target in targets}

    async def async_read_recorded(
        self, hass: HomeAssistant, ends: TargetEnds
    ) -> dict[str, Recorded]:
        """Return the recorded rows around the hours to fill, by statistic."""
        recorded: dict[str, Recorded] = {}
        for timestamp in {*ends.values()}:
            end = dt_util.utc_from_timestamp(timestamp)
            recorded |= await async_read(
                hass,
                [each.statistic_id for each in ends if ends[each] == timestamp],
                self.start,
                end,
                self.job.exact_end if end == self.job.end else end,
            )
        return recorded

    def missing_hours(
        self, ends: TargetEnds, recorded: Mapping[str, Recorded]
    ) -> MissingHours:
        """Return the hours to fill: within gaps all, otherwise those without a row."""
        missing: dict[ImportTarget, frozenset[float]] = {}
        for target, end in ends.items():
            hours = frozenset(hours_between(self.start, end))
            if self.job.priority is not Priority.GAP:
                hours -= recorded[target.statistic_id].hours
            if hours:
                missing[target] = hours
        return missing

    def store_first_filled_hours(
        self,
        missing: MissingHours,
        recorded: Mapping[str, Recorded],
        batch: ImportBatch,
    ) -> None:
        """Store the first hour of counters that lack rows at the start of the window."""
        written = {
            of_target.metadata["statistic_id"]: min(row.start for row in filled.rows)
            for of_target, filled in batch.counters
        }
        start = self.start.timestamp()
        for target, hours in missing.items():
            if not target.is_counter:
                continue
            statistic_id = target.statistic_id
            recorded_hours = recorded[statistic_id].hours - hours
            first_hours = {hour for hour in recorded_hours if hour >= start}
            if statistic_id in written:
                first_hours.add(written[statistic_id])
            first = min(first_hours, default=max(hours) + HOUR)
            if first > start:
                self.job.first_filled_hours[statistic_id] = first
            else:
                self.job.first_filled_hours.pop(statistic_id, None)


def recorded_ends(ends: TargetEnds, recorded: Mapping[str, Recorded]) -> TargetEnds:
    """Return the ends of statistics that exist and, for counters, have a later row."""
    return {
        target: end
        for target, end in ends.items()
        if (of_target := recorded.get(target.statistic_id)) is not None
        and not (target.is_counter and of_target.sums is None)
    }


def hours_between(start: datetime, end: float) -> Iterator[float]:
    """Yield the hours from a full hour up to a time in epoch seconds."""
    hour = start.timestamp()
    while hour < end:
        yield hour
        hour += HOUR
