"""Time in tests, which advances from timer to timer."""

import asyncio
from datetime import datetime, timedelta
import math

from freezegun.api import FrozenDateTimeFactory

from homeassistant.core import HomeAssistant
from homeassistant.util import dt as dt_util
from homeassistant.util.async_ import get_scheduled_timer_handles

# Resolution of the frozen clock.
_TICK = timedelta(microseconds=1)

# Real time without a network event until tasks are considered to wait for time.
_PATIENCE = 0.01


async def pass_time(
    hass: HomeAssistant, freezer: FrozenDateTimeFactory, until: datetime
) -> None:
    """Advance the time, and run everything that is due by then.

    Tasks may wait for time as well, including those of the simulator.
    """
    # Not available in the environment of the browser tests.
    from pytest_homeassistant_custom_component.common import (
        async_fire_time_changed_exact,
    )

    # In frozen time, asyncio logs every callback as slow.
    hass.loop.set_debug(False)
    await _settle(hass)
    while (left := until - dt_util.utcnow()) > timedelta():
        freezer.tick(min(max(_next_due(hass, left), _TICK), left))
        # Loop time is a float, so a due timer may seem to be due slightly later.
        async_fire_time_changed_exact(hass, dt_util.utcnow() + _TICK)
        await _settle(hass)


def _next_due(hass: HomeAssistant, at_most: timedelta) -> timedelta:
    """Return when the next timer is due, which may be in the past."""
    dues = (
        handle.when()
        for handle in get_scheduled_timer_handles(hass.loop)
        if not handle.cancelled()
    )
    wait = min(dues, default=math.inf) - hass.loop.time()
    return timedelta(seconds=min(wait, at_most.total_seconds()))


async def _settle(hass: HomeAssistant) -> None:
    """Run everything that does not wait for time.

    `async_block_till_done` would wait forever for a sleeping task.
    """
    loop: asyncio.SelectorEventLoop = hass.loop  # type: ignore[assignment]
    while True:
        await asyncio.sleep(0)
        if loop._ready:  # type: ignore[attr-defined]  # noqa: SLF001
            continue
        pending = {
            future
            for future in hass._tasks | hass._background_tasks  # noqa: SLF001
            if not future.done()
        }
        if not pending:
            return
        # Imports in other threads are not tracked.
        hass.import_executor.submit(int).result()
        arrived = loop._selector.select(_PATIENCE)  # type: ignore[attr-defined]  # noqa: SLF001
        # Work without a task runs in a thread.
        if not arrived and all(isinstance(future, asyncio.Task) for future in pending):
            return
