"""Ends tasks, also where a library loses the cancellation; waits for an event, but no longer than so many seconds."""

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN = 1.0  # seconds


async def cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel these tasks and return once all have ended, whatever they raised.

    Python 3.11's `asyncio.wait_for` loses a cancellation that arrives together with the result it waits for
    (mended in 3.12). A loop that waits like this, in a library too, would run for ever.
    So this cancels again each second.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN)


async def is_set_within(event: asyncio.Event, seconds: float | None) -> bool:
    """Wait until the event is set, as long as it takes where `seconds` is None; False: it was not set in this time."""
    if seconds is None:
        return await event.wait()
    if seconds <= 0 and not event.is_set():
        await asyncio.sleep(0)
        return event.is_set()
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
