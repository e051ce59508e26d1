"""python -m tests.support.webhook_receiver_process: the receiver of webhook_receiver.py as a process, at PORT.

Beside the webhooks' paths it has routes of its own, which `ReceiverClient` calls. It keeps no bodies.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterable, Mapping
from typing import Final

import aiohttp
import orjson
import uvloop
from aiohttp import web

from tests.support.webhook_receiver import HANG, Answer, Receiver, receiving

STEERING: Final = "/_receiver"


def steered(receiver: Receiver) -> list[web.RouteDef]:
    """The routes by which another process steers a receiver."""

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def answers(request: web.Request) -> web.Response:
        """`{"/path": {"status": 500}, "/other": null}`; null is a call that hangs."""
        for path, answer in orjson.loads(await request.read()).items():
            receiver.answers(path, HANG if answer is None else Answer(**answer))
        return web.Response(status=204)

    async def received(request: web.Request) -> web.Response:
        """Path, id and monotonic seconds of each request, from the place `since` on."""
        found = receiver.received[int(request.query.get("since", "0")) :]
        return web.Response(body=orjson.dumps([(one.path, one.id, one.at) for one in found]))

    async def wait(request: web.Request) -> web.Response:
        """How many requests came, once there are `count`, or after `within` seconds."""
        count, within = int(request.query["count"]), float(request.query["within"])
        with contextlib.suppress(AssertionError):
            await receiver.until(lambda: len(receiver.received) >= count, within)
        return web.json_response(len(receiver.received))

    async def clear(_: web.Request) -> web.Response:
        receiver.clear()
        return web.Response(status=204)

    return [
        web.get("/readyz", health),
        web.post(f"{STEERING}/answers", answers),
        web.get(f"{STEERING}/received", received),
        web.get(f"{STEERING}/wait", wait),
        web.delete(f"{STEERING}/received", clear),
    ]


class ReceiverClient:
    """`async with ReceiverClient(url) as receiver: …`, of a receiver in another process."""

    def __init__(self, base: str) -> None:
        self.base = base

    async def __aenter__(self) -> "ReceiverClient":
        self._session = aiohttp.ClientSession(raise_for_status=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    def url(self, path: str) -> str:
        return self.base + path

    async def hang(self, paths: Iterable[str]) -> None:
        """Let every call of these paths hang."""
        await self._post(dict.fromkeys(paths))

    async def answers(self, answers: Mapping[str, Mapping[str, object]]) -> None:
        """From now on each path gets this answer: fields of webhook_receiver.Answer, without `body`."""
        await self._post(answers)

    async def _post(self, answers: Mapping[str, object]) -> None:
        async with self._session.post(f"{self.base}{STEERING}/answers", data=orjson.dumps(answers)):
            pass

    async def received(self, since: int = 0) -> list[tuple[str, str, float]]:
        """Path, id and monotonic seconds of each request, in order, from the place `since` on."""
        async with self._session.get(f"{self.base}{STEERING}/received", params={"since": str(since)}) as answer:
            return [(path, id_, at) for path, id_, at in orjson.loads(await answer.read())]

    async def wait(self, count: int, within: float) -> int:
        """How many requests came, once there are `count`, or after `within` seconds."""
        query = {"count": str(count), "within": str(within)}
        async with self._session.get(f"{self.base}{STEERING}/wait", params=query) as answer:
            return int(await answer.text())

    async def clear(self) -> None:
        """Forget the requests."""
        async with self._session.delete(f"{self.base}{STEERING}/received"):
            pass


async def run(port: int) -> None:
    """Receive until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with receiving(keeps_bodies=False, port=port, also=steered):
        await stop.wait()


if __name__ == "__main__":
    uvloop.run(run(int(os.environ["PORT"])))
