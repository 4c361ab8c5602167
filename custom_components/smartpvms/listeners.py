"""Who is told what is new of which plants and devices."""

import asyncio
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
import time
from typing import Final, NamedTuple

from homeassistant.core import CALLBACK_TYPE

from .const import LOGGER
from .models import SourceId

# How long the others have to wait while states are written, in seconds.
LONGEST_TURN: Final = 0.005


class Item(NamedTuple):
    """A data item of a plant or device, which something shows."""

    source_id: SourceId
    key: str
    is_rate: bool
    """Whether every reading is shown, not only another."""


@dataclass(slots=True)
class _Listeners:
    """Who listens for the items of a plant or device."""

    by_key: dict[str, CALLBACK_TYPE] = field(default_factory=dict)
    rates: set[str] = field(default_factory=set)


class Listeners:
    """Who listens for which items: for each item, one."""

    def __init__(self) -> None:
        """Have no listeners."""
        self._of: dict[SourceId, _Listeners] = {}
        # One of these for all: there are as many listeners as entities.
        self._end = self._remove

    def __iter__(self) -> Iterator[tuple[SourceId, Collection[str]]]:
        """Return the plants and devices with the items that are listened for."""
        for source_id, listeners in self._of.items():
            if listeners.by_key:
                yield source_id, listeners.by_key.keys()

    def add(self, item: Item, listener: CALLBACK_TYPE) -> CALLBACK_TYPE:
        """Listen for an item; return what ends it."""
        listeners = self._of.setdefault(item.source_id, _Listeners())
        listeners.by_key[item.key] = listener
        if item.is_rate:
            listeners.rates.add(item.key)
        return partial(self._end, item)

    def _remove(self, item: Item) -> None:
        listeners = self._of[item.source_id]
        del listeners.by_key[item.key]
        listeners.rates.discard(item.key)

    async def tell(self, news: Mapping[SourceId, Collection[str] | None]) -> None:
        """Tell who listens for what is new; `None` is all of a plant or device.

        Home Assistant has other things to do as well, and takes turns with them.
        """
        turn = time.perf_counter()
        for source_id, keys in news.items():
            if (listeners := self._of.get(source_id)) is None:
                continue
            by_key = listeners.by_key
            for key in [*by_key] if keys is None else listeners.rates.union(keys):
                if (listener := by_key.get(key)) is None:
                    continue
                try:
                    listener()
                except Exception:
                    LOGGER.exception("Unexpected error showing a data item")
            if time.perf_counter() - turn > LONGEST_TURN:
                await asyncio.sleep(0)
                turn = time.perf_counter()
