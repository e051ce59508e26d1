"""Migrations run beside live writers: no writer waits long for them, and they wait for no lock without an end."""

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from ops.local.postgres import Postgres
from schema import locks, migrate
from tests.schema.dumping import dump
from tests.schema.people import Tenant, add_conversation, add_tenant, as_worker
from tests.schema.writing import writing

BLOCKED = 0.25  # seconds at most
PATIENCE = 240.0  # seconds for one migration: between writers on a slow machine the moments for its locks are rare
LIVE = (20_000, pytest.param(100_000, marks=pytest.mark.soak))  # conversations
BEFORE = 4  # migrations that a system in use had before those that came with its data

FURNISH = (
    "INSERT INTO contacts (id, tenant_id, name) SELECT gen_random_uuid(), %(tenant)s, 'Ana ' || n "
    "FROM generate_series(1, %(live)s) AS n",
    """
    INSERT INTO conversations (id, tenant_id, channel_id, contact_id, provider, address, recipient, phone)
    SELECT gen_random_uuid(), tenant_id, %(channel)s, id, 'twilio', '+34' || n, '+34' || n, '+34' || n
    FROM (SELECT c.*, 600000000 + row_number() OVER () AS n FROM contacts c WHERE tenant_id = %(tenant)s) AS c
    """,
    """
    INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, content, status)
    SELECT gen_random_uuid(), tenant_id, id, channel_id, 'twilio', 'inbound', 'user', 'hola', 'received'
    FROM conversations WHERE tenant_id = %(tenant)s
    """,
)


def furnish(database_url: str, live: int) -> tuple[Tenant, list[UUID]]:
    """A tenant with so many conversations of one message each, and a few of them."""
    with as_worker(database_url) as worker:
        tenant = add_tenant(worker)
        for statement in FURNISH:
            worker.execute(statement, {"tenant": tenant.id, "channel": tenant.channel_id, "live": live})
        return tenant, [id for (id,) in worker.execute("SELECT id FROM conversations LIMIT 200").fetchall()]


def invalid_indexes(database_url: str) -> list[str]:
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid").fetchall()
        return [name for (name,) in rows]


@pytest.mark.alone
@pytest.mark.timeout(600)
@pytest.mark.parametrize("live", LIVE)
def test_no_writer_of_many_live_conversations_is_blocked_for_long(
    database_url: str, postgres: Postgres, live: int
) -> None:
    names = [step.name for step in migrate.status(database_url)]
    fresh = dump(postgres, database_url)
    migrate.rollback(database_url, len(names) - BEFORE)
    tenant, conversations = furnish(database_url, live)
    with writing(database_url, tenant, conversations) as control:
        time.sleep(2)
    with writing(database_url, tenant, conversations) as record:
        assert migrate.apply(database_url, patience=PATIENCE) == names[BEFORE:]
    figures = (
        f"blocked {record.longest_blocked * 1000:.0f} ms; longest statement {record.longest_statement * 1000:.0f} ms, "
        f"without a migration {control.longest_statement * 1000:.0f} ms; {record.transactions} transactions"
    )
    assert record.longest_blocked <= BLOCKED, figures
    assert record.transactions > 0
    assert invalid_indexes(database_url) == []
    assert dump(postgres, database_url) == fresh, "migrated with rows and writers, it is the schema of a fresh one"
    with as_worker(database_url) as worker:
        written = worker.execute("SELECT count(*) FROM messages").fetchone()
        assert written == (live + control.transactions + record.transactions,)


# -- migrations of our own --------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The real migrations, to add to."""
    return Path(shutil.copytree(migrate.MIGRATIONS, tmp_path / "migrations"))


@pytest.fixture
def add(folder: Path) -> Callable[[str], str]:
    def added(text: str) -> str:
        (folder / "9999_added.sql").write_text(text)
        (folder / "9999_added.rollback.sql").write_text("SELECT 1;\n")
        return "9999_added"

    return added


@pytest.fixture
def live(database_url: str) -> tuple[Tenant, list[UUID]]:
    with as_worker(database_url) as worker:
        tenant = add_tenant(worker)
        return tenant, [add_conversation(worker, tenant) for _ in range(8)]


@contextmanager
def reading(database_url: str, table: str = "messages") -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A transaction that has read this table and stays open."""
    with psycopg.connect(database_url, application_name="forgotten report") as connection:
        connection.execute(f"SELECT FROM {table} LIMIT 1".encode())
        yield connection


def test_a_migration_that_holds_writers_up_is_given_up_and_leaves_nothing(
    database_url: str, live: tuple[Tenant, list[UUID]], folder: Path, add: Callable[[str], str]
) -> None:
    add("ALTER TABLE messages ADD COLUMN slow text;\nSELECT pg_sleep(1.5);\n")
    with writing(database_url, *live) as record, pytest.raises(locks.Blocked, match="held up writers") as caught:
        migrate.apply(database_url, folder, patience=3)
    assert caught.value.name == "9999_added"
    assert record.longest_blocked <= BLOCKED
    with psycopg.connect(database_url) as connection:
        found = connection.execute("SELECT FROM pg_attribute WHERE attname = 'slow'").fetchone()
        assert found is None
    assert [step.name for step in migrate.status(database_url, folder) if not step.applied] == ["9999_added"]


def test_a_migration_waits_for_a_long_transaction_and_blocks_no_writer(
    database_url: str, live: tuple[Tenant, list[UUID]], folder: Path, add: Callable[[str], str]
) -> None:
    name = add("ALTER TABLE messages ADD COLUMN quick text;\n")
    with writing(database_url, *live) as record, ThreadPoolExecutor(1) as pool:
        with reading(database_url):
            migrating = pool.submit(migrate.apply, database_url, folder)
            time.sleep(2)
            assert not migrating.done()
        assert migrating.result(timeout=60) == [name]
    assert record.longest_blocked <= BLOCKED


AGAINST_THE_WRITERS = """
ALTER TABLE messages ADD COLUMN added text;
ALTER TABLE conversations ADD COLUMN added text;
ALTER TABLE contacts ADD COLUMN added text;
"""


def test_a_migration_in_another_order_than_the_writers_gets_its_locks(
    database_url: str, live: tuple[Tenant, list[UUID]], folder: Path, add: Callable[[str], str]
) -> None:
    """There is always a writer that holds contacts and needs messages next."""
    name = add(AGAINST_THE_WRITERS)
    with writing(database_url, *live, think=0.01) as record:
        while record.transactions < 8:
            time.sleep(0.05)
        assert migrate.apply(database_url, folder, patience=20) == [name]
    assert record.longest_blocked <= BLOCKED


def lock(table: str, mode: str = "ShareRowExclusiveLock") -> locks.TableLock:
    return locks.TableLock(table, mode)


@pytest.mark.parametrize(
    ("first", "waited_for", "then"),
    [
        ([], [], []),
        ([], ["b"], ["b"]),
        ([], ["b", "a"], ["a", "b"]),
        (["b"], ["a"], ["a", "b"]),
        (["a", "b"], ["b"], ["b", "a"]),
        (["a", "b"], [], ["a", "b"]),
    ],
)
def test_what_was_not_got_comes_first(first: list[str], waited_for: list[str], then: list[str]) -> None:
    assert locks.put_first([*map(lock, first)], [*map(lock, waited_for)]) == [*map(lock, then)]


def test_a_table_is_locked_in_the_mode_that_was_waited_for_last() -> None:
    stronger = lock("a", "AccessExclusiveLock")
    assert locks.put_first([lock("a")], [lock("a"), lock("b"), stronger]) == [stronger, lock("b")]
    assert stronger.statement.as_string() == "LOCK TABLE ONLY a IN ACCESS EXCLUSIVE MODE"


def test_who_stands_in_the_way_is_named(database_url: str, folder: Path, add: Callable[[str], str]) -> None:
    add("ALTER TABLE messages ADD COLUMN never text;\n")
    with reading(database_url) as open_transaction:
        pid = open_transaction.info.backend_pid
        with pytest.raises(locks.Blocked) as caught:
            migrate.apply(database_url, folder, patience=1)
    assert [session.pid for session in caught.value.sessions] == [pid]
    assert "did not get its locks" in str(caught.value)
    assert f"pid {pid} (forgotten report, idle in transaction" in str(caught.value)


CONCURRENTLY = "-- transactional: false\n\nCREATE INDEX CONCURRENTLY {guard} messages_added ON messages (content);\n"


@pytest.mark.parametrize("guard", ["", "IF NOT EXISTS"])
def test_an_index_that_broke_off_is_made_again(
    database_url: str, folder: Path, add: Callable[[str], str], guard: str
) -> None:
    name = add(CONCURRENTLY.format(guard=guard))
    with as_worker(database_url) as writer, writer.transaction():
        writer.execute("DELETE FROM messages")  # the index waits for every transaction that has written to its table
        with pytest.raises(locks.Blocked, match="9999_added"):
            migrate.apply(database_url, folder, patience=1)
        assert invalid_indexes(database_url) == ["messages_added"]
    assert migrate.apply(database_url, folder) == [name]
    assert invalid_indexes(database_url) == []
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT to_regclass('messages_added') IS NOT NULL").fetchone() == (True,)


def test_an_error_other_than_a_lock_is_raised_at_once(
    database_url: str, folder: Path, add: Callable[[str], str]
) -> None:
    add("SELECT 1/0;\n")
    started = time.monotonic()
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate.apply(database_url, folder)
    assert time.monotonic() - started < locks.PATIENCE / 2
