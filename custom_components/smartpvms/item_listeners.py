"""Update callbacks of the data items of plants and devices."""

import asyncio
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
import time
from typing import Final, NamedTuple

from homeassistant.core import CALLBACK_TYPE

from .models import SourceId
from .problems import Isolation

# Maximum seconds of state writes until other tasks of the event loop run.
MAX_BLOCKING: Final = 0.005


class Item(NamedTuple):
    """A data item of a plant or device with an update callback."""

    source_id: SourceId
    key: str
    always_written: bool
    """Whether every reading calls the callback, even if the item is unchanged."""


@dataclass(slots=True)
class _Listeners:
    """Update callbacks of a plant or device, by key of the item."""

    by_key: dict[str, CALLBACK_TYPE] = field(default_factory=dict)
    always_written: set[str] = field(default_factory=set)


class ItemListeners:
    """Update callbacks by source and data item, one per item."""

    def __init__(self, isolation: Isolation) -> None:
        """Initialize without listeners."""
        self._isolation = isolation
        self._of: dict[SourceId, _Listeners] = {}
        # One bound method for all entities, which saves memory.
        self._end = self._remove

    def __iter__(self) -> Iterator[tuple[SourceId, Collection[str]]]:
        """Return the plants and devices, with the keys that have a listener."""
        for source_id, listeners in self._of.items():
            if listeners.by_key:
                yield source_id, listeners.by_key.keys()

    def add(self, item: Item, listener: CALLBACK_TYPE) -> CALLBACK_TYPE:
        """Add the listener of an item, and return a function that removes it."""
        listeners = self._of.setdefault(item.source_id, _Listeners())
        listeners.by_key[item.key] = listener
        if item.always_written:
            listeners.always_written.add(item.key)
        return partial(self._end, item)

    def _remove(self, item: Item) -> None:
        listeners = self._of[item.source_id]
        del listeners.by_key[item.key]
        listeners.always_written.discard(item.key)

    async def call(self, changed: Mapping[SourceId, Collection[str] | None]) -> None:
        """Call the listeners of changed items; `None` means all items of the source.

        Listeners of items that are always written are called for every source. Yields
        to the event loop every 5 ms.
        """
        begun = time.perf_counter()
        for source_id, keys in changed.items():
            if (listeners := self._of.get(source_id)) is None:
                continue
            by_key = listeners.by_key
            for key in (
                [*by_key] if keys is None else listeners.always_written.union(keys)
            ):
                if (listener := by_key.get(key)) is None:
                    continue
                with self._isolation:
                    listener()
            if time.perf_counter() - begun > MAX_BLOCKING:
                await asyncio.sleep(0)
                begun = time.perf_counter()
