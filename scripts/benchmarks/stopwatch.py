"""What the event loop's thread works, whatever else the computer does."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
import gc
import time
from typing import Any, Final
from unittest.mock import patch

# In how many turns of the loop everything has been done.
SETTLING: Final = 5


@dataclass(slots=True)
class Work:
    """What was worked, in milliseconds of the thread's own time."""

    total: float = 0.0
    longest: float = 0.0
    """The longest time in which nothing else could happen."""


async def worked(do: Callable[[], Coroutine[Any, Any, object]]) -> Work:
    """Measure what the event loop does for something, callback by callback."""
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
    # Whom it hits is chance.
    gc.disable()
    with patch.object(asyncio.Handle, "_run", timed_run):
        # Home Assistant's own tasks begin before they are scheduled.
        await asyncio.Task(do())
        for _ in range(SETTLING):
            await asyncio.sleep(0)
        done = True
    gc.enable()
    return work
