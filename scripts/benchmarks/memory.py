"""Measures the memory of a fleet's entities, and its growth."""

from collections.abc import Callable, Coroutine
import gc
import os
import tracemalloc
from typing import Any

from homeassistant.core import HomeAssistant

from . import files, fleet as fleets
from .fleet import Fleet, write_files
from .textbook import EmptySensor, Textbook, add_sensors

hass_config_dir = files.hass_config_dir
hass_storage = files.hass_storage
size = fleets.size
fleet = fleets.fleet

REFRESHES = int(os.environ.get("BENCHMARK_REFRESHES", "1000"))

HEADING = (
    f"{'Plants/devices':<16}{'entities':>9}{'bytes each':>11}{'HA':>6}{'textbook':>9}"
    f"{'ratio':>7}{'refreshes':>10}{'growth kB':>10}"
)


def traced() -> int:
    """Return the allocated bytes."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def traced_after(
    hass: HomeAssistant, do: Callable[[], Coroutine[Any, Any, object]]
) -> int:
    """Return the allocated bytes after an action."""
    # Pending changes of files count as well.
    await write_files(hass)
    before = traced()
    await do()
    await write_files(hass)
    return traced() - before


async def test_memory(
    size: str,
    hass: HomeAssistant,
    fleet: Fleet,
    record_property: Callable[[str, object], None],
) -> None:
    """Compare the memory of an entity with that of a plain one."""
    entries = hass.config_entries
    number = len(fleet.entities)
    textbook = await Textbook.add(fleet)

    async def load() -> None:
        await entries.async_setup(fleet.entry.entry_id)
        await hass.async_block_till_done()
        with fleet.without_network():
            fleet.answers.turn(0.1)
            await fleet.coordinator.async_refresh()

    async def load_textbook() -> None:
        await entries.async_setup(textbook.entry.entry_id)
        await hass.async_block_till_done()
        with fleet.without_network():
            await textbook.coordinator.async_refresh()

    empty = await add_sensors(
        hass, "empty", lambda _: [EmptySensor(each) for each in range(number)]
    )

    async def load_empty() -> None:
        await entries.async_setup(empty.entry_id)
        await hass.async_block_till_done()

    # Shared data of Home Assistant are loaded.
    await entries.async_unload(empty.entry_id)
    await entries.async_unload(textbook.entry.entry_id)
    await entries.async_unload(fleet.entry.entry_id)
    tracemalloc.start()
    own = await traced_after(hass, load)
    plain = await traced_after(hass, load_textbook)
    bare = await traced_after(hass, load_empty)
    await entries.async_unload(textbook.entry.entry_id)
    with fleet.without_network():
        # The first values allocate memory.
        for _ in range(3):
            fleet.answers.turn(1.0)
            await fleet.coordinator.async_refresh()
        await write_files(hass)
        before = traced()
        for _ in range(REFRESHES):
            fleet.answers.turn(0.1)
            await fleet.coordinator.async_refresh()
        await write_files(hass)
        growth = traced() - before
    tracemalloc.stop()
    row = (
        f"{size:<16}{number:>9}{own / number:>11.0f}{bare / number:>6.0f}"
        f"{plain / number:>9.0f}{own / plain:>7.2f}{REFRESHES:>10}"
        f"{growth / 1024:>10.0f}"
    )
    record_property("row", (HEADING, row))
