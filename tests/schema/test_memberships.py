"""The role of DATABASE_URL may become the API's and the workers' role, and sees no tenant's rows until it does."""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from ops.local.postgres import OWNER
from schema import migrate
from tests.schema.office import Office
from tests.schema.people import add_conversation, add_tenant, as_worker
from tests.schema.test_verify import wrong
from tests.support.processes import ROOT

CHECK = "Palomar: the role of DATABASE_URL sees no tenant's rows by itself"


def test_the_documentations_example_isolates_as_it_is_written(office: Office) -> None:
    with as_worker(office.url) as worker:
        mine, theirs = add_tenant(worker), add_tenant(worker)
        seen = add_conversation(worker, mine)
        add_conversation(worker, theirs)
    block = re.search(r"```sql\n(BEGIN;.*?COMMIT;)\n```", (ROOT / "docs" / "schema.md").read_text(), re.DOTALL)
    assert block is not None
    statements = block[1].replace("<the tenant''s id>", str(mine.id)).split(";\n")
    with psycopg.connect(office.url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
            if "kommo_conversations" in statement:
                rows = cursor.fetchall()
                assert [row[0] for row in rows] == [seen]
        assert connection.execute("SELECT current_user").fetchone() == (OWNER,)


def test_the_role_itself_sees_no_row_of_any_table(office: Office) -> None:
    with as_worker(office.url) as worker:
        add_conversation(worker, add_tenant(worker))
    for table in ("tenants", "channels", "conversations", "kommo_conversations"):
        assert office.operator(f"SELECT * FROM {table}") == []
        assert len(office.worker(f"SELECT * FROM {table}")) > 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "9998_rows.sql").write_text(
        "CREATE TABLE notes (tenant_id uuid NOT NULL, note text);\n"
        "INSERT INTO notes SELECT id, name FROM tenants;\n"
        "DO $$ BEGIN UPDATE tenants SET name = name || '!'; ALTER TABLE notes ADD COLUMN loud boolean; END $$;\n"
        "ALTER TABLE notes ADD CONSTRAINT notes_of_tenants FOREIGN KEY (tenant_id) REFERENCES tenants;\n"
    )
    (tmp_path / "9998_rows.rollback.sql").write_text("DROP TABLE notes;\nUPDATE tenants SET name = rtrim(name, '!');\n")
    return tmp_path


def test_a_migration_reaches_every_tenants_rows_and_leaves_its_role_without_them(office: Office, folder: Path) -> None:
    office.new_tenant("Otra")
    names = "SELECT array_agg(name ORDER BY name) AS names FROM tenants"
    assert migrate.apply(office.url, folder) == ["9998_rows"]
    assert office.operator("SELECT count(*) AS count FROM notes") == [{"count": 2}]
    assert office.worker(names) == [{"names": ["Otra!", "Tienda!"]}]
    assert office.operator("SELECT pg_has_role('palomar_worker', 'USAGE') AS sees") == [{"sees": False}]
    assert migrate.rollback(office.url, 1, folder) == ["9998_rows"]
    assert office.worker(names) == [{"names": ["Otra", "Tienda"]}]


def test_a_foreign_key_that_hidden_rows_break_is_refused(office: Office, tmp_path: Path) -> None:
    (tmp_path / "9999_key.sql").write_text(
        "ALTER TABLE channels ADD CONSTRAINT unlikely FOREIGN KEY (id) REFERENCES tenants (id);\n"
    )
    office.channel("twilio")
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="unlikely"):
        migrate.apply(office.url, tmp_path)
    assert office.operator("SELECT pg_has_role('palomar_worker', 'USAGE') AS sees") == [{"sees": False}]


@pytest.fixture
def inheriting(office: Office) -> Iterator[None]:
    """As it was before this migration, on the whole server."""
    (version,) = office.operator("SELECT current_setting('server_version_num')::int >= 160000 AS by_membership")
    by_membership = version["by_membership"]
    office.operator(f"GRANT palomar_worker TO {OWNER}" + " WITH INHERIT TRUE" * by_membership)
    yield
    without = f"GRANT palomar_worker TO {OWNER} WITH INHERIT FALSE"
    office.operator(without if by_membership else f"REVOKE palomar_worker FROM {OWNER}")


@pytest.mark.usefixtures("inheriting")
def test_verify_tells_of_a_role_that_sees_all_tenants_by_inheritance(database_url: str) -> None:
    assert wrong(database_url) == {CHECK: (f"{OWNER} sees what palomar_worker sees",)}
