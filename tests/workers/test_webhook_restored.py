"""After a restore or a fail-over: deliveries under way are failed, and matching goes on where it was."""

import pytest

from shared.settings import Settings
from shared.store.messages import restored
from tests.support.stage import Stage, staged

OLD_XID = 10**9  # of a cluster that has done much more than this one
ADD = """
INSERT INTO webhook_logs (tenant_id, webhook_id, event, attempts, attempt_count, success, due_at, held, replay_at,
    replay_kind, completed_at)
SELECT $1, $2, name, '[{"number": 1}]', 1, success, due, held, replay,
    CASE WHEN replay IS NOT NULL THEN CASE WHEN name = 'test' THEN 'test' ELSE 'replay' END END,
    CASE WHEN success IS NOT NULL THEN '2026-11-01'::timestamptz END
FROM (VALUES
    ('delivered', true, NULL::timestamptz, NULL, NULL::timestamptz),
    ('failed', false, NULL, NULL, NULL),
    ('pending', NULL, now() + interval '1 hour', NULL, NULL),
    ('waiting', NULL, NULL, 'waiting', NULL),
    ('missed', NULL, NULL, 'missed', NULL),
    ('missed, wanted', NULL, NULL, 'missed', now()),
    ('wanted again', true, NULL, NULL, now()),
    ('test', NULL, NULL, NULL, now())
) AS given (name, success, due, held, replay)
"""
SHOWN = """
SELECT event, success, held, error_message, attempt_count, jsonb_array_length(attempts) AS attempts,
    coalesce(due_at, replay_at) AS owed, replay_kind, completed_at > now() - interval '1 day' AS ended_now
FROM webhook_logs
"""
UNREAD = """
SELECT e.name FROM events e, {} c WHERE (e.xid, e.seq) > (c.xid, c.seq) ORDER BY e.xid, e.seq
"""


async def suspended(stage: Stage) -> restored.Suspended:
    async with stage.pool.acquire() as connection, connection.transaction():
        return await restored.suspend(connection)


async def test_what_was_owed_is_failed_with_its_attempts_and_what_was_missed_stays_so(settings: Settings) -> None:
    async with staged(settings) as stage:
        tenant = stage.ours.tenant_id
        webhook = await stage.value(
            "INSERT INTO webhooks (tenant_id, url) VALUES ($1, 'https://a.example') RETURNING id", tenant
        )
        await stage.pool.execute(ADD, tenant, webhook)
        await stage.pool.execute(
            "INSERT INTO webhook_health (tenant_id, webhook_id, due_at, holder, held_until, failures, disabled_at) "
            "VALUES ($1, $2, now(), gen_random_uuid(), now() + interval '1 minute', 4, now())",
            *(tenant, webhook),
        )
        await stage.pool.execute(
            "INSERT INTO webhook_replays (tenant_id, webhook_id, since, until, only_failed) "
            "VALUES ($1, $2, now() - interval '1 day', now(), true)",
            *(tenant, webhook),
        )
        assert (await suspended(stage)).deliveries == 3
        rows = {row["event"]: row for row in await stage.rows(SHOWN)}
        for row in rows.values():
            assert (row["attempts"], row["attempt_count"], row["owed"], row["replay_kind"]) == (1, 1, None, None)
        shown = ("success", "held", "error_message", "ended_now")
        assert {name: tuple(row[one] for one in shown) for name, row in rows.items()} == {
            "delivered": (True, None, None, False),
            "failed": (False, None, None, False),
            **dict.fromkeys(("pending", "waiting", "test"), (False, None, "restored", True)),
            **dict.fromkeys(("missed", "missed, wanted"), (None, "missed", None, None)),
            "wanted again": (True, None, None, False),
        }
        health = await stage.row("SELECT due_at, holder, held_until, failures, disabled_at IS NULL FROM webhook_health")
        assert tuple(health) == (None, None, None, 4, False)
        assert await stage.count("webhook_replays") == 0
        assert (await suspended(stage)).deliveries == 0


@pytest.mark.parametrize(("published", "matched"), [(1, 1), (1, 2), (2, 1), (0, 3), (3, 0), (3, 3)])
async def test_in_another_cluster_the_relay_and_matching_go_on_each_where_it_was(
    settings: Settings, published: int, matched: int
) -> None:
    async with staged(settings) as stage:
        behind = await stage.value("INSERT INTO tenants (name) VALUES ('Otra') RETURNING id")
        for number in (1, 2, 3):
            await stage.pool.execute(
                "INSERT INTO events (xid, name, tenant_id) VALUES (($1::bigint)::text::xid8, $2, $3)",
                *(OLD_XID + number, f"event {number}", stage.ours.tenant_id),
            )
        await stage.pool.execute(
            "INSERT INTO events (xid, name, tenant_id) VALUES (($1::bigint)::text::xid8, 'behind', $2)",
            *(OLD_XID, behind),
        )
        for table, number in (("relay_cursor", published), ("webhook_cursor", matched)):
            await stage.pool.execute(
                f"UPDATE {table} SET xid = ($1::bigint)::text::xid8, seq = 1000000, holder = gen_random_uuid()",
                OLD_XID + number,
            )
        await stage.pool.execute(
            "INSERT INTO webhook_behind (tenant_id, xid, seq) VALUES ($1, ($2::bigint)::text::xid8, 1)",
            *(behind, OLD_XID - 1),
        )
        async with stage.pool.acquire() as connection, connection.transaction():
            assert await restored.adopt_events(connection)
        await stage.pool.execute("INSERT INTO events (name, tenant_id) VALUES ('new', $1)", stage.ours.tenant_id)
        names = [f"event {number}" for number in (1, 2, 3)]
        for table, number in (("relay_cursor", published), ("webhook_cursor", matched)):
            unread = [row["name"] for row in await stage.rows(UNREAD.format(table))]
            assert [name for name in unread if name != "behind"] == [*names[number:], "new"], table
            assert await stage.value(f"SELECT holder FROM {table}") is None
        apart = UNREAD.format("webhook_behind").replace("ORDER", "AND e.tenant_id = c.tenant_id ORDER")
        assert [row["name"] for row in await stage.rows(apart)] == ["behind"]


async def test_in_the_same_cluster_both_go_on_as_they_were(settings: Settings) -> None:
    async with staged(settings) as stage:
        await stage.pool.execute("INSERT INTO events (name, tenant_id) VALUES ('one', $1)", stage.ours.tenant_id)
        place = "SELECT xid::text, seq FROM webhook_cursor"
        before = await stage.row(place)
        async with stage.pool.acquire() as connection, connection.transaction():
            assert not await restored.adopt_events(connection)
        assert await stage.row(place) == before
        assert [row["name"] for row in await stage.rows(UNREAD.format("webhook_cursor"))] == ["one"]
