"""A conversation that is deleted just as a message comes for it: the message is kept, in a conversation of its own.

Erasing a person does that. The deletion holds the conversation's row while persist has found it and wants it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ops.sandbox.kommo_forms import crm_body
from shared.queue.jobs import WebhookReceived
from shared.settings import Settings
from tests.support.kommo_stage import CHAT, add_kommo, posted
from tests.support.stage import Stage, staged
from workers.persist import worker


@asynccontextmanager
async def deleting(stage: Stage) -> AsyncIterator[None]:
    """A transaction that has deleted every conversation and whose it was, as erasing does, and commits at the end."""
    async with stage.pool.acquire() as connection, connection.transaction():
        for table in ("conversations", "contact_addresses", "contacts"):
            await connection.execute(f"DELETE FROM {table}")
        yield


async def waiting_for_rows(stage: Stage) -> bool:
    """Whether a session waits for a row that another one holds."""
    return await stage.count("pg_locks WHERE NOT granted") > 0


@pytest.mark.parametrize("who", ["a customer", "a manager"])
async def test_a_message_for_a_conversation_that_is_being_deleted_is_kept_in_a_new_one(
    settings: Settings, who: str
) -> None:
    async with staged(settings) as stage:
        ours = await add_kommo(stage) if who == "a manager" else stage.ours

        def said(text: str) -> WebhookReceived:
            if who == "a customer":
                return stage.said(text)
            return posted(stage, ours, crm_body(chat_id=CHAT, text=text, outgoing=True))

        await worker.persist([said("before")], stage.context)
        gone = await stage.value("SELECT id FROM conversations")
        async with stage.working("persist"):
            async with deleting(stage):
                # Another customer's message in the same batch: it waits for the same locks, and is not lost either.
                await stage.deliver(said("after"), stage.said("hola", sender="+34600000002"))
                await stage.until(waiting_for_rows, stage, equals=True)
            await stage.until(stage.count, "messages WHERE content IN ('after', 'hola')", equals=2)
        rows = await stage.rows(
            "SELECT m.content, c.id, c.contact_id FROM messages m JOIN conversations c ON c.id = m.conversation_id"
        )
        kept = {row["content"]: row["id"] for row in rows}
        assert kept.keys() == {"after", "hola"}
        assert gone not in kept.values()
        assert all(row["contact_id"] is not None for row in rows)
        assert await stage.count("inbound_log WHERE error IS NOT NULL") == 0
        assert await stage.dead_letters() == {}
        assert await stage.depth("persist") == 0
