"""Tenants are kept apart by the database itself, and the migrations lead there and back."""

import psycopg
import pytest
from psycopg import sql

from schema import migrate
from shared import database
from shared.settings import Settings
from tests.support.stage import Ours, Stage, staged
from workers.persist import worker

TENANT_TABLES = """
SELECT c.relname AS name, c.relispartition AS partition, c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced,
    ARRAY(SELECT polname::text FROM pg_policy WHERE polrelid = c.oid ORDER BY 1) AS policies,
    has_table_privilege('palomar_api', c.oid, 'SELECT, INSERT, UPDATE, DELETE') AS api
FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
    AND (c.relname = 'tenants' OR EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 'tenant_id' AND NOT attisdropped))
ORDER BY 1
"""
FAMILIES = {
    "channels", "contact_addresses", "contacts", "conversations", "endpoints", "events", "inbound_log",
    "message_statuses", "messages", "rate_limits", "tenants",
}  # fmt: skip


def query(database_url: str, text: str) -> list[tuple[object, ...]]:
    with psycopg.connect(database_url) as connection:
        return connection.execute(text.encode()).fetchall()


# -- row level security ------------------------------------------------------------------------------------------------


def test_every_table_of_tenants_is_protected_and_so_is_each_partition(database_url: str) -> None:
    tables = query(database_url, TENANT_TABLES)
    assert {name for name, partition, *_ in tables if not partition} >= FAMILIES
    assert any(partition for _, partition, *_ in tables)
    for name, partition, enabled, forced, policies, api in tables:
        assert (enabled, forced) == (True, True), name
        assert policies == ["all_rows", "own_rows"], name  # pg_dump reads a partition by itself
        # A partition's rows are reached through the parent only. Of the last two the API has some columns.
        out_of_reach = (
            "rate_limits", "media_blobs", "expiring_windows", "messaging_uses", "webhook_behind", "webhook_sequences",
            "webhook_replays", "webhook_keys", "unsealed_webhook_secrets",
        )  # fmt: skip
        assert api is (not partition and name not in out_of_reach), name


def test_every_view_shows_what_the_one_who_asks_may_see(database_url: str) -> None:
    views = query(
        database_url,
        "SELECT relname::text, coalesce('security_invoker=true' = ANY (reloptions), false) FROM pg_class "
        "WHERE relnamespace = 'public'::regnamespace AND relkind = 'v'",
    )
    assert len(views) >= 9
    assert [name for name, asks in views if not asks] == []


async def furnished(stage: Stage, ours: Ours, sid: str) -> None:
    """A row of this tenant in every table."""
    await worker.persist([stage.said("hola", to=ours, sid=sid)], stage.context)
    form = {"MessageSid": f"{sid}x", "MessageStatus": "sent", "From": f"whatsapp:{ours.address}"}
    await worker.persist([stage.webhook(form, to=ours, receipts=True)], stage.context)
    await stage.pool.execute("INSERT INTO rate_limits (tenant_id, channel_id) VALUES ($1, $2)", ours.tenant_id, ours.id)


def column(table: str) -> str:
    return "id" if table == "tenants" else "tenant_id"


async def test_the_api_sees_its_tenants_rows_and_no_others_in_every_table(settings: Settings) -> None:
    async with staged(settings) as stage:
        mine, theirs = stage.ours, await stage.add_channel()
        await furnished(stage, mine, "SM1")
        await furnished(stage, theirs, "SM2")
        bare = await database.connect(settings, process="test api", role="palomar_api")
        async with database.ApiPool(settings, process="test api", size=1) as api:
            for table in sorted(FAMILIES - {"rate_limits"}):
                assert await stage.count(f"(SELECT DISTINCT {column(table)} FROM {table}) t") == 2, table
                assert await bare.fetchval(f"SELECT count(*) FROM {table}") == 0, f"{table} without a tenant"
                async with api.tenant_transaction(mine.tenant_id) as connection:
                    seen = await connection.fetch(f"SELECT DISTINCT {column(table)} AS tenant FROM {table}")
                    assert [row["tenant"] for row in seen] == [mine.tenant_id], table
                # After a transaction with a tenant the setting is '' on that connection, and still no tenant.
                async with bare.transaction():
                    await bare.execute("SELECT set_config('app.tenant_id', $1, true)", str(mine.tenant_id))
                assert await bare.fetchval(f"SELECT count(*) FROM {table}") == 0, f"{table} after a transaction"
        await bare.close()


async def test_the_api_changes_nothing_of_another_tenant(settings: Settings) -> None:
    async with staged(settings) as stage:
        mine, theirs = stage.ours, await stage.add_channel()
        await furnished(stage, theirs, "SM2")
        async with database.ApiPool(settings, process="test api", size=1) as api:
            for table in ("conversations", "messages", "contacts", "channels"):
                async with api.tenant_transaction(mine.tenant_id) as connection:
                    changed = await connection.execute(
                        f"UPDATE {table} SET updated_at = now() WHERE tenant_id = $1", theirs.tenant_id
                    )
                    deleted = await connection.execute(f"DELETE FROM {table} WHERE tenant_id = $1", theirs.tenant_id)
                    assert (changed, deleted) == ("UPDATE 0", "DELETE 0")
            with pytest.raises(Exception, match="row-level security"):
                async with api.tenant_transaction(mine.tenant_id) as connection:
                    await connection.execute(
                        "INSERT INTO contacts (id, tenant_id) VALUES ($1, $2)", database.new_id(), theirs.tenant_id
                    )
            with pytest.raises(Exception, match="row-level security"):
                async with api.tenant_transaction(mine.tenant_id) as connection:
                    await connection.execute("UPDATE channels SET tenant_id = $1", theirs.tenant_id)


def test_the_roles_cannot_log_in_and_the_api_cannot_drop_days(database_url: str) -> None:
    roles = "SELECT count(*) FROM pg_roles WHERE rolname IN ('palomar_api', 'palomar_worker') AND NOT rolcanlogin " \
            "AND NOT rolsuper AND NOT rolbypassrls"  # fmt: skip
    assert query(database_url, roles) == [(2,)]
    with psycopg.connect(database_url) as connection:
        connection.execute("SET ROLE palomar_api")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT drop_partitions('events', 1)")


@pytest.mark.parametrize("parent", ["events'; DROP TABLE tenants; --", "messages", ""])
def test_only_days_of_the_two_logs_can_be_dropped(database_url: str, parent: str) -> None:
    with psycopg.connect(database_url) as connection, pytest.raises(psycopg.errors.RaiseException):
        connection.execute("SELECT drop_partitions(%s, 1)", (parent,))


# -- keys --------------------------------------------------------------------------------------------------------------


def test_every_foreign_key_between_tenant_tables_carries_the_tenant(database_url: str) -> None:
    """A plain one accepts another tenant's row, row level security or not."""
    keys = """
    SELECT k.conname::text,
        ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = k.conrelid AND attnum = ANY (k.conkey)),
        ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = k.confrelid AND attnum = ANY (k.confkey))
    FROM pg_constraint k
    WHERE k.contype = 'f' AND k.connamespace = 'public'::regnamespace AND k.confrelid <> 'tenants'::regclass
        AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = k.confrelid AND attname = 'tenant_id')
    """
    plain = [name for name, ours, theirs in query(database_url, keys)
             if not ("tenant_id" in ours and "tenant_id" in theirs)]  # type: ignore[operator]  # fmt: skip
    assert plain == ["channels_endpoint_id_fkey"], "guarded by a trigger instead: an endpoint may have no tenant"


async def test_another_tenants_row_is_refused_as_a_parent(settings: Settings) -> None:
    async with staged(settings) as stage:
        mine, theirs = stage.ours, await stage.add_channel()
        conversation = await stage.converse(ours=theirs)
        with pytest.raises(Exception, match="foreign key"):
            await stage.pool.execute(
                "INSERT INTO messages (id, tenant_id, conversation_id, channel_id, direction, role, status) "
                "VALUES ($1, $2, $3, $4, 'inbound', 'user', 'received')",
                *(database.new_id(), mine.tenant_id, conversation, mine.id),
            )
        with pytest.raises(Exception, match="endpoint of this tenant"):
            await stage.pool.execute("UPDATE channels SET endpoint_id = $1 WHERE id = $2", theirs.endpoint_id, mine.id)


def test_every_unique_key_of_tenants_holds_the_tenant(database_url: str) -> None:
    """Its error would reveal another tenant's row."""
    keys = """
    SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
    WHERE i.indisunique AND t.relnamespace = 'public'::regnamespace AND NOT t.relispartition
        AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = t.oid AND attname = 'tenant_id')
        AND NOT EXISTS (
            SELECT FROM pg_attribute WHERE attrelid = t.oid AND attname = 'tenant_id' AND attnum = ANY (i.indkey))
    ORDER BY 1
    """
    # One holds proven addresses alone, and a tenant's role can't make one proven. The others' keys nobody chooses: made
    # by us at random, a transaction's number, a hash over the endpoint's id.
    assert query(database_url, keys) == [
        ("channels_endpoint_address",), ("endpoints_pkey",), ("events_pkey",), ("inbound_log_pkey",),
    ]  # fmt: skip


# -- migrations --------------------------------------------------------------------------------------------------------

CATALOG = """
SELECT 'column', table_name || '.' || column_name, concat_ws(' ', data_type, is_nullable, column_default)
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'function', p.proname, md5(pg_get_functiondef(p.oid)) || coalesce(p.proacl::text, '') FROM pg_proc p
    WHERE p.pronamespace = 'public'::regnamespace
UNION ALL SELECT 'policy', tablename || '.' || policyname, roles::text || coalesce(qual, '') || coalesce(with_check, '')
    FROM pg_policies WHERE schemaname = 'public'
UNION ALL SELECT 'trigger', tgrelid::regclass || '.' || tgname, pg_get_triggerdef(oid) FROM pg_trigger
    WHERE NOT tgisinternal
UNION ALL SELECT 'view', relname, coalesce(reloptions::text, '') || pg_get_viewdef(oid) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'v'
UNION ALL SELECT 'column grants', attrelid::regclass || '.' || attname, attacl::text FROM pg_attribute
    WHERE attacl IS NOT NULL AND attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)
UNION ALL SELECT 'grants', relname, relacl::text || relrowsecurity || relforcerowsecurity FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relacl IS NOT NULL
ORDER BY 1, 2, 3
"""


def catalog(database_url: str) -> list[tuple[object, ...]]:
    return [row for row in query(database_url, CATALOG) if "yoyo" not in str(row[1])]


def test_down_takes_everything_away_and_up_again_makes_the_same(database_url: str) -> None:
    before = catalog(database_url)
    names = [step.name for step in migrate.status(database_url)]
    assert migrate.rollback(database_url, len(names)) == names[::-1]
    assert catalog(database_url) == []
    assert migrate.apply(database_url) == names
    assert catalog(database_url) == before


def test_migrating_twice_changes_nothing(database_url: str) -> None:
    before = catalog(database_url)
    assert migrate.apply(database_url) == []
    assert catalog(database_url) == before


def test_down_works_with_rows_in_the_tables(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("SET ROLE palomar_worker")
        connection.execute("INSERT INTO tenants (id, name) VALUES (gen_random_uuid(), 'Tienda')")
        for table in ("events", "inbound_log"):
            assert connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone() == (
                0,
            )
        connection.execute("INSERT INTO events (name, tenant_id) SELECT 'x', id FROM tenants")
    migrate.rollback(database_url, 100)
    assert catalog(database_url) == []
