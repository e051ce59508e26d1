"""A virtual host is used again only where it is empty and holds nothing but our queues; see tests/support/vhosts.py."""

import asyncio
from collections.abc import Callable

import aio_pika
import pytest
from aio_pika import ExchangeType, Message

from ops.local.stack import Stack
from shared.queue import topology
from tests.support.vhosts import InUse, as_declared, empty

DELAYS = (0.2, 5)
Channel = aio_pika.abc.AbstractChannel


async def _more_queues(channel: Channel) -> None:
    await channel.declare_queue("sample", durable=True)


async def _more_exchanges(channel: Channel) -> None:
    await channel.declare_exchange("sample", ExchangeType.TOPIC, durable=True)


async def _more_bindings(channel: Channel) -> None:
    await (await channel.get_queue("persist")).bind(topology.EVENTS, "#")


async def _other_arguments(channel: Channel) -> None:
    await (await channel.get_queue("persist")).delete(if_unused=False, if_empty=False)
    await channel.declare_queue("persist", durable=True, arguments={"x-queue-type": "quorum"})


@pytest.mark.parametrize("change", [_more_queues, _more_exchanges, _more_bindings, _other_arguments])
async def test_only_what_our_topology_declares_may_be_used_again(
    stack: Stack, amqp_url: str, change: Callable[[Channel], "asyncio.Future[None]"]
) -> None:
    vhost = amqp_url.rpartition("/")[2]
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        await topology.declare_missing(connection, DELAYS)
        assert as_declared(stack.rabbitmq.management.definitions(vhost))
        await change(channel)
        assert not as_declared(stack.rabbitmq.management.definitions(vhost))


async def test_messages_that_come_back_late_are_purged_too(amqp_url: str) -> None:
    queues = list(topology.arguments(DELAYS))
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        await topology.declare_missing(connection, DELAYS)
        for name in ("persist", "send.meta.dead", "retry.5s", "retry.0.2s"):
            body = Message(b"left", delivery_mode=2)
            await channel.default_exchange.publish(body, routing_key=name)
        async with await aio_pika.connect(amqp_url) as other, other.channel() as taking:
            await (await taking.get_queue("persist")).get()
            with pytest.raises(InUse):
                await asyncio.gather(empty(amqp_url, queues), _consume_for_a_while(taking))
        await empty(amqp_url, queues)
        depths = [(await channel.declare_queue(name, passive=True)).declaration_result.message_count for name in queues]
        assert sum(filter(None, depths)) == 0


async def _take(_: aio_pika.abc.AbstractIncomingMessage) -> None: ...


async def _consume_for_a_while(channel: Channel) -> None:
    queue = await channel.get_queue("window")
    tag = await queue.consume(_take)
    await asyncio.sleep(3)
    await queue.cancel(tag)
