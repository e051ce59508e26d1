"""Floor of the webhooks' row: python -m tests.bench.floor_webhooks URL COUNT FILE --paths N --connections N.

An aiohttp client POSTs signed bodies, all of them made before the first one leaves. It knows no database and no queue.
FILE gets the monotonic seconds from the first call to the last answer.
"""

import argparse
import asyncio
import base64
import gc
import hmac
import secrets
import time
from pathlib import Path
from typing import Final
from uuid import uuid4

import aiohttp
import orjson
import uvloop

BODY: Final = {
    "type": "message_received", "timestamp": "2026-11-28T16:00:00.000000Z", "version": 1,
    "data": {
        "id": "Dh6zIp1tUFcAAAAAAA8sgAAAAAAAAEJo", "name": "message_received", "occurredAt": "2026-11-28T16:00:00Z",
        **{name: str(uuid4()) for name in ("tenantId", "channelId", "conversationId", "messageId", "contactId")},
        "data": {"type": "text"},
        "message": {"id": str(uuid4()), "conversationId": str(uuid4()), "channelId": str(uuid4()), "content": "x" * 110,
            "direction": "inbound", "role": "user", "status": "received", "createdAt": "2026-11-28T16:00:00Z",
            "media": [], "metadata": {}, "errorCode": None, "errorMessage": None},
        "contact": {"id": str(uuid4()), "name": "Ana María Pérez", "phoneNumber": "+34600000001", "metadata":
            {"tags": ["vip", "madrid"]}, "createdAt": "2026-11-28T16:00:00Z", "updatedAt": "2026-11-28T16:00:00Z"},
    },
}  # fmt: skip


def signed(url: str, count: int, paths: int) -> list[tuple[str, bytes, dict[str, str]]]:
    """So many calls: URL, body, headers."""
    key, body, calls = secrets.token_bytes(32), orjson.dumps(BODY), []
    for number in range(count):
        identity, timestamp = str(uuid4()), str(int(time.time()))
        signature = base64.b64encode(hmac.digest(key, f"{identity}.{timestamp}.".encode() + body, "sha256")).decode()
        headers = {
            "Content-Type": "application/json",
            "webhook-id": identity,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{signature}",
        }
        calls.append((f"{url}/{number % paths}", body, headers))
    return calls


async def run(arguments: argparse.Namespace) -> float:
    """Seconds that all calls took, so many at once."""
    calls = iter(signed(arguments.url, arguments.count, arguments.paths))
    gc.collect()
    gc.freeze()
    connector = aiohttp.TCPConnector(limit=arguments.connections)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def post() -> None:
            for url, body, headers in calls:
                async with session.post(url, data=body, headers=headers) as answer:
                    await answer.read()
                    answer.raise_for_status()

        started = time.monotonic()
        await asyncio.gather(*(post() for _ in range(arguments.connections)))
        return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.bench.floor_webhooks", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("count", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("--paths", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    arguments = parser.parse_args()
    arguments.file.write_bytes(orjson.dumps(uvloop.run(run(arguments))))


if __name__ == "__main__":
    main()
