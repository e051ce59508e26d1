"""A deadline ends its own block, when its time is over, and leaves every other cancellation alone."""

import asyncio

import pytest

from shared.net.deadlines import Deadlines


async def test_a_block_that_takes_too_long_raises() -> None:
    with pytest.raises(TimeoutError), Deadlines(0.01).one():
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_block_that_ends_in_time_is_left_alone() -> None:
    deadlines = Deadlines(0.02)
    with deadlines.one():
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)  # the timer of the block finds nothing
    with pytest.raises(TimeoutError), deadlines.one():
        await asyncio.Event().wait()


async def test_each_of_many_has_its_own_time() -> None:
    deadlines = Deadlines(0.1)
    ended: list[int] = []

    async def call(number: int) -> None:
        await asyncio.sleep(number * 0.02)
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError), deadlines.one():
            await asyncio.Event().wait()
        assert asyncio.get_running_loop().time() - began >= 0.099
        ended.append(number)

    await asyncio.gather(*(call(number) for number in range(5)))
    assert ended == [0, 1, 2, 3, 4]


async def test_a_block_that_another_one_cancels_is_canceled() -> None:
    async def call() -> None:
        with Deadlines(5.0).one():
            await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_block_whose_time_is_over_while_another_one_cancels_it_is_canceled() -> None:
    deadlines = Deadlines(0.01)
    seen: list[bool] = []

    async def call() -> None:
        with deadlines.one() as deadline:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append(deadline.has_canceled)
                raise

    task = asyncio.create_task(call())
    await asyncio.sleep(0)
    for deadline in list(deadlines._under_way):
        deadline.end()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [False]


async def test_what_its_block_makes_of_the_cancellation_is_returned() -> None:
    """As where a call has its status already, and the rest of the answer does not come."""

    async def call() -> str:
        with Deadlines(0.01).one() as deadline:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if not deadline.has_canceled:
                    raise
            return "the status"
        raise AssertionError

    task = asyncio.create_task(call())
    assert await task == "the status"
    assert task.cancelling() == 0
