"""Starts with the stored state of a fleet, and measures the time to restore it."""

from collections.abc import Callable
import os
from statistics import median
from typing import Any
from unittest.mock import patch

from custom_components.smartpvms.account import ACCOUNTS
from custom_components.smartpvms.northbound.session import Session
from homeassistant.const import STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er

from . import files, fleet as fleets
from .fleet import Fleet
from .stopwatch import worked
from .textbook import EmptySensor, add_sensors

hass_config_dir = files.hass_config_dir
hass_storage = files.hass_storage
size = fleets.size
fleet = fleets.fleet

STARTS = int(os.environ.get("BENCHMARK_STARTS", "3"))

HEADING = (
    f"{'Plants/devices':<16}{'registered':>11}{'entities':>9}{'available':>10}"
    f"{'calls':>6}{'start ms':>10}{'block ms':>9}{'HA ms':>9}{'start/HA':>9}"
)


async def test_start(
    size: str,
    hass: HomeAssistant,
    fleet: Fleet,
    record_property: Callable[[str, object], None],
) -> None:
    """A start restores all entities without a call."""
    entries = hass.config_entries
    entry_id = fleet.entry.entry_id
    number = len(fleet.entities)
    calls = 0

    async def call(session: Session, interface: str, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        raise TimeoutError

    async def start() -> None:
        await entries.async_setup(entry_id)

    async def add_empty() -> None:
        await entries.async_setup(empty.entry_id)

    empty = await add_sensors(
        hass, "empty", lambda _: [EmptySensor(each) for each in range(number)]
    )
    starts, empties = [], []
    with patch.object(Session, "_send", call):
        for _ in range(STARTS):
            await entries.async_unload(empty.entry_id)
            empties.append(await worked(add_empty))
            await entries.async_unload(entry_id)
            hass.data.pop(ACCOUNTS)
            await hass.async_block_till_done()
            starts.append(await worked(start))
    available = sum(
        not hass.states.is_state(entity.entity_id, STATE_UNAVAILABLE)
        for entity in fleet.entities
    )
    registered = len(er.async_entries_for_config_entry(er.async_get(hass), entry_id))
    start_ms = median(work.total for work in starts)
    empty_ms = median(work.total for work in empties)
    row = (
        f"{size:<16}{registered:>11}{number:>9}"
        f"{available:>10}{calls:>6}{start_ms:>10.0f}"
        f"{median(work.longest for work in starts):>9.0f}{empty_ms:>9.0f}"
        f"{start_ms / empty_ms:>9.2f}"
    )
    record_property("row", (HEADING, row))
    assert calls == 0
    assert available == number
