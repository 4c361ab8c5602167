"""Measures the work of the event loop's thread, independent of other processes."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
import gc
import time
from typing import Any, Final
from unittest.mock import patch

# Iterations of the loop until everything is done.
SETTLING: Final = 5


@dataclass(slots=True)
class Work:
    """Measured work in milliseconds of the thread's own time."""

    total: float = 0.0
    longest: float = 0.0
    """The longest block of the event loop."""


async def worked(do: Callable[[], Coroutine[Any, Any, object]]) -> Work:
    """Measure the callbacks of an action."""
    work = Work()
    run = asyncio.Handle._run  # noqa: SLF001
    done = False

    def timed_run(handle: asyncio.Handle) -> None:
        begun = time.thread_time()
        run(handle)
        if not done:
            spent = (time.thread_time() - begun) * 1000
            work.total += spent

            work.longest = max(work.longest, spent)

    gc.collect()
    # Garbage collection would occur at random.
    gc.disable()
    with patch.object(asyncio.Handle, "_run", timed_run):
        # Home Assistant's own tasks start before they are scheduled.
        await asyncio.Task(do())
        for _ in range(SETTLING):
            await asyncio.sleep(0)
        done = True
    gc.enable()
    return work
