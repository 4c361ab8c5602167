"""Run Home Assistant with short waiting times: python -m scripts.eager.

The integration keeps to the published quota, with which the import of 30 days takes two
days, and it waits for the statistics that the history is joined to. A simulated server
needs no quota. The alarms are read a minute after the start, and a server counts as moved
after an hour. Therefore, this module shortens these waiting times from the outside; requests and results are unchanged.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
import sys

from custom_components.smartpvms import alarm_coordinator
from custom_components.smartpvms.northbound import ReportPeriod, flow_control, service
from custom_components.smartpvms.northbound.flow_control import FlowControl, Quota
from custom_components.smartpvms.statistics import (
    HistoryImporter,
    importer,
    plant_importer,
)
from homeassistant import __main__ as home_assistant
from homeassistant.components.recorder import get_instance
from homeassistant.components.recorder.tasks import StatisticsTask
from homeassistant.core import HomeAssistant
from homeassistant.util import dt as dt_util


def hasten(replace: Callable[[object, str, object], None] = setattr) -> None:
    """Remove the waiting times for history quotas, statistics and alarms."""
    published = FlowControl.quota
    start = HistoryImporter.async_start

    def quota(
        self: FlowControl, interface: str, type_id: int | None = None
    ) -> Quota | None:
        if interface in ("getDevHistoryKpi", "device/history", ReportPeriod.HOUR):
            return None
        return published(self, interface, type_id)

    def async_start(self: HistoryImporter) -> None:
        period = _compile_statistics(self._hass)
        start(self)
        # The period contains no states from before the set-up.
        for job in self.queue.jobs:
            job.exact_end = min(job.exact_end, period)

    replace(FlowControl, "quota", quota)
    replace(flow_control, "ONE_A_MINUTE", frozenset())
    replace(importer, "SETTLED", timedelta())
    replace(plant_importer, "SETTLED", timedelta())
    replace(plant_importer, "RECORDED", timedelta())
    replace(alarm_coordinator, "FIRST_WAIT", timedelta(seconds=3))
    replace(service, "MOVED_AFTER", 300.0)
    replace(HistoryImporter, "async_start", async_start)


def _compile_statistics(hass: HomeAssistant) -> datetime:
    """Compile the current five minutes from the current states, and return their start.

    Later periods are compiled at their ends. The last one of an hour completes the
    hour, which would lack the energy counted after a compilation in advance.
    """
    now = dt_util.utcnow()
    period = now.replace(minute=now.minute // 5 * 5, second=0, microsecond=0)
    get_instance(hass).queue_task(StatisticsTask(period, fire_events=False))
    return period


if __name__ == "__main__":
    hasten()
    sys.exit(home_assistant.main())
