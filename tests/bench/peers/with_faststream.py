"""The peer with FastStream and RabbitMQ: `python -m tests.bench.peers.with_faststream receive | work`.

`receive` acknowledges a webhook once the broker has confirmed its job. `work` has two subscribers: one stores the
message with its answer and publishes the answer's job, the other sends it. Queues are quorum queues; a job is
acknowledged after its work, comes again where that failed, and is dead-lettered after DELIVERIES. AMQP_URL.
"""

import logging
import os
import sys
from typing import Final

import uvloop
from faststream import AckPolicy, FastStream
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue

from tests.bench.peers.job import Answer, Inbound, Twilio, database, is_sent, store_and_answer
from tests.bench.peers.web import serve

PREFETCH: Final = 20  # jobs in hand of each queue; 60 was no faster, and neither was a second process
DELIVERIES: Final = 20
PUBLISH_TIMEOUT: Final = 5.0  # seconds
DEAD: Final = RabbitQueue("dead", QueueType.QUORUM, durable=True)


def _queue(name: str) -> RabbitQueue:
    arguments = {
        "x-delivery-limit": DELIVERIES,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": DEAD.name,
    }
    return RabbitQueue(name, QueueType.QUORUM, durable=True, arguments=arguments)


INBOUND: Final = _queue("inbound")
OUTBOUND: Final = _queue("outbound")


def make_broker() -> RabbitBroker:
    logging.basicConfig(level=logging.WARNING)  # FastStream writes two lines for each job at INFO
    return RabbitBroker(
        os.environ["AMQP_URL"],
        default_channel=Channel(publisher_confirms=True, on_return_raises=True),
        ack_policy=AckPolicy.NACK_ON_ERROR,
        reconnect_interval=1.0,
        logger=logging.getLogger("peer"),
    )


async def receive() -> None:
    """Serve until SIGTERM."""
    async with make_broker() as broker:
        await broker.start()
        for queue in (DEAD, INBOUND):
            await broker.declare_queue(queue)

        async def take(message: Inbound) -> None:
            await broker.publish(message, INBOUND, persist=True, message_id=message.sid, timeout=PUBLISH_TIMEOUT)

        await serve(take)


async def work() -> None:
    """Work until SIGTERM."""
    broker = make_broker()
    async with database() as pool, Twilio.opened() as twilio:

        @broker.subscriber(INBOUND, channel=Channel(prefetch_count=PREFETCH))
        async def answer(message: Inbound) -> None:
            stored = await store_and_answer(pool, message)
            if stored is not None:
                await broker.publish(stored, OUTBOUND, persist=True, timeout=PUBLISH_TIMEOUT)

        @broker.subscriber(OUTBOUND, channel=Channel(prefetch_count=PREFETCH))
        async def send(stored: Answer) -> None:
            if not await is_sent(pool, stored):
                await twilio.send(pool, stored)

        await FastStream(broker, logger=None).run()


if __name__ == "__main__":
    uvloop.run({"receive": receive, "work": work}[sys.argv[1]]())
