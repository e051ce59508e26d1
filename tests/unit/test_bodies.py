"""How bodies are read: whose place is taken in the moment in which their time runs out."""

import asyncio
import time
from typing import Any

import pytest

from shared.http.bodies import Bodies, Refused
from shared.http.bounds import Bounds, Limits
from shared.http.sources import Sources

KIB = 1024


class Stalling:
    """A request of which nothing comes, and its own content."""

    content_length = 200 * KIB
    remote = "203.0.113.7"

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}

    @property
    def content(self) -> "Stalling":
        return self

    def is_eof(self) -> bool:
        return False

    def at_eof(self) -> bool:
        return False

    async def readany(self) -> bytes:
        await asyncio.Event().wait()
        return b""


async def test_one_whose_time_just_ran_out_gives_its_place_up_without_harm_to_the_newcomer() -> None:
    loop = asyncio.get_running_loop()
    bounds = Bounds(Limits(everything=450 * KIB, endpoint=450 * KIB, address=450 * KIB))
    bodies = Bodies(bounds, Sources(()))
    stalling: list[Any] = [Stalling(), Stalling()]
    reading = [asyncio.create_task(bodies.read(one, 1, 2**20, 0.02)) for one in stalling]
    await asyncio.sleep(0)
    newcomer = loop.create_future()

    def come() -> None:  # after both timers have fired, and before either reader has run
        try:
            newcomer.set_result(bounds.expect(2, 100 * KIB, None, time.monotonic(), lambda: None))
        except Exception as error:
            newcomer.set_exception(error)

    loop.call_later(0.03, come)
    time.sleep(0.05)  # noqa: ASYNC251  # all three timers are due in one turn of the loop
    place = await newcomer
    for one in reading:
        with pytest.raises(Refused):
            await one
    assert bounds.used == place.size == 100 * KIB
