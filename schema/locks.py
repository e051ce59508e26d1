"""Runs migrations beside live writers: bounds how long they wait for locks, and how long writers wait for them.

A statement that waits for a lock on a table blocks every later session at that table, so it waits briefly and is tried
again. It also holds its locks briefly: where a writer has waited too long for one, the statement is canceled, which
lets the writer go on, and is tried again as well.

A migration that takes tables in another order than the writers may never get them: it holds what they need next, and
waits for what they hold. So the next try begins with the lock that the last one did not get.
"""

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from psycopg import sql

from shared.resilience.backoff import Backoff

LOCK_TIMEOUT: Final = 0.1  # seconds a statement waits for a lock
BLOCKING: Final = 0.15  # seconds after which we release a writer that waits for us; with LOOK it stays below 0.25
LOOK: Final = 0.025  # seconds between two looks at the sessions that wait
PATIENCE: Final = 60.0  # seconds in all, for one migration
PAUSE: Final = Backoff(first=0.075, longest=1.5, factor=1.5, jitter=1 / 3)  # seconds between two tries: 0.05 to 2
AUTOVACUUM: Final = 5.0  # seconds; PostgreSQL cancels autovacuum for a session that has waited a deadlock_timeout (1 s)

_PASSING: Final = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.QueryCanceled,
)

Connection = psycopg.Connection[tuple[Any, ...]]

_IN_OUR_WAY = """
SELECT b.pid, a.application_name, a.usename, a.backend_type, a.state,
    extract(epoch FROM clock_timestamp() - a.xact_start)::float8
FROM unnest(pg_blocking_pids(%s)) AS b (pid) LEFT JOIN pg_stat_activity a ON a.pid = b.pid
ORDER BY a.xact_start
"""
_WAITING_FOR = """
SELECT l.relation::regclass::text, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.pid = %s AND NOT l.granted AND l.locktype = 'relation' AND c.relkind IN ('r', 'p')
"""
# Readers and writers of a table, and sessions that wait for a row. Another DDL or VACUUM may wait.
_LET_GO_ON = """
SELECT pg_cancel_backend(%(pid)s) WHERE EXISTS (
    SELECT FROM pg_locks
    WHERE NOT granted AND waitstart < clock_timestamp() - make_interval(secs => %(blocking)s)
        AND (locktype IN ('tuple', 'transactionid')
            OR mode IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock'))
        AND %(pid)s = ANY (pg_blocking_pids(pid)))
"""


@dataclass(frozen=True, slots=True)
class Session:
    """A session with a lock that a migration needs. What is None PostgreSQL shows only to the session's own role."""

    pid: int  # 0: a prepared transaction
    application: str | None
    user: str | None
    kind: str | None
    state: str | None
    seconds: float | None  # since its transaction began

    def __str__(self) -> str:
        who = self.application or self.kind or self.user or "unknown"
        state = "" if self.state is None else f", {self.state}"
        age = "" if self.seconds is None else f", transaction open for {self.seconds:.0f} s"
        return f"pid {self.pid} ({who}{state}{age})" if self.pid else "a prepared transaction (see pg_prepared_xacts)"


@dataclass(frozen=True, slots=True)
class TableLock:
    """A lock that a migration needs: the table as regclass writes it, the mode as pg_locks does."""

    table: str
    mode: str  # such as ShareRowExclusiveLock

    @property
    def statement(self) -> sql.Composed:
        mode = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.mode.removesuffix("Lock")).upper()
        return sql.SQL("LOCK TABLE ONLY {} IN {} MODE").format(sql.SQL(self.table), sql.SQL(mode))


class Blocked(Exception):
    """A migration did not get its locks, or held up writers each time it had them; nothing of it was applied."""

    def __init__(self, name: str, seconds: float, sessions: list[Session], *, held_up_writers: bool) -> None:
        self.name = name
        self.sessions = sessions
        why = "it held up writers each time it had its locks" if held_up_writers else "it did not get its locks"
        in_the_way = "; ".join(map(str, sessions)) or "no session that could be seen"
        super().__init__(f"{name} was given up after {seconds:.0f} s: {why}. In its way: {in_the_way}.")


@dataclass
class Seen:
    """What was seen during one try."""

    sessions: list[Session] = field(default_factory=list)
    waited_for: list[TableLock] = field(default_factory=list)  # the last one is what it did not get, if it failed
    let_go_on: bool = False


# Takes these locks first in its transaction, where it has one, and then does its work.
Attempt = Callable[[Connection, Sequence[TableLock]], None]


class Sessions:
    """Sessions in autocommit for one attempt after the other: as new each time, though one that went well goes on.

    A migration is hundreds of statements, and a new session costs as much as one of them.
    """

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._kept: Connection | None = None

    def take(self) -> Connection:
        session, self._kept = self._kept, None
        return session or psycopg.connect(self._url, autocommit=True, prepare_threshold=None)

    def give_back(self, session: Connection) -> None:
        """Keep it for the next attempt, without anything that was set in it."""
        try:
            session.execute("DISCARD ALL")
        except psycopg.Error:
            session.close()
        else:
            self._kept = session

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()


def insist(name: str, attempt: Attempt, sessions: Sessions, observer: Connection, *, patience: float) -> None:
    """Call `attempt` with a session in autocommit, one that is as new each time, until it gets its locks.

    `attempt` must bear being called again after it raised. `observer` is another connection in autocommit, idle
    meanwhile. Raises Blocked once `patience` seconds are over, and what `attempt` raises for other reasons at once.
    """
    started, attempts = time.monotonic(), 0
    first: list[TableLock] = []
    early = True  # it may hold up writers longer; so a try that did is followed by one that takes its locks as it goes
    in_the_way: list[Session] = []
    while True:
        cause: psycopg.Error | None = None
        with _closing_failed(sessions.take()) as session, _watched(observer, session) as seen:
            try:
                _keep_autovacuum_away(session, {lock.table for lock in first})
                attempt(session, first if early else ())
            except _PASSING as error:
                cause = error
        if cause is None and not seen.let_go_on:  # else what cancels it may be on its way to it
            sessions.give_back(session)
            return
        session.close()
        if cause is None:
            return
        if isinstance(cause, psycopg.errors.QueryCanceled) and not seen.let_go_on:
            raise cause  # canceled by another session
        early = not seen.let_go_on
        first = put_first(first, seen.waited_for)
        in_the_way = seen.sessions or in_the_way
        attempts += 1
        spent, pause = time.monotonic() - started, PAUSE.delay(attempts)
        if spent + pause > patience:
            raise Blocked(name, spent, in_the_way, held_up_writers=seen.let_go_on) from cause
        time.sleep(pause)


def put_first(first: Sequence[TableLock], waited_for: Sequence[TableLock]) -> list[TableLock]:
    """The locks to begin with, after a try that waited for these: what it waited for last comes first.

    Who held that one may have waited for any that the try had by then, so it goes before all of them. Each table is in
    the list once.
    """
    found: dict[str, TableLock] = {}
    for lock in [*reversed(waited_for), *first]:
        found.setdefault(lock.table, lock)
    return list(found.values())


def take(session: Connection, first: Sequence[TableLock]) -> None:
    """Take these locks, in the open transaction, in this order."""
    for lock in first:
        session.execute(lock.statement)


def _keep_autovacuum_away(session: Connection, tables: set[str]) -> None:
    """Wait for tables that we could not lock, in a mode in which no writer has to wait for us meanwhile.

    An autovacuum gives way to a session that has waited for a second: longer than we ever wait in any other mode.
    """
    for table in sorted(tables):
        with session.transaction():
            session.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(f"{AUTOVACUUM:g}s")))
            session.execute(sql.SQL("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE").format(sql.SQL(table)))


@contextmanager
def _closing_failed(session: Connection) -> Iterator[Connection]:
    try:
        yield session
    except BaseException:
        session.close()
        raise


@contextmanager
def _watched(observer: Connection, session: Connection) -> Iterator[Seen]:
    seen, over = Seen(), threading.Event()
    arguments = (observer, session.info.backend_pid, seen, over)
    watch = threading.Thread(target=_watch, args=arguments, name="migration watch", daemon=True)
    watch.start()
    try:
        yield seen
    finally:
        over.set()
        watch.join()


def _watch(observer: Connection, pid: int, seen: Seen, over: threading.Event) -> None:
    while not over.wait(LOOK):
        try:
            if rows := observer.execute(_IN_OUR_WAY, (pid,)).fetchall():
                seen.sessions = [Session(*row) for row in rows]
                waiting = [TableLock(*row) for row in observer.execute(_WAITING_FOR, (pid,)).fetchall()]
                seen.waited_for += [lock for lock in waiting if lock not in seen.waited_for[-1:]]
            if observer.execute(_LET_GO_ON, {"pid": pid, "blocking": BLOCKING}).fetchone():
                seen.let_go_on = True
        except psycopg.Error:  # the connection is gone; the session's own will say so
            return
