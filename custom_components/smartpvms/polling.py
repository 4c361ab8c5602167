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

from .models import Inventory, SourceId, halves
from .northbound import BATCH, DeviceType, NorthboundClient

# Wait after a failure of the connection or the account.
RETRY: Final = timedelta(minutes=1)
# Wait after a type or interface that the server does not support.
UNSUPPORTED_RETRY: Final = timedelta(hours=1)
# Time after which refused members are read again, and minimum time between two of these
# attempts in a group, which leaves most calls to the other members.
REFUSED_RETRY: Final = timedelta(hours=1)
MIN_RETRY_INTERVAL: Final = timedelta(minutes=15)
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

    The server refuses a whole batch because of one member. Such a batch is halved until
    the member is found, which is then read alone, once an hour. Halves are joined again
    once none is refused.
    """

    def __init__(self, client: NorthboundClient, inventory: Inventory) -> None:
        """Batch all plants and devices that have KPIs."""
        self._client = client
        self._inventory = inventory
        self._batches: dict[int | None, list[Batch]] = {}
        self._halves: set[Batch] = set()
        """Halves of refused batches that were not accepted since."""
        self.refused: dict[Batch, float] = {}
        """Refused members, devices by plant, and the time of the next attempt."""
        self._refused_groups: set[int | None] = set()
        """Groups with all members refused since the last accepted batch."""
        self._paused_until: dict[int | None, float] = {}
        self._reads: dict[Batch, int] = {}
        """The number of the last pass that has read a batch."""
        self._pass = 0
        self.next_pass: float | None = None
        """Monotonic seconds."""
        self._cancel: CALLBACK_TYPE | None = None
        self._set_inventory(inventory)

    @property
    def batches(self) -> list[Batch]:
        """Return all batches, without refused members that are not due yet."""
        now = time.monotonic()
        return [
            *(batch for batches in self._batches.values() for batch in batches),
            *(batch for batch, retry_at in self.refused.items() if retry_at <= now),
        ]

    def refused_members(self, type_id: int | None) -> list[SourceId]:
        """Return the refused members of a group that is read without them."""
        return [
            source_id
            for batch in self.refused
            if batch.type_id == type_id
            for source_id in batch.source_ids
        ]

    def is_refused(self, type_id: int | None) -> bool:
        """Return whether the server has refused all members of a group."""
        return type_id in self._refused_groups

    def follow_inventory(self, inventory: Inventory) -> None:
        """Batch a new inventory, unless it has the same plants and devices."""
        if not inventory.has_same_devices(self._inventory):
            self._set_inventory(inventory)

    def _set_inventory(self, inventory: Inventory) -> None:
        self._inventory = inventory
        types = dict.fromkeys(each.type_id for each in inventory.devices.values())
        groups = [None, *(type_id for type_id in types if type_id in DeviceType)]
        self._batches = {type_id: self._all(type_id) for type_id in groups}
        self._halves.clear()
        self.refused.clear()
        self._refused_groups.clear()
        self._reads.clear()

    def _all(self, type_id: int | None) -> list[Batch]:
        """Return the batches of all members of a group."""
        if type_id is None:
            return _batches(None, self._inventory.plants)
        devices = self._inventory.devices.values()
        return _batches(
            type_id, [device.id for device in devices if device.type_id == type_id]
        )

    def due(self, wanted: Iterable[Batch]) -> Iterable[Batch]:
        """Yield the wanted batches that may be read now, those read longest ago first.

        Plants come last, since the powers of their devices explain their counters. So a
        pass that ends before its last batches are due ends before the plants.
        """
        self._pass += 1
        for batch in sorted(
            wanted, key=lambda batch: (self._reads.get(batch, 0), batch.type_id is None)
        ):
            if not (
                self._is_paused(batch.type_id)
                or self._client.real_time_wait(batch.type_id)
            ):
                self._reads[batch] = self._pass
                yield batch

    def accept(self, batch: Batch) -> bool:
        """Join the halves of a group again, once all of them are accepted.

        Return whether members are accepted that were refused. The other refused members
        of the group are read again as well.
        """
        was_refused = self.is_refused(batch.type_id)
        self._refused_groups.discard(batch.type_id)
        if batch in self.refused:
            self._batch_again(batch.type_id)
            return True
        if batch in self._halves:
            self._halves.remove(batch)
            self._join(batch.type_id)
        return was_refused

    def refuse(self, batch: Batch) -> bool:
        """Halve a batch, or read its only member once an hour.

        Return whether the refused member is found. A group with all members refused is
        kept.
        """
        type_id = batch.type_id
        if batch in self.refused:
            del self.refused[batch]
            # Another member of the batch may be allowed again.
            for half in halves(batch.source_ids):
                self._retry_later(Batch(type_id, half))
            return True
        batches = self._batches[type_id]
        # Another batch of this pass may have joined it with others.
        if batch not in batches:
            return False
        batches.remove(batch)
        self._halves.discard(batch)
        if len(batch.source_ids) > 1:
            parts = [Batch(type_id, half) for half in halves(batch.source_ids)]
            batches.extend(parts)
            self._halves.update(parts)
            # The halves are not read before the batches of other members.
            self._reads |= dict.fromkeys(parts, self._pass)
        elif batches:
            self._retry_later(batch, joined=True)
        else:
            self._refused_groups.add(type_id)
            self._batch_again(type_id)
        self._join(type_id)
        return len(batch.source_ids) == 1

    def retry(self, plant_codes: Collection[str]) -> None:
        """Read refused members of these plants again now."""
        for batch in self.refused:
            if self._plant_code(batch) in plant_codes:
                self.refused[batch] = -math.inf

    def _retry_later(self, batch: Batch, *, joined: bool = False) -> None:
        """Read refused members once an hour, or less often if there are many.

        `joined` means together with other devices of the plant.
        """
        now = time.monotonic()
        members = [*batch.source_ids]
        retry_at = now + REFUSED_RETRY.total_seconds()
        for other, other_at in [*self.refused.items()]:
            if other.type_id != batch.type_id:
                continue
            is_same_plant = self._plant_code(other) == self._plant_code(batch)
            size = len(members) + len(other.source_ids)
            if joined and is_same_plant and size <= BATCH:
                members += other.source_ids
                del self.refused[other]
            else:
                retry_at = max(retry_at, other_at + MIN_RETRY_INTERVAL.total_seconds())
        self.refused[Batch(batch.type_id, (*members,))] = retry_at

    def _plant_code(self, batch: Batch) -> str:
        first = batch.source_ids[0]
        if isinstance(first, str):
            return first
        return self._inventory.devices[first].plant_code

    def _batch_again(self, type_id: int | None) -> None:
        """Batch all members of a group, including refused ones."""
        for batch in [each for each in self.refused if each.type_id == type_id]:
            del self.refused[batch]
        self._halves = {each for each in self._halves if each.type_id != type_id}
        self._batches[type_id] = self._all(type_id)

    def pause(self, type_id: int | None) -> None:
        """Do not read a group for some time, since the server does not support it."""
        retry_at = time.monotonic() + UNSUPPORTED_RETRY.total_seconds()
        self._paused_until[type_id] = retry_at

    def plan(self, wanted: Iterable[Batch], *, failed: bool = False) -> float:
        """Set the time of the next pass, and return the seconds until then.

        The pass is at the first moment at which a batch may be read, or soon after it
        if then more may be read.
        """
        counts = collections.Counter(
            batch.type_id for batch in wanted if not self._is_paused(batch.type_id)
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

    def _is_paused(self, type_id: int | None) -> bool:
        return self._paused_until.get(type_id, -math.inf) > time.monotonic()

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
