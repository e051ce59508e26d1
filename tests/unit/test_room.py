"""How large things take turns for memory."""

import asyncio

from ingress.receive.memory_budget import Room


async def _held(room: Room, wanted: int, order: list[int], leave: asyncio.Event) -> None:
    async with room.held(wanted):
        order.append(wanted)
        await leave.wait()


async def test_there_is_never_more_than_fits_and_nobody_is_overtaken() -> None:
    room, order = Room(10), list[int]()
    first, rest = asyncio.Event(), asyncio.Event()
    tasks = [asyncio.create_task(_held(room, 6, order, first))]
    tasks += [asyncio.create_task(_held(room, wanted, order, rest)) for wanted in (5, 3, 1)]
    await asyncio.sleep(0.01)
    assert order == [6]  # 3 would fit beside it, and would keep 5 waiting
    first.set()
    await asyncio.sleep(0.01)
    assert order == [6, 5, 3, 1]
    rest.set()
    await asyncio.gather(*tasks)


async def test_what_is_larger_than_the_room_has_it_alone() -> None:
    room, order, leave = Room(10), list[int](), asyncio.Event()
    tasks = [asyncio.create_task(_held(room, wanted, order, leave)) for wanted in (11, 1)]
    await asyncio.sleep(0.01)
    assert order == [11]
    leave.set()
    await asyncio.gather(*tasks)
    assert order == [11, 1]


async def test_who_gives_up_waiting_takes_nothing() -> None:
    room, order, leave = Room(10), list[int](), asyncio.Event()
    has = asyncio.create_task(_held(room, 10, order, leave))
    gone = asyncio.create_task(_held(room, 10, order, leave))
    await asyncio.sleep(0.01)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    leave.set()
    await has
    async with asyncio.timeout(1), room.held(10):
        pass
