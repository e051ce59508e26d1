"""Rows of one tenant that can't be handled: they are skipped and counted, and the rows of others are handled."""

import asyncpg
import pytest
from prometheus_client import REGISTRY

from shared import database
from shared.settings import Settings
from shared.store import channels, events
from shared.store.events import Event
from tests.support.stage import Stage, staged
from tests.workers.test_pruning import aged
from tests.workers.test_relay import listening
from tests.workers.test_sealing import by_sql, opened, status, writing
from workers.clock import message_retention, tasks, worker


async def without_checks(stage: Stage, *constraints: tuple[str, str]) -> None:
    """As a database is whose rows came before its CHECKs."""
    owner = await asyncpg.connect(stage.settings.database_url.get_secret_value())
    for table, name in constraints:
        await owner.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    await owner.close()


def skipped(what: str) -> float:
    return REGISTRY.get_sample_value("palomar_rows_set_apart_total", {"what": what}) or 0.0


async def test_the_relay_goes_on_past_an_event_that_cannot_be_published(settings: Settings) -> None:
    async with staged(settings) as stage, listening(stage) as listener:
        await without_checks(stage, ("events", "check_event_name"))
        before = skipped("event")
        tenant = stage.ours.tenant_id
        async with stage.pool.acquire() as connection, connection.transaction():
            await events.record(connection, Event("first.published", tenant), Event("x" * 300, tenant))
            await connection.execute(
                """INSERT INTO events (name, tenant_id, detail) VALUES ('with.infinity', $1, '{"n": 1e400}'),
                ('with.digits', $1, ('{"n": 1' || repeat('0', 5000) || '}')::jsonb)""",
                tenant,
            )
            await events.record(connection, Event("last.published", tenant))
        async with stage.working("relay"):
            await stage.until(listener.count, equals=4)
        assert listener.names == ["first.published", "with.infinity", "with.digits", "last.published"]
        assert skipped("event") == before + 1


async def test_the_relay_goes_on_past_a_row_that_cannot_be_read(settings: Settings) -> None:
    async with staged(settings) as stage, listening(stage) as listener:
        tenant, before = stage.ours.tenant_id, skipped("event")
        for name in ("first.published", "of.long.ago", "last.published"):
            await stage.pool.execute(
                "INSERT INTO events (name, tenant_id, created_at) VALUES ($1, $2, $3::text::timestamptz)",
                *(name, tenant, "0044-03-15 BC" if name == "of.long.ago" else "now"),
            )
        async with stage.working("relay"):
            await stage.until(listener.count, equals=2)
        assert listener.names == ["first.published", "last.published"]
        assert skipped("event") == before + 1


@pytest.mark.parametrize("days", ["999999", "99999", "1e400", '"x"'])
async def test_pruning_goes_on_past_a_tenant_whose_policy_is_none(settings: Settings, days: str) -> None:
    async with staged(settings) as stage:
        await without_checks(stage, ("tenants", "check_settings"))
        others = await stage.add_channel()
        conversation = await stage.converse(ours=others)
        await stage.pool.execute("UPDATE conversations SET created_at = now() - interval '2 years'")
        await aged(stage, 500, conversation, 3)
        for tenant, policy in ((stage.ours.tenant_id, days), (others.tenant_id, "90")):
            await stage.pool.execute(
                "UPDATE tenants SET settings = $2::text::jsonb WHERE id = $1", tenant, f'{{"messages_days": {policy}}}'
            )
        assert await message_retention.prune(stage.context) == 3


async def test_sealing_goes_on_past_secrets_that_are_none(settings: Settings) -> None:
    async with staged(settings) as stage:
        await by_sql(stage, writing("broken"), writing())
        await stage.pool.execute("UPDATE channels SET credentials = 'v1.x.AAAA' WHERE address = 'broken'")
        deep = "[" * 3000 + "]" * 3000
        await stage.pool.execute(
            "UPDATE unsealed_credentials SET secrets = $1::text::jsonb "
            "WHERE channel_id = (SELECT id FROM channels WHERE address = 'broken')",
            f'{{"access_token": {deep}}}',
        )
        await worker.run_task("credentials", tasks.TASKS["credentials"], stage.context)
        assert await status(stage) == "active"
        assert await opened(stage) is not None
        assert await status(stage, "broken") == "stopped"


async def test_parked_receipts_go_on_past_a_message_that_cannot_be_read(settings: Settings) -> None:
    async with staged(settings) as stage:
        theirs, before = await stage.add_channel(), skipped("receipt")
        for ours, template in ((theirs, "7"), (stage.ours, None)):
            conversation = await stage.converse(ours=ours)
            await stage.pool.execute(
                """INSERT INTO message_statuses (id, tenant_id, channel_id, external_id, status)
                VALUES (gen_random_uuid(), $1, $2, 'SM1', 'delivered')""",
                *(ours.tenant_id, ours.id),
            )
            await stage.pool.execute(
                """INSERT INTO messages (tenant_id, conversation_id, channel_id, provider, direction, role, status,
                    out_seq, external_id, template)
                VALUES ($1, $2, $3, 'twilio', 'outbound', 'assistant', 'sent', 1, 'SM1', $4::text::jsonb)""",
                *(ours.tenant_id, conversation, ours.id, template),
            )
        await worker.run_task("parked_receipts", tasks.TASKS["parked_receipts"], stage.context)
        statuses = "SELECT channel_id, status FROM messages ORDER BY status"
        assert [tuple(row) for row in await stage.rows(statuses)] == [(stage.ours.id, "delivered"), (theirs.id, "sent")]
        assert skipped("receipt") == before + 1
        assert await stage.count("message_statuses WHERE message_id IS NULL") == 0, "it is not tried at every tick"


@pytest.mark.parametrize(
    "hostile", ['{"rate": 1e400}', '{"rate": 1e-15}', '{"reply": {"debounce": 1e400}}', "[" * 3000 + "]" * 3000, "7"]
)
async def test_a_batch_goes_through_beside_settings_that_cannot_be_read(settings: Settings, hostile: str) -> None:
    async with staged(settings) as stage, stage.working("persist", "reply", "window", "send"):
        await without_checks(stage, ("channels", "check_settings"))
        theirs = await stage.add_channel()
        await stage.pool.execute("UPDATE channels SET settings = $2::text::jsonb WHERE id = $1", theirs.id, hostile)
        await stage.deliver(stage.said("hola"), stage.said("hola", to=theirs))
        await stage.until(stage.count, "messages WHERE direction = 'inbound'", equals=2)
        ours = "messages WHERE status = 'sent' AND channel_id = $1"
        await stage.until(stage.count, ours, stage.ours.id, equals=1)
        found = await channels.get(stage.pool, theirs.tenant_id, theirs.id)
        assert found is not None
        assert found.unread


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ('{"a": 1}', {"a": 1}),
        ('{"a": 1e400}', {"a": float("inf")}),
        ("[1" + "0" * 5000 + "]", [float("inf")]),
        ('{"a": 7, "b": -1e400}', {"a": 7, "b": float("-inf")}),
        ("[" * 100_000, database.UNREADABLE),
    ],
)
def test_json_that_python_does_not_read_fails_nobody(stored: str, read: object) -> None:
    assert database.decode_json(stored) == read
