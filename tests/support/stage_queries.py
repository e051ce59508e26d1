"""What a test asks of the database and the broker, and waiting until the answer is right."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

import aio_pika
import asyncpg

from shared import database
from shared.queue import topology
from shared.settings import Settings

T = TypeVar("T")


class StageQueries:
    """The part of a Stage that only looks."""

    settings: Settings
    pool: database.Pool

    async def rows(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        return list(await self.pool.fetch(query, *arguments))

    async def row(self, query: str, *arguments: object) -> asyncpg.Record:
        """The one row there must be."""
        (found,) = await self.pool.fetch(query, *arguments)
        return found

    async def value(self, query: str, *arguments: object) -> Any:
        return await self.pool.fetchval(query, *arguments)

    async def count(self, of: str, *arguments: object) -> int:
        """How many rows: `count("messages WHERE role = 'user'")`."""
        counted: int = await self.pool.fetchval(f"SELECT count(*) FROM {of}", *arguments)
        return counted

    async def message(self, message_id: UUID) -> asyncpg.Record:
        return await self.row("SELECT * FROM messages WHERE id = $1", message_id)

    async def status(self, message_id: UUID) -> str:
        found: str = await self.value("SELECT status FROM messages WHERE id = $1", message_id)
        return found

    async def statuses(self) -> list[str]:
        """Of every message of ours, in the order in which they were made."""
        rows = await self.rows("SELECT status FROM messages WHERE direction = 'outbound' ORDER BY created_at, out_seq")
        return [row["status"] for row in rows]

    async def until(
        self, ask: Callable[..., Awaitable[T]], *arguments: object, equals: object, within: float = 60.0
    ) -> T:
        """Ask again and again until the answer is this. Raises AssertionError with the last answer."""
        deadline = asyncio.get_running_loop().time() + within
        while True:
            answer = await ask(*arguments)
            if answer == equals:
                return answer
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"after {within:g} s: {answer!r}, not {equals!r}")
            await asyncio.sleep(0.05)

    async def owed(self) -> int:
        """Rows that are not finished: messages before the provider, replies that are wanted."""
        owed: int = await self.value(
            """SELECT (SELECT count(*) FROM messages WHERE status IN ('queued', 'ready', 'sending'))
                + (SELECT count(*) FROM conversations WHERE reply_due_at IS NOT NULL)"""
        )
        return owed

    async def waiting(self) -> int:
        """AMQP messages that stand ready in the work queues or were taken and not acked."""
        return sum([await self.depth(queue.name) for queue in topology.QUEUES])

    async def depth(self, queue: str) -> int:
        """Ready messages of one queue."""
        connection = await aio_pika.connect(self.settings.amqp_url.get_secret_value())
        async with connection, connection.channel() as channel:
            declared = await channel.declare_queue(queue, passive=True)
            return declared.declaration_result.message_count or 0

    async def dead_letters(self) -> dict[str, int]:
        """Queue name → how many messages its dead-letter queue holds, without the empty ones."""
        depths = {queue.name: await self.depth(queue.dead_letters) for queue in topology.QUEUES}
        return {name: depth for name, depth in depths.items() if depth}
