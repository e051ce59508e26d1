"""Databases of the tests' own server.

A test's database is a clone of one that was migrated once. To clone and drop one takes 0.25 s of the processor, for the
six hundred files that it has; so the clone goes on to the next test where that finds in it what a new one holds:
`Contents` compares the catalogue, empties the tables, and gives up whatever it can't bring back.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from uuid import uuid4

import psycopg
from psycopg import sql

from ops.local.postgres import OWNER, SUPERUSER, Postgres
from schema import migrate
from tests.support.database_contents import Connection, Contents

TEMPLATE = "template_palomar"


def migrated(postgres: Postgres) -> str:
    """The name of a migrated, empty database that others are cloned from, made anew; those of a killed run are gone."""
    template = sql.Identifier(TEMPLATE)
    with psycopg.connect(postgres.admin_url, autocommit=True) as admin:
        for (left,) in admin.execute("SELECT datname FROM pg_database WHERE datname LIKE 'test\\_%'").fetchall():
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(left)))
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(template))
        admin.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(template, sql.Identifier(OWNER)))
    migrate.apply(postgres.url(OWNER, TEMPLATE))
    return TEMPLATE


def kept_template(postgres: Postgres) -> str:
    """As `migrated`, of a server that stays: what an earlier run made of the same migrations, or a new one."""
    digest = hashlib.sha256()
    for file in sorted(migrate.MIGRATIONS.iterdir()):
        digest.update(file.name.encode() + file.read_bytes())
    name = f"{TEMPLATE}_{digest.hexdigest()[:16]}"
    with psycopg.connect(postgres.admin_url, autocommit=True) as admin:
        if not admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
            made = sql.Identifier(migrated(postgres))
            admin.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(made, sql.Identifier(name)))
    return name


@contextmanager
def cloned(postgres: Postgres, template: str) -> Iterator[str]:
    """A database as new, for one test; its URL as its owner, who is no superuser.

    The files are copied: through the write-ahead log it would take the processor three times as long.
    """
    clones = pristine(postgres, template)
    name = clones.take()
    yield postgres.url(OWNER, name)
    clones.give_back(name)


@cache
def pristine(postgres: Postgres, template: str) -> "Pristine":
    """The clones of this template that this process has."""
    return Pristine(postgres, template)


class Pristine:
    """Clones of one template, each used by one test at a time and again by the next."""

    def __init__(self, postgres: Postgres, template: str) -> None:
        self._postgres = postgres
        self._template = template
        self._free: list[str] = []
        self._as_new: Contents | None = None

    def take(self) -> str:
        if self._free:
            return self._free.pop()
        name = f"test_{uuid4().hex}"
        with psycopg.connect(self._postgres.admin_url, autocommit=True) as admin:
            admin.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy").format(
                    sql.Identifier(name), sql.Identifier(self._template), sql.Identifier(OWNER)
                )
            )
        if self._as_new is None:
            with self._superuser(name) as connection:
                self._as_new = Contents(connection)
        return name

    def give_back(self, name: str) -> None:
        """Bring it back to what a new one holds, or drop it."""
        assert self._as_new is not None
        with self._superuser(name) as connection:
            restored = _alone(connection) and self._as_new.restore(connection)
        if restored:
            self._free.append(name)
            return
        self._drop(name)

    def close(self) -> None:
        """Drop those that no test uses, which a server that stays running would keep for ever."""
        while self._free:
            self._drop(self._free.pop())

    def _drop(self, name: str) -> None:
        with psycopg.connect(self._postgres.admin_url, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _superuser(self, name: str) -> Connection:
        return psycopg.connect(self._postgres.url(SUPERUSER, name), autocommit=True)


def _alone(connection: Connection) -> bool:
    """End the other sessions of this database. Returns whether they ended within five seconds."""
    deadline = time.monotonic() + 5
    while connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    ).fetchall():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
