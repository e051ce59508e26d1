"""Floor of persist, one half: take a queue's messages by aio-pika and ack each. Nothing is done with them.

AMQP_URL; arguments: queue, how many messages there are, file for the result.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import aio_pika
import uvloop
from aio_pika.abc import AbstractIncomingMessage

PREFETCH = 200
EVERY = 100  # messages between two looks at the clock


async def main(queue_name: str, count: int) -> list[tuple[int, float]]:
    """Ack `count` messages; returns when each hundredth was acked, as (messages so far, seconds)."""
    progress: list[tuple[int, float]] = []
    acked = 0
    done = asyncio.Event()
    connection = await aio_pika.connect(os.environ["AMQP_URL"])
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.get_queue(queue_name, ensure=False)

        async def take(message: AbstractIncomingMessage) -> None:
            nonlocal acked
            await message.ack()
            acked += 1
            if acked % EVERY == 0:
                progress.append((acked, time.monotonic()))
            if acked == count:
                done.set()

        await queue.consume(take)
        await done.wait()
        await asyncio.sleep(1)  # a quorum queue under load has the acks late, and closing would lose the last of them
    return progress


if __name__ == "__main__":
    queue, count, result = sys.argv[1:]
    Path(result).write_text(json.dumps(uvloop.run(main(queue, int(count)))))
