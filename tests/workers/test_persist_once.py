"""A webhook is kept once and a customer's message answered once, however often, late or concurrently it comes."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from shared.domain.model import Address
from shared.queue.jobs import WebhookReceived
from shared.settings import Settings
from shared.store import contacts, webhook_log
from tests.support.stage import CUSTOMER, staged
from workers.persist import parsing
from workers.persist import worker as persist


async def test_the_same_webhook_three_times_is_one_row_one_message_and_one_reply(settings: Settings) -> None:
    async with staged(settings) as stage, stage.working("all"):
        webhook = stage.said("hola")
        await stage.deliver(webhook)
        await stage.until(stage.statuses, equals=["sent"])
        await stage.deliver(webhook, webhook)
        await stage.until(stage.waiting, equals=0)
        await stage.until(stage.owed, equals=0)
        assert await stage.count("inbound_log") == 1
        assert await stage.count("messages WHERE direction = 'inbound'") == 1
        assert await stage.statuses() == ["sent"]
        assert len(await stage.accepted()) == 1
        assert await stage.dead_letters() == {}


async def test_two_workers_that_get_the_same_webhooks_at_once_keep_each_once(settings: Settings) -> None:
    async with staged(settings) as stage:
        webhooks = [stage.said(f"hola {number}", sender=f"+3460000{number:04}") for number in range(30)]
        # Straight to the handler and all at once: every pair of batches overlaps.
        await asyncio.gather(*(persist.persist(webhooks, stage.context) for _ in range(6)))
        assert await stage.count("inbound_log") == 30
        assert await stage.count("messages") == 30
        assert await stage.count("contacts") == 30
        assert await stage.count("conversations") == 30
        assert await stage.count("events WHERE name = 'message.received'") == 30


async def test_the_same_message_in_two_bodies_is_one_message_and_one_reply(settings: Settings) -> None:
    """Twilio may repeat a message with a parameter more: another webhook, the same MessageSid."""
    async with staged(settings) as stage, stage.working("all"):
        sid = "SM" + "0" * 32
        await stage.deliver(stage.said("hola", sid=sid), stage.said("hola", sid=sid, extra={"NewParameter": "1"}))
        await stage.until(stage.count, "inbound_log", equals=2)
        await stage.until(stage.statuses, equals=["sent"])
        assert await stage.count("messages WHERE direction = 'inbound'") == 1
        assert await stage.value("SELECT unread_count FROM conversations") == 1
        assert len(await stage.accepted()) == 1


async def test_overlapping_batches_of_several_workers_end_without_a_deadlock(settings: Settings) -> None:
    """60 shuffled batches over the same 40 customers and 200 webhooks. The runner would repeat one that lost a
    deadlock; here nobody does, and it would be raised."""
    dice = random.Random(7)
    async with staged(settings, database_pool=6) as stage:
        webhooks = [stage.said(f"hola {number}", sender=f"+34600001{number % 40:03}") for number in range(200)]

        async def work(batches: list[list[WebhookReceived]]) -> None:
            for batch in batches:
                await persist.persist(batch, stage.context)

        batches = [dice.sample(webhooks, 30) for _ in range(60)]
        await asyncio.gather(*(work(batches[worker::4]) for worker in range(4)))
        await persist.persist(webhooks, stage.context)
        assert await stage.count("inbound_log") == 200
        assert await stage.count("messages") == 200
        assert await stage.count("contacts") == 40
        assert await stage.count("conversations") == 40
        assert await stage.value("SELECT sum(unread_count) FROM conversations") == 200
        assert await stage.value("SELECT sum(user_message_count) FROM conversations") == 200


async def test_new_people_are_written_in_one_order_whoever_meets_them(settings: Settings) -> None:
    """While one worker holds M, another that meets Z, M and A waits for M and must not hold Z by then: a third that
    holds Z and wants M would wait for ever."""
    async with staged(settings) as stage:

        def person(letter: str) -> contacts.Person:
            return contacts.Person(stage.ours.tenant_id, (Address("user_id", letter, letter),), None)

        async def meet(*letters: str) -> None:
            async with stage.pool.acquire() as connection, connection.transaction():
                await contacts.find_or_make(connection, [person(letter) for letter in letters])

        async with stage.pool.acquire() as first:
            transaction = first.transaction()
            await transaction.start()
            await contacts.find_or_make(first, [person("M")])
            second = asyncio.create_task(meet("Z", "M", "A"))
            await asyncio.sleep(0.3)
            assert not second.done()
            await asyncio.wait_for(meet("Z"), 5)
            await transaction.commit()
        await second
        assert await stage.count("contacts") == 3


async def test_the_order_of_arrival_changes_nothing(settings: Settings) -> None:
    now = datetime.now(UTC)
    async with staged(settings) as stage:
        webhooks = [stage.said(f"{n}", received_at=now - timedelta(seconds=50 - n)) for n in range(20)]
        newest = webhooks[-1].received_at
        random.Random(3).shuffle(webhooks)
        for webhook in webhooks:
            await persist.persist([webhook], stage.context)
        conversation = await stage.row("SELECT * FROM conversations")
        assert conversation["last_user_message_at"] == newest
        assert conversation["last_message_at"] >= newest
        assert conversation["unread_count"] == 20
        kept = await stage.rows("SELECT content, received_at FROM messages ORDER BY received_at")
        assert [row["content"] for row in kept] == [str(n) for n in range(20)]


async def test_a_webhook_of_yesterday_replayed_leaves_the_window_where_it_is(settings: Settings) -> None:
    now = datetime.now(UTC)
    async with staged(settings) as stage:
        await persist.persist([stage.said("ayer", received_at=now - timedelta(hours=25))], stage.context)
        before = await stage.value("SELECT last_user_message_at FROM conversations")
        assert before == now - timedelta(hours=25)
        (logged,) = await webhook_log.fetch(
            stage.pool, [await stage.value("SELECT encode(id, 'hex') FROM inbound_log")]
        )
        assert logged.webhook.received_at == now - timedelta(hours=25)
        await persist.persist([logged.webhook], stage.context)
        assert await stage.value("SELECT last_user_message_at FROM conversations") == before

        await persist.persist([stage.said("hoy", received_at=now)], stage.context)
        await stage.pool.execute("DELETE FROM messages WHERE content = 'ayer'")
        await persist.persist([logged.webhook], stage.context)  # inserted again, and it still moves nothing back
        assert await stage.count("messages WHERE content = 'ayer'") == 1
        assert await stage.value("SELECT last_user_message_at FROM conversations") == now


async def test_a_clock_that_runs_ahead_of_postgresql_opens_no_longer_window(settings: Settings) -> None:
    async with staged(settings) as stage:
        ahead = datetime.now(UTC) + timedelta(hours=3)
        await persist.persist([stage.said("hola", received_at=ahead)], stage.context)
        assert await stage.value("SELECT last_user_message_at <= now() FROM conversations")


@pytest.mark.parametrize("put_away", ["status = 'closed'", "deleted_at = now()"], ids=["closed", "deleted"])
async def test_a_conversation_that_was_put_away_opens_again_and_is_answered(settings: Settings, put_away: str) -> None:
    async with staged(settings) as stage, stage.working("all"):
        await stage.deliver(stage.said("hola"))
        await stage.until(stage.statuses, equals=["sent"])
        await stage.pool.execute(f"UPDATE conversations SET {put_away}, unread_count = 0")
        await stage.deliver(stage.said("otra vez"))
        await stage.until(stage.statuses, equals=["sent", "sent"])
        conversation = await stage.row("SELECT status, unread_count, deleted_at FROM conversations")
        assert tuple(conversation) == ("active", 1, None)


async def test_an_escalated_conversation_is_kept_and_not_answered(settings: Settings) -> None:
    async with staged(settings) as stage, stage.working("all"):
        await stage.converse()
        await stage.pool.execute("UPDATE conversations SET status = 'escalated'")
        await stage.deliver(stage.said("¿hay alguien?"))
        await stage.until(stage.count, "messages WHERE direction = 'inbound'", equals=1)
        await stage.until(stage.waiting, equals=0)
        assert await stage.value("SELECT status FROM conversations") == "escalated"
        assert await stage.owed() == 0
        assert await stage.bodies(CUSTOMER) == []


def test_of_the_same_webhook_twice_in_a_batch_the_replay_counts_else_the_earlier() -> None:
    now = datetime.now(UTC)
    endpoint = uuid4()

    def came(body: str, seconds: int = 0, *, replayed: bool = False) -> WebhookReceived:
        at = now + timedelta(seconds=seconds)
        return WebhookReceived.of(endpoint, body.encode(), provider="twilio", received_at=at, replayed=replayed)

    first, again, other = came("a=1"), came("a=1", 9), came("b=2")
    assert parsing.deduplicated([again, other, first]) == [first, other]
    assert parsing.deduplicated([came("a=1", 20, replayed=True), other, first])[0].replayed
