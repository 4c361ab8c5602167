"""Which plants and devices are read together, and what to do when one is unknown."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import batched

from .models import Inventory, SourceId
from .northbound import BATCH, DeviceType


@dataclass(frozen=True, slots=True)
class Batch:
    """What one call reads: plants, or devices of one type."""

    type_id: int | None
    """The devices' type; `None` for plants."""
    source_ids: tuple[SourceId, ...]

    @property
    def group(self) -> str:
        """Return what the batch is a part of, for people."""
        return "plants" if self.type_id is None else f"devices of type {self.type_id}"


class Batches:
    """The batches of an inventory.

    The server rejects a whole batch for one device that it does not know. Such a batch
    is halved until the device is found and left out; then the others are read together
    again.
    """

    def __init__(self, inventory: Inventory) -> None:
        """Batch all that has KPIs."""
        groups: dict[int | None, list[SourceId]] = {None: list(inventory.plants)}
        for device in inventory.devices.values():
            if device.type_id in DeviceType:
                groups.setdefault(device.type_id, []).append(device.id)
        self._all = {
            type_id: tuple(_batches(type_id, source_ids))
            for type_id, source_ids in groups.items()
        }
        self._batches = {type_id: list(all_) for type_id, all_ in self._all.items()}
        self._suspects: set[Batch] = set()
        self.in_doubt = False
        """Whether the server has rejected a batch."""

    def __iter__(self) -> Iterator[Batch]:
        """Return all batches."""
        for batches in self._batches.values():
            yield from batches

    def rejected(self, batch: Batch) -> None:
        """Halve a batch that the server rejects, or leave its only member out."""
        self.in_doubt = True
        halves: list[Batch] = []
        if (size := len(batch.source_ids)) > 1:
            halves = [
                Batch(batch.type_id, part)
                for part in batched(batch.source_ids, (size + 1) // 2, strict=False)
            ]
        batches = self._batches[batch.type_id]
        batches.remove(batch)
        batches.extend(halves)
        self._suspects.discard(batch)
        self._suspects.update(halves)
        if not batches:
            # Where every device is unknown, it is not the devices.
            batches.extend(self._all[batch.type_id])
        self._join(batch.type_id)

    def accepted(self, batch: Batch) -> None:
        """Clear a batch of suspicion."""
        if batch in self._suspects:
            self._suspects.remove(batch)
            self._join(batch.type_id)

    def _join(self, type_id: int | None) -> None:
        """Read a type's devices together again once none is under suspicion."""
        if not any(batch.type_id == type_id for batch in self._suspects):
            self._batches[type_id] = _batches(
                type_id,
                [
                    source_id
                    for batch in self._batches[type_id]
                    for source_id in batch.source_ids
                ],
            )


def _batches(type_id: int | None, source_ids: Iterable[SourceId]) -> list[Batch]:
    return [Batch(type_id, batch) for batch in batched(source_ids, BATCH, strict=False)]
