"""Runs subscriptions for the transports that have them: item by item, with pauses, until either side ends it."""

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from ingress.api.caller import Caller
from ingress.api.declaration import AnyProcedure
from ingress.api.execute import Accepted
from ingress.api.front import Front
from ingress.api.models import Output, Tracked
from ingress.api.problems import PARSE_ERROR, Problem

PAUSE: Final = 15.0  # seconds without an item, after which the client gets a sign of life; its key is tried as often
LEAVING: Final = 3.0  # seconds within which clients are told to connect again before the process stops, each at random
_RESUMES: Final = "lastEventId"


@dataclass(frozen=True, slots=True)
class Client:
    """Who holds a connection, and by which key. The key is tried again while the connection lasts."""

    request: web.BaseRequest
    key: str | None
    front: Front

    async def caller(self) -> Caller:
        """The caller at this moment. Raises the problem of a key that holds no longer."""
        return await self.front.caller(self.request, self.key)

    async def check_key(self) -> None:
        """Raise the problem of a key that holds no longer."""
        await self.front.check_key(self.request, self.key)


def key_in(parameters: Any) -> str | None:
    """The key in connection parameters: `{"authorization": "Bearer plm_…"}` or `{"token": "plm_…"}`."""
    if parameters is None:
        return None
    if not isinstance(parameters, dict) or not all(isinstance(one, str) for one in parameters.values()):
        raise Problem(PARSE_ERROR, "connectionParams is no object of strings.")
    named = {name.lower(): value for name, value in parameters.items()}
    scheme, _, key = named.get("authorization", "").strip().partition(" ")
    return key.strip() if scheme.lower() == "bearer" else named.get("token")


def resumed(procedure: AnyProcedure, given: Any, last_event_id: str | None) -> Any:
    """The input with the id of the last item that the client has seen, where the procedure can resume."""
    takes_it = any(field.alias == _RESUMES for field in procedure.input.model_fields.values())
    if not last_event_id or not takes_it or not isinstance(given, dict | None):
        return given
    return {**(given or {}), _RESUMES: last_event_id}


async def accept(client: Client, procedure: AnyProcedure, given: object) -> Accepted:
    """A subscription that its client may have, with the right input. Raises a Problem."""
    return await client.front.executor.open(await client.caller(), procedure, given)


async def items(client: Client, accepted: Accepted) -> AsyncGenerator[Output | None, None]:
    """Each item of a subscription, and None where none came for a while. Raises a Problem."""
    following = aiter(accepted.procedure.stream(accepted.call, accepted.given))
    coming: asyncio.Future[Output | None] | None = None
    tried = time.monotonic()
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(following, None))
            await asyncio.wait({coming}, timeout=PAUSE)
            if (now := time.monotonic()) - tried >= PAUSE:
                tried = now
                await client.check_key()
            if not coming.done():
                yield None
                continue
            item, coming = coming.result(), None
            if item is None:
                return
            yield item
    finally:
        if coming is not None:
            coming.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await coming
        if isinstance(following, AsyncGenerator):
            await following.aclose()


async def leaving(stop: asyncio.Event) -> None:
    """Wait until the process is to stop, and then a moment, so that not all clients connect again at once."""
    await stop.wait()
    await asyncio.sleep(random.uniform(0, LEAVING))


def event_id(item: Output) -> str | None:
    """The id after which a client may resume; None where it may not."""
    return item.id if isinstance(item, Tracked) else None
