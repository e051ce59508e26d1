"""Verifies that a database is as Palomar needs it, and as the users of the systems it replaces know it."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from schema.checks import checks
from schema.checks.check import Check
from schema.migrate import MIGRATIONS

TIMEOUT: Final = 15.0  # seconds to connect, and for each query
SHOWN: Final = 5  # of what is wrong with one check


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a check; it is ✓ where nothing is wrong. Where it could not be made, `wrong` says why."""

    check: Check
    wrong: tuple[str, ...]
    was_made: bool = True

    @property
    def ok(self) -> bool:
        return not self.wrong

    @property
    def detail(self) -> str:
        """The first lines of what is wrong."""
        more = [f"and {len(self.wrong) - SHOWN} more"] if len(self.wrong) > SHOWN else []
        return "\n".join([*self.wrong[:SHOWN], *more])


def verify(database_url: str, folder: Path = MIGRATIONS, *, within: float = math.inf) -> list[Finding]:
    """Run every check, also after one failed. Those for which `within` seconds leave no time are not made.

    Raises psycopg.OperationalError where the database does not answer.
    """
    until = time.monotonic() + within
    connect_timeout = max(1, math.ceil(min(TIMEOUT, within)))
    with psycopg.connect(database_url, autocommit=True, connect_timeout=connect_timeout) as connection:
        connection.execute("SET default_transaction_read_only = on")
        connection.execute("SET search_path = public")  # which decides how PostgreSQL prints a name
        return [_find(connection, check, until - time.monotonic()) for check in checks(folder)]


def _find(connection: "psycopg.Connection[tuple[Any, ...]]", check: Check, left: float) -> Finding:
    if left <= 0:
        return Finding(check, ("not checked: the checks before it took all the time",), was_made=False)
    milliseconds = math.ceil(min(TIMEOUT, left) * 1000)
    try:
        connection.execute("SELECT set_config('statement_timeout', %s, false)", (str(milliseconds),))
        rows = connection.execute(check.query.encode(), check.values or None).fetchall()
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.QueryCanceled) as error:
        return Finding(check, (f"not checked: {error.diag.message_primary or error}",), was_made=False)
    except psycopg.Error as error:
        if connection.broken:
            raise
        return Finding(check, (error.diag.message_primary or str(error),))
    return Finding(check, tuple(text for (text,) in rows))
