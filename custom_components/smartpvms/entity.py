"""Base entity of data items, and creation of entities for reported items."""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import override

from homeassistant.const import Platform
from homeassistant.core import callback
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.device_registry import DeviceInfo
from homeassistant.helpers.entity import Entity, EntityDescription
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.update_coordinator import CoordinatorEntity
from homeassistant.util import dt as dt_util

from .active_alarms import PlantAlarms
from .alarm_coordinator import AlarmCoordinator
from .const import DOMAIN
from .coordinator import RealTimeCoordinator
from .entity_registry import registered_items
from .item_listeners import Item
from .models import Reading, SourceId, unique_id
from .runtime import SmartPvmsConfigEntry

type CreateEntity = Callable[[SourceId, str, Reading | None], Entity | None]


class ItemEntity(CoordinatorEntity[RealTimeCoordinator]):
    """Entity of a data item of a plant or device."""

    _attr_has_entity_name = True

    def __init__(
        self,
        coordinator: RealTimeCoordinator,
        source_id: SourceId,
        description: EntityDescription,
        *,
        always_written: bool = False,
    ) -> None:
        """Initialize the entity, whose state every reading or only changes write."""
        super().__init__(coordinator, Item(source_id, description.key, always_written))
        self.entity_description = description
        self._source_id = source_id
        self._attr_unique_id = unique_id(source_id, description.key)
        # Registered by the inventory coordinator.
        self.device_entry = dr.async_get(
            coordinator.hass
        ).async_get_device_by_identifier(
            (DOMAIN, str(source_id)), coordinator.config_entry.entry_id
        )
        self._available = False

    @override
    async def async_added_to_hass(self) -> None:
        await super().async_added_to_hass()
        self._available = self._is_available
        if (reading := self._reading) is not None:
            self._update_state(reading)

    @property
    def _reading(self) -> Reading | None:
        return self.coordinator.data.get(self._source_id)

    @property
    def _is_available(self) -> bool:
        return self._source_id in self.coordinator.available

    @property
    @override
    def available(self) -> bool:
        return self._available

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        available = self._is_available
        must_write = available is not self._available
        self._available = available
        if (reading := self._reading) is not None:
            must_write |= self._update_state(reading)
        if must_write:
            self.async_write_ha_state()

    def _update_state(self, reading: Reading) -> bool:
        """Set the state from a reading; return whether it must be written."""
        raise NotImplementedError


class AlarmEntity(CoordinatorEntity[AlarmCoordinator]):
    """Entity of the active alarms of a plant or device."""

    _attr_has_entity_name = True

    def __init__(
        self,
        coordinator: AlarmCoordinator,
        plant_code: str,
        source_id: SourceId,
        description: EntityDescription,
    ) -> None:
        """Initialize the entity with the device of the plant or device."""
        super().__init__(coordinator)
        self.entity_description = description
        self._plant_code = plant_code
        self._attr_unique_id = unique_id(source_id, description.key)
        self._attr_device_info = DeviceInfo(identifiers={(DOMAIN, str(source_id))})

    @property
    def _alarms(self) -> PlantAlarms:
        return self.coordinator.alarms_of(self._plant_code)

    @property
    @override
    def available(self) -> bool:
        is_current = self._alarms.is_current(dt_util.utcnow())
        return is_current and not self.coordinator.refused


@callback
def async_add_alarm_entities[DescriptionT: EntityDescription](
    entry: SmartPvmsConfigEntry,
    sources: Callable[[str], Iterable[SourceId]],
    descriptions: Collection[DescriptionT],
    create: Callable[[SourceId, DescriptionT], Entity],
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the entities of plants whose alarms could be read, and of their devices.

    `sources` returns the plant, or devices of it, that have entities.
    """
    alarms, inventory = entry.runtime_data.alarms, entry.runtime_data.inventory
    reported = entry.runtime_data.real_time.reported

    @callback
    def add() -> None:
        entities: list[Entity] = []
        for code in alarms.data.keys() & inventory.data.plants.keys():
            for source_id in sources(code):
                known = reported.with_entity.get(source_id, set())
                for description in descriptions:
                    if description.key not in known:
                        reported.add(source_id, description.key)
                        entities.append(create(source_id, description))
        if entities:
            async_add_entities(entities)

    add()
    for coordinator in (alarms, entry.runtime_data.real_time):
        entry.async_on_unload(coordinator.async_add_listener(add))


@callback
def async_add_reported_items(
    entry: SmartPvmsConfigEntry,
    platform: Platform,
    create: CreateEntity,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the registered entities, and others when their item first has a value.

    `create` returns the entity of an item, or `None` if the reading does not prove that
    the item exists. It has no reading for registered entities.
    """
    coordinator = entry.runtime_data.real_time

    @callback
    def add_reported() -> None:
        items = coordinator.reported.without_entity.items()
        if entities := list(_reported(entry, items, create)):
            async_add_entities(entities)

    async_add_entities(
        [
            *_registered(entry, platform, create),
            *_reported(entry, coordinator.items(), create),
        ]
    )
    entry.async_on_unload(coordinator.async_add_listener(add_reported))


def _registered(
    entry: SmartPvmsConfigEntry, platform: Platform, create: CreateEntity
) -> Iterator[Entity]:
    coordinator = entry.runtime_data.real_time
    inventory = entry.runtime_data.inventory.data
    for registered, source_id, key in registered_items(
        coordinator.hass, entry.entry_id, inventory, platform
    ):
        # Home Assistant would discard a disabled entity.
        entity = None if registered.disabled else create(source_id, key, None)
        if entity or registered.disabled:
            coordinator.reported.add(source_id, key)
        if entity:
            yield entity


def _reported(
    entry: SmartPvmsConfigEntry,
    items: Iterable[tuple[SourceId, Iterable[str]]],
    create: CreateEntity,
) -> Iterator[Entity]:
    coordinator = entry.runtime_data.real_time
    inventory = entry.runtime_data.inventory.data
    for source_id, keys in items:
        if source_id not in inventory:
            continue
        known = coordinator.reported.with_entity.setdefault(source_id, set())
        own = coordinator.data.get(source_id)
        flow = coordinator.flows.readings.get(source_id)
        for key in {*keys} - known:
            reading = flow if flow and key in flow.items else own
            if (
                reading is not None
                and key in reading.items
                and (entity := create(source_id, key, reading))
            ):
                coordinator.reported.add(source_id, key)
                yield entity
