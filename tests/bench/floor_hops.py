"""Floor of the way through: one hop, `pass QUEUE NEXT` or `send QUEUE`. Each is a process of its own.

`pass` commits an empty transaction and publishes what it got, confirmed, to the next queue; `send` commits one and
POSTs an answer to the provider. The first hop is floor_ingress.py. AMQP_URL, DATABASE_URL, TWILIO_API_URL.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl, urlencode

import aio_pika
import aiohttp
import asyncpg
import uvloop
from aio_pika.abc import AbstractIncomingMessage

from ops.sandbox.twilio import ACCOUNT_SID, AUTH_TOKEN

PREFETCH = 32
Deliver = Callable[[bytes], Awaitable[None]]

# "Empty" for PostgreSQL is a transaction that writes nothing, and such a commit waits for no disk. This one writes one
# record of the log and nothing else, so its commit is flushed as any that promises something.
COMMIT = "SELECT pg_logical_emit_message(true, 'floor', '')"


async def main(queue_name: str, following: str | None) -> None:
    """Work until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with (
        await aio_pika.connect(os.environ["AMQP_URL"]) as publishing,
        await aio_pika.connect(os.environ["AMQP_URL"]) as consuming,
        asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=4, max_size=4) as pool,
        aiohttp.ClientSession() as session,
    ):
        publisher = await publishing.channel(publisher_confirms=True, on_return_raises=True)

        async def pass_on(body: bytes) -> None:
            message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await publisher.default_exchange.publish(message, following or "", mandatory=True)

        async def send(body: bytes) -> None:
            form = dict(parse_qsl(body.decode()))
            answer = {"To": form["From"], "From": form["To"], "Body": "Hello! Thank you for writing to us."}
            url = f"{os.environ['TWILIO_API_URL']}/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json"
            headers = {
                "Authorization": aiohttp.encode_basic_auth(ACCOUNT_SID, AUTH_TOKEN),
                "Content-Type": "application/x-www-form-urlencoded",
            }
            async with session.post(url, data=urlencode(answer).encode(), headers=headers) as response:
                await response.read()
                response.raise_for_status()

        deliver: Deliver = pass_on if following else send
        channel = await consuming.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        for name in filter(None, (queue_name, following)):
            await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})
        queue = await channel.get_queue(queue_name, ensure=False)

        async def take(message: AbstractIncomingMessage) -> None:
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute(COMMIT)
            await deliver(message.body)
            await message.ack()

        await queue.consume(take)
        await stop.wait()


if __name__ == "__main__":
    role, queue, *rest = sys.argv[1:]
    uvloop.run(main(queue, rest[0] if role == "pass" else None))
