"""Subscriptions for the tests of tRPC's transports: they count, with or without an id for each item, and can resume."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from pydantic import Field

from ingress.api import process
from ingress.api.call import Call
from ingress.api.declaration import AnyProcedure, Procedure, registry
from ingress.api.models import Output, TenantInput, Tracked
from ingress.api.problems import CONFLICT, Problem

PAUSE: Final = 0.02  # seconds between two numbers
STARTED = asyncio.Event()  # a subscription was asked for an item; each test has its own
ENDED = asyncio.Event()  # one has been closed


class Ticks(TenantInput):
    count: int = Field(default=3, ge=0, le=1_000_000)
    fail: bool = False
    last_event_id: str | None = Field(default=None, max_length=20)


class Tick(Output):
    number: int


class TrackedTick(Tracked):
    data: Tick


async def plain(call: Call, given: Ticks) -> AsyncIterator[Tick]:
    """Count from 1."""
    STARTED.set()
    try:
        for number in range(1, given.count + 1):
            yield Tick(number=number)
            await asyncio.sleep(PAUSE)
        if given.fail:
            raise Problem(CONFLICT, "That was all.")
    finally:
        ENDED.set()


async def tracked(call: Call, given: Ticks) -> AsyncIterator[TrackedTick]:
    """Count from 1, or go on after the last number that the client has seen."""
    STARTED.set()
    try:
        for number in range(int(given.last_event_id or 0) + 1, given.count + 1):
            yield TrackedTick(id=str(number), data=Tick(number=number))
            await asyncio.sleep(PAUSE)
    finally:
        ENDED.set()


def declared() -> dict[str, AnyProcedure]:
    """All procedures, and these two; nothing else in the process sees them."""
    return {
        **registry(),
        "ticks.plain": _subscription("ticks.plain", Tick, plain),
        "ticks.tracked": _subscription("ticks.tracked", TrackedTick, tracked),
    }


def _subscription(name: str, answer: type[Output], handler: Any) -> AnyProcedure:
    return Procedure(name, "subscription", "ticks:read", Ticks, answer, handler, handler.__doc__, "", (), (), False, ())


REGISTRY: Final = f"{process.__name__}.registry"  # what to patch
