"""Ends tasks, also where a library loses the cancellation."""

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
