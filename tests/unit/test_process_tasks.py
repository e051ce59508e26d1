"""Tasks end, also those that lose a cancellation."""

import asyncio
from contextlib import suppress

import pytest

from shared.process import tasks


async def test_a_task_that_loses_its_first_cancellation_ends_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "AGAIN", 0.01)
    lost = 0

    async def loses() -> None:
        nonlocal lost
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        lost += 1
        await asyncio.sleep(60)

    async def fails() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("on the way out")

    async def ended() -> None:
        return None

    running = [asyncio.create_task(each()) for each in (loses, fails, ended)]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await tasks.cancel(running)
    assert lost == 1
    assert [task.cancelled() for task in running] == [True, False, False]
    assert isinstance(running[1].exception(), ValueError)


async def test_no_tasks_end_at_once() -> None:
    await tasks.cancel(())
