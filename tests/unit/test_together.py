"""What many tasks ask of the database at about the same time is done in one go, and what fails fails alone."""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar
from uuid import UUID

import asyncpg
import pytest

from shared.database.together import APART, Apart, Together
from shared.resilience.lock_waits import Locked, LockWaits, give_way

TENANT = UUID(int=1)


class Work:
    """Doubles numbers, and notes its batches; it waits while `gate` is closed."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.began = asyncio.Event()

    async def __call__(self, asked: Sequence[int]) -> list[int | Apart]:
        self.batches.append(list(asked))
        self.began.set()
        await self.gate.wait()
        return [2 * one for one in asked]


async def test_what_is_asked_while_a_batch_is_at_work_is_the_next_one_up_to_the_bound() -> None:
    work = Work()
    together = Together[int, int](work, most=3)
    work.gate.clear()
    first = asyncio.create_task(together(0))
    await work.began.wait()
    rest = [asyncio.create_task(together(one)) for one in range(1, 6)]
    await asyncio.sleep(0)
    assert work.batches == [[0]]
    work.gate.set()
    assert await asyncio.gather(first, *rest) == [0, 2, 4, 6, 8, 10]
    assert work.batches == [[0], [1, 2, 3], [4, 5]]


@pytest.mark.parametrize("error", [ValueError("bad row"), asyncpg.LockNotAvailableError("locked")])
async def test_a_batch_that_fails_is_done_one_by_one_and_its_bad_one_fails_alone(error: Exception) -> None:
    async def fails(_: Sequence[int]) -> list[int | Apart]:
        raise error

    together = Together[int, int](fails, most=10)

    async def ask(one: int) -> int:
        async def alone() -> int:
            if one == 1:
                raise error
            return -one

        return await together(one, alone)

    assert await asyncio.gather(*(ask(one) for one in range(3)), return_exceptions=True) == [0, error, -2]
    with pytest.raises(type(error)):
        await together(0)


async def test_one_that_the_batch_left_out_is_done_alone() -> None:
    async def leaves_out(asked: Sequence[int]) -> list[int | Apart]:
        return [APART if one == 1 else one for one in asked]

    async def alone() -> int:
        return -1

    together = Together[int, int](leaves_out, most=10)
    assert await asyncio.gather(*(together(one, alone) for one in range(3))) == [0, -1, 2]


async def test_after_an_outage_nothing_is_done_again_for_it_may_be_done() -> None:
    async def is_cut_off(_: Sequence[int]) -> list[int | Apart]:
        raise asyncpg.ConnectionDoesNotExistError("in the middle of the commit")

    async def alone() -> int:
        raise AssertionError("it is claimed twice")

    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await Together[int, int](is_cut_off, most=10)(0, alone)


async def test_a_batch_is_not_the_first_ones_job() -> None:
    """It would give way to the locks of the first one's tenant, and all with it."""
    named = ContextVar("named", default="nobody")
    clock = asyncio.get_running_loop().time
    locks = LockWaits(clock)

    async def look(asked: Sequence[int]) -> list[str | Apart]:
        give_way()
        return [named.get() for _ in asked]

    named.set("first")
    with locks.handling(TENANT):
        locks.in_vain(TENANT)
        with pytest.raises(Locked):
            give_way()
        assert await Together[int, str](look, most=10)(0) == "nobody"


async def test_who_no_longer_waits_is_left_out() -> None:
    work = Work()
    together = Together[int, int](work, most=10)
    work.gate.clear()
    first = asyncio.create_task(together(0))
    await work.began.wait()
    gone, stays = asyncio.create_task(together(1)), asyncio.create_task(together(2))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    work.gate.set()
    assert [await first, await stays] == [0, 4]
    assert work.batches == [[0], [2]]
