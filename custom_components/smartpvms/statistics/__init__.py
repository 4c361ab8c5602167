"""Import of history into the long-term statistics of entities."""

from .audit import Audit
from .importer import HistoryImporter
from .jobs import Activity, Job, RequestSummary
from .recorder import async_last_values, async_settle
from .store import StoredHistory, history_store

__all__ = [
    "Activity",
    "Audit",
    "HistoryImporter",
    "Job",
    "RequestSummary",
    "StoredHistory",
    "async_last_values",
    "async_settle",
    "history_store",
]
