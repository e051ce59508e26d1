"""Databases of the tests' own server."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import psycopg
from psycopg import sql

from ops.postgres import OWNER
from ops.stack import Stack


@contextmanager
def cloned(stack: Stack, template: str) -> Iterator[str]:
    """A clone of a database that nobody is connected to, dropped at the end; its URL as its owner, who is no superuser.

    The files are copied: through the write-ahead log it would take the processor three times as long.
    """
    name = f"test_{uuid4().hex}"
    with psycopg.connect(stack.admin_database_url, autocommit=True) as admin:
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy").format(
                sql.Identifier(name), sql.Identifier(template), sql.Identifier(OWNER)
            )
        )
    yield stack.postgres.url(OWNER, name)
    with psycopg.connect(stack.admin_database_url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
