"""A database of the tests is used again only as new; see tests/support/database_contents.py."""

from collections.abc import Iterator

import psycopg
import pytest

from ops.local.postgres import SUPERUSER
from ops.local.stack import Stack
from tests.support.database_contents import MANY_ROWS, Connection, Contents

TENANT = "INSERT INTO tenants (id, name) VALUES (gen_random_uuid(), 'Tienda')"
UNDONE = {
    "rows": TENANT,
    "an empty database": "SELECT 1",
    "rows that others refer to": f"{TENANT}; INSERT INTO contacts (tenant_id, name) SELECT id, 'Ana' FROM tenants",
}
LEFT = {
    "a function": "ALTER FUNCTION check_written_message() COST 7",
    "a right": "GRANT SELECT ON tenants TO PUBLIC",
    "a column": "ALTER TABLE tenants ADD more int",
    "a table": "CREATE TABLE more (id int)",
    "a trigger that is off": "ALTER TABLE messages DISABLE TRIGGER USER",
    "a policy": "ALTER TABLE tenants DISABLE ROW LEVEL SECURITY",
    "statistics": f"{TENANT}; ANALYZE tenants",
    "a migration's row": "DELETE FROM _yoyo_migration WHERE ctid = (SELECT min(ctid) FROM _yoyo_migration)",
    "many rows": f"INSERT INTO tenants (id, name) SELECT gen_random_uuid(), 'x' FROM generate_series(1, {MANY_ROWS})",
}


@pytest.fixture
def used(stack: Stack, database_url: str) -> Iterator[Connection]:
    name = database_url.partition("@/")[2].partition("?")[0]
    with psycopg.connect(stack.postgres.url(SUPERUSER, name), autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize("script", UNDONE.values(), ids=UNDONE)
def test_rows_are_undone(used: Connection, script: str) -> None:
    as_new = Contents(used)
    used.execute(script.encode())
    assert as_new.restore(used)
    assert used.execute("SELECT count(*) FROM tenants").fetchone() == (0,)
    assert used.execute("SELECT count(*) > 30 FROM _yoyo_migration").fetchone() == (True,)


@pytest.mark.parametrize("script", LEFT.values(), ids=LEFT)
def test_a_database_that_was_changed_otherwise_is_given_up(used: Connection, script: str) -> None:
    as_new = Contents(used)
    used.execute(script.encode())
    assert not as_new.restore(used)


def test_a_sequence_begins_again(used: Connection) -> None:
    as_new = Contents(used)
    ((name,),) = used.execute(
        "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'S' ORDER BY 1 LIMIT 1"
    ).fetchall()
    ((first,),) = used.execute("SELECT nextval(%s::text::regclass)", (name,)).fetchall()
    assert as_new.restore(used)
    assert used.execute("SELECT nextval(%s::text::regclass)", (name,)).fetchone() == (first,)
