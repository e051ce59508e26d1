"""Databases of the tests' own server."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
from psycopg import sql

from ops.local.postgres import OWNER, Postgres
from schema import migrate

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
    """A clone of a database that nobody is connected to, dropped at the end; its URL as its owner, who is no superuser.

    The files are copied: through the write-ahead log it would take the processor three times as long.
    """
    name = f"test_{uuid4().hex}"
    with psycopg.connect(postgres.admin_url, autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy").format(
                sql.Identifier(name), sql.Identifier(template), sql.Identifier(OWNER)
            )
        )
    yield postgres.url(OWNER, name)
    with psycopg.connect(postgres.admin_url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
