"""Clock of the simulated servers of the browser tests."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from scripts.home_assistant import SETTINGS
from tests.simulator.clock import SetClock


def next_noon() -> SetClock:
    """Return a clock that stands still at the next noon.

    The reports of an earlier noon lack the last hours, for which an import would wait.
    """
    now = datetime.now(ZoneInfo(SETTINGS["time_zone"]))
    noon = now.replace(hour=12, minute=2, second=0, microsecond=0)
    return SetClock(noon if noon > now else noon + timedelta(days=1))
