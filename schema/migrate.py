"""Apply and take back the migrations beside this file: NNNN_name.sql with NNNN_name.rollback.sql.

yoyo-migrations does the work, each file in one transaction. It guards against two runs at once with a row that a
killed run leaves behind for ever; we hold an advisory lock instead, which ends with its connection, and under that
lock any such row is a dead one.
"""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from yoyo import get_backend, read_migrations
from yoyo.backends.base import DatabaseBackend
from yoyo.migrations import MigrationList

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 0x70616C6F  # "palo"; any number nobody else locks


@dataclass(frozen=True, slots=True)
class Step:
    """One migration: its file's name without the ending, and whether this database has it."""

    name: str
    applied: bool


def apply(database_url: str, folder: Path = MIGRATIONS) -> list[str]:
    """Bring the database up to date, as the role that is to own the tables; returns what was applied, in order.

    Safe to call from several processes at once: one works, the others wait and then find nothing left.
    """
    with _locked(database_url, folder) as (backend, migrations):
        waiting = backend.to_apply(migrations)
        backend.apply_migrations(waiting)
        return [migration.id for migration in waiting]


def rollback(database_url: str, count: int, folder: Path = MIGRATIONS) -> list[str]:
    """Take the last `count` applied migrations back, newest first; returns their names."""
    with _locked(database_url, folder) as (backend, migrations):
        chosen = backend.to_rollback(migrations)[:count]
        backend.rollback_migrations(chosen)
        return [migration.id for migration in chosen]


def status(database_url: str, folder: Path = MIGRATIONS) -> list[Step]:
    """Every migration in order, applied or not."""
    with _locked(database_url, folder) as (backend, migrations):
        applied = set(backend.get_applied_migration_hashes())
        return [Step(migration.id, migration.hash in applied) for migration in migrations]


@contextmanager
def _locked(database_url: str, folder: Path) -> Iterator[tuple[DatabaseBackend, MigrationList]]:
    with psycopg.connect(database_url, autocommit=True) as lock:
        lock.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        # yoyo prints what a SELECT in a migration returns; nobody reads that.
        with redirect_stdout(StringIO()), get_backend(_yoyo_url(database_url)) as backend:
            backend.break_lock()
            yield backend, read_migrations(str(folder))


def _yoyo_url(database_url: str) -> str:
    """The same database in yoyo's words: the scheme names the driver."""
    return urlsplit(database_url)._replace(scheme="postgresql+psycopg").geturl()
