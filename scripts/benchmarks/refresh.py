"""Measures a pass of a fleet, and compares it with parsing and a plain integration."""

from collections.abc import Callable
from dataclasses import dataclass, field
import os
from statistics import median
import tracemalloc
from typing import Any
from unittest.mock import patch

import orjson
import pytest

from homeassistant.const import EVENT_STATE_CHANGED
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.helpers.entity import Entity

from . import files, fleet as fleets
from .fleet import Fleet, write_files
from .stopwatch import Work, worked
from .textbook import EmptySensor, Textbook, add_sensors

hass_config_dir = files.hass_config_dir
hass_storage = files.hass_storage
size = fleets.size
fleet = fleets.fleet

PASSES = int(os.environ.get("BENCHMARK_PASSES", "7"))
SHARES = (0.1, 1.0)

LONGEST_BLOCK = 20.0

HEADING = (
    f"{'Plants/devices':<15}{'entities':>9}{'change':>8}{'changed':>8}{'written':>8}"
    f"{'parse':>8}{'own':>8}{'total':>9}{'block':>7}{'save':>7}{'HA':>9}{'textbook':>10}"
    f"{'block':>8}{'peak kB':>9}{'own/parse':>10}{'total/textb.':>13}"
)


class Changes:
    """The number of changed states."""

    def __init__(self, hass: HomeAssistant) -> None:
        """Count from now on."""
        self._count = 0
        hass.bus.async_listen(EVENT_STATE_CHANGED, self._on_change)

    @callback
    def _on_change(self, event: Event[Any]) -> None:
        self._count += 1

    def take(self) -> int:
        """Return the number of changes since the last call."""
        count, self._count = self._count, 0
        return count


@dataclass(slots=True)
class Works:
    """Repeated measurements of one task."""

    works: list[Work] = field(default_factory=list)

    def add(self, work: Work) -> None:
        """Add a measurement."""
        self.works.append(work)

    @property
    def total(self) -> float:
        """Return the median time, without the first measurement."""
        return median(work.total for work in self.works[1:])

    @property
    def longest(self) -> float:
        """Return the median of the longest blocks."""
        return median(work.longest for work in self.works[1:])


@pytest.mark.parametrize("share", SHARES)
async def test_pass(
    size: str,
    share: float,
    hass: HomeAssistant,
    fleet: Fleet,
    record_property: Callable[[str, object], None],
) -> None:
    """Compare a pass with its parts, and with a plain integration."""
    textbook = await Textbook.add(fleet)
    entities = fleet.entities
    empty = [EmptySensor(each) for each in range(len(entities))]
    await add_sensors(hass, "empty", lambda _: empty)
    await write_files(hass)
    changes = Changes(hass)
    parse, own, total, save = Works(), Works(), Works(), Works()
    writes, textbooks = Works(), Works()
    changed = written = 0

    async def parse_all() -> None:
        for payload in fleet.answers.payloads:
            orjson.loads(payload)

    async def write_all() -> None:
        value = fleet.answers.now.timestamp()
        for sensor in empty[:changed]:
            sensor.show(value)

    def count_write(entity: Entity) -> None:
        nonlocal written
        written += 1

    with fleet.without_network():
        for _ in range(PASSES + 1):
            fleet.answers.turn(share)
            textbooks.add(await worked(textbook.coordinator.async_refresh))
            changes.take()
            total.add(await worked(fleet.coordinator.async_refresh))
            changed = changes.take()
            parse.add(await worked(parse_all))
            writes.add(await worked(write_all))
            save.add(await worked(lambda: write_files(hass)))
        for _ in range(PASSES + 1):
            fleet.answers.turn(share)
            written = 0
            with patch.object(Entity, "async_write_ha_state", count_write):
                own.add(await worked(fleet.coordinator.async_refresh))
        fleet.answers.turn(share)
        tracemalloc.start()
        await fleet.coordinator.async_refresh()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    row = (
        f"{size:<15}{len(entities):>9}{share:>8.0%}{changed:>8}{written:>8}"
        f"{parse.total:>8.2f}{own.total:>8.2f}{total.total:>9.2f}{total.longest:>7.2f}"
        f"{save.longest:>7.2f}{writes.total:>9.2f}{textbooks.total:>10.2f}"
        f"{textbooks.longest:>8.2f}{peak / 1024:>9.0f}{own.total / parse.total:>10.2f}"
        f"{total.total / textbooks.total:>13.2f}"
    )
    record_property("row", (HEADING, row))
    assert total.longest <= LONGEST_BLOCK
