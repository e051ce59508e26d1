"""Floor of the webhooks' row: python -m tests.bench.floor_webhooks URL COUNT FILE --paths N --connections N.

An aiohttp client POSTs bodies that are made before the first one leaves. It signs each as it leaves, for the signature
holds the time of the attempt: v1 and v1a of Standard Webhooks. It knows no database and no queue.
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
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

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


def headers(key: bytes, private_key: Ed25519PrivateKey, body: bytes) -> dict[str, str]:
    """The headers of a call that leaves now."""
    identity, timestamp = str(uuid4()), str(int(time.time()))
    signed = f"{identity}.{timestamp}.".encode() + body
    hashed = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    return {
        "Content-Type": "application/json",
        "webhook-id": identity,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{hashed} v1a,{base64.b64encode(private_key.sign(signed)).decode()}",
    }


async def run(arguments: argparse.Namespace) -> float:
    """Seconds that all calls took, so many at once."""
    key, private_key, body = secrets.token_bytes(32), Ed25519PrivateKey.generate(), orjson.dumps(BODY)
    calls = iter([(f"{arguments.url}/{number % arguments.paths}", body) for number in range(arguments.count)])
    gc.collect()
    gc.freeze()
    connector = aiohttp.TCPConnector(limit=arguments.connections)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def post() -> None:
            for url, body in calls:
                async with session.post(url, data=body, headers=headers(key, private_key, body)) as answer:
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
