"""Tests of device history: five-minute rows become hourly statistics."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from custom_components.smartpvms.descriptions import DEVICE_SENSORS
from custom_components.smartpvms.northbound import Device, HistoryRow, Plant
from custom_components.smartpvms.statistics.device_history import (
    ImportTarget,
    fill_devices,
)
from custom_components.smartpvms.statistics.recorder import Recorded
from custom_components.smartpvms.statistics.rows import RecordedSums, SumRow
from homeassistant.components.recorder.models import StatisticMeanType

pytestmark = pytest.mark.fast

INVERTER = 1
STATISTIC = "sensor.inverter_total_yield"
NOON = datetime(2026, 6, 21, 12, tzinfo=UTC)
HOUR = 3600.0


def test_device_that_was_replaced_after_the_last_hour() -> None:
    """The first value of a new device is not counted as energy."""
    plant = Plant("NE=1", "Home", 10.0, None)
    device = Device(1, INVERTER, "Inverter", plant.code, None, None, None)
    description = DEVICE_SENSORS[INVERTER]["total_cap"]
    series = ImportTarget(STATISTIC, "total_cap", device, plant, description)
    rows = [
        HistoryRow(
            NOON + timedelta(minutes=5 * n),
            {"total_cap": 6000.0 + 0.5 * n, "active_power": 6.0},
        )
        for n in range(1, 13 * 12)
    ]
    noon = NOON.timestamp()
    hours = frozenset(noon + HOUR * n for n in range(12))
    recorded = Recorded(
        metadata={
            "has_sum": True,
            "mean_type": StatisticMeanType.NONE,
            "name": None,
            "source": "recorder",
            "statistic_id": STATISTIC,
            "unit_class": "energy",
            "unit_of_measurement": "kWh",
        },
        hours=frozenset({noon - HOUR, noon + 12 * HOUR}),
        sums=RecordedSums(
            rows=[SumRow(noon - HOUR, noon, 1000.0, 50.0, None)],
            before=None,
            after=SumRow(noon + 12 * HOUR, noon + 13 * HOUR, 1077.5, 50.0, None),
        ),
    )
    filling = fill_devices(
        {series: hours},
        {STATISTIC: recorded},
        {device.id: rows},
        {series.unique_id: 0.0},
        {},
        can_resume=True,
    )
    [(_, filled)] = filling.counters
    assert [row.start for row in filled.rows] == sorted(hours)
    sums = [50.0, *(row.sum for row in filled.rows)]
    changes = [after - before for before, after in pairwise(sums)]
    assert changes == pytest.approx([5.5] + 11 * [6.0])
