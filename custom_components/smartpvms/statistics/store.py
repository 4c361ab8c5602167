"""Stored state of the import."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from custom_components.smartpvms.const import DOMAIN
from homeassistant.core import HomeAssistant
from homeassistant.helpers.storage import Store

from .audit import Audit
from .jobs import Job, PlannedHistory
from .plant_spans import PlantSpan
from .recorder import SumAdjustment

STORE_VERSION: Final = 1


@dataclass(slots=True)
class StoredHistory:
    """The state of the import that survives a restart."""

    jobs: list[Job] = field(default_factory=list)
    planned: dict[int, PlannedHistory] = field(default_factory=dict)
    adjustments: list[SumAdjustment] = field(default_factory=list)
    spans: list[PlantSpan] = field(default_factory=list)
    planned_plants: dict[str, PlannedHistory] = field(default_factory=dict)
    audit: Audit = field(default_factory=Audit)
    types_with_history: set[int] = field(default_factory=set)
    single_since: datetime | None = None


def history_store(hass: HomeAssistant, entry_id: str) -> Store[dict[str, Any]]:
    """Return the store of an account's history import."""
    return Store(hass, STORE_VERSION, f"{DOMAIN}.{entry_id}.history", private=True)
