"""A tenant's old messages go by its policy, in bounded steps, and nothing else does."""

from datetime import timedelta
from uuid import UUID

import pytest

from shared.settings import Settings
from tests.support.stage import Stage, staged
from workers.clock import message_retention

POLICY = """UPDATE tenants SET settings = settings || jsonb_build_object('messages_days', $2::int) WHERE id = $1"""


async def aged(stage: Stage, days: int, conversation: UUID, count: int, status: str = "received") -> None:
    await stage.pool.execute(
        """INSERT INTO messages (id, tenant_id, conversation_id, channel_id, direction, role, status, created_at,
            due_at, out_seq)
        SELECT gen_random_uuid(), c.tenant_id, c.id, c.channel_id,
            CASE $3 WHEN 'received' THEN 'inbound' ELSE 'outbound' END,
            CASE $3 WHEN 'received' THEN 'user' ELSE 'assistant' END, $3, now() - $2::interval,
            CASE $3 WHEN 'held' THEN now() END, CASE $3 WHEN 'received' THEN NULL ELSE 1000 * $5::int + n END
        FROM conversations c, generate_series(1, $4) AS n WHERE c.id = $1""",
        *(conversation, timedelta(days=days), status, count, days),
    )


async def ages(stage: Stage, conversation: UUID) -> list[tuple[int, str, int]]:
    rows = await stage.rows(
        """SELECT extract(day FROM now() - created_at)::int AS days, status, count(*)::int AS n FROM messages
        WHERE conversation_id = $1 GROUP BY 1, 2 ORDER BY 1, 2""",
        conversation,
    )
    return [(row["days"], row["status"], row["n"]) for row in rows]


async def test_what_is_older_than_the_policy_goes_and_what_is_owed_stays(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_retention, "MESSAGES_AT_ONCE", 7)
    monkeypatch.setattr(message_retention, "CONVERSATIONS_AT_ONCE", 1)
    async with staged(settings) as stage:
        theirs = await stage.add_channel()
        first, second = await stage.converse(), await stage.converse(customer="+14155550199")
        other = await stage.converse(ours=theirs)
        await stage.pool.execute("UPDATE conversations SET created_at = now() - interval '2 years'")
        for conversation in (first, second, other):
            await aged(stage, 100, conversation, 20)
            await aged(stage, 80, conversation, 3)
        await aged(stage, 100, first, 2, "held")
        await aged(stage, 101, first, 2, "sent")
        assert await message_retention.prune(stage.context) == 0, "no tenant has a policy yet"
        await stage.pool.execute(POLICY, stage.ours.tenant_id, 90)
        assert await message_retention.prune(stage.context) == 42
        assert await ages(stage, first) == [(80, "received", 3), (100, "held", 2)]
        assert await ages(stage, second) == [(80, "received", 3)]
        assert await ages(stage, other) == [(80, "received", 3), (100, "received", 20)], "another tenant's"


async def test_messages_are_never_younger_than_the_raw_webhooks_when_they_go(settings: Settings) -> None:
    """A replay would make them anew, and answer them."""
    async with staged(settings.model_copy(update={"inbound_log_days": 30})) as stage:
        conversation = await stage.converse()
        await stage.pool.execute("UPDATE conversations SET created_at = now() - interval '2 years'")
        await aged(stage, 20, conversation, 3)
        await aged(stage, 40, conversation, 3)
        await stage.pool.execute(POLICY, stage.ours.tenant_id, 1)
        assert await message_retention.prune(stage.context) == 3
        assert await ages(stage, conversation) == [(20, "received", 3)]


@pytest.mark.parametrize("nonsense", ["0", "-3", '"90"', "1.5", "null", "[]"])
async def test_a_policy_that_is_none_deletes_nothing(settings: Settings, nonsense: str) -> None:
    async with staged(settings) as stage:
        conversation = await stage.converse()
        await stage.pool.execute("UPDATE conversations SET created_at = now() - interval '2 years'")
        await aged(stage, 500, conversation, 3)
        await stage.pool.execute(
            f"""UPDATE tenants SET settings = '{{"messages_days": {nonsense}}}' WHERE id = $1""", stage.ours.tenant_id
        )
        assert await message_retention.prune(stage.context) == 0


async def test_a_running_clock_prunes(settings: Settings) -> None:
    async with staged(settings) as stage:
        conversation = await stage.converse()
        await stage.pool.execute("UPDATE conversations SET created_at = now() - interval '2 years'")
        await aged(stage, 500, conversation, 3)
        await stage.pool.execute(POLICY, stage.ours.tenant_id, 365)
        async with stage.working("clock"):
            await stage.until(stage.count, "messages", equals=0)
