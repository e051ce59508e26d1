"""Writes backups with pg_dump and restores them with pg_restore: a folder, with the number of rows of each table.

The folder holds messages, addresses and sealed secrets, so only its owner may read it.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
import psycopg
from psycopg import sql

from ops.errors import Problem
from ops.local.pg_programs import Programs
from schema.checks.own import UNREADABLE

MANIFEST: Final = "palomar.json"
ROLE: Final = "palomar_worker"  # which sees every tenant's rows

Connection = psycopg.Connection[tuple[Any, ...]]

_COPY: Final = re.compile(rb"COPY (\S+) .*FROM stdin;\n")
_RIGHTS: Final = re.compile(r"\d+; \d+ \d+ (DEFAULT )?ACL ")
_SCHEMA: Final = re.compile(r"\d+; \d+ \d+ SCHEMA - public ")
_ROW_SECURITY: Final = re.compile(r"\d+; \d+ \d+ ROW SECURITY ")

# Every table that holds rows itself; those of a partitioned one are its partitions'.
_TABLES: Final = """
SELECT format('%I.%I', 'public', relname) FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY relname
"""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What stands beside an archive. `rows`: table → how many."""

    made_at: datetime
    postgresql: int  # major version of the server
    last_migration: str
    rows: Mapping[str, int]

    def write(self, folder: Path) -> None:
        """To disk, durably."""
        with (folder / MANIFEST).open("wb") as file:
            file.write(orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Raises Problem where it is no backup of ours."""
        try:
            found = orjson.loads((folder / MANIFEST).read_bytes())
            return cls(
                datetime.fromisoformat(found["made_at"]), found["postgresql"], found["last_migration"], found["rows"]
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Problem(f"{folder} is no backup: {error}.", "Name a folder that palomar backup made.") from error


def differences(expected: Mapping[str, int], found: Mapping[str, int]) -> list[str]:
    """Where two counts of the same tables differ, a sentence each. A table that is not counted has no rows."""
    return [
        f"{table} has {found.get(table, 0)} rows instead of {expected.get(table, 0)}"
        for table in sorted({*expected, *found})
        if expected.get(table, 0) != found.get(table, 0)
    ]


def major(connection: Connection) -> int:
    """The server's major version."""
    return connection.info.server_version // 10000


def last_migration(connection: Connection) -> str:
    """The newest one that was applied. Raises Problem where there is none."""
    try:
        row = connection.execute("SELECT max(migration_id) FROM public._yoyo_migration").fetchone()
    except psycopg.errors.UndefinedTable:
        row = None
    if row is None or row[0] is None:
        raise Problem("The database has no tables of Palomar's.", "Set DATABASE_URL to the one that is meant.")
    return str(row[0])


def count(connection: Connection) -> dict[str, int]:
    """Rows of each table, as the connection's role sees them."""
    counted = {}
    for (table,) in connection.execute(_TABLES).fetchall():
        row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
        assert row is not None
        counted[table] = row[0]
    return counted


# -- making one --------------------------------------------------------------------------------------------------------


def make(database_url: str, folder: Path, jobs: int) -> Manifest:
    """Write a backup into a new folder, which is there once the backup is whole. Raises Problem.

    One snapshot is what pg_dump writes and what is counted; then the archive is read back and counted too.
    """
    if folder.exists():
        raise Problem(f"{folder} is there already.", "Name a new folder: a backup replaces none.")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(ROLE)))
        programs = Programs.of(major(connection), database_url)
        last = last_migration(connection)
        if hidden := [text for (text,) in connection.execute(UNREADABLE.encode()).fetchall()]:
            raise Problem(
                f"The backup would not hold every row: {'; '.join(hidden)}.", "./palomar verify says what to do."
            )
        with snapshot(connection) as name:
            programs.on_database(
                *("pg_dump", "--format=directory", f"--jobs={jobs}", f"--snapshot={name}", "--schema=public"),
                *(f"--role={ROLE}", "--enable-row-security", f"--file={partial}"),
            )
            manifest = Manifest(datetime.now(UTC), major(connection), last, count(connection))
    if wrong := differences(manifest.rows, _rows_of(programs, partial)):
        raise Problem(f"The backup is not whole: {'; '.join(wrong)}.", f"It was left at {partial}. Look at it.")
    partial.chmod(0o700)
    manifest.write(partial)
    partial.rename(folder)
    return manifest


@contextmanager
def snapshot(connection: Connection) -> Iterator[str]:
    """A snapshot that others may read, for as long as the block lasts; no timeout of the server's ends it."""
    connection.execute("SET statement_timeout = 0")
    connection.execute("SET idle_in_transaction_session_timeout = 0")
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    row = connection.execute("SELECT pg_export_snapshot()").fetchone()
    assert row is not None
    yield str(row[0])
    connection.execute("COMMIT")


def _rows_of(programs: Programs, archive: Path) -> dict[str, int]:
    with programs.lines("pg_restore", "--data-only", "--file=-", str(archive)) as lines:
        return rows_of(lines)


def rows_of(script: Iterable[bytes]) -> dict[str, int]:
    """Table → rows, of an SQL script whose data are COPY blocks: a row is a line, and `\\.` ends them."""
    rows: dict[str, int] = {}
    table: str | None = None
    for line in script:
        if table is None:
            if begins := _COPY.match(line):
                table = begins[1].decode()
                rows.setdefault(table, 0)
        elif line == b"\\.\n":
            table = None
        else:
            rows[table] += 1
    return rows


# -- reading one -------------------------------------------------------------------------------------------------------


def load(database_url: str, folder: Path, server: int, jobs: int) -> None:
    """Make everything that the archive holds in an empty database, but no role's rights. Raises Problem.

    Without rights no process of Palomar's can read a row: nothing leaves until `rights` are given.
    """
    programs = Programs.of(server, database_url)
    listed = programs.output("pg_restore", "--list", str(folder)).splitlines()
    late = [line for line in listed if _ROW_SECURITY.match(line)]  # else a foreign key may find its rows hidden
    first = [line for line in listed if not any(kind.match(line) for kind in (_RIGHTS, _SCHEMA, _ROW_SECURITY))]
    for lines in (first, late):
        with _list(lines) as file:
            programs.on_database(
                *("pg_restore", "--exit-on-error", "--no-owner", f"--jobs={jobs}", f"--use-list={file}"), str(folder)
            )


def rights(database_url: str, folder: Path, server: int) -> str:
    """The SQL that gives each role the rights that it had."""
    programs = Programs.of(server, database_url)
    listed = programs.output("pg_restore", "--list", str(folder)).splitlines()
    with _list([line for line in listed if _RIGHTS.match(line)]) as file:
        script = programs.output("pg_restore", f"--use-list={file}", "--file=-", str(folder))
    return "\n".join(line for line in script.splitlines() if not line.startswith("\\"))  # which are psql's alone


@contextmanager
def _list(lines: Sequence[str]) -> Iterator[str]:
    with tempfile.NamedTemporaryFile("w", prefix="palomar-", suffix=".list") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        yield file.name
