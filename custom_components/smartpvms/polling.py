"""Polling: the batches of an inventory, which of them is read next, and when."""

import collections
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import batched
import math
import time
from typing import Final

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later

from .models import Inventory, SourceId
from .northbound import BATCH, DeviceType, NorthboundClient

# Wait after a failure of the connection or the account.
RETRY: Final = timedelta(minutes=1)
# Wait after a type or interface that the server does not support.
UNSUPPORTED_RETRY: Final = timedelta(hours=1)
# Time after which members that the server has rejected are read again.
REJECTED_RETRY: Final = timedelta(hours=1)
# Longest wait: each pass also checks the age of readings (see `MAX_AGE`).
MAX_WAIT: Final = timedelta(minutes=6)
# Batches are read in one pass if they may be read within this many seconds.
TOGETHER: Final = 1.0


@dataclass(frozen=True, slots=True)
class Batch:
    """Plants, or devices of one type, that one call reads."""

    type_id: int | None
    """The devices' type; `None` for plants."""
    source_ids: tuple[SourceId, ...]

    @property
    def group(self) -> str:
        """Return the name of the batch's group in the log and in diagnostics."""
        return "plants" if self.type_id is None else f"devices of type {self.type_id}"


class Polling:
    """Batches of an inventory, and the time of the next pass.

    The server rejects a whole batch for one unknown member. Such a batch is halved until
    the member is found and left out. Halves are joined again once none is rejected.
    """

    def __init__(self, client: NorthboundClient, inventory: Inventory) -> None:
        """Batch all plants and devices that have KPIs."""
        self._client = client
        self._all: dict[int | None, list[Batch]] = {}
        self._batches: dict[int | None, list[Batch]] = {}
        self._halves: set[Batch] = set()
        """Halves of rejected batches that were not accepted since."""
        self._rejected_since: float | None = None
        """Time of the first rejection since the inventory was batched."""
        self._unsupported_until: dict[int | None, float] = {}
        self._reads: dict[Batch, int] = {}
        """The number of the last pass that has read a batch."""
        self._pass = 0
        self.next_pass: float | None = None
        """Monotonic seconds."""
        self._cancel: CALLBACK_TYPE | None = None
        self.set_inventory(inventory)

    @property
    def batches(self) -> list[Batch]:
        """Return all batches."""
        return [batch for batches in self._batches.values() for batch in batches]

    @property
    def has_rejected(self) -> bool:
        """Return whether the server has rejected members of the inventory."""
        return self._rejected_since is not None

    def set_inventory(self, inventory: Inventory) -> None:
        """Batch an inventory, with all of its members."""
        groups: dict[int | None, list[SourceId]] = {None: [*inventory.plants]}
        for device in inventory.devices.values():
            if device.type_id in DeviceType:
                groups.setdefault(device.type_id, []).append(device.id)
        self._all = {type_id: _batches(type_id, ids) for type_id, ids in groups.items()}
        self._batches = {type_id: [*batches] for type_id, batches in self._all.items()}
        self._halves.clear()
        self._reads.clear()
        self._rejected_since = None

    def retry_rejected(self, inventory: Inventory) -> None:
        """Read rejected members again after some time."""
        since = self._rejected_since
        if since and time.monotonic() - since >= REJECTED_RETRY.total_seconds():
            self.set_inventory(inventory)

    def due(self, wanted: Iterable[Batch]) -> Iterable[Batch]:
        """Yield the wanted batches that may be read now, those read longest ago first."""
        self._pass += 1
        for batch in sorted(wanted, key=lambda batch: self._reads.get(batch, 0)):
            if self._is_supported(batch.type_id) and not self._client.real_time_wait(
                batch.type_id
            ):
                self._reads[batch] = self._pass
                yield batch

    def accept(self, batch: Batch) -> None:
        """Join the halves of a group again, once all of them are accepted."""
        if batch in self._halves:
            self._halves.remove(batch)
            self._join(batch.type_id)

    def reject(self, batch: Batch) -> None:
        """Halve a batch, or leave its only member out."""
        self._rejected_since = self._rejected_since or time.monotonic()
        batches = self._batches[batch.type_id]
        # Another batch of this pass may have joined it with others.
        if batch not in batches:
            return
        batches.remove(batch)
        self._halves.discard(batch)
        if (size := len(batch.source_ids)) > 1:
            halves = [
                Batch(batch.type_id, part)
                for part in batched(batch.source_ids, (size + 1) // 2, strict=False)
            ]
            batches.extend(halves)
            self._halves.update(halves)
        elif not batches:
            # The server rejects the group, not its members.
            batches.extend(self._all[batch.type_id])
        self._join(batch.type_id)

    def pause(self, type_id: int | None) -> None:
        """Do not read a group for some time, since the server does not support it."""
        retry = time.monotonic() + UNSUPPORTED_RETRY.total_seconds()
        self._unsupported_until[type_id] = retry

    def plan(self, wanted: Iterable[Batch], *, failed: bool = False) -> float:
        """Set the time of the next pass, and return the seconds until then.

        The pass is at the first moment at which a batch may be read, or soon after it
        if then more may be read.
        """
        counts = collections.Counter(
            batch.type_id for batch in wanted if self._is_supported(batch.type_id)
        )
        waits = sorted(
            self._client.real_time_wait(type_id, calls)
            for type_id, number in counts.items()
            for calls in {1, number}
        )
        min_wait = RETRY.total_seconds() if failed else 0.0
        max_wait = MAX_WAIT.total_seconds()
        soonest = max(waits[0] if waits else max_wait, min_wait)
        wait = max([soonest, *(each for each in waits if each <= soonest + TOGETHER)])
        wait = max(min(wait, max_wait), 0.1)
        self.next_pass = time.monotonic() + wait
        return wait

    @callback
    def async_schedule(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry,
        refresh: HassJob[[datetime], None],
    ) -> None:
        """Call a job at the next pass, unless the user has disabled polling."""
        self.async_cancel()
        if self.next_pass is not None and not entry.pref_disable_polling:
            wait = max(self.next_pass - time.monotonic(), 0.0)
            self._cancel = async_call_later(hass, wait, refresh)

    @callback
    def async_cancel(self) -> None:
        """Cancel the next pass."""
        if self._cancel is not None:
            self._cancel()
            self._cancel = None

    def _is_supported(self, type_id: int | None) -> bool:
        return self._unsupported_until.get(type_id, -math.inf) <= time.monotonic()

    def _join(self, type_id: int | None) -> None:
        """Batch the members of a group anew, once all of its halves are accepted."""
        if not any(batch.type_id == type_id for batch in self._halves):
            self._batches[type_id] = _batches(
                type_id,
                [
                    source_id
                    for batch in self._batches[type_id]
                    for source_id in batch.source_ids
                ],
            )


def _batches(type_id: int | None, source_ids: Collection[SourceId]) -> list[Batch]:
    return [Batch(type_id, batch) for batch in batched(source_ids, BATCH, strict=False)]
