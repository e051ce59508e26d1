"""Deliveries to webhooks go some time after their end, and numbers go with their conversations."""

from uuid import UUID, uuid4

from shared.settings import Settings
from shared.store.webhook_deliveries import retention
from tests.support.stage import Stage, staged
from workers.clock import log_retention

ADD = """
INSERT INTO webhook_logs (tenant_id, webhook_id, event, created_at, completed_at, success, due_at, held, replay_at)
SELECT $1, $2, name, now() - make_interval(days => made), now() - make_interval(days => ended), success,
    CASE WHEN due THEN now() END, held, CASE WHEN replay THEN now() END
FROM (VALUES
    ('delivered lately', 40, 9, true, false, NULL, false),
    ('delivered', 40, 11, true, false, NULL, false),
    ('failed', 40, 11, false, false, NULL, false),
    ('pending', 40, 11, NULL, true, NULL, false),
    ('waiting', 40, NULL, NULL, false, 'waiting', false),
    ('missed lately', 9, NULL, NULL, false, 'missed', false),
    ('missed', 11, NULL, NULL, false, 'missed', false),
    ('wanted again', 40, 11, false, false, NULL, true),
    ('by SQL', 11, NULL, NULL, false, NULL, false)
) AS given (name, made, ended, success, due, held, replay)
"""


async def webhook(stage: Stage) -> UUID:
    made: UUID = await stage.value(
        "INSERT INTO webhooks (tenant_id, url) VALUES ($1, 'https://a.example') RETURNING id", stage.ours.tenant_id
    )
    return made


async def test_a_delivery_goes_some_time_after_its_end_and_never_before_it(settings: Settings) -> None:
    async with staged(settings, webhook_log_days=10) as stage:
        await stage.pool.execute(ADD, stage.ours.tenant_id, await webhook(stage))
        await log_retention.retain(stage.context)
        left = [row["event"] for row in await stage.rows("SELECT event FROM webhook_logs ORDER BY event")]
        assert left == ["delivered lately", "missed lately", "pending", "waiting", "wanted again"]


async def test_so_many_deliveries_go_in_one_transaction(settings: Settings) -> None:
    async with staged(settings) as stage:
        await stage.pool.execute(ADD, stage.ours.tenant_id, await webhook(stage))
        async with stage.pool.acquire() as connection:
            assert [await retention.forget(connection, 10, 3) for _ in range(3)] == [3, 1, 0]


async def test_the_numbers_of_conversations_that_are_no_more_go(settings: Settings) -> None:
    async with staged(settings) as stage:
        one, deleted = await webhook(stage), await webhook(stage)
        there = await stage.converse(customer="+34600000001")
        hidden = await stage.converse(customer="+34600000002")
        await stage.pool.execute("UPDATE conversations SET deleted_at = now() WHERE id = $1", hidden)
        await stage.pool.execute("UPDATE webhooks SET deleted_at = now() WHERE id = $1", deleted)
        numbers = [(one, there), (one, hidden), (deleted, there), *((one, uuid4()) for _ in range(4))]
        await stage.pool.execute(
            "INSERT INTO webhook_sequences (tenant_id, webhook_id, conversation_id, last) "
            "SELECT $1, w, c, 1 FROM unnest($2::uuid[], $3::uuid[]) AS given (w, c)",
            *(stage.ours.tenant_id, [w for w, _ in numbers], [c for _, c in numbers]),
        )
        places = [retention.BEGINNING]
        async with stage.pool.acquire() as connection:
            while place := await retention.forget_sequences(connection, places[-1], 3):
                places.append(place)
        assert len(places) == 1 + 3, "of three rows each"
        left = await stage.rows("SELECT webhook_id, conversation_id FROM webhook_sequences")
        assert {tuple(row) for row in left} == {(one, there), (one, hidden)}
        await stage.pool.execute("DELETE FROM conversations WHERE id = $1", hidden)
        await log_retention.retain(stage.context)
        assert await stage.count("webhook_sequences") == 1
