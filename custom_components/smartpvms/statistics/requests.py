"""Requests for the history of devices, and reactions to refused ones."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import batched
import math
from operator import attrgetter
from typing import Final

from custom_components.smartpvms.const import LOGGER
from custom_components.smartpvms.inventory_coordinator import InventoryCoordinator
from custom_components.smartpvms.models import halves
from custom_components.smartpvms.northbound import (
    DEVICE_HISTORY_SPAN,
    HISTORY_BATCH,
    HISTORY_SPAN,
    HISTORY_TYPES,
    UNKNOWN_DEVICE,
    Device,
    FailCode,
    HistoryRow,
    InterfaceMissing,
    InvalidCredentials,
    MalformedResponse,
    MembersRefused,
    NorthboundClient,
    NorthboundError,
    PermissionDenied,
    RequestRejected,
)
from custom_components.smartpvms.problems import HISTORY, Problems
from homeassistant.core import CALLBACK_TYPE
from homeassistant.util import dt as dt_util

from .device_history import DeviceRows
from .jobs import (
    LOOK_AHEAD,
    NOT_ALLOWED_RETRY,
    Activity,
    Job,
    JobQueue,
    Pause,
    Priority,
)
from .windows import TargetEnds, Window

RETRY: Final = timedelta(minutes=5)
MAX_RETRY: Final = timedelta(hours=1)
# Number of consecutive refusals after which a batch is set aside.
MAX_REFUSALS: Final = 3
# Minimum wait that changes the activity to waiting.
MIN_WAITING: Final = timedelta(minutes=2)
# Time after which `getDevHistoryKpi` is called again, if the server has refused it.
WITHDRAWN_RETRY: Final = timedelta(days=7)


class HistoryRequests:
    """Requests the history of an account's devices, window by window.

    If the server refuses `getDevHistoryKpi`, which newer ones may withdraw, the history
    of each device and day is requested from `device/history`.
    """

    def __init__(
        self,
        client: NorthboundClient,
        inventory: InventoryCoordinator,
        problems: Problems,
        queue: JobQueue,
        on_request: CALLBACK_TYPE,
    ) -> None:
        """Initialize without any rows; `on_request` is called before each request."""
        self._client = client
        self._inventory = inventory
        self._problems = problems
        self._queue = queue
        self._on_request = on_request
        self.types_with_history: set[int] = set()
        """Device types whose history the server has returned."""
        self.single_since: datetime | None = None
        """Time since which `device/history` is used, `None` for `getDevHistoryKpi`."""
        self._is_single = False
        """Whether the next request is one of `device/history`."""
        self._refused: NorthboundError | None = None
        """Error with which the server has just refused the other interface."""
        self._both_refused: datetime | None = None
        """Time at which the server has refused both interfaces."""
        self._types_without_history: set[int] = set()
        """Device types whose history the server does not have."""
        self._logged_types: set[int] = set()
        """Device types with a logged warning about a missing history."""
        self._window_rows: dict[
            tuple[tuple[int, ...], datetime, datetime], DeviceRows
        ] = {}
        """Rows of a window that takes several requests, by request."""
        self._failures = 0
        """Number of consecutive failed requests."""

    def batches(self, device_ids: Iterable[int]) -> list[tuple[Device, ...]]:
        """Return the batches of devices: of one type, sorted by plant."""
        self._choose_interface()
        inventory = self._inventory.data
        types: dict[int, list[Device]] = {}
        for device_id in device_ids:
            device = inventory.devices.get(device_id)
            if device and device.type_id in HISTORY_TYPES - self._types_without_history:
                types.setdefault(device.type_id, []).append(device)
        return [
            batch
            for devices in types.values()
            for batch in batched(
                sorted(devices, key=attrgetter("plant_code")),
                1 if self._is_single else HISTORY_BATCH,
                strict=False,
            )
        ]

    def calls(self, job: Job) -> int:
        """Return the number of calls of a new job."""
        spans = sum(
            math.ceil((end - start + LOOK_AHEAD) / self._span)
            for start, end in job.windows
        )
        return spans * len(self.batches(job.devices))

    @property
    def _span(self) -> timedelta:
        """Return the maximum time span per call."""
        return DEVICE_HISTORY_SPAN if self._is_single else HISTORY_SPAN

    async def async_window_rows(
        self, window: Window, ends: TargetEnds
    ) -> DeviceRows | Pause | None:
        """Return the rows of a window, and the first ones after outages at its end.

        Returns a pause if a request has to wait, and `None` if the batch is set aside.
        """
        look_ahead = window.end + LOOK_AHEAD
        result = await self._request(
            window.job, window.devices, window.start, min(look_ahead, dt_util.utcnow())
        )
        if not isinstance(result, Mapping):
            return result
        rows = {device_id: [*of_device] for device_id, of_device in result.items()}
        for end, device_ids in _outages(window, ends, rows).items():
            # One request covers at most `HISTORY_SPAN` of the outage.
            start = dt_util.utc_from_timestamp(end) + LOOK_AHEAD - HISTORY_SPAN
            start = max(start, look_ahead)
            result = await self._request(
                window.job,
                [device for device in window.devices if device.id in device_ids],
                start,
                min(start + HISTORY_SPAN, dt_util.utcnow()),
            )
            if not isinstance(result, Mapping):
                return result
            for device_id, of_device in result.items():
                rows.setdefault(device_id, []).extend(of_device)
        self._window_rows.clear()
        return rows

    async def _request(
        self, job: Job, batch: Sequence[Device], start: datetime, end: datetime
    ) -> DeviceRows | Pause | None:
        """Return the history of a batch, a pause, or `None` if it is set aside."""
        rows: dict[int, list[HistoryRow]] = {device.id: [] for device in batch}
        for each_start, each_end in _parts(start, end, self._span):
            result = await self._call(job, batch, each_start, each_end)
            if not isinstance(result, Mapping):
                return result
            for device_id, of_device in result.items():
                rows.setdefault(device_id, []).extend(of_device)
        return rows

    async def _call(
        self, job: Job, batch: Sequence[Device], start: datetime, end: datetime
    ) -> DeviceRows | Pause | None:
        """Return the history that one call can read, like `_request`."""
        ids = tuple(device.id for device in batch)
        request = ids, start, end
        if request in self._window_rows:
            return self._window_rows[request]
        if self._is_single and batch[0].dn is None:
            # The next list may have it.
            self._queue.postpone(job, batch)
            return None
        if wait := timedelta(seconds=self._wait(job)):
            return Pause(
                wait, Activity.RUNNING if wait < MIN_WAITING else Activity.WAITING
            )
        self._on_request()
        type_id = batch[0].type_id
        rows: DeviceRows
        try:
            if self._is_single:
                [device] = batch
                of_device = await self._client.history_of_device(device, start, end)
                rows = {device.id: of_device}
            else:
                rows = await self._client.device_history(type_id, ids, start, end)
        except NorthboundError as refused:
            err = refused
            LOGGER.debug(
                "Failed to read the history of devices of type %s: %s", type_id, err
            )
            if self._refuses_interface(err, type_id):
                if self._refused is None:
                    self._refused, self._is_single = err, not self._is_single
                    self._window_rows.clear()
                    return None
                err = self._refuse_both(err)
            if job in self._queue.jobs and self._set_aside(job, batch, err):
                self._failures = 0
                self._window_rows.clear()
                return None
            return self._pause_after(err)
        self._remember_interface()
        self._problems.clear(HISTORY)
        self._problems.allow(
            HISTORY, {device.plant_code for device in batch if rows.get(device.id)}
        )
        self.types_with_history.add(type_id)
        self._failures = job.refusals = 0
        job.due = None
        self._window_rows[request] = rows
        return rows

    def _choose_interface(self) -> None:
        """Use the interface that works, but `getDevHistoryKpi` once a week."""
        if self._refused is not None:
            return
        age = dt_util.utcnow() - (self.single_since or dt_util.utcnow())
        # A time of the future was set by a wrong clock.
        is_due = abs(age) >= WITHDRAWN_RETRY
        self._is_single = self.single_since is not None and not is_due

    def _refuses_interface(self, err: NorthboundError, type_id: int) -> bool:
        """Return whether an error may concern an interface, and not the other one."""
        now = dt_util.utcnow()
        if (
            self._both_refused is not None
            and abs(now - self._both_refused) < NOT_ALLOWED_RETRY
        ):
            return False
        match err:
            case PermissionDenied() | InterfaceMissing():
                return True
            case RequestRejected(code=FailCode.DEVICE_TYPE_UNSUPPORTED):
                # A single type may have no history.
                known = self.types_with_history
                is_proven = self._is_single and self.single_since is not None
                return not is_proven and (type_id in known or not known)
        return False

    def _refuse_both(self, err: NorthboundError) -> NorthboundError:
        """Return to `getDevHistoryKpi`, and return the error of this interface."""
        if self._is_single and self._refused is not None:
            err = self._refused
        self._refused, self._both_refused = None, dt_util.utcnow()
        self._is_single, self.single_since = False, None
        return err

    def _remember_interface(self) -> None:
        """Remember the interface that the server has answered."""
        if not self._is_single:
            self.single_since = None
        elif self.single_since is None or self._refused is not None:
            self.single_since = dt_util.utcnow()
        self._refused = self._both_refused = None

    def _wait(self, job: Job) -> float:
        """Return the seconds until a job may make a call."""
        if self._is_single:
            return self._client.device_history_wait()
        return self._client.history_wait(self._reserve(job))

    def _reserve(self, job: Job) -> int:
        """Return the number of calls that a job leaves for urgent jobs.

        They need calls for one window of all devices.
        """
        if job.priority is Priority.PAST or job.due is not None:
            return len(self.batches(self._inventory.data.devices))
        return 0

    def _set_aside(
        self, job: Job, batch: Sequence[Device], err: NorthboundError
    ) -> bool:
        """Set a batch aside after an error if others can continue; return whether.

        A history that is not allowed yet is requested again later. A batch that is
        rejected repeatedly is split or given up.
        """
        match err:
            case MembersRefused() if err.code not in UNKNOWN_DEVICE:
                self._refuse(job, batch, err)
                return True
            case RequestRejected(code=FailCode.DEVICE_TYPE_UNSUPPORTED):
                self._set_type_aside(job, batch, err)
                return True
            case MembersRefused() | RequestRejected() | MalformedResponse():
                job.refusals += 1
                if job.refusals < MAX_REFUSALS:
                    return False
            case _:
                return False
        if isinstance(err, MalformedResponse):
            self._queue.postpone(job, batch)
        elif isinstance(err, MembersRefused) and len(batch) > 1:
            # One unknown device makes the server reject the whole batch.
            self._halve(job, batch)
        else:
            part = self._queue.split(job, batch)
            part.remaining_end = part.start
            self._warn(batch[0].type_id, err)
        return True

    def _refuse(self, job: Job, batch: Sequence[Device], err: MembersRefused) -> None:
        """Halve a refused batch, or postpone the devices of its only plant."""
        if len(codes := {each.plant_code for each in batch}) > 1:
            self._halve(job, batch)
            return
        self._queue.postpone(job, batch)
        # The plant may have been withdrawn during the call.
        if plant := self._inventory.data.plants.get(codes.pop()):
            self._problems.refuse(HISTORY, plant, err.code)

    def _set_type_aside(
        self, job: Job, batch: Sequence[Device], err: NorthboundError
    ) -> None:
        """Postpone a batch whose type is rejected, or give the type up."""
        type_id = batch[0].type_id
        # Without the permission, some servers reject every type.
        if type_id in self.types_with_history or not self.types_with_history:
            self._queue.postpone(job, batch)
        else:
            self._types_without_history.add(type_id)
            self._warn(type_id, err)

    def _halve(self, job: Job, batch: Sequence[Device]) -> None:
        """Split a batch into two jobs, which are set aside at the next refusal."""
        for half in halves(batch):
            self._queue.split(job, half).refusals = MAX_REFUSALS - 1

    def _warn(self, type_id: int, err: NorthboundError) -> None:
        """Log once per device type that devices have no history."""
        if type_id not in self._logged_types:
            self._logged_types.add(type_id)
            LOGGER.warning(
                "Skipping the history of devices of type %s: %s", type_id, err
            )

    def _pause_after(self, err: NorthboundError) -> Pause:
        """Return the pause after an error that affects all batches."""
        self._failures += 1
        activity = Activity.WAITING
        match err:
            case PermissionDenied():
                self._problems.add(HISTORY, err)
            case InvalidCredentials():
                activity = Activity.FAILED
        retry = min(RETRY * 2 ** min(self._failures - 1, 8), MAX_RETRY)
        return Pause(max(retry, timedelta(seconds=err.retry_after or 0.0)), activity)


def _parts(
    start: datetime, end: datetime, span: timedelta
) -> Iterator[tuple[datetime, datetime]]:
    """Yield the parts of a time that one call can read, without common times."""
    while start <= end:
        yield start, min(start + span, end)
        start += span + timedelta(seconds=1)


def _outages(
    window: Window, ends: TargetEnds, rows: Mapping[int, Sequence[HistoryRow]]
) -> dict[float, set[int]]:
    """Return the devices with an outage beyond the look-ahead, by its end.

    The readings after it are needed for windows with rows, and for the last window.
    """
    look_ahead = (window.end + LOOK_AHEAD).timestamp()
    outages: dict[float, set[int]] = {}
    for target, end in ends.items():
        device_id = target.device.id
        is_needed = rows.get(device_id) or window.start == window.job.start
        if end >= look_ahead and is_needed:
            outages.setdefault(end, set()).add(device_id)
    return outages
