"""What PostgreSQL takes and Python does not is refused at the border, in every column that a tenant may write."""

import psycopg
import pytest
from psycopg.errors import CheckViolation

from schema import migrate
from tests.schema.office import Office

# Columns of times that palomar_api may write, in tables that a worker or an operator's command reads.
_UNCHECKED = """
SELECT c.relname || '.' || a.attname
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    AND a.atttypid = 'timestamptz'::regtype
    AND (has_column_privilege('palomar_api', c.oid, a.attnum, 'INSERT')
        OR has_column_privilege('palomar_api', c.oid, a.attnum, 'UPDATE'))
    AND NOT EXISTS (
        SELECT FROM pg_constraint k
        WHERE k.conrelid = c.oid AND left(k.conname, 11) = 'check_times' AND k.convalidated
            AND a.attnum = ANY (k.conkey))
    AND c.relname || '.' || a.attname <> 'endpoints.deleted_at'  -- that it is set is all that anybody reads of it
    AND c.relname <> 'messages'  -- which a trigger checks
ORDER BY 1
"""
_TIMES_OF_MESSAGES = """
SELECT attname FROM pg_attribute
WHERE attrelid = 'messages'::regclass AND attnum > 0 AND NOT attisdropped AND atttypid = 'timestamptz'::regtype
    AND has_column_privilege('palomar_api', attrelid, attnum, 'UPDATE')
    AND attname <> 'updated_at'  -- a trigger sets it, whatever is given
"""
CONVERSATION = "INSERT INTO kommo_conversations (provider, phone) VALUES ('twilio', '+5493425123456') RETURNING *"


def test_every_time_that_a_tenant_writes_is_one_that_python_reads(office: Office) -> None:
    assert [name for row in office.operator(_UNCHECKED) for name in row.values()] == []


def test_every_time_of_a_message_that_a_tenant_writes_is_one_that_python_reads(office: Office) -> None:
    office.channel("twilio")
    columns = [row["attname"] for row in office.operator(_TIMES_OF_MESSAGES)]
    assert "created_at" in columns
    with office.session() as sql:
        of = sql.one(CONVERSATION)["id"]
        sql.all("SELECT queue_message(%(of)s, 'hola')", of=of)
        for column in columns:
            with sql.refused(CheckViolation, f"{column}: a time"):
                sql.all(f"UPDATE messages SET {column} = 'infinity'")
        sql.all("UPDATE messages SET delivered_at = now()")


@pytest.mark.parametrize("time", ["infinity", "-infinity", "4713-01-01 BC", "20000-01-01"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE conversations SET last_user_message_at = %(time)s",
        "UPDATE kommo_conversations SET last_message_at = %(time)s",
        "UPDATE channels SET deleted_at = %(time)s",
        "UPDATE contacts SET created_at = %(time)s",
        "INSERT INTO kommo_messages (conversation_id, provider, role, content, created_at) "
        "SELECT id, 'twilio', 'user', 'hola', %(time)s FROM conversations",
    ],
)
def test_a_time_that_python_cannot_read_is_refused(office: Office, statement: str, time: str) -> None:
    office.channel("twilio")
    with office.session() as sql:
        sql.one(CONVERSATION)
        with sql.refused(CheckViolation, "check_times"):
            sql.all(statement, time=time)


@pytest.mark.parametrize("settings", ['{"rate": 1e400}', '{"reply": {"llm": [{"x": -1e400}]}}', "[]", "3", '"x"'])
@pytest.mark.parametrize("table", ["channels", "tenants"])
def test_settings_are_an_object_of_numbers_that_python_reads(office: Office, table: str, settings: str) -> None:
    office.channel("twilio")
    with office.session() as sql, sql.refused(CheckViolation, "check_settings"):
        sql.all(f"UPDATE {table} SET settings = %(settings)s", settings=settings)


def test_settings_are_no_megabytes(office: Office) -> None:
    office.channel("twilio")
    with office.session() as sql, sql.refused(CheckViolation, "check_settings"):
        sql.all(
            "UPDATE channels SET settings = jsonb_build_object('x', ("
            "SELECT jsonb_agg(gen_random_uuid()) FROM generate_series(1, 100000)))"
        )


@pytest.mark.parametrize(
    "change", ["media = '7'", "template = '7'", "template = '{}'", 'sent_as = \'{"name": "x", "variables": []}\'']
)
def test_a_message_has_a_shape_that_workers_read(office: Office, change: str) -> None:
    office.channel("twilio")
    with office.session() as sql:
        of = sql.one(CONVERSATION)["id"]
        sql.all("SELECT queue_message(%(of)s, 'hola')", of=of)
        with sql.refused(CheckViolation, "check_shapes"):
            sql.all(f"UPDATE messages SET {change}")


@pytest.mark.parametrize("name", ["", "x" * 129, "é" * 65])
def test_an_events_name_fits_into_a_routing_key(office: Office, name: str) -> None:
    with office.session() as sql, sql.refused(CheckViolation, "check_event_name"):
        sql.all("INSERT INTO events (name, tenant_id) VALUES (%(name)s, %(tenant)s)", name=name, tenant=office.tenant)


def test_what_is_there_already_is_brought_within_the_bounds(database_url: str) -> None:
    """By a database that had such rows when the migration came."""
    names = [step.name for step in migrate.status(database_url)]
    migrate.rollback(database_url, len(names) - names.index("0024_values"))
    office = Office(database_url)
    office.channel("twilio")
    with office.session() as sql:
        sql.one(CONVERSATION)
        sql.all("UPDATE conversations SET last_user_message_at = 'infinity', last_message_at = '4713-01-01 BC'")
        sql.all("UPDATE channels SET settings = '{\"rate\": 1e400}'")
        sql.all(
            "INSERT INTO events (name, tenant_id) VALUES (%(name)s, %(tenant)s)", name="x" * 300, tenant=office.tenant
        )
    migrate.apply(database_url)
    (row,) = office.worker("SELECT last_user_message_at, last_message_at FROM conversations")
    assert (row["last_user_message_at"].year, row["last_message_at"].year) == (9999, 2)
    (channel,) = office.worker("SELECT settings FROM channels")
    assert channel["settings"]["reply"] == {"engine": "none"}
    assert "rate" in channel["settings"]["unread"]
    assert [
        row["name"] for row in office.worker("SELECT name FROM events WHERE tenant_id = %(t)s", t=office.tenant)
    ] == ["x" * 32]
    with psycopg.connect(database_url) as connection:
        left = connection.execute("SELECT count(*) FROM pg_constraint WHERE NOT convalidated").fetchone()
        assert left == (0,)
