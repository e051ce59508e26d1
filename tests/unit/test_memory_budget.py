"""Large bodies reserve memory in the order in which they ask for it."""

import asyncio

from ingress.receive.memory_budget import MemoryBudget


async def _held(budget: MemoryBudget, wanted: int, order: list[int], leave: asyncio.Event) -> None:
    async with budget.reserve(wanted):
        order.append(wanted)
        await leave.wait()


async def test_there_is_never_more_than_fits_and_nobody_is_overtaken() -> None:
    budget, order = MemoryBudget(10), list[int]()
    first, rest = asyncio.Event(), asyncio.Event()
    tasks = [asyncio.create_task(_held(budget, 6, order, first))]
    tasks += [asyncio.create_task(_held(budget, wanted, order, rest)) for wanted in (5, 3, 1)]
    await asyncio.sleep(0.01)
    assert order == [6]  # 3 would fit beside it, and would keep 5 waiting
    first.set()
    await asyncio.sleep(0.01)
    assert order == [6, 5, 3, 1]
    rest.set()
    await asyncio.gather(*tasks)


async def test_what_is_larger_than_the_budget_has_it_alone() -> None:
    budget, order, leave = MemoryBudget(10), list[int](), asyncio.Event()
    tasks = [asyncio.create_task(_held(budget, wanted, order, leave)) for wanted in (11, 1)]
    await asyncio.sleep(0.01)
    assert order == [11]
    leave.set()
    await asyncio.gather(*tasks)
    assert order == [11, 1]


async def test_who_gives_up_waiting_takes_nothing() -> None:
    budget, order, leave = MemoryBudget(10), list[int](), asyncio.Event()
    has = asyncio.create_task(_held(budget, 10, order, leave))
    gone = asyncio.create_task(_held(budget, 10, order, leave))
    await asyncio.sleep(0.01)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    leave.set()
    await has
    async with asyncio.timeout(1), budget.reserve(10):
        pass
