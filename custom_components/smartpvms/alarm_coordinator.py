"""Coordinator of the active alarms of an account's plants."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
import time
from typing import Final, override

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.util import dt as dt_util

from .active_alarms import PlantAlarms
from .const import LOGGER
from .coordinator import RealTimeCoordinator
from .errors import as_update_error
from .inventory_coordinator import InventoryCoordinator
from .northbound import (
    BATCH,
    ENGLISH,
    Alarms,
    FailCode,
    InvalidCredentials,
    MembersRefused,
    Moment,
    NorthboundClient,
    NorthboundError,
    PermissionDenied,
    RateLimited,
    RequestRejected,
    alarm_language,
    seconds_until,
)
from .problems import HISTORY, Problems
from .secondary_coordinator import ACCOUNT_ERRORS, SecondaryCoordinator

# Wait for the first alarms, so that live values come first.
FIRST_WAIT: Final = timedelta(minutes=1)
INTERVAL: Final = timedelta(minutes=15)
# Wait after repeated refusals of the interface, such as a missing permission, or of a
# plant.
REFUSED_RETRY: Final = timedelta(hours=1)
# Time before a real-time pass in which no alarms are read, since the account allows one
# call at a time and an answer can take half a minute; and the wait after its begin.
BEFORE_PASS: Final = 40.0
AFTER_PASS: Final = 10.0

# Age of the oldest alarms that are read.
REACH: Final = timedelta(days=90)
# Tolerated difference between the clocks of Home Assistant and the server, and for the
# newest alarms.
TOLERANCE: Final = timedelta(hours=1)
NEWEST: Final = timedelta(minutes=1)


class AlarmCoordinator(SecondaryCoordinator[dict[str, PlantAlarms]]):
    """Reads the active alarms of all plants every 15 minutes.

    Flow control can limit this to every 30 minutes. A plant whose alarms cannot be read
    keeps those of the last answer.
    """

    config_entry: ConfigEntry

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry,
        client: NorthboundClient,
        inventory: InventoryCoordinator,
        real_time: RealTimeCoordinator,
        alarms: Mapping[str, PlantAlarms],
        problems: Problems,
    ) -> None:
        """Set the stored alarms."""
        super().__init__(
            hass,
            LOGGER,
            config_entry=entry,
            name="alarms",
            update_interval=FIRST_WAIT,
        )
        self.errors: dict[str, NorthboundError] = {}
        """The errors of plants whose last read failed, by plant code."""
        self.refused = False
        """Whether reading has ended until the user enters a new password."""
        self.next_read: Moment | None = None
        self._client = client
        self._inventory = inventory
        self.data = self._kept(alarms)
        self._real_time = real_time
        self._problems = problems
        self._due: dict[str, Moment] = {}
        """Time of the next read, by plant code."""
        for code, of_plant in self.data.items():
            if of_plant.received is not None:
                age = dt_util.utcnow() - of_plant.received
                # A time of the future was set by a wrong clock.
                if age >= timedelta():
                    self._postpone([code], INTERVAL - age)
        self._batch_size = BATCH
        """Maximum number of plants per call, fewer after a refusal."""
        self._refused: set[str] = set()
        """Plants that are refused alone."""
        self._server_time: tuple[datetime, Moment] | None = None
        """The server's clock in the last answer, and the time of the answer."""
        self._is_covered = True
        """Whether the last answer had the alarms up to the server's time."""
        self._refused_languages: set[str] = set()
        """Languages that the server does not support."""
        self._gave_way = False
        """Whether this read was postponed for a real-time pass."""
        self._plan(FIRST_WAIT)

    @override
    async def _async_read(self) -> dict[str, PlantAlarms]:
        # An unexpected error ends the read before it plans the next one.
        self._plan(INTERVAL)
        wait = self._plan(self._wait_for_pass() or await self._read_due())
        if self.errors:
            # Home Assistant calls no listeners after a second failure.
            self.async_update_listeners()
            *_, error = self.errors.values()
            raise as_update_error(error, wait) from error
        return self.data

    async def _read_due(self) -> timedelta:
        """Read the plants that are due, and return the wait until the next read."""
        plants = self._inventory.data.plants
        self.data = self._kept(self.data)
        self.errors = {
            code: self.errors[code] for code in self.errors if code in plants
        }
        try:
            while codes := self._next_batch():
                if wait := self._client.alarm_wait():
                    return min(timedelta(seconds=wait), INTERVAL)
                await self._read(codes)
        except RateLimited as err:
            return min(timedelta(seconds=err.retry_after), INTERVAL)
        except InvalidCredentials as err:
            self.refused = True
            self.async_update_listeners()
            raise as_update_error(err) from err
        except ACCOUNT_ERRORS as err:
            self.errors |= dict.fromkeys(plants, err)
            return max(INTERVAL, timedelta(seconds=err.retry_after or 0.0))
        return min(self._wait(), INTERVAL)

    def _kept(self, alarms: Mapping[str, PlantAlarms]) -> dict[str, PlantAlarms]:
        """Return the alarms of registered plants; one list can lack a plant."""
        inventory = self._inventory.data
        return {
            code: of_plant
            for code, of_plant in alarms.items()
            if code in inventory.plants or code in inventory.missing
        }

    def alarms_of(self, plant_code: str) -> PlantAlarms:
        """Return the alarms of a plant, none if it is not listed."""
        if plant_code in self._inventory.data.plants:
            return self.data.get(plant_code) or PlantAlarms()
        return PlantAlarms()

    def _plan(self, wait: timedelta) -> float:
        """Set and return the seconds until the next read."""
        # Home Assistant cuts off fractions of a second.
        self.update_interval = max(wait, timedelta()) + timedelta(seconds=1)
        seconds = self.update_interval.total_seconds()
        self.next_read = time.monotonic() + seconds
        return seconds

    def _wait_for_pass(self) -> timedelta:
        """Return the time until a real-time pass has begun that begins soon."""
        next_pass = self._real_time.polling.next_pass
        left = -1.0 if next_pass is None else next_pass - time.monotonic()
        self._gave_way = 0 <= left < BEFORE_PASS and not self._gave_way
        return timedelta(seconds=left + AFTER_PASS if self._gave_way else 0.0)

    def _codes(self) -> list[str]:
        """Return the plants without those that are refused in other interfaces.

        The history of devices can be refused for other reasons.
        """
        elsewhere = self._problems.refused_without(HISTORY)
        # They are read again as soon as they are allowed.
        self._refused -= elsewhere
        for code in elsewhere:
            self._due.pop(code, None)
        return [code for code in self._inventory.data.plants if code not in elsewhere]

    def _next_batch(self) -> list[str]:
        """Return the plants to read next, refused ones last."""
        due = [code for code in self._codes() if not seconds_until(self._due.get(code))]
        due.sort(key=lambda code: self._due.get(code, 0.0))
        allowed = [code for code in due if code not in self._refused]
        return allowed[: self._batch_size] or due[:1]

    def _wait(self) -> timedelta:
        """Return the time until the next read."""
        waits = [seconds_until(self._due.get(code)) for code in self._codes()]
        return timedelta(seconds=min(waits, default=INTERVAL.total_seconds()))

    async def _read(self, codes: Sequence[str]) -> None:
        """Read the alarms of a batch, or record its failure."""
        start, end = self._window(codes)
        language = alarm_language(self.hass.config.language)
        if language in self._refused_languages:
            language = ENGLISH
        try:
            alarms = await self._client.alarms(codes, start, end, language)
        except MembersRefused as err:
            self._refuse(codes, err)
            return
        except (PermissionDenied, RequestRejected) as err:
            if (
                isinstance(err, RequestRejected)
                and err.code == FailCode.LANGUAGE_INCORRECT
                and language != ENGLISH
            ):
                self._refused_languages.add(language)
                return
            # A single refusal of what was read before is often an error of the server.
            repeated = [
                code for code in codes if code in self.errors or code not in self.data
            ]
            self._fail(codes, err)
            self._postpone(repeated, REFUSED_RETRY)
            return
        except (RateLimited, InvalidCredentials, *ACCOUNT_ERRORS):
            raise
        except NorthboundError as err:
            self._fail(codes, err)
            return
        for code in codes:
            self.errors.pop(code, None)
        self._batch_size = min(2 * self._batch_size, BATCH)
        self._refused.difference_update(codes)
        was_covered, self._is_covered = self._is_covered, True
        if (at := alarms.server_time) is not None:
            self._server_time = at, time.monotonic()
            self._is_covered = start - TOLERANCE <= at - REACH and at <= end + NEWEST
        # With a wrong clock, the answer lacks alarms, and the next one has them.
        if self._is_covered or not was_covered:
            self._postpone(codes, INTERVAL)
        self._update(alarms)

    def _update(self, alarms: Alarms) -> None:
        """Update the active alarms of the plants of an answer."""
        received = dt_util.utcnow()
        for code, of_plant in alarms.rows.items():
            is_complete = self._is_covered and code in alarms.complete
            # The first complete answer creates the entities.
            if not is_complete and code not in self.data:
                continue
            with self._problems.isolation:
                self.data.setdefault(code, PlantAlarms()).update(
                    of_plant, received, is_complete=is_complete
                )

    def _window(self, codes: Iterable[str]) -> tuple[datetime, datetime]:
        """Return the times between which alarms are read, with all active ones."""
        now = dt_util.utcnow()
        clocks = [now]
        if self._server_time is not None:
            at, answered = self._server_time
            clocks.append(at + timedelta(seconds=time.monotonic() - answered))
        raised = [
            each.alarm.raised
            for code in codes
            if code in self.data
            for each in self.data[code].active
            if each.alarm.raised is not None
        ]
        return min([min(clocks) - REACH, *raised]), max(clocks)

    def _refuse(self, codes: Collection[str], err: MembersRefused) -> None:
        """Read a smaller batch next, or set a single plant aside."""
        self._batch_size = len(codes) // 2 or BATCH
        if len(codes) > 1:
            return
        [code] = codes
        self.errors.pop(code, None)
        is_first = code in self.data and code not in self._refused
        self._postpone(codes, INTERVAL if is_first else REFUSED_RETRY)
        if self._refused.isdisjoint(codes):
            LOGGER.warning("Skipping the alarms of a plant: %s", err)
        self._refused.update(codes)

    def _fail(self, codes: Collection[str], err: NorthboundError) -> None:
        self.errors |= dict.fromkeys(codes, err)
        self._postpone(codes, INTERVAL)

    def _postpone(self, codes: Iterable[str], wait: timedelta) -> None:
        due = time.monotonic() + wait.total_seconds()
        self._due |= dict.fromkeys(codes, due)

    @callback
    def async_follow_inventory(self) -> None:
        """Update the entities."""
        self.async_update_listeners()
