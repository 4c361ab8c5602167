"""The entity of a data item, and when it comes to exist."""

from collections.abc import Callable, Iterator
from typing import override

from homeassistant.const import Platform
from homeassistant.core import callback
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.device_registry import DeviceInfo
from homeassistant.helpers.entity import Entity, EntityDescription
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.update_coordinator import CoordinatorEntity

from .const import DOMAIN
from .coordinator import RealTimeCoordinator, SmartPvmsConfigEntry
from .snapshot import Reading, SourceId


class ItemEntity(CoordinatorEntity[RealTimeCoordinator]):
    """A data item of a plant or device."""

    _attr_has_entity_name = True

    def __init__(
        self,
        coordinator: RealTimeCoordinator,
        source_id: SourceId,
        description: EntityDescription,
    ) -> None:
        """Show the item from the coordinator's last reading on."""
        super().__init__(coordinator, context=self._sources(coordinator, source_id))
        self.entity_description = description
        self._source_id = source_id
        self._attr_unique_id = f"{source_id}_{description.key}"
        self._attr_device_info = DeviceInfo(identifiers={(DOMAIN, str(source_id))})
        self._shown = self._reading
        self._was_available = self.available
        if self._shown is not None:
            self._show(self._shown)

    def _sources(
        self, coordinator: RealTimeCoordinator, source_id: SourceId
    ) -> tuple[SourceId, ...]:
        """Return what has to be read for the item."""
        return (source_id,)

    @property
    def _reading(self) -> Reading | None:
        return self.coordinator.data.get(self._source_id)

    @property
    @override
    def available(self) -> bool:
        reading = self._reading
        return not self.coordinator.refused and reading is not None and reading.fresh

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        reading = self._reading
        if reading is not None and reading is not self._shown:
            self._show(reading)
        elif self.available == self._was_available:
            return
        self._shown = reading
        self._was_available = self.available
        super()._handle_coordinator_update()

    def _show(self, reading: Reading) -> None:
        """Take the state from a reading."""
        raise NotImplementedError


@callback
def async_add_reported_items(
    entry: SmartPvmsConfigEntry,
    platform: Platform,
    create: Callable[[SourceId, str, Reading | None], Entity | None],
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add an entity for an item once it reports something usable.

    `create` returns the entity for an item of a reading, or `None` where the reading
    does not show that the item exists; without a reading, the item once did.
    """
    coordinator = entry.runtime_data.real_time
    created = coordinator.created

    def remembered() -> Iterator[Entity]:
        inventory = entry.runtime_data.inventory.data
        for registered in er.async_entries_for_config_entry(
            er.async_get(coordinator.hass), entry.entry_id
        ):
            if registered.domain != platform:
                continue
            source = inventory.source_of(registered.unique_id)
            if source and (entity := create(*source, None)):
                source_id, key = source
                created.setdefault(source_id, set()).add(key)
                yield entity

    def reported() -> Iterator[Entity]:
        inventory = entry.runtime_data.inventory.data
        for source_id, reading in (
            *coordinator.data.items(),
            *coordinator.flows.readings.items(),
        ):
            if not inventory.names(source_id):
                continue
            keys = created.setdefault(source_id, set())
            for key in reading.items.keys() - keys:
                if entity := create(source_id, key, reading):
                    keys.add(key)
                    yield entity

    @callback
    def add_reported() -> None:
        if entities := list(reported()):
            async_add_entities(entities)

    async_add_entities([*remembered(), *reported()])
    entry.async_on_unload(coordinator.async_add_listener(add_reported))
