"""Items that plants and devices report, with and without an entity."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final

from homeassistant.core import Event, callback
from homeassistant.helpers import device_registry as dr

from .descriptions import DOCUMENTED, MAX_UNDOCUMENTED
from .models import SourceId

# Maximum number of entities of undocumented items, of all plants and devices.
MAX_OF_ACCOUNT: Final = 1000


class ReportedItems:
    """Items of an account's plants and devices, with and without an entity."""

    def __init__(self, entry_id: str) -> None:
        """Initialize the items of a config entry."""
        self._entry_id = entry_id
        self.with_entity: dict[SourceId, set[str]] = {}
        """Items with an entity, enabled or not, by plant or device."""
        self.without_entity: Mapping[SourceId, Collection[str]] = {}
        """Items without an entity that the last pass has changed."""
        self._undocumented = Counter[SourceId]()
        """Number of undocumented items with an entity."""

    def add(self, source_id: SourceId, key: str) -> None:
        """Add an item with an entity."""
        self.with_entity.setdefault(source_id, set()).add(key)
        if key not in DOCUMENTED:
            self._undocumented[source_id] += 1

    def has_room(self, source_id: SourceId) -> bool:
        """Return whether another undocumented item may get an entity."""
        return (
            self._undocumented[source_id] < MAX_UNDOCUMENTED
            and self._undocumented.total() < MAX_OF_ACCOUNT
        )

    def update(self, changed: Mapping[SourceId, set[str]]) -> None:
        """Set the items that a pass has changed."""
        self.without_entity = {
            source_id: keys_without
            for source_id, keys in changed.items()
            if (keys_without := keys - self.with_entity.get(source_id, set()))
        }

    @callback
    def async_forget_removed(
        self, event: Event[dr.EventDeviceRegistryUpdatedData]
    ) -> None:
        """Let a removed plant or device get entities again when it comes back."""
        if event.data["action"] != "remove":
            return
        device = event.data["device"]
        if device["config_entry_id"] == self._entry_id:
            removed = {name for domain, name in device["identifiers"]}
            for source_id in [
                each for each in self.with_entity if str(each) in removed
            ]:
                del self.with_entity[source_id]
                del self._undocumented[source_id]
