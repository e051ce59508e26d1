"""Operators see how many sockets are open, what they were sent and how late, and why they closed."""

import asyncio

import aiohttp
import orjson
import pytest

from shared.settings import Settings
from tests.support.api import ApiStage, serving
from tests.support.live import connected, happen, streams_open


async def metric(api: ApiStage, name: str) -> float:
    """A metric of the process, with its labels as the text format writes them; 0 where it is not there yet."""
    async with api.client.get(f"{api.health}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)


async def grows(api: ApiStage, name: str, before: float, by: int) -> None:
    async with asyncio.timeout(10):
        while True:
            if await metric(api, name) == before + by:
                return
            await asyncio.sleep(0.02)


def closed(kind: str, reason: str) -> str:
    return f'palomar_api_sockets_closed_total{{kind="{kind}",reason="{reason}"}}'


async def test_open_sockets_and_what_they_were_sent_are_counted(api: ApiStage) -> None:
    ana = await api.tenant()
    items = 'palomar_api_socket_items_total{kind="websocket"}'
    sent, left = await metric(api, items), await metric(api, closed("websocket", "client"))
    delays = await metric(api, "palomar_api_event_delay_seconds_count")
    async with connected(api.client, ana) as client:
        before = (await client.next("started"))["id"]
        assert await metric(api, 'palomar_api_sockets{kind="websocket"}') == 1
        await happen(api.pool, ana, "message.sent", "message.sent")
        await client.events(2)
        await grows(api, items, sent, 3)
        await grows(api, "palomar_api_event_delay_seconds_count", delays, 2)
    await grows(api, closed("websocket", "client"), left, 1)
    assert await metric(api, 'palomar_api_sockets{kind="websocket"}') == 0
    async with connected(api.client, ana, {"after": before}) as client:
        await client.events(2)
        await grows(api, items, sent, 6)
        assert await metric(api, "palomar_api_event_delay_seconds_count") == delays + 2, (
            "these had happened long before"
        )


async def test_why_a_socket_was_closed_is_counted(api: ApiStage) -> None:
    reasons = [closed("websocket", "unauthenticated"), closed("trpc_websocket", "unauthenticated")]
    before = [await metric(api, one) for one in reasons]
    async with connected(api.client, None) as client:
        await client.to_the_end()
    async with api.client.ws_connect("/trpc") as socket:
        while (await socket.receive(timeout=10)).type is aiohttp.WSMsgType.TEXT:
            pass
    for one, count in zip(reasons, before, strict=True):
        await grows(api, one, count, 1)


async def test_a_restart_closes_every_kind(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingress.api.trpc.subscriptions.LEAVING", 0.1)
    monkeypatch.setattr("ingress.api.trpc.sockets.GRACE", 0.1)
    kinds = ("websocket", "sse", "trpc_websocket", "trpc_sse")
    async with serving(settings) as other:
        before = {kind: await metric(other, closed(kind, "restart")) for kind in kinds}
        async with aiohttp.ClientSession() as session:
            async with serving(settings) as api:
                ana = await api.tenant()
                key, base = {"Authorization": f"Bearer {ana.key}"}, f"http://127.0.0.1:{api.port}"
                streams = [
                    await session.get(f"{base}{path}", headers=key) for path in ("/v1/live", "/trpc/events.live")
                ]
                sockets = [await session.ws_connect(f"{base}{path}", headers=key) for path in ("/v1/live", "/trpc")]
                await sockets[0].send_str("{}")
                start = {"id": 1, "method": "subscription", "params": {"path": "events.live"}}
                await sockets[1].send_str(orjson.dumps(start).decode())
                await streams_open(4)
            for stream in streams:
                stream.close()
            for socket in sockets:
                await socket.close()
        for kind in kinds:
            await grows(other, closed(kind, "restart"), before[kind], 1)
