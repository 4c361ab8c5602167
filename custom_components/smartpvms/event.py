"""Events of the alarms of plants."""

from typing import Any, override

from homeassistant.components.event import EventEntity, EventEntityDescription
from homeassistant.core import CoreState, HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.start import async_at_started
from homeassistant.util import dt as dt_util

from .active_alarms import alarm_attributes
from .descriptions import ALARM_EVENTS
from .entity import AlarmEntity, async_add_alarm_entities
from .models import SourceId
from .runtime import SmartPvmsConfigEntry

PARALLEL_UPDATES = 0


async def async_setup_entry(
    hass: HomeAssistant,
    entry: SmartPvmsConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Set up the events of an account."""

    def create(source_id: SourceId, description: EventEntityDescription) -> AlarmEvents:
        return AlarmEvents(entry, str(source_id), description)

    async_add_alarm_entities(
        entry, lambda code: [code], [ALARM_EVENTS], create, async_add_entities
    )


class AlarmEvents(AlarmEntity, EventEntity):
    """Event of alarms of a plant that are raised or cleared."""

    def __init__(
        self,
        entry: SmartPvmsConfigEntry,
        plant_code: str,
        description: EventEntityDescription,
    ) -> None:
        """Initialize the event of a plant."""
        self._data = entry.runtime_data
        super().__init__(self._data.alarms, plant_code, plant_code, description)

    @property
    @override
    def available(self) -> bool:
        # The last event stays true if alarms cannot be read. An event that comes back
        # from unavailable looks like a new one to automations.
        return self._plant_code in self._data.inventory.data.plants

    @override
    async def async_added_to_hass(self) -> None:
        await super().async_added_to_hass()
        self.async_on_remove(async_at_started(self.hass, self._announce_first))

    @callback
    def _announce_first(self, hass: HomeAssistant) -> None:
        # Triggers need a state before the event's.
        self.async_on_remove(hass.loop.call_soon(self._announce).cancel)

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        self.async_write_ha_state()
        self._announce()

    @callback
    def _announce(self) -> None:
        """Trigger the events of alarms that were not announced yet."""
        # Automations have no triggers before the start and after the stop.
        if self.hass.state is not CoreState.running:
            return
        is_announced = False
        for event, alarm in self._alarms.announce(dt_util.utcnow()):
            attributes: dict[str, Any] = {**alarm_attributes(alarm)}
            self._trigger_event(event.value, attributes)
            self.async_write_ha_state()
            is_announced = True
        if is_announced:
            # At once, or a crash would announce the alarms twice.
            self._data.store.async_delay_save(self._data.stored, 0)
