"""Import of history into the long-term statistics of entities."""

from .importer import HistoryImporter, StoredHistory, history_store
from .jobs import Activity, Job, Plan
from .recorder import async_last_value, async_settle

__all__ = [
    "Activity",
    "HistoryImporter",
    "Job",
    "Plan",
    "StoredHistory",
    "async_last_value",
    "async_settle",
    "history_store",
]
