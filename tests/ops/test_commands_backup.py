"""`palomar backup` holds every row, and `palomar restore` brings every row back without letting one leave."""

import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from ops import archives
from ops.errors import Problem
from ops.local.pg_programs import Programs
from ops.local.postgres import OWNER
from ops.local.stack import Stack
from schema import verify
from tests.schema.dumping import dump
from tests.schema.furnishing import furnish
from tests.schema.people import as_worker
from tests.support.commands import palomar


@pytest.fixture
def empty_url(stack: Stack) -> Iterator[str]:
    """A database of the same server with nothing in it."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(stack.postgres.admin_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(OWNER)))
        yield stack.postgres.url(OWNER, name)
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@dataclass(frozen=True)
class Office:
    """Where backups go, and the variables of the two databases."""

    folder: Path
    before: dict[str, str]
    after: dict[str, str]

    def backup(self, *arguments: str) -> str:
        done = palomar(self.before, "backup", str(self.folder), *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def restore(self, *arguments: str) -> str:
        done = palomar(self.after, "restore", str(self.folder), *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, command: str) -> str:
        """What the command complains of; it has no traceback."""
        done = palomar(self.before if command == "backup" else self.after, command, str(self.folder))
        assert done.returncode == 1, done.stdout
        assert "Traceback" not in done.stderr
        return done.stderr


@pytest.fixture
def office(environment: dict[str, str], empty_url: str, tmp_path: Path) -> Office:
    return Office(tmp_path / "monday", environment, {**environment, "DATABASE_URL": empty_url})


def counts(database_url: str) -> dict[str, int]:
    with as_worker(database_url) as worker:
        return archives.count(worker)


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_every_row_of_every_table_comes_back(office: Office, stack: Stack, jobs: str) -> None:
    """Those of the days' partitions too, whose rows pg_dump reads one table at a time."""
    source, target = office.before["DATABASE_URL"], office.after["DATABASE_URL"]
    with as_worker(source) as worker:
        furnish(worker, "one")
        furnish(worker, "two")
    before = counts(source)
    filled = {table.partition(".")[2].rstrip("0123456789").rstrip("_") for table, rows in before.items() if rows}
    assert {"inbound_log", "events", "messages", "media_blobs", "_yoyo_migration"} <= filled
    assert f"{sum(before.values())} rows of {len(before)} tables, counted twice" in office.backup("--jobs", jobs)
    assert stat.S_IMODE(office.folder.stat().st_mode) == 0o700, "only the owner may read messages and addresses"
    office.restore("--jobs", jobs)
    assert counts(target) == before | {"public.webhook_replays": 0}, "what was asked for may have been sent since"
    assert dump(stack.postgres, target) == dump(stack.postgres, source)
    assert [finding for finding in verify.verify(target) if not finding.ok] == []
    with as_worker(target) as worker:
        furnish(worker, "three")  # keys and sequences go on
        (seen,) = worker.execute("SELECT count(*) FROM inbound_log").fetchall()
    assert seen == (sum(rows for table, rows in before.items() if "inbound_log" in table) + 1,)


def test_a_backup_passes_beside_writers_and_holds_one_moment(office: Office) -> None:
    """What is committed while it is written is in it wholly or not at all: the counts would differ."""
    over = threading.Event()

    def write() -> None:
        with as_worker(office.before["DATABASE_URL"]) as worker:
            while not over.is_set():
                furnish(worker, str(uuid4()))

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        try:
            office.backup()
        finally:
            over.set()
        writing.result()
    office.restore()
    before, after = counts(office.before["DATABASE_URL"]), counts(office.after["DATABASE_URL"])
    assert 0 < after["public.tenants"] < before["public.tenants"]


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        ("DROP POLICY all_rows ON events_default", "events_default hides rows from palomar_worker"),
        ("DROP POLICY all_rows ON contacts", "contacts hides rows from palomar_worker"),
        ("REVOKE SELECT ON inbound_keys FROM palomar_worker", "inbound_keys can't be read by palomar_worker"),
        ("CREATE POLICY few ON messages AS RESTRICTIVE USING (false)", "messages hides rows from palomar_worker"),
    ],
)
def test_a_backup_that_would_leave_rows_out_is_refused(office: Office, break_it: str, named: str) -> None:
    with psycopg.connect(office.before["DATABASE_URL"], autocommit=True) as owner:
        owner.execute(break_it.encode())
    assert f"The backup would not hold every row: {named}" in office.refused("backup")
    assert not office.folder.exists()


def test_somebodys_own_table_that_palomar_may_not_read_is_named(office: Office) -> None:
    with psycopg.connect(office.before["DATABASE_URL"], autocommit=True) as owner:
        owner.execute("CREATE TABLE own_notes (note text)")
    assert "permission denied for table own_notes" in office.refused("backup")
    assert not office.folder.exists()


def test_a_backup_replaces_none(office: Office) -> None:
    office.backup()
    assert "is there already" in office.refused("backup")


def test_a_backup_keeps_no_event_back(office: Office) -> None:
    """The relay publishes below every transaction that has written; the backup's, however long, has not."""
    source = office.before["DATABASE_URL"]
    with psycopg.connect(source, autocommit=True) as reading, archives.snapshot(reading), as_worker(source) as worker:
        furnish(worker, "meanwhile")
        worker.execute("SELECT pg_current_xact_id()")
        published = "SELECT bool_and(xid < pg_snapshot_xmin(pg_current_snapshot())) FROM events"
        assert worker.execute(published).fetchone() == (True,)


def test_no_other_process_sees_the_password() -> None:
    programs = Programs(Path("/nowhere"), "postgresql://ana:s3cret@db.example:5433/palomar?sslmode=require")
    assert "s3cret" not in programs._place
    assert "sslmode=require" in programs._place
    assert programs._environment["PGPASSWORD"] == "s3cret"


# -- restoring ---------------------------------------------------------------------------------------------------------


def may_read(database_url: str) -> bool:
    """Whether Palomar's processes can read a message."""
    with psycopg.connect(database_url) as connection:
        return connection.execute(
            "SELECT to_regclass('messages') IS NOT NULL "
            "AND has_any_column_privilege('palomar_worker', 'messages', 'SELECT')"
        ).fetchone() == (True,)


def test_a_backup_that_lacks_rows_is_restored_so_that_nobody_can_work_with_it(office: Office) -> None:
    with as_worker(office.before["DATABASE_URL"]) as worker:
        furnish(worker, "one")
    office.backup()
    manifest = archives.Manifest.read(office.folder)
    replace(manifest, rows={**manifest.rows, "public.contacts": 7}).write(office.folder)
    assert "public.contacts has 1 rows instead of 7" in office.refused("restore")
    assert not may_read(office.after["DATABASE_URL"])


def test_a_damaged_backup_is_restored_so_that_nobody_can_work_with_it(office: Office) -> None:
    with as_worker(office.before["DATABASE_URL"]) as worker:
        furnish(worker, "one")
    office.backup()
    largest = max(office.folder.glob("*.dat*"), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-20])
    assert "pg_restore failed" in office.refused("restore")
    assert not may_read(office.after["DATABASE_URL"])


def test_a_database_that_holds_something_is_not_restored_into(office: Office) -> None:
    office.backup()
    refused = palomar(office.before, "restore", str(office.folder))
    assert refused.returncode == 1
    assert "is not empty" in refused.stderr


def test_a_backup_of_another_version_or_of_nobodys_is_refused(office: Office, tmp_path: Path) -> None:
    assert "is no backup" in office.refused("restore")
    office.backup()
    manifest = archives.Manifest.read(office.folder)
    replace(manifest, last_migration="0003_talk").write(office.folder)
    assert "was made with the schema 0003_talk" in office.refused("restore")
    replace(manifest, postgresql=99).write(office.folder)
    assert "The backup is of PostgreSQL 99" in office.refused("restore")


def test_rows_of_a_script_are_counted_by_table() -> None:
    script = [
        b"SET row_security = on;\n",
        b"COPY public.a (id, note) FROM stdin;\n",
        b"1\tCOPY public.b (id) FROM stdin;\n",
        b"2\t\\\\.\n",
        b"\\.\n",
        b"COPY public.empty (id) FROM stdin;\n",
        b"\\.\n",
        b"SELECT 1;\n",
    ]
    assert archives.rows_of(script) == {"public.a": 2, "public.empty": 0}


@pytest.mark.parametrize(
    ("expected", "found", "said"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 0}, {}, []),
        ({"a": 2, "b": 1}, {"a": 1, "b": 1}, ["a has 1 rows instead of 2"]),
        ({"a": 2}, {}, ["a has 0 rows instead of 2"]),
        ({}, {"c": 3}, ["c has 3 rows instead of 0"]),
    ],
)
def test_counts_that_differ_are_named(expected: dict[str, int], found: dict[str, int], said: list[str]) -> None:
    assert archives.differences(expected, found) == said


def test_without_the_servers_own_programs_it_is_said_what_to_install() -> None:
    with pytest.raises(Problem, match="Install the package postgresql-client-99"):
        Programs.of(99, "postgresql:///palomar")
