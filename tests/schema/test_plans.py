"""No statement of the store reads rows that it does not want, whatever the database held when it was planned.

asyncpg prepares each statement, and PostgreSQL keeps one plan of it for all arguments until the table's statistics
change. So the plan may come from a time when nothing waited, or when there was nothing at all. Every statement is found
by itself (tests/schema/statements.py): one that is written tomorrow is tried from its first day.
"""

import json
from collections.abc import Callable
from typing import Final, Literal

import psycopg
import pytest

from tests.schema.backlog import Busy, fill, wait
from tests.schema.people import Connection, as_worker
from tests.schema.plans import Prepared, Reads, arguments
from tests.schema.statements import Statement, every_statement

PAGE: Final = 100  # rows, about as many as a page of a table or of an index holds
TALKS: Final = 1000  # conversations of each of two tenants

When = Literal["with a backlog", "while nothing waited", "while it was empty"]

# What reads more than it returns, and why that is right. By the beginning of the name.
READ_A_CONVERSATION: Final = (  # one conversation's messages; here one has 1,200
    "messages.agent_messages._ECHOES",
    "messages.answers._ADD",  # what is unfinished in its lane
    "messages.agent_messages._SILENCE",
    "due_rows._NEXT_IN_LANES",
    "messages.retention._PRUNE",
    "messages.inbound._NEWEST_READABLE",
    "messages.delivery_receipts._CANCEL_RESENDS",  # once for each message that was sent anew, as is _ACCEPTED below
    "messages.pair_rate._SECONDS_SINCE_LAST_SEND",
    "messages.sends._CANDIDATES",
    "messages.unknown_sends._ACCEPTED",
)
READ_ALL: Final = (  # for a person who waits for it
    "campaigns.records._NAMED",
    "consent_records._READ_UP_TO",  # within bounds: a page reads at most 2,000, and here a tenant has 1,000
    "contact_search._SCAN",  # within bounds
    "erasure.",  # every word of the tenant's may mention the erased one
    "counts._BY_STATE",
    "counts._REPLIES_OWED",
    "counts._UNFINISHED",
    "messages.restored.",  # a restore goes over everything
    "messages.unknown_sends._LISTED",
    "messages.unknown_sends._RESTORED",
    "webhook_deliveries.erased.",  # as erasure
    "counts._WEBHOOKS_DUE",
    "webhook_deliveries.figures.",
    "webhooks._FIND",
)
READ_A_SMALL_TABLE: Final = (  # an import asks for many rows at once, and the whole table is fewer pages than they are
    "imports.joins._STARTED",
    "webhook_deliveries.facts._WEBHOOKS",  # all webhooks of some tenants; here half of the table
    "webhook_deliveries.replays._NEXT",  # in turn for the tenants; a range is done within seconds
)
READ_A_DAY: Final = (  # days before are left out by their partitions; here all rows are of one
    "event_feed._FIRST",
)
# A function alone, which a session without a tenant may not call.
OF_A_TENANT: Final = ("templates._QUEUE",)
# On an empty table every index costs the same, and the table's first thousands of rows bring statistics.
UNTIL_STATISTICS: Final[dict[When, tuple[str, ...]]] = {
    "with a backlog": (),
    "while nothing waited": ("due_rows._REPLIES",),
    "while it was empty": (
        "campaigns.pages._TALKS",
        "channels._BY_ENDPOINTS",
        "consents._ANSWERS_STOPPED",
        "consents._CONTACTS_OF_CONVERSATIONS",
        "conversation_records._LOCK_TO_SEND",
        "conversations._OF_PHONES",
        "imports.joins._BY_PLACE",
        "messages.retention._CONVERSATIONS",
        "messages.send_batches._HEADS",
        "messages.sends._HEAD",
        "stats._CLOSING",
        "webhook_deliveries.outcomes._MISS_WAITING",
    ),
}


@pytest.mark.parametrize("when", ["with a backlog", "while nothing waited", "while it was empty"])
def test_every_statement_reads_what_it_wants_with_a_plan_from_(when: When, database_url: str) -> None:
    allowed = (*READ_A_CONVERSATION, *READ_ALL, *READ_A_SMALL_TABLE, *READ_A_DAY, *UNTIL_STATISTICS[when])
    wasteful = [reads for reads in read_by_every_statement(database_url, when) if reads.unwanted > PAGE]
    left = [reads for reads in wasteful if not reads.statement.startswith(allowed)]
    assert not left, "\n\n".join(f"{reads.statement}: {reads.unwanted} rows unwanted\n{reads.plan}" for reads in left)


def test_a_statement_that_is_planned_over_the_backlog_is_found(database_url: str) -> None:
    """The statement as it was: what it waits for implies the predicate of an index that was empty."""
    walks = Statement("test", "SELECT FROM messages WHERE tenant_id = $1 AND id = $2 AND status = 'ready'")
    (reads,) = read_by_every_statement(database_url, "while nothing waited", [walks])
    assert reads.unwanted > TALKS


def test_every_statement_that_is_excused_is_there() -> None:
    names = [statement.name for statement in every_statement()]
    excused = (
        *READ_A_CONVERSATION,
        *READ_ALL,
        *READ_A_SMALL_TABLE,
        *READ_A_DAY,
        *OF_A_TENANT,
        *sum(UNTIL_STATISTICS.values(), ()),
    )
    assert [name for name in excused if not any(known.startswith(name) for known in names)] == []
    assert len(names) > 180, "the search finds them"


def read_by_every_statement(url: str, when: When, of: list[Statement] | None = None) -> list[Reads]:
    statements = [one for one in every_statement() if one.name not in OF_A_TENANT] if of is None else of
    with psycopg.connect(url, autocommit=True) as owner, as_worker(url, prepare_threshold=None) as session:
        keep_statistics(owner)
        busy = [Busy.unborn(TALKS), Busy.unborn(TALKS)]
        prepared = Prepared(session)

        def plan() -> None:
            owner.execute("ANALYZE")
            for statement in statements:
                prepared.prepare(statement)
                prepared.plan(statement, arguments(statement, prepared.types(statement), busy[0]))

        steps: dict[When, tuple[Callable[[], None], ...]] = {
            "while it was empty": (plan, lambda: fill_all(url, busy), lambda: wait_all(url, busy)),
            "while nothing waited": (lambda: fill_all(url, busy), plan, lambda: wait_all(url, busy)),
            "with a backlog": (lambda: fill_all(url, busy), lambda: wait_all(url, busy), plan),
        }
        for step in steps[when]:
            step()
        return [
            prepared.run(statement, arguments(statement, prepared.types(statement), busy[0]))
            for statement in statements
        ]


def fill_all(url: str, busy: list[Busy]) -> None:
    with as_worker(url) as worker:
        for one in busy:
            fill(worker, one)


def wait_all(url: str, busy: list[Busy]) -> None:
    with as_worker(url) as worker:
        for one in busy:
            wait(worker, one)


def keep_statistics(owner: Connection) -> None:
    """No autovacuum: when the statistics are from is what is tried here."""
    tables = owner.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    ).fetchall()
    for (table,) in tables:
        owner.execute(f"ALTER TABLE {json.dumps(table)} SET (autovacuum_enabled = off)".encode())
