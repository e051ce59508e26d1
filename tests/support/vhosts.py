"""Empty virtual hosts for the tests, used again and again.

To declare all queues takes the broker 0.4 s of the processor and to delete them 0.2 s: a quarter of what the whole
suite took. So a virtual host goes from test to test. Between them it rests until other tests have run, so that what its
last test left under way has arrived; then it is emptied and compared with what `topology` declares.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPException
from typing import Any
from uuid import uuid4

import aio_pika
from aio_pika.exceptions import AMQPError

from ops.errors import Problem
from ops.local.rabbitmq import RabbitMQ
from shared.queue import topology

RESTING = 3  # virtual hosts of one process of the suite that wait to be used again
PASSES = 20  # looks at all queues, until one finds nothing
PAUSE = 0.05  # seconds between them


class Vhosts:
    """Virtual hosts, one made ready ahead of the test that wants it, in a thread of its own."""

    def __init__(self, rabbitmq: RabbitMQ) -> None:
        self._rabbitmq = rabbitmq
        self._resting: deque[str] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vhosts")
        self._next: Future[str] = self._thread.submit(self._make_ready)

    def take(self) -> str:
        """The name of an empty one that no other test uses; it may hold the queues that `topology` declares."""
        try:
            name = self._next.result()
        except (Problem, OSError, HTTPException):  # the test before had stopped the broker
            name = self.new()
        if not self._rabbitmq.is_young(name):  # the broker was started again meanwhile
            name = self.new()
        self._next = self._thread.submit(self._make_ready)
        return name

    def give_back(self, name: str) -> None:
        self._thread.submit(self._resting.append, name)

    def close(self) -> None:
        """Remove all that tests have given back, which a broker that stays running would keep for ever."""
        self._thread.shutdown()
        with contextlib.suppress(Problem, OSError, HTTPException):
            self._resting.append(self._next.result())
        for name in self._resting:
            self._delete(name)

    def _make_ready(self) -> str:
        while len(self._resting) >= RESTING:
            name = self._resting.popleft()
            try:
                if self._rabbitmq.is_young(name):
                    definitions = self._rabbitmq.management.definitions(name)
                    if as_declared(definitions):
                        url = self._rabbitmq.vhost_url(name)
                        asyncio.run(empty(url, (queue["name"] for queue in definitions["queues"])))
                        return name
            except (Problem, OSError, HTTPException, AMQPError, InUse):
                pass  # of no use any more: the next, or a new one
            self._delete(name)
        return self.new()

    def _delete(self, name: str) -> None:
        with contextlib.suppress(Problem, OSError, HTTPException):  # `rabbitmq.forget` takes what stays
            self._rabbitmq.delete_vhost(name)

    def new(self) -> str:
        """The name of one without any queue."""
        name = f"test-{uuid4().hex}"
        self._rabbitmq.add_vhost(name)
        return name


def as_declared(definitions: dict[str, Any]) -> bool:
    """Whether these definitions of a virtual host, as the management API gives them, are a part of our topology's."""
    found = {queue["name"]: queue["arguments"] for queue in definitions["queues"]}
    delays = [queue["x-message-ttl"] / 1000 for queue in found.values() if "x-message-ttl" in queue]
    steps = {step.name for step in topology.retry_schedule(delays)}
    exchanges = {topology.WORK: "direct", topology.DEAD_LETTERS: "direct", topology.EVENTS: "topic"}
    exchanges |= dict.fromkeys(steps, "fanout")
    bindings = {(exchange, queue, key) for queue, exchange, key in topology.bound(delays)}
    return (
        found.items() <= topology.arguments(delays).items()
        and {one["name"]: one["type"] for one in definitions["exchanges"]}.items() <= exchanges.items()
        and {(one["source"], one["destination"], one["routing_key"]) for one in definitions["bindings"]} <= bindings
        and not definitions["policies"]
        and not definitions["parameters"]
    )


class InUse(Exception):
    """Something still consumes from it, or publishes to it."""


async def empty(url: str, queues: Iterable[str]) -> None:
    """Purge these queues until a look at all of them finds no message and no consumer. Raises InUse where none does."""
    names = list(queues)
    async with asyncio.timeout(20), await aio_pika.connect(url) as connection, connection.channel() as channel:
        for _ in range(PASSES):
            quiet = True
            for name in names:
                queue = await channel.declare_queue(name, passive=True)
                state = queue.declaration_result
                if state.message_count:
                    await queue.purge()
                quiet = quiet and not state.message_count and not state.consumer_count
            if quiet:
                return
            await asyncio.sleep(PAUSE)
    raise InUse(url)
