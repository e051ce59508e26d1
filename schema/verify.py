"""Verifies that a database is as Palomar needs it, and as the users of the systems it replaces know it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from schema.checks import checks
from schema.checks.check import Check
from schema.migrate import MIGRATIONS

TIMEOUT: Final = 15  # seconds to connect, and for each query


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a check; it is ✓ where nothing is wrong."""

    check: Check
    wrong: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.wrong


def verify(database_url: str, folder: Path = MIGRATIONS) -> list[Finding]:
    """Run every check, also after one failed. Raises psycopg.OperationalError where the database does not answer."""
    with psycopg.connect(database_url, autocommit=True, connect_timeout=TIMEOUT) as connection:
        connection.execute(f"SET statement_timeout = '{TIMEOUT}s'".encode())
        connection.execute("SET default_transaction_read_only = on")
        connection.execute("SET search_path = public")  # which decides how PostgreSQL prints a name
        return [_find(connection, check) for check in checks(folder)]


def _find(connection: "psycopg.Connection[tuple[Any, ...]]", check: Check) -> Finding:
    try:
        rows = connection.execute(check.query.encode(), check.values or None).fetchall()
    except psycopg.Error as error:
        if connection.broken:
            raise
        return Finding(check, (error.diag.message_primary or str(error),))
    return Finding(check, tuple(text for (text,) in rows))
