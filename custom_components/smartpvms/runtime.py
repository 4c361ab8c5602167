"""Config entry of an account: its runtime data, and the part that is stored."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
import time
from typing import Any, Final, cast

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant
from homeassistant.helpers.storage import Store

from .account import Account
from .active_alarms import PlantAlarms
from .alarm_coordinator import AlarmCoordinator
from .const import DOMAIN
from .coordinator import RealTimeCoordinator
from .counter_filters import StoredCounters
from .inventory_coordinator import INVENTORY_INTERVAL, InventoryCoordinator
from .models import Inventory, Reading, SourceId
from .northbound import Moment, SessionState
from .plant_flow import PlantFlows
from .power_units import MeterPowers
from .problems import Problems
from .report_coordinator import ReportCoordinator
from .statistics import HistoryImporter
from .storage import async_load_state, decode_parts, encode, renamed

STORE_VERSION: Final = 1

type SmartPvmsConfigEntry = ConfigEntry[SmartPvmsData]


@dataclass(slots=True)
class StoredAccount:
    """The state of an account that survives a restart."""

    saved: float = 0.0
    """Epoch seconds, to which all other times are relative."""
    session: SessionState = field(default_factory=SessionState)
    next_pass: Moment | None = None
    next_alarms: Moment | None = None
    inventory: Inventory | None = None
    problems: Problems = field(default_factory=Problems)
    plant_readings: dict[str, Reading] = field(default_factory=dict)
    device_readings: dict[int, Reading] = field(default_factory=dict)
    plant_counters: dict[str, StoredCounters] = field(default_factory=dict)
    device_counters: dict[int, StoredCounters] = field(default_factory=dict)
    meters: dict[int, MeterPowers] = field(default_factory=dict)
    flows: PlantFlows = field(default_factory=PlantFlows)
    alarms: dict[str, PlantAlarms] = field(default_factory=dict)

    def encoded(self) -> dict[str, Any]:
        """Return the state in JSON-serializable form."""
        return cast("dict[str, Any]", encode(self, self.saved))


@dataclass(frozen=True, slots=True)
class SmartPvmsData:
    """Runtime data of a loaded entry."""

    account: Account
    inventory: InventoryCoordinator
    real_time: RealTimeCoordinator
    reports: ReportCoordinator
    alarms: AlarmCoordinator
    history: HistoryImporter
    problems: Problems
    store: Store[dict[str, Any]]

    def stored(self) -> dict[str, Any]:
        """Return the state that survives a restart, in JSON-serializable form."""
        real_time = self.real_time
        counters = real_time.rows.counters.stored()
        state = StoredAccount(
            saved=int(time.time()),
            session=self.account.session,
            next_pass=real_time.polling.next_pass,
            next_alarms=self.alarms.next_read,
            inventory=self.inventory.stored,
            problems=self.problems,
            plant_readings=_of_kind(str, real_time.data),
            device_readings=_of_kind(int, real_time.data),
            plant_counters=_of_kind(str, counters),
            device_counters=_of_kind(int, counters),
            meters=real_time.rows.meters,
            flows=real_time.flows,
            alarms=self.alarms.data,
        ).encoded()
        return cast("dict[str, Any]", renamed(state, self.inventory.renamed))


def _of_kind[K: SourceId, V](kind: type[K], values: Mapping[SourceId, V]) -> dict[K, V]:
    """Return the values of plants, by code, or of devices, by id."""
    return {key: value for key, value in values.items() if isinstance(key, kind)}


def account_store(hass: HomeAssistant, entry: ConfigEntry) -> Store[dict[str, Any]]:
    """Return the store of an account."""
    return Store(hass, STORE_VERSION, f"{DOMAIN}.{entry.entry_id}", private=True)


def restored(state: dict[str, Any]) -> StoredAccount:
    """Return a stored state without its damaged parts."""
    try:
        return decode_parts(StoredAccount, state, state.get("saved", 0.0))
    except OverflowError, TypeError, ValueError:
        # The times of a state with a damaged origin are unknown.
        return StoredAccount()


async def async_load(store: Store[dict[str, Any]]) -> StoredAccount:
    """Return the stored state of an account, without its damaged parts."""
    state = await async_load_state(store)
    stored = restored(state)
    if (known := stored.inventory) is not None:
        parts = state["inventory"]
        if any(
            len(parts[name]) > len(read)
            for name, read in (("plants", known.plants), ("devices", known.devices))
        ):
            # Listed again at once, since damaged plants or devices are missing.
            stored.inventory = replace(known, listed=known.listed - INVENTORY_INTERVAL)
    return stored
