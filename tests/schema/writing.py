"""Writers that go on while something else happens to the database, and how long each of their statements was blocked.

The clock of a writer can't tell a lock from a machine that was busy elsewhere. PostgreSQL can: a lock that is waited
for stands in pg_locks, with the time since when.
"""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid4

import psycopg

from tests.schema.people import Tenant, as_worker

WRITERS = 4
EVERY = 0.01  # seconds between two looks at the locks
LATE = 0.05  # seconds after which a look is late

_WAITING = """
SELECT l.pid, a.query_start, l.waitstart, extract(epoch FROM clock_timestamp() - l.waitstart)::float8
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE NOT l.granted AND l.waitstart IS NOT NULL AND l.pid = ANY (%s)
"""


@dataclass
class Record:
    """What became of the writers."""

    transactions: int = 0
    longest_statement: float = 0.0  # seconds, by the writers' clocks
    errors: list[Exception] = field(default_factory=list)
    # Of each statement (process, start), for each lock it waited for (since when): seconds, as last seen.
    waits: dict[tuple[int, datetime], dict[datetime, float]] = field(default_factory=lambda: defaultdict(dict))
    # Of each statement, seconds by which the looks that found it waiting came late: then the machine stood still.
    stalls: dict[tuple[int, datetime], float] = field(default_factory=lambda: defaultdict(float))

    @property
    def longest_blocked(self) -> float:
        """Seconds that one statement waited for locks, all of them together, less what the machine stood still."""
        return max((sum(locks.values()) - self.stalls[key] for key, locks in self.waits.items()), default=0.0)


@contextmanager
def writing(database_url: str, tenant: Tenant, conversations: list[UUID], *, think: float = 0.0) -> Iterator[Record]:
    """Several connections that take customers' messages in, in short transactions, until the block ends.

    Each thinks before each statement, for so many seconds on the average, as on a machine that is slower by that.
    """
    record, over, pids = Record(), threading.Event(), list[int]()
    shares = [conversations[number::WRITERS] for number in range(WRITERS)]
    threads = [
        threading.Thread(target=_write, args=(database_url, tenant, share, record, over, pids, think))
        for share in shares
    ]
    threads.append(threading.Thread(target=_look, args=(database_url, record, over, pids)))
    for thread in threads:
        thread.start()
    try:
        yield record
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert record.errors == []


def _write(
    database_url: str,
    tenant: Tenant,
    conversations: list[UUID],
    record: Record,
    over: threading.Event,
    pids: list[int],
    think: float,
) -> None:
    try:
        with as_worker(database_url) as worker:
            pids.append(worker.info.backend_pid)
            turn = 0
            while not over.is_set():
                conversation = conversations[turn % len(conversations)]
                with worker.transaction():
                    for statement, values in _one_message(tenant, conversation):
                        time.sleep(random.uniform(0, 2 * think))
                        started = time.monotonic()
                        worker.execute(statement.encode(), values)
                        record.longest_statement = max(record.longest_statement, time.monotonic() - started)
                record.transactions += 1
                turn += 1
                over.wait(0.005)
    except Exception as error:  # told by the main thread
        record.errors.append(error)


def _one_message(tenant: Tenant, conversation: UUID) -> list[tuple[str, tuple[object, ...]]]:
    """The statements of a message that comes in: each table that taking one in writes to."""
    contact, message = uuid4(), uuid4()
    return [
        ("INSERT INTO contacts (id, tenant_id, name) VALUES (%s, %s, 'Ana')", (contact, tenant.id)),
        (
            "INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id) "
            "VALUES (%s, 'phone', %s, '1', %s)",
            (tenant.id, str(contact), contact),
        ),
        (
            "UPDATE conversations SET last_message_at = now(), reply_due_at = now() WHERE tenant_id = %s AND id = %s",
            (tenant.id, conversation),
        ),
        (
            "INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, status) "
            "VALUES (%s, %s, %s, %s, 'twilio', 'inbound', 'user', 'received')",
            (message, tenant.id, conversation, tenant.channel_id),
        ),
        (
            "INSERT INTO message_statuses (id, tenant_id, channel_id, message_id, external_id, status) "
            "VALUES (%s, %s, %s, %s, %s, 'sent')",
            (uuid4(), tenant.id, tenant.channel_id, message, str(message)),
        ),
        ("INSERT INTO events (name, tenant_id, message_id) VALUES ('message.received', %s, %s)", (tenant.id, message)),
    ]


def _look(database_url: str, record: Record, over: threading.Event, pids: list[int]) -> None:
    try:
        with psycopg.connect(database_url, autocommit=True) as connection:
            last = time.monotonic()
            while not over.wait(EVERY):
                rows = connection.execute(_WAITING, (pids,)).fetchall()
                now = time.monotonic()
                late = max(0.0, now - last - LATE)
                last = now
                for pid, statement, since, seconds in rows:
                    record.waits[pid, statement][since] = seconds
                for key in {(pid, statement) for pid, statement, *_ in rows}:
                    record.stalls[key] += late
    except Exception as error:  # told by the main thread
        record.errors.append(error)
