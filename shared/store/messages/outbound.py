"""messages to customers: queues them, and takes the window's decisions. Every step is a compare-and-set.

Locks are taken in one order everywhere: the conversation first, then its messages.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

import asyncpg

from shared.database import Connection, Pool, new_id
from shared.domain import window
from shared.domain.model import Media, Template
from shared.domain.statuses import RESTORED
from shared.domain.window import Policy
from shared.queue.jobs import Lane, SendRequested
from shared.store.arrays import arrays
from shared.store.by_key import only_if
from shared.store.events import Event, record
from shared.store.messages import records
from shared.store.messages.outbound_rows import OUTBOUND_COLUMNS, Outbound, media_json, outbound_of, template_json
from shared.store.messages.records import MessageRecord

# -- queueing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to send. `dedupe_key` names its cause, such as `reply:<inbound id>`: each has one message per
    tenant."""

    tenant_id: UUID
    conversation_id: UUID
    channel_id: UUID
    provider: str
    dedupe_key: str
    content: str = ""
    role: str = "assistant"
    message_type: str = "text"
    media: tuple[Media, ...] = ()
    template: Template | None = None
    lane: Lane = "normal"
    window_policy: Policy | None = None
    window_refused_at: datetime | None = None
    expires_at: datetime | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    campaign_recipient_id: UUID | None = None  # the recipient of a campaign that it is for


# `palomar.queued_by` says to the trigger of a tenant's session that the API queues it (0042_conversations_api.sql).
_ADD: Final = """
WITH place AS (
    UPDATE conversations SET next_out_seq = next_out_seq + 1, last_message_at = greatest(last_message_at, now())
    WHERE tenant_id = $2 AND id = $3 AND (SELECT set_config('palomar.queued_by', 'function', true)) = 'function'
        AND NOT EXISTS (SELECT FROM messages WHERE tenant_id = $2 AND dedupe_key = $6)
    RETURNING next_out_seq - 1 AS out_seq
)
INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, status, dedupe_key, content,
    role, message_type, media, template, lane, window_policy, window_refused_at, expires_at, metadata, due_at, out_seq,
    created_at, campaign_recipient_id)
SELECT $1, $2, $3, $4, $5, 'outbound', 'queued', $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
    now() + $17::interval, out_seq, clock_timestamp(), $18
FROM place
ON CONFLICT (tenant_id, dedupe_key) WHERE dedupe_key IS NOT NULL DO NOTHING
"""
_ADD_OUTBOUND = f"{_ADD} RETURNING id"
_ADD_AND_READ = f"{_ADD} RETURNING {records.COLUMNS}"


async def add_outbound(connection: Connection, message: NewMessage, handoff: timedelta) -> SendRequested | None:
    """Queue a message at the end of its lane; None where there is one with its dedupe_key.

    The caller holds the conversation's lock, and publishes what is returned after the commit; the row is due again a
    handoff lease later.
    """
    message_id = new_id()
    if await connection.fetchrow(_ADD_OUTBOUND, *_columns(message_id, message, handoff)) is None:
        return None
    return _job(message_id, message)


async def add_and_read(
    connection: Connection, message: NewMessage, handoff: timedelta
) -> tuple[MessageRecord, SendRequested] | None:
    """As `add_outbound`; returns the message's row as well."""
    message_id = new_id()
    row = await connection.fetchrow(_ADD_AND_READ, *_columns(message_id, message, handoff))
    return None if row is None else (MessageRecord(**row), _job(message_id, message))


def _columns(message_id: UUID, message: NewMessage, handoff: timedelta) -> tuple[object, ...]:
    return (
        message_id,
        message.tenant_id,
        message.conversation_id,
        message.channel_id,
        message.provider,
        message.dedupe_key,
        message.content.replace("\0", "\ufffd"),
        message.role,
        message.message_type,
        [media_json(part) for part in message.media],
        template_json(message.template),
        message.lane,
        message.window_policy,
        message.window_refused_at,
        message.expires_at,
        message.metadata,
        handoff,
        message.campaign_recipient_id,
    )


def _job(message_id: UUID, message: NewMessage) -> SendRequested:
    return SendRequested(
        tenant_id=message.tenant_id,
        channel_id=message.channel_id,
        conversation_id=message.conversation_id,
        message_id=message_id,
    )


# By conversation, even if only few messages are held in all when this is planned.
# SKIP LOCKED: the clock releases a locked message later.
_RELEASE = f"""
UPDATE messages m SET status = 'queued', due_at = now() + $3::interval
FROM (
    SELECT held.tenant_id, held.id, c.last_user_message_at
    FROM (SELECT DISTINCT * FROM unnest($1::uuid[], $2::uuid[])) AS of (tenant_id, conversation_id)
    JOIN conversations c ON c.tenant_id = of.tenant_id AND c.id = of.conversation_id
    CROSS JOIN LATERAL (
        SELECT tenant_id, id FROM messages
        WHERE tenant_id = of.tenant_id AND conversation_id = of.conversation_id AND status = 'held'
        FOR NO KEY UPDATE SKIP LOCKED
    ) AS held
    WHERE c.last_user_message_at > now() - $4::interval
) AS open
WHERE m.tenant_id = open.tenant_id AND m.id = open.id AND {only_if("m.status = 'held'")}
    AND (m.window_refused_at IS NULL OR open.last_user_message_at > m.window_refused_at)
RETURNING m.id, m.tenant_id, m.conversation_id, m.channel_id, m.out_seq
"""


async def release_held(
    connection: Connection, conversations: Sequence[tuple[UUID, UUID]], handoff: timedelta
) -> list[SendRequested]:
    """Release the held messages of these (tenant, conversation), which the caller has locked, where the window is open;
    returns their jobs in order."""
    ordered = sorted(set(conversations))
    rows = await connection.fetch(_RELEASE, *arrays(ordered, 2), handoff, window.LENGTH - window.MARGIN)
    return [
        SendRequested(
            tenant_id=row["tenant_id"],
            channel_id=row["channel_id"],
            conversation_id=row["conversation_id"],
            message_id=row["id"],
        )
        for row in sorted(rows, key=lambda row: (row["conversation_id"], row["out_seq"]))
    ]


# -- the window's decision ---------------------------------------------------------------------------------------------


_QUEUED = f"""
SELECT {OUTBOUND_COLUMNS}
FROM unnest($1::uuid[], $2::uuid[]) AS asked (tenant_id, id)
JOIN messages m ON m.tenant_id = asked.tenant_id AND m.id = asked.id
JOIN conversations c ON c.tenant_id = m.tenant_id AND c.id = m.conversation_id
WHERE {only_if("m.status = 'queued'")}
ORDER BY m.tenant_id, m.conversation_id, m.out_seq FOR NO KEY UPDATE OF m
"""
_QUEUED_FREE = f"{_QUEUED} SKIP LOCKED"

_STILL_QUEUED = f"""
SELECT m.id FROM messages m
WHERE (m.tenant_id, m.id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[])) AND {only_if("m.status = 'queued'")}
"""

_DECIDE = f"""
UPDATE messages m SET status = decided.status,
    due_at = CASE decided.status WHEN 'ready' THEN now() + $9::interval
        WHEN 'held' THEN least(m.expires_at, now() + decided.hold_for) END,
    sent_as = CASE decided.status WHEN 'ready' THEN decided.sent_as ELSE m.sent_as END,
    admitted_at = CASE decided.status WHEN 'ready' THEN now() ELSE m.admitted_at END,
    metadata = CASE WHEN decided.facts IS NULL THEN m.metadata ELSE m.metadata || decided.facts END,
    failed_at = CASE decided.status WHEN 'failed' THEN now() ELSE m.failed_at END,
    error_code = coalesce(decided.error_code, m.error_code),
    error_message = coalesce(decided.error_message, m.error_message)
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::jsonb[], $5::jsonb[], $6::interval[], $7::text[], $8::text[])
    AS decided (tenant_id, id, status, sent_as, facts, hold_for, error_code, error_message)
WHERE m.tenant_id = decided.tenant_id AND m.id = decided.id AND {only_if("m.status = 'queued'")}
"""

_FAIL = """
UPDATE messages SET status = 'failed', due_at = NULL, claim_id = NULL, failed_at = now(), error_code = $4,
    error_message = $5
WHERE tenant_id = $1 AND id = $2 AND status = ANY($3::text[]) RETURNING id
"""

_PARK = f"""
UPDATE messages SET due_at = NULL
WHERE tenant_id = $1 AND id = $2 AND status = ANY($3::text[]) AND error_code IS DISTINCT FROM '{RESTORED}'
"""

# Not a locked row, which the clock does not take either.
_POSTPONE = f"""
UPDATE messages SET due_at = now() + $4::interval WHERE (tenant_id, id) IN (
    SELECT tenant_id, id FROM messages
    WHERE tenant_id = $1 AND id = $2 AND status = ANY($3::text[]) AND error_code IS DISTINCT FROM '{RESTORED}'
    FOR NO KEY UPDATE SKIP LOCKED)
"""

_CANCEL = f"""
UPDATE messages SET status = 'canceled', due_at = NULL, error_code = $3
WHERE tenant_id = $1 AND id = $2 AND {only_if("status IN ('queued', 'held', 'ready')")}
RETURNING id, tenant_id, channel_id, conversation_id
"""


@dataclass(frozen=True, slots=True)
class Decided:
    """What the window's decision makes of a queued message.

    `sent_as`: the template that is sent instead of the text. `facts` are added to the metadata. It is held for
    `hold_for`, or until its own `expires_at`.
    """

    tenant_id: UUID
    message_id: UUID
    status: Literal["ready", "held", "failed", "canceled"]
    sent_as: Template | None = None
    facts: Mapping[str, object] | None = None
    hold_for: timedelta | None = None
    error_code: str | None = None
    error_message: str | None = None


async def lock_queued(
    connection: Connection, keys: Collection[tuple[UUID, UUID]], *, wait: bool
) -> tuple[list[Outbound], set[UUID]]:
    """The messages of these (tenant, message) that are still `queued`, locked, in the order of their lanes. The caller
    holds their conversations' locks.

    Without `wait` also the ids of those that another session has locked: they are not among the messages.
    """
    asked = arrays(sorted(keys), 2)
    rows = await connection.fetch(_QUEUED if wait else _QUEUED_FREE, *asked)
    found = {row["id"] for row in rows}
    locked: set[UUID] = set()
    if not wait and len(found) < len(keys):  # decided before, or locked
        locked = {row["id"] for row in await connection.fetch(_STILL_QUEUED, *asked)} - found
    return [outbound_of(row) for row in rows], locked


async def decide(connection: Connection, decisions: Sequence[Decided], handoff: timedelta) -> None:
    """Write the decisions on messages that the caller has locked. What is ready is due a handoff lease later."""
    if not decisions:
        return
    await connection.execute(
        _DECIDE,
        [one.tenant_id for one in decisions],
        [one.message_id for one in decisions],
        [one.status for one in decisions],
        [template_json(one.sent_as) for one in decisions],
        [one.facts for one in decisions],
        [one.hold_for for one in decisions],
        [one.error_code for one in decisions],
        [one.error_message for one in decisions],
        handoff,
    )


async def fail(
    connection: Connection, tenant_id: UUID, message_id: UUID, code: str, reason: str, *, of: Sequence[str]
) -> bool:
    """→ failed, from one of the states `of`."""
    return (await connection.fetchval(_FAIL, tenant_id, message_id, list(of), code, reason[:500])) is not None


async def cancel(connection: Connection, tenant_id: UUID, message_id: UUID, code: str) -> bool:
    """→ canceled, from any state before the send, with its event."""
    canceled = await connection.fetch(_CANCEL, tenant_id, message_id, code)
    await record_canceled(connection, canceled, code)
    return bool(canceled)


async def record_canceled(connection: Connection, canceled: Sequence[asyncpg.Record], code: str) -> None:
    """Record an event for each of these rows (id, tenant, channel, conversation) that has just been canceled."""
    about = [(row["tenant_id"], row["channel_id"], row["conversation_id"], row["id"]) for row in canceled]
    await record(connection, *(Event("message.canceled", *one, detail={"error_code": code}) for one in about))


async def postpone(
    connection: Connection | Pool, tenant_id: UUID, message_id: UUID, wait: timedelta | None, *, of: Sequence[str]
) -> None:
    """Make a message in one of the states `of` due after `wait`; with None park it: it keeps its state and is never
    due."""
    if wait is None:
        await connection.execute(_PARK, tenant_id, message_id, list(of))
    else:
        await connection.execute(_POSTPONE, tenant_id, message_id, list(of), wait)
