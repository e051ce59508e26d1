"""Deliveries that hold an erased person's words are emptied, and are owed no more."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

from shared.actions import erasure as actions
from shared.domain.person_pattern import pattern
from shared.settings import Settings
from shared.store import erasure
from shared.store.webhook_deliveries import outcomes, turns
from tests.support.stage import Stage, staged
from workers.persist import worker

ANA, LUIS = "+5215512345678", "+5215512345679"
ATTEMPT = {"number": 1, "at": "2026-11-01T10:00:00Z", "ended_at": None, "status": None, "kind": "delivery"}
ENDED = {**ATTEMPT, "ended_at": "2026-11-01T10:00:01Z", "status": 500, "error": "status", "ms": 12}
SHOWN = """
SELECT event, success, due_at, held, replay_at, payload, response, error_message, attempts, completed_at IS NULL AS open
FROM webhook_logs ORDER BY event
"""
# Each names the person in one way.
ADD = """
INSERT INTO webhook_logs (tenant_id, webhook_id, event, payload, response, attempts, conversation_id, success,
    attempt_count, due_at, held, replay_at, completed_at, metadata)
SELECT $1, $2, name, payload, response, attempts, talk, success, 1, due, held, replay,
    CASE WHEN success IS NOT NULL THEN now() END, metadata
FROM (VALUES
    ('1 delivered', jsonb_build_object('contactId', $3::uuid), 'gracias, Ana', $5::jsonb, NULL::uuid, true,
        NULL::timestamptz, NULL, NULL::timestamptz, '{}'::jsonb),
    ('2 pending', '{"words": "hola"}', NULL, $5, $4::uuid, NULL, now(), NULL, NULL, '{}'),
    ('3 waiting', jsonb_build_object('conversationId', $4::uuid), NULL, '[]', NULL, NULL, NULL, 'waiting', NULL, '{}'),
    ('4 missed', '{"from": "5215512345678"}', NULL, '[]', NULL, NULL, NULL, 'missed', NULL, '{}'),
    ('5 wanted', '{}', NULL, jsonb_build_array($6::jsonb || '{"response": "5215512345678"}'), NULL, false, NULL, NULL,
        now(), '{}'),
    ('6 imported', '{}', NULL, '[]', NULL, true, NULL, NULL, NULL, '{"imported": {"to": "5215512345678"}}'),
    ('7 by SQL', '{"from": "5215512345678"}', NULL, '[]', NULL, NULL, NULL, NULL, NULL, '{}'),
    ('8 of another', '{"from": "5215512345679"}', 'hola, Luis', $5, NULL, NULL, now(), NULL, NULL, '{"x": 1}')
) AS given (name, payload, response, attempts, talk, success, due, held, replay, metadata)
"""


async def with_deliveries(stage: Stage) -> tuple[UUID, UUID]:
    """Ana's contact and conversation, with a delivery of each kind."""
    await worker.persist([stage.said("hola", sender=ANA), stage.said("hola", sender=LUIS)], stage.context)
    contact, talk = await stage.row("SELECT contact_id, id FROM conversations WHERE recipient = $1", ANA)
    webhook = await stage.value(
        "INSERT INTO webhooks (tenant_id, url) VALUES ($1, 'https://a.example') RETURNING id", stage.ours.tenant_id
    )
    await stage.pool.execute(
        ADD, stage.ours.tenant_id, webhook, contact, talk, [{**ENDED, "response": "Ana dice hola"}], ATTEMPT
    )
    return contact, talk


async def erased(stage: Stage, contact: UUID) -> dict[str, int]:
    return await actions.erase(stage.pool, await erasure.person(stage.pool, stage.ours.tenant_id, contact))


async def test_an_emptied_delivery_keeps_its_attempts_and_is_owed_no_more(settings: Settings) -> None:
    async with staged(settings) as stage:
        contact, _ = await with_deliveries(stage)
        before = {row["event"]: row for row in await stage.rows(SHOWN)}
        removed = await erased(stage, contact)
        assert removed["webhook_logs"] == 7
        rows = {row["event"]: row for row in await stage.rows(SHOWN)}
        assert rows["8 of another"] == before["8 of another"]
        ours = [row for name, row in rows.items() if name != "8 of another"]
        for row in ours:
            assert (row["payload"], row["response"]) == ({}, None)
            assert (row["due_at"], row["held"], row["replay_at"]) == (None, None, None)
        assert {row["event"]: (row["success"], row["error_message"], row["open"]) for row in ours} == {
            "1 delivered": (True, None, False),
            "2 pending": (False, "erased", False),
            "3 waiting": (False, "erased", False),
            "4 missed": (False, "erased", False),
            "5 wanted": (False, None, False),
            "6 imported": (True, None, False),
            "7 by SQL": (None, None, True),
        }
        assert rows["1 delivered"]["attempts"] == rows["2 pending"]["attempts"] == [ENDED], "without the answer's words"
        assert rows["5 wanted"]["attempts"] == [ATTEMPT]
        traces = await erasure.traces(stage.pool, stage.ours.tenant_id, pattern([("phone", ANA)]))
        assert not any(traces.values())
        assert await stage.count("webhook_logs WHERE metadata = '{\"erased\": true}'") == 7


async def test_what_was_matched_while_the_search_ran_is_emptied_too(settings: Settings) -> None:
    """The transaction that matches has read the person's words, and commits after the erasure."""
    async with staged(settings) as stage:
        contact, talk = await with_deliveries(stage)
        async with stage.pool.acquire() as matching:
            transaction = matching.transaction()
            await transaction.start()
            await matching.execute("SELECT FROM webhook_cursor FOR NO KEY UPDATE")
            await matching.execute(
                "INSERT INTO webhook_logs (tenant_id, webhook_id, event, payload, conversation_id, due_at) "
                "SELECT $1, id, '9 late', '{\"words\": \"hola\"}', $2, now() FROM webhooks",
                *(stage.ours.tenant_id, talk),
            )
            erasing = asyncio.create_task(erased(stage, contact))
            await stage.until(stage.count, "events WHERE name = 'contact.erased'", equals=1)
            await stage.until(stage.count, "pg_locks WHERE NOT granted", equals=1)
            await transaction.commit()
        assert (await asyncio.wait_for(erasing, 10))["webhook_logs"] == 8
        late = await stage.row("SELECT payload, success, due_at FROM webhook_logs WHERE event = '9 late'")
        assert tuple(late) == ({}, False, None)


async def test_an_attempt_that_was_under_way_brings_no_words_back(settings: Settings) -> None:
    async with staged(settings) as stage:
        contact, talk = await with_deliveries(stage)
        row = await stage.row("SELECT * FROM webhook_logs WHERE event = '2 pending'")
        await erased(stage, contact)
        before = await stage.rows(SHOWN)
        at = datetime.now(UTC)
        attempt = turns.Attempt(
            *(
                row["tenant_id"],
                row["webhook_id"],
                row["id"],
                row["event"],
                "delivery",
                1,
                b"{}",
                0,
                at,
                False,
                talk,
                None,
            )
        )
        ended = outcomes.Ended(attempt, {**ENDED, "response": "hola, Ana"}, "hola, Ana", 500, "status", None, at, at)
        async with stage.pool.acquire() as connection, connection.transaction():
            await outcomes.record(connection, [ended])
        assert await stage.rows(SHOWN) == before
