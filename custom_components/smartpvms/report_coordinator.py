"""Coordinator of the day, month and year reports of an account's plants."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Final, override

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant
from homeassistant.util import dt as dt_util

from .const import LOGGER
from .counter_filter import midnight_before
from .errors import as_update_error
from .inventory_coordinator import InventoryCoordinator
from .models import ReportedValues, ReportSpan, zone_of
from .northbound import (
    BATCH,
    InvalidCredentials,
    MembersRefused,
    NorthboundClient,
    NorthboundError,
    PermissionDenied,
    PlantReport,
    RateLimited,
    ReportItem,
    ReportPeriod,
    RequestRejected,
)
from .problems import HISTORY, Problems
from .secondary_coordinator import ACCOUNT_ERRORS, SecondaryCoordinator

# Wait for the first reports, so that live values come first.
FIRST_WAIT: Final = timedelta(minutes=1)
# Time after midnight until the report of the day before is complete.
SETTLED: Final = timedelta(minutes=70)
INTERVAL: Final = timedelta(hours=6)
# Waits after consecutive failures; each doubles.
RETRY: Final = timedelta(minutes=15)
MAX_DOUBLINGS: Final = 4
# Wait for another attempt at a refused plant.
REFUSED_RETRY: Final = timedelta(days=1)

SPANS: Final[Mapping[ReportPeriod, ReportSpan]] = {
    ReportPeriod.DAY: ReportSpan.YESTERDAY,
    ReportPeriod.MONTH: ReportSpan.THIS_MONTH,
    ReportPeriod.YEAR: ReportSpan.THIS_YEAR,
}
"""The span of one row of each report."""

type ReportedSpans = Mapping[ReportSpan, ReportedValues]


class ReportCoordinator(SecondaryCoordinator[Mapping[str, ReportedSpans]]):
    """Reads the reports of all plants every six hours, from 01:10 in their zone.

    Flow control limits each report to one batch of plants per minute. The others follow
    as soon as it allows them. A report that fails keeps its last values.
    """

    config_entry: ConfigEntry

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry,
        client: NorthboundClient,
        inventory: InventoryCoordinator,
        problems: Problems,
    ) -> None:
        """Initialize without reports."""
        super().__init__(
            hass,
            LOGGER,
            config_entry=entry,
            name="plant reports",
            update_interval=FIRST_WAIT,
        )
        self.data = {}
        self.errors: dict[ReportPeriod, NorthboundError] = {}
        """The errors of reports whose last read failed."""
        self._client = client
        self._inventory = inventory
        self._problems = problems
        self._due: dict[tuple[ReportPeriod, str], datetime] = {}
        """Time of the next read, by report and plant code."""
        self._batch_size = BATCH
        """Maximum number of plants per call, fewer after a refusal."""
        self._refused: set[str] = set()
        """Plants that are refused alone."""
        self._failures = 0
        """Number of consecutive failed calls."""

    @override
    async def _async_read(self) -> Mapping[str, ReportedSpans]:
        # An unexpected error ends the pass before it plans the next one.
        self.update_interval = INTERVAL
        plants = self._inventory.data.plants
        self.data = {code: self.data[code] for code in self.data if code in plants}
        waits = [INTERVAL]
        for period in SPANS:
            try:
                while codes := self._next_batch(period):
                    await self._read(period, codes)
            except RateLimited as err:
                waits.append(timedelta(seconds=err.retry_after))
            except InvalidCredentials as err:
                # Home Assistant reads no more until the user enters a new password.
                self.data = {}
                self.async_update_listeners()
                raise as_update_error(err) from err
            except ACCOUNT_ERRORS as err:
                self._fail(period, err)
                retry = timedelta(seconds=err.retry_after or 0.0)
                waits = [max(self._retry, retry)]
                break
            else:
                waits.append(self._wait(period))
        # Home Assistant cuts off fractions of a second.
        self.update_interval = min(waits) + timedelta(seconds=1)
        if self.errors:
            # Home Assistant calls no listeners after a second failure.
            self.async_update_listeners()
            *_, error = self.errors.values()
            wait = self.update_interval.total_seconds()
            raise as_update_error(error, wait) from error
        return self.data

    def _codes(self) -> list[str]:
        """Return the plants without those that are refused in other interfaces.

        The history of devices can be refused for other reasons.
        """
        refused = self._problems.refused_without(HISTORY)
        return [code for code in self._inventory.data.plants if code not in refused]

    def _zone(self, code: str) -> tzinfo:
        return zone_of(self._inventory.data.plants[code])

    def _next_batch(self, period: ReportPeriod) -> list[str]:
        """Return the next plants to read, all of one zone; refused plants come last."""
        now = dt_util.utcnow()
        due = [
            code
            for code in self._codes()
            # A time that is further ahead was set by a wrong clock.
            if not now < self._due.get((period, code), now) <= now + REFUSED_RETRY
        ]
        allowed = [code for code in due if code not in self._refused]
        if not allowed:
            return due[:1]
        zone = self._zone(allowed[0])
        same_zone = [code for code in allowed if self._zone(code) == zone]
        return same_zone[: self._batch_size]

    def _wait(self, period: ReportPeriod) -> timedelta:
        """Return the time until the next read of a report."""
        dues = [self._due[period, code] for code in self._codes()]
        return min(dues, default=dt_util.utcnow() + INTERVAL) - dt_util.utcnow()

    async def _read(self, period: ReportPeriod, codes: Sequence[str]) -> None:
        """Read the report of a batch, or record its failure."""
        zone, now = self._zone(codes[0]), dt_util.utcnow()
        usual = _next_time(now, zone)
        day = now.astimezone(zone).date()
        if period is ReportPeriod.DAY:
            day -= timedelta(days=1)
        try:
            reports = await self._client.plant_reports(
                period, codes, datetime.combine(day, time(12), zone)
            )
        except MembersRefused as err:
            self._refuse(period, codes, err)
            return
        except (PermissionDenied, RequestRejected) as err:
            self.errors[period] = err
            self._postpone(period, codes, usual)
            return
        except (RateLimited, InvalidCredentials, *ACCOUNT_ERRORS):
            raise
        except NorthboundError as err:
            self._fail(period, err)
            self._postpone(period, codes, now + self._retry)
            return
        self.errors.pop(period, None)
        self._failures = 0
        self._batch_size = min(2 * self._batch_size, BATCH)
        self._refused.difference_update(codes)
        self._postpone(period, codes, usual)
        values = {
            code: _values(period, reports.rows.get(code, ()), day, zone, now)
            for code in codes
            if code not in reports.refused
        }
        self.data = {
            **self.data,
            **{code: {**self.data.get(code, {}), **values[code]} for code in values},
        }

    def _refuse(
        self, period: ReportPeriod, codes: Sequence[str], err: MembersRefused
    ) -> None:
        """Read a smaller batch next, or set a single plant aside."""
        self._batch_size = len(codes) // 2 or BATCH
        if len(codes) > 1:
            return
        self._postpone(period, codes, dt_util.utcnow() + REFUSED_RETRY)
        if self._refused.isdisjoint(codes):
            LOGGER.warning("Skipping the reports of a plant: %s", err)
        self._refused.update(codes)

    def _fail(self, period: ReportPeriod, err: NorthboundError) -> None:
        self.errors[period] = err
        self._failures += 1

    @property
    def _retry(self) -> timedelta:
        """Return the wait after the last failure."""
        return RETRY * int(2 ** min(self._failures - 1, MAX_DOUBLINGS))

    def _postpone(
        self, period: ReportPeriod, codes: Iterable[str], due: datetime
    ) -> None:
        self._due |= {(period, code): due for code in codes}


def _next_time(now: datetime, zone: tzinfo) -> datetime:
    """Return the next of the times at which the reports of a zone are read."""
    first = midnight_before(now - SETTLED, zone).astimezone(now.tzinfo) + SETTLED
    return first + ((now - first) // INTERVAL + 1) * INTERVAL


def _values(
    period: ReportPeriod,
    rows: Sequence[PlantReport],
    day: date,
    zone: tzinfo,
    received: datetime,
) -> ReportedSpans:
    """Return the values of the row that contains a day, and of all years."""
    if period is not ReportPeriod.DAY:
        day = day.replace(day=1)
    if period is ReportPeriod.YEAR:
        day = day.replace(month=1)
    values = {
        SPANS[period]: ReportedValues(
            next((row.values for row in rows if _first_day(row, zone) == day), {}),
            received,
        )
    }
    if period is ReportPeriod.YEAR:
        sums = {
            item: sum(row.values.get(item, 0.0) for row in rows)
            for item in ReportItem
            if any(item in row.values for row in rows)
        }
        values[ReportSpan.ALL_YEARS] = ReportedValues(sums, received)
    return values


def _first_day(row: PlantReport, zone: tzinfo) -> date:
    # Noon is on the same day if the true zone of the plant is another one.
    return (row.start + timedelta(hours=12)).astimezone(zone).date()
