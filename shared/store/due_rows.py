"""Whatever is due: the clock's queries. Each takes rows nobody else holds and pushes their due time a lease ahead."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

from shared.bot import WAITING
from shared.database import Connection, Pool
from shared.domain import window
from shared.domain.channels import ReplySettings
from shared.domain.statuses import RESTORED
from shared.queue import topology
from shared.queue.jobs import Lane, ReplyWanted, SendAdmitted, SendRequested

_QUEUED = """
UPDATE messages SET due_at = now() + $1::interval WHERE (tenant_id, id) IN (
    SELECT tenant_id, id FROM messages WHERE due_at <= now() AND status = 'queued'
    ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING tenant_id, conversation_id, channel_id, id, out_seq
"""

_READY = """
UPDATE messages SET due_at = now() + $1::interval WHERE (tenant_id, id) IN (
    SELECT tenant_id, id FROM messages
    WHERE due_at <= now() AND status IN ('ready', 'unknown') AND provider = $3 AND lane = $4
    ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING tenant_id, conversation_id, channel_id, id, out_seq, provider, lane, status
"""

# The lease is hard timeout plus margin by this clock: whoever claimed it is gone, and nobody knows what it did.
_LEASE_RAN_OUT = """
UPDATE messages SET status = 'unknown', claim_id = NULL, unknown_at = now(), due_at = now() + $1::interval,
    error_code = 'lease_ran_out', error_message = 'the process that was sending it did not come back'
WHERE (tenant_id, id) IN (
    SELECT tenant_id, id FROM messages WHERE due_at <= now() AND status = 'sending'
    ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING tenant_id, conversation_id, channel_id, id, provider, lane
"""

_NEXT_IN_LANES = """
SELECT m.tenant_id, m.conversation_id, m.channel_id, m.id, m.provider, m.lane
FROM (SELECT DISTINCT * FROM unnest($1::uuid[], $2::uuid[], $3::text[])) AS of (tenant_id, conversation_id, lane)
CROSS JOIN LATERAL (
    SELECT * FROM messages
    WHERE tenant_id = of.tenant_id AND conversation_id = of.conversation_id AND lane = of.lane AND status = 'ready'
    ORDER BY out_seq LIMIT 1
) AS m
"""

_EXPIRED = """
UPDATE messages SET status = 'expired', due_at = NULL, error_code = 'held_too_long'
WHERE (tenant_id, id) IN (
    SELECT tenant_id, id FROM messages WHERE due_at <= now() AND status = 'held'
    ORDER BY due_at LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING tenant_id, conversation_id, channel_id, id
"""

# Conversations with a held message though the window is open: persist releases them, this is the net below it. So many
# held messages at a time, in the order of their index: where a million wait, a tick looks at a part of them.
_HELD = """
WITH held AS MATERIALIZED (
    SELECT conversation_id, tenant_id, window_refused_at FROM messages
    WHERE status = 'held' AND (conversation_id, tenant_id) > ($2, $3) ORDER BY conversation_id, tenant_id LIMIT $4
)
SELECT held.conversation_id, held.tenant_id,
    bool_or(c.last_user_message_at > now() - $1::interval
        AND (held.window_refused_at IS NULL OR c.last_user_message_at > held.window_refused_at)) AS open,
    count(*) AS messages
FROM held CROSS JOIN LATERAL (
    SELECT last_user_message_at FROM conversations
    WHERE tenant_id = held.tenant_id AND id = held.conversation_id OFFSET 0
) AS c
GROUP BY held.conversation_id, held.tenant_id ORDER BY held.conversation_id, held.tenant_id
"""

# Of one lane: those whose channel has one of the engines $3, or all others. $4: of a channel that names none.
_REPLIES = """
UPDATE conversations SET reply_due_at = now() + $1::interval WHERE (tenant_id, id) IN (
    SELECT c.tenant_id, c.id
    FROM conversations c JOIN channels ch ON ch.tenant_id = c.tenant_id AND ch.id = c.channel_id
    WHERE c.reply_due_at <= now() AND (coalesce(ch.settings #>> '{reply,engine}', $4) = ANY($3::text[])) = $5
    ORDER BY c.reply_due_at LIMIT $2 FOR UPDATE OF c SKIP LOCKED)
RETURNING tenant_id, channel_id, id
"""

_COUNTS = f"""
SELECT
    (SELECT count(*) FROM messages
        WHERE status IN ('ready', 'unknown') AND due_at < now() - interval '5 seconds')
        + (SELECT count(*) FROM messages
            WHERE status NOT IN ('ready', 'unknown') AND due_at < now() - interval '5 seconds')
        + (SELECT count(*) FROM conversations WHERE reply_due_at < now() - interval '5 seconds')
        + (SELECT count(*) FROM media WHERE due_at < now() - interval '5 seconds') AS overdue,
    (SELECT count(*) FROM messages WHERE status = 'held') AS held,
    (SELECT count(*) FROM messages WHERE status = 'unknown') AS unknown,
    (SELECT count(*) FROM messages WHERE status = 'queued') AS queued,
    (SELECT count(*) FROM messages WHERE status IN ('ready', 'sending')) AS ready,
    (SELECT count(*) FROM conversations WHERE reply_due_at IS NOT NULL) AS replies_owed,
    (SELECT count(*) FROM messages WHERE status IN ('queued', 'ready', 'sending') AND due_at IS NULL)
        + (SELECT count(*) FROM messages m WHERE status = 'unknown' AND due_at IS NULL
            AND error_code IS DISTINCT FROM '{RESTORED}' AND NOT EXISTS (
            SELECT FROM channels c
            WHERE c.tenant_id = m.tenant_id AND c.id = m.channel_id AND c.settings ->> 'unknown' = 'ask'))
        + (SELECT count(*) FROM conversations WHERE reply_due_at IS NULL AND reply_wanted_since IS NOT NULL)
        + (SELECT count(*) FROM media WHERE status = 'wanted' AND due_at IS NULL) AS set_aside,
    (SELECT count(*) FROM messages WHERE status = 'unknown' AND error_code = '{RESTORED}')
        + (SELECT count(*) FROM conversations WHERE reply_restored_at IS NOT NULL) AS restored
"""


def _in_order(rows: Sequence[asyncpg.Record]) -> list[asyncpg.Record]:
    return sorted(rows, key=lambda row: (row["conversation_id"], row["out_seq"]))


async def queued(connection: Connection, lease: timedelta, limit: int) -> list[SendRequested]:
    """Messages the window has yet to decide on."""
    rows = await connection.fetch(_QUEUED, lease, limit)
    return [
        SendRequested(
            tenant_id=r["tenant_id"],
            channel_id=r["channel_id"],
            conversation_id=r["conversation_id"],
            message_id=r["id"],
        )
        for r in _in_order(rows)
    ]


async def ready(
    connection: Connection, lease: timedelta, limit: int, *, provider: str, lane: Lane
) -> list[SendAdmitted]:
    """A provider's and lane's messages to send and unknown ones to look up: one nudge per conversation, and one per
    unknown message."""
    rows = await connection.fetch(_READY, lease, limit, provider, lane)
    nudges: dict[tuple[Any, ...], SendAdmitted] = {}
    for r in _in_order(rows):
        key = (r["conversation_id"], r["lane"]) if r["status"] == "ready" else (r["id"],)
        nudges.setdefault(key, _admitted(r))
    return list(nudges.values())


def _admitted(row: asyncpg.Record) -> SendAdmitted:
    return SendAdmitted(
        tenant_id=row["tenant_id"],
        channel_id=row["channel_id"],
        conversation_id=row["conversation_id"],
        message_id=row["id"],
        provider=row["provider"],
        lane=row["lane"],
    )


async def lost_leases(connection: Connection, check: timedelta, limit: int) -> list[asyncpg.Record]:
    """sending → unknown where the lease ran out; looked up after `check`. Rows: tenant_id, conversation_id,
    channel_id, id, provider, lane."""
    return list(await connection.fetch(_LEASE_RAN_OUT, check, limit))


async def next_in_lanes(connection: Connection, lanes: Sequence[tuple[UUID, UUID, str]]) -> list[SendAdmitted]:
    """The next ready message of each (tenant, conversation, lane) that has become free."""
    rows = await connection.fetch(
        _NEXT_IN_LANES, [lane[0] for lane in lanes], [lane[1] for lane in lanes], [lane[2] for lane in lanes]
    )
    return [_admitted(row) for row in rows]


async def expired(connection: Connection, limit: int) -> list[asyncpg.Record]:
    """held → expired. Rows: tenant_id, conversation_id, channel_id, id."""
    return list(await connection.fetch(_EXPIRED, limit))


@dataclass(frozen=True, slots=True)
class Held:
    """What a look at some of the held messages found. `after` None: these were the last, the next look begins anew."""

    may_go: list[tuple[UUID, UUID]]  # (tenant, conversation) whose window is open
    after: tuple[UUID, UUID] | None  # (conversation, tenant) behind which the next look goes on


BEGINNING: Final = (UUID(int=0), UUID(int=0))


async def held(connection: Connection, after: tuple[UUID, UUID], limit: int) -> Held:
    """Look at the next held messages behind a (conversation, tenant), at most `limit` of them."""
    rows = await connection.fetch(_HELD, window.LENGTH - window.MARGIN, *after, limit)
    seen = sum(row["messages"] for row in rows)
    return Held(
        [(row["tenant_id"], row["conversation_id"]) for row in rows if row["open"]],
        (rows[-1]["conversation_id"], rows[-1]["tenant_id"]) if seen >= limit else None,
    )


async def replies(connection: Connection, lease: timedelta, limit: int, *, waits: bool) -> list[ReplyWanted]:
    """Conversations that owe a reply: those whose channel's engine waits for somebody else, or the others."""
    rows = await connection.fetch(_REPLIES, lease, limit, list(WAITING), ReplySettings().engine, waits)
    return [
        ReplyWanted(tenant_id=row["tenant_id"], channel_id=row["channel_id"], conversation_id=row["id"], waits=waits)
        for row in rows
    ]


async def counts(pool: Pool) -> dict[str, int]:
    """What `palomar status` shows of the rows, by its name.

    `set_aside` are unfinished rows without a due time, whose item was buried: nothing hands them on by itself.
    `restored` ones wait for a person.
    """
    row = await pool.fetchrow(_COUNTS)
    assert row is not None
    return dict(row)


_UNFINISHED = """
SELECT status, provider, lane, count(*) AS messages FROM messages WHERE status IN ('queued', 'ready', 'sending')
GROUP BY status, provider, lane
"""


_REPLIES_OWED = """
SELECT coalesce(ch.settings #>> '{reply,engine}', $2) = ANY($1::text[]) AS waits, count(*) AS replies
FROM conversations c JOIN channels ch ON ch.tenant_id = c.tenant_id AND ch.id = c.channel_id
WHERE c.reply_due_at IS NOT NULL GROUP BY 1
"""


_FILES_WANTED = "SELECT count(*) FROM media WHERE status = 'wanted'"


async def unfinished(pool: Pool) -> dict[str, int]:
    """Queue → rows that wait for the step that this queue leads to, published or not, in hand or not."""
    waiting: Counter[str] = Counter()
    for row in await pool.fetch(_UNFINISHED):
        queue = topology.WINDOW if row["status"] == "queued" else topology.send_queue(row["provider"], row["lane"])
        waiting[queue.name] += row["messages"]
    for row in await pool.fetch(_REPLIES_OWED, list(WAITING), ReplySettings().engine):
        waiting[(topology.REPLY_LLM if row["waits"] else topology.REPLY).name] += row["replies"]
    if wanted := await pool.fetchval(_FILES_WANTED):
        waiting[topology.MEDIA.name] = wanted
    return dict(waiting)


_PARTITIONS = "SELECT make_partitions($1)"
_DROP_EVENTS = "SELECT drop_partitions('events', $1)"
_DROP_STRAY_EVENTS = """
DELETE FROM events WHERE created_at < now() - make_interval(days => $1 + 1) AND (xid, seq, created_at) IN (
    SELECT xid, seq, created_at FROM events WHERE created_at < now() - make_interval(days => $1 + 1) LIMIT $2)
"""


async def lock_briefly(connection: Connection) -> None:
    """Wait at most 250 ms for a lock in this transaction: writers queue behind whoever waits for a stronger one.

    What can't get it raises db.LockTimeout.
    """
    await connection.execute("SET LOCAL lock_timeout = '250ms'")


async def make_partitions(connection: Connection, days_ahead: int) -> int:
    """Partitions of the coming days; returns how many were made."""
    made: int = await connection.fetchval(_PARTITIONS, days_ahead)
    return made


async def forget_events(connection: Connection, days: int) -> int:
    """Drop the events of days older than so many; returns how many partitions went."""
    dropped: int = await connection.fetchval(_DROP_EVENTS, days)
    return dropped


async def forget_stray_events(connection: Connection, days: int, limit: int) -> int:
    """Delete old events of days that had no partition, at most `limit` of them; returns how many went."""
    return int((await connection.execute(_DROP_STRAY_EVENTS, days, limit)).split()[-1])
