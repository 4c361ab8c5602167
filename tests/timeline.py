"""Time for tests: it passes from one thing that is due to the next."""

import asyncio
from datetime import datetime, timedelta
import math

from freezegun.api import FrozenDateTimeFactory

from homeassistant.core import HomeAssistant
from homeassistant.util import dt as dt_util
from homeassistant.util.async_ import get_scheduled_timer_handles

# What the frozen clock can tell apart.
_TICK = timedelta(microseconds=1)

# How long nothing arrives, by the computer's clock, before tasks wait for time.
_PATIENCE = 0.01


async def pass_time(
    hass: HomeAssistant, freezer: FrozenDateTimeFactory, until: datetime
) -> None:
    """Let time pass up to a moment, and everything happen that is due by then.

    Tasks may wait for time as well, also the simulator's: they do not hold it up.
    """
    # Not importable where the browser tests run.
    from pytest_homeassistant_custom_component.common import (
        async_fire_time_changed_exact,
    )

    # Frozen time makes asyncio believe that everything is slow, and say so at length.
    hass.loop.set_debug(False)
    await _settle(hass)
    while (left := until - dt_util.utcnow()) > timedelta():
        freezer.tick(min(max(_next_due(hass, left), _TICK), left))
        # Loop time is a float: what is due now may seem to be due a little later.
        async_fire_time_changed_exact(hass, dt_util.utcnow() + _TICK)
        await _settle(hass)


def _next_due(hass: HomeAssistant, at_most: timedelta) -> timedelta:
    """Return when the next timer is due; it may be overdue."""
    dues = (
        handle.when()
        for handle in get_scheduled_timer_handles(hass.loop)
        if not handle.cancelled()
    )
    wait = min(dues, default=math.inf) - hass.loop.time()
    return timedelta(seconds=min(wait, at_most.total_seconds()))


async def _settle(hass: HomeAssistant) -> None:
    """Let everything happen that does not wait for time.

    `async_block_till_done` would wait forever for a task that sleeps.
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
        # Nobody keeps track of what another thread imports.
        hass.import_executor.submit(int).result()
        arrived = loop._selector.select(_PATIENCE)  # type: ignore[attr-defined]  # noqa: SLF001
        # What is no task is the work of a thread.
        if not arrived and all(isinstance(future, asyncio.Task) for future in pending):
            return
