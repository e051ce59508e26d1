"""Applies and rolls back the migrations beside this file: NNNN_name.sql with NNNN_name.rollback.sql.

yoyo-migrations reads the files, orders them and keeps the list of those applied; we run them. A file is one transaction
together with its entry in that list. One that begins with `-- transactional: false` is a statement at a time instead
(CREATE INDEX CONCURRENTLY takes no other), and must bear being run again from its start.

Statements run as the owner of the tables. Row level security holds for it too: it sees no tenant's row. PostgreSQL
refuses a statement that needs such rows, a foreign key's check included; it runs again with the rows visible.

Both run beside live writers: see schema/locks.py. yoyo guards against two runs at once with a row that a killed run
leaves behind for ever. We hold an advisory lock, which ends with its connection; under that lock any such row is left
from a killed run.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from yoyo import get_backend, read_migrations
from yoyo.backends.base import DatabaseBackend
from yoyo.migrations import Migration, MigrationList, read_sql_migration

from schema import locks
from schema.locks import Connection

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 0x70616C6F  # "palo"; any number that no other program locks

# So that PostgreSQL releases the lock of a host that vanished within half a minute, instead of hours.
_PEER: Final = {"tcp_keepalives_idle": 15, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 3}

Direction = Literal["apply", "rollback"]

_REFUSES_FILTERED_ROWS: Final = "check_enable_rls"  # PostgreSQL's own; its messages may be in any language
# From PostgreSQL 16 on a membership may lack the right to take the role, and the right to grant it, which some
# migrations need to see the tenants' rows. Before, each membership had the one and a role with CREATEROLE the other.
_NOT_GRANTED: Final = """
SELECT rolname FROM pg_roles
WHERE rolname IN ('palomar_api', 'palomar_worker') AND CASE
    WHEN current_setting('server_version_num')::int < 160000 THEN NOT pg_has_role(oid, 'MEMBER')
    ELSE NOT pg_has_role(oid, 'SET') OR %s AND NOT pg_has_role(oid, 'MEMBER WITH ADMIN OPTION') END
ORDER BY rolname
"""


class NotGranted(Exception):
    """The owner of this database may not take the roles that processes take: every process would be refused.

    Roles belong to the whole cluster. The owner of another database made them when it was migrated, and from
    PostgreSQL 16 on only that role and a superuser may grant them. One of these has to run `statement`.
    """

    def __init__(self, roles: Sequence[str], owner: str, *, with_options: bool) -> None:
        granted = sql.SQL(", ").join(map(sql.Identifier, roles))
        statement = sql.SQL("GRANT {} TO {}").format(granted, sql.Identifier(owner)).as_string()
        self.statement = f"{statement}{' WITH ADMIN TRUE, INHERIT FALSE, SET TRUE' * with_options};"
        super().__init__(f"{owner} may not take and grant {', '.join(roles)}: another role made them in this cluster.")


_CONCURRENTLY: Final = re.compile(
    r"\b(CREATE\s+(UNIQUE\s+)?INDEX|DROP\s+INDEX|REINDEX)\b.*?\bCONCURRENTLY\b", re.I | re.S
)
WORKS_IN_PIECES: Final = re.compile(r"\bCOMMIT;|^\s*CALL\b", re.I | re.M)  # so do our procedures
_INDEX_MADE: Final = re.compile(
    r"\bCREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?(\w+)\s+ON\b", re.I
)


@dataclass(frozen=True, slots=True)
class Step:
    """One migration: its file's name without the ending, and whether this database has it."""

    name: str
    applied: bool


@dataclass(frozen=True, slots=True)
class Run:
    """One run over one database: under the lock, with the list of what there is and what was applied."""

    sessions: locks.Sessions
    patience: float
    lock: Connection
    backend: DatabaseBackend
    migrations: MigrationList


def apply(database_url: str, folder: Path = MIGRATIONS, *, patience: float = locks.PATIENCE) -> list[str]:
    """Bring the database up to date, as the role that is to own the tables; returns what was applied, in order.

    Safe to call from several processes at once: one works, the others wait and then find nothing left. Safe beside
    live writers: none waits for longer than a quarter of a second. Raises locks.Blocked where a migration can't get its
    locks for `patience` seconds: those before it stay applied. Raises NotGranted where no process could work there.
    """
    with locked(database_url, folder, patience) as run:
        missing = run.backend.to_apply(run.migrations)
        _require_roles(run.lock, to_migrate=bool(missing))
        return [_carry_out(run, migration, "apply") for migration in missing]


def rollback(
    database_url: str, count: int, folder: Path = MIGRATIONS, *, patience: float = locks.PATIENCE
) -> list[str]:
    """Take the last `count` applied migrations back, newest first; returns their names. Raises locks.Blocked."""
    with locked(database_url, folder, patience) as run:
        chosen = run.backend.to_rollback(run.migrations)[:count]
        return [_carry_out(run, migration, "rollback") for migration in chosen]


def status(database_url: str, folder: Path = MIGRATIONS) -> list[Step]:
    """Every migration in order, applied or not."""
    with locked(database_url, folder, locks.PATIENCE) as run:
        applied = set(run.backend.get_applied_migration_hashes())
        return [Step(migration.id, migration.hash in applied) for migration in run.migrations]


def _require_roles(session: Connection, *, to_migrate: bool) -> None:
    """Raises NotGranted. Roles that are not there yet are made by the first migration, and are its maker's to grant."""
    if roles := [role for (role,) in session.execute(_NOT_GRANTED, (to_migrate,))]:
        (owner,) = session.execute("SELECT current_user").fetchone() or ("?",)
        raise NotGranted(roles, owner, with_options=session.info.server_version >= 160000)


@contextmanager
def locked(database_url: str, folder: Path, patience: float) -> Iterator[Run]:
    """One run, beside which there is no other."""
    with psycopg.connect(database_url, autocommit=True) as lock:
        for setting, value in _PEER.items():
            lock.execute(sql.SQL("SET {} = {}").format(sql.Identifier(setting), sql.Literal(value)))
        lock.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        with (
            get_backend(_yoyo_url(database_url)) as backend,
            closing(locks.Sessions(database_url)) as sessions,
        ):
            backend.break_lock()
            backend.ensure_internal_schema_updated()
            yield Run(sessions, patience, lock, backend, read_migrations(str(folder)))


def statements_applied(run: Run) -> list[str]:
    """The statements of the migrations that this database has, in their order."""
    applied = set(run.backend.get_applied_migration_hashes())
    found = [migration for migration in run.migrations if migration.hash in applied]
    return [statement for migration in found for statement in read_sql_migration(str(migration.path))[2]]


def _yoyo_url(database_url: str) -> str:
    """The same database in yoyo's words: the scheme names the driver."""
    return urlsplit(database_url)._replace(scheme="postgresql+psycopg").geturl()


def _carry_out(run: Run, migration: Migration, direction: Direction) -> str:
    migration.load()
    path = Path(migration.path)
    _, _, statements = read_sql_migration(str(path if direction == "apply" else path.with_suffix(".rollback.sql")))
    if migration.use_transactions:

        def whole(session: Connection, first: Sequence[locks.TableLock]) -> None:
            wait_briefly(session)
            with session.transaction():
                locks.take(session, first)
                for statement in statements:
                    with session.transaction():
                        execute(session, statement)
                _note(session, run.backend, migration, direction)

        _insist(run, migration, whole)
    else:
        for statement in statements:
            _insist(run, migration, alone(statement, run.patience))
        with run.lock.transaction():
            _note(run.lock, run.backend, migration, direction)
    run.backend.log_migration(migration, direction)
    return str(migration.id)


def _insist(run: Run, migration: Migration, attempt: locks.Attempt) -> None:
    locks.insist(migration.id, attempt, run.sessions, run.lock, patience=run.patience)


def alone(statement: str, patience: float) -> locks.Attempt:
    """A try of a statement outside a transaction."""

    def attempt(session: Connection, first: Sequence[locks.TableLock]) -> None:
        if _CONCURRENTLY.search(statement):
            # It blocks no session, and waits only for transactions that began before it.
            wait_briefly(session, patience)
            if made := _INDEX_MADE.search(statement):
                _drop_if_invalid(session, made[1].lower())
            session.execute(statement.encode())
        elif WORKS_IN_PIECES.search(statement):  # it takes the role that sees the rows by itself
            wait_briefly(session)
            session.execute(statement.encode())
        else:
            wait_briefly(session)
            with session.transaction():
                locks.take(session, first)
                execute(session, statement)

    return attempt


def execute(session: Connection, statement: str) -> None:
    """Run a statement in the open transaction, with the tenants' rows visible where it needs them."""
    try:
        with session.transaction():
            # Without this it would skip all rows in silence: an UPDATE would change none, a key be valid unchecked.
            session.execute("SET LOCAL row_security = off")
            session.execute(statement.encode())
    except psycopg.errors.InsufficientPrivilege as error:
        if error.diag.source_function != _REFUSES_FILTERED_ROWS:
            raise
        with _rows_in_sight(session):
            session.execute(statement.encode())


@contextmanager
def _rows_in_sight(session: Connection) -> Iterator[None]:
    """Let the owner see what palomar_worker sees, until the end of the block. No other session sees the grant before
    the transaction's end.

    It takes the right to grant that role. From PostgreSQL 16 on the role's maker has it; before, any CREATEROLE role.
    """
    session.execute("SET LOCAL row_security = on")
    if (session.execute("SELECT pg_has_role('palomar_worker', 'USAGE')").fetchone() or (False,))[0]:
        yield
        return
    by_membership = session.info.server_version >= 160000
    session.execute("GRANT palomar_worker TO CURRENT_USER" + " WITH INHERIT TRUE" * by_membership)
    yield
    session.execute("SET LOCAL ROLE NONE")  # the statement may have taken another one, which may grant nothing
    if by_membership:
        session.execute("GRANT palomar_worker TO CURRENT_USER WITH INHERIT FALSE")
    else:
        session.execute("REVOKE palomar_worker FROM CURRENT_USER")


def wait_briefly(session: Connection, seconds: float = locks.LOCK_TIMEOUT) -> None:
    session.execute(sql.SQL("SET lock_timeout = {}").format(sql.Literal(f"{seconds * 1000:.0f}ms")))


def _drop_if_invalid(session: Connection, name: str) -> None:
    """What a CREATE INDEX CONCURRENTLY that broke off leaves behind: it costs every write, and nothing uses it."""
    found = session.execute(
        "SELECT FROM pg_index WHERE indexrelid = to_regclass(quote_ident(%s)) AND NOT indisvalid", (name,)
    )
    if found.fetchone() is not None:
        session.execute(sql.SQL("DROP INDEX CONCURRENTLY {}").format(sql.Identifier(name)))


def _note(session: Connection, backend: DatabaseBackend, migration: Migration, direction: Direction) -> None:
    """Put it on yoyo's list or take it off."""
    table = sql.Identifier(backend.migration_table)
    if direction == "apply":
        entry = sql.SQL(
            "INSERT INTO {} (migration_hash, migration_id, applied_at_utc) "
            "VALUES (%s, %s, clock_timestamp() AT TIME ZONE 'UTC')"
        )
        session.execute(entry.format(table), (migration.hash, migration.id))
    else:
        session.execute(sql.SQL("DELETE FROM {} WHERE migration_hash = %s").format(table), (migration.hash,))
