"""Repairs a schema: makes again what its migrations made and a script has dropped or changed since.

To learn how the parts should be, it runs the applied migrations once more, in a schema of their own, in a transaction
that it rolls back. It makes what is missing or different, touches nothing else, and keeps the rows of tables that are
there. A row whose foreign key names a row of a dropped table is deleted or loses the reference, as its ON DELETE says.
"""

import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from schema import locks, migrate
from schema.checks.own import MADE
from schema.migrate import MIGRATIONS
from schema.parts import Connection, Part, parts
from schema.verify import Finding, verify

_ASIDE: Final = "palomar_damaged"
_CONCURRENTLY: Final = re.compile(r"\bCONCURRENTLY\b", re.I)


class NotRepaired(Exception):
    """What could not be made again, and PostgreSQL's reason."""

    def __init__(self, part: Part, error: psycopg.Error) -> None:
        super().__init__(f"{part.name} can't be made again: {str(error).strip()}")


def damage(database_url: str, folder: Path = MIGRATIONS, *, pending: bool = False) -> list[Finding]:
    """What is missing of what the applied migrations made; unless some are `pending`, also what is otherwise."""
    wrong = [found for found in verify(database_url, folder) if found.check.mended_by_repair and not found.ok]
    return [found for found in wrong if not pending or found.check.name in MADE]


def repair(database_url: str, folder: Path = MIGRATIONS, *, patience: float = locks.PATIENCE) -> list[str]:
    """Make what is missing or different; returns its names. Raises NotRepaired, with nothing but indexes changed.

    The role must own schema public, as a database's owner does.
    """
    with migrate.locked(database_url, folder, patience) as run:
        with psycopg.connect(database_url, autocommit=True) as session:
            wanted = _as_migrated(session, migrate.statements_applied(run))
            with session.transaction():
                there = parts(session)
        broken = [
            part for name, part in wanted.items() if name not in there or there[name].definition != part.definition
        ]
        at_once = [part for part in broken if not part.is_index]
        if at_once:
            locks.insist("repair", partial(_make, at_once), run.sessions, run.lock, patience=patience)
        for part in (part for part in broken if part.is_index):
            otherwise = (f"DROP INDEX CONCURRENTLY {part.name.split()[1]}",) if part.name in there else ()
            for statement in (*otherwise, *part.statements):
                locks.insist(part.name, migrate.alone(statement, patience), run.sessions, run.lock, patience=patience)
        with psycopg.connect(database_url, autocommit=True) as session:
            session.execute("SELECT public.make_partitions(7)")
            session.execute(_PROTECT_PARTITIONS)
    return [part.name for part in broken]


# A migration gave those that were there the policies and rights piece by piece, which is not run again.
_PROTECT_PARTITIONS: Final = """
DO $$
DECLARE
    partition record;
BEGIN
    FOR partition IN
        SELECT oid::regclass AS name, EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid) AS protected FROM pg_class c
        WHERE relnamespace = 'public'::regnamespace AND relispartition AND relkind = 'r'
    LOOP
        IF partition.protected THEN
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO palomar_worker', partition.name);
        ELSE
            PERFORM public.protect_tenant_table(partition.name);
        END IF;
    END LOOP;
END
$$
"""
_YOYOS: Final = "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename ~ 'yoyo'"


def _as_migrated(session: Connection, statements: Iterable[str]) -> dict[str, Part]:
    with session.transaction(force_rollback=True):
        session.execute(f"ALTER SCHEMA public RENAME TO {_ASIDE}".encode())
        session.execute("CREATE SCHEMA public")
        session.execute("SET LOCAL search_path = public")
        for (table,) in session.execute(_YOYOS, (_ASIDE,)).fetchall():  # the migrations grant rights on them
            named = sql.Identifier(table)
            session.execute(sql.SQL("CREATE TABLE {} (LIKE {}.{})").format(named, sql.Identifier(_ASIDE), named))
        for statement in statements:
            if migrate.WORKS_IN_PIECES.search(statement):  # on rows that are there; here there are none
                continue
            with session.transaction():
                migrate.execute(session, _CONCURRENTLY.sub("", statement))
        session.execute(_PROTECT_PARTITIONS)
        return parts(session)


def _make(broken: list[Part], session: Connection, first: Sequence[locks.TableLock]) -> None:
    """All of them in one transaction: repeated as long as a pass makes any, because one may need another."""
    migrate.wait_briefly(session)
    with session.transaction():
        locks.take(session, first)
        session.execute("SET LOCAL search_path = public")
        session.execute("SET LOCAL check_function_bodies = off")
        while broken:
            failed: list[tuple[Part, psycopg.Error]] = []
            for part in broken:
                try:
                    with session.transaction():
                        for statement in part.statements:
                            with session.transaction():
                                migrate.execute(session, statement)
                except (psycopg.ProgrammingError, psycopg.IntegrityError) as error:
                    failed.append((part, error))
            if len(failed) == len(broken):
                raise NotRepaired(*failed[0]) from failed[0][1]
            broken = [part for part, _ in failed]
