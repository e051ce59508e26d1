"""Rows whose due time has passed, for the clock.

Each query takes rows that are not locked, and makes them due again a lease later.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

from shared.bot import WAITING
from shared.database import Connection
from shared.domain import window
from shared.domain.channels import ReplySettings
from shared.queue.jobs import Lane, ReplyWanted, SendReady, SendRequested, UnknownDue
from shared.store.arrays import arrays

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

# The lease is the call's hard timeout plus a margin: the process that claimed the message is gone, its result unknown.
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

# Conversations that have held messages although their window is open. Persist releases these; this is the fallback. A
# tick checks only so many held messages, in the order of their index: a million may wait.
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

# For one queue: conversations whose channel has one of the engines $3, or all others. $4: the default engine.
_REPLIES = """
UPDATE conversations SET reply_due_at = now() + $1::interval WHERE (tenant_id, id) IN (
    SELECT c.tenant_id, c.id
    FROM conversations c JOIN channels ch ON ch.tenant_id = c.tenant_id AND ch.id = c.channel_id
    WHERE c.reply_due_at <= now() AND (coalesce(ch.settings #>> '{reply,engine}', $4) = ANY($3::text[])) = $5
    ORDER BY c.reply_due_at LIMIT $2 FOR UPDATE OF c SKIP LOCKED)
RETURNING tenant_id, channel_id, id
"""


def _in_order(rows: Sequence[asyncpg.Record]) -> list[asyncpg.Record]:
    return sorted(rows, key=lambda row: (row["conversation_id"], row["out_seq"]))


async def queued(connection: Connection, lease: timedelta, limit: int) -> list[SendRequested]:
    """Messages that the window has not decided on."""
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
) -> list[SendReady | UnknownDue]:
    """A provider's messages of one lane to send or to look up: one job per conversation, and one per unknown
    message."""
    rows = await connection.fetch(_READY, lease, limit, provider, lane)
    jobs: dict[UUID, SendReady | UnknownDue] = {}
    for row in _in_order(rows):
        if row["status"] == "ready":
            jobs.setdefault(row["conversation_id"], SendReady(**_about(row)))
        else:
            jobs[row["id"]] = UnknownDue(**_about(row))
    return list(jobs.values())


def _about(row: asyncpg.Record) -> dict[str, Any]:
    """The fields of a job of `send`."""
    return {
        "tenant_id": row["tenant_id"],
        "channel_id": row["channel_id"],
        "conversation_id": row["conversation_id"],
        "message_id": row["id"],
        "provider": row["provider"],
        "lane": row["lane"],
    }


async def lost_leases(connection: Connection, check: timedelta, limit: int) -> list[asyncpg.Record]:
    """sending → unknown where the lease ran out; looked up after `check`. Rows: tenant_id, conversation_id,
    channel_id, id, provider, lane."""
    return list(await connection.fetch(_LEASE_RAN_OUT, check, limit))


async def next_in_lanes(connection: Connection, lanes: Sequence[tuple[UUID, UUID, str]]) -> list[SendReady]:
    """The next ready message of each (tenant, conversation, lane) that has become free."""
    rows = await connection.fetch(_NEXT_IN_LANES, *arrays(lanes, 3))
    return [SendReady(**_about(row)) for row in rows]


async def expired(connection: Connection, limit: int) -> list[asyncpg.Record]:
    """held → expired. Rows: tenant_id, conversation_id, channel_id, id."""
    return list(await connection.fetch(_EXPIRED, limit))


@dataclass(frozen=True, slots=True)
class HeldCheck:
    """The result of checking some held messages. `after` None: these were the last, the next check starts over."""

    may_go: list[tuple[UUID, UUID]]  # (tenant, conversation) whose window is open
    after: tuple[UUID, UUID] | None  # (conversation, tenant) after which the next check goes on


BEGINNING: Final = (UUID(int=0), UUID(int=0))


async def held(connection: Connection, after: tuple[UUID, UUID], limit: int) -> HeldCheck:
    """Check the held messages after a (conversation, tenant), at most `limit` of them."""
    rows = await connection.fetch(_HELD, window.LENGTH - window.MARGIN, *after, limit)
    seen = sum(row["messages"] for row in rows)
    return HeldCheck(
        [(row["tenant_id"], row["conversation_id"]) for row in rows if row["open"]],
        (rows[-1]["conversation_id"], rows[-1]["tenant_id"]) if seen >= limit else None,
    )


async def replies(connection: Connection, lease: timedelta, limit: int, *, waits: bool) -> list[ReplyWanted]:
    """Conversations that owe a reply: those whose channel's engine waits for another server, or the others."""
    rows = await connection.fetch(_REPLIES, lease, limit, list(WAITING), ReplySettings().engine, waits)
    return [
        ReplyWanted(tenant_id=row["tenant_id"], channel_id=row["channel_id"], conversation_id=row["id"], waits=waits)
        for row in rows
    ]
