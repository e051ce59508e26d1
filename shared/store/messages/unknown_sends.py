"""Sends of unknown outcome that need a decision: lists them, sends one again, or fails it. Rows of `messages`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg

from shared.database import Connection, Pool
from shared.domain.model import Media
from shared.domain.statuses import RESTORED
from shared.queue.jobs import Lane, SendRequested
from shared.store import conversations
from shared.store.by_key import only_if
from shared.store.events import Event, record
from shared.store.messages import outbound, outbound_rows

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_RESEND = re.compile(r"resend:([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}):([0-9]{1,9})")


class DecisionRefused(Exception):
    """Nothing was changed. The text is the reason, as a clause that follows the message's id."""


@dataclass(frozen=True, slots=True)
class UnknownSend:
    """A send of unknown outcome. `looked_up_at` None: it is not looked up any more, a person decides."""

    id: UUID
    tenant_id: UUID
    tenant: str
    channel_id: UUID
    channel: str
    lane: Lane
    claimed_at: datetime | None
    unknown_at: datetime | None
    looked_up_at: datetime | None
    reason: str | None  # the error code; `restored`: left to a person by a restore
    content: str


_LISTED = """
SELECT m.id, m.tenant_id, t.name AS tenant, m.channel_id, c.address AS channel, m.lane, m.claimed_at, m.unknown_at,
    m.due_at AS looked_up_at, m.error_code AS reason, m.content
FROM (
    SELECT *, coalesce(unknown_at, 'epoch') AS since FROM messages
    WHERE status = 'unknown' AND (coalesce(unknown_at, 'epoch'), id)
        > (coalesce($1, '-infinity'::timestamptz), coalesce($2, '00000000-0000-0000-0000-000000000000'::uuid))
    ORDER BY since, id LIMIT $3
) AS m
JOIN tenants t ON t.id = m.tenant_id JOIN channels c ON c.tenant_id = m.tenant_id AND c.id = m.channel_id
ORDER BY m.since, m.id
"""

Position = tuple[datetime, UUID]
"""Where a page ended: since when its last message is unknown, and the message's id."""


async def listed(pool: Connection | Pool, limit: int, after: Position | None = None) -> list[UnknownSend]:
    """Messages in `unknown` of all tenants, the oldest first, behind the position `after`."""
    unknown_at, message_id = after or (None, None)
    return [UnknownSend(**row) for row in await pool.fetch(_LISTED, unknown_at, message_id, limit)]


def position(one: UnknownSend) -> Position:
    """Where a page that ends with this message ends."""
    return one.unknown_at or _EPOCH, one.id


@dataclass(frozen=True, slots=True)
class OutboundRef:
    """An outbound message that an operator named by its id or the beginning of it."""

    tenant_id: UUID
    conversation_id: UUID
    id: UUID


# By tenant, so that each is a range of the primary key instead of a scan of the table.
_BEGINNING = """
SELECT m.tenant_id, m.conversation_id, m.id FROM tenants t CROSS JOIN LATERAL (
    SELECT tenant_id, conversation_id, id FROM messages
    WHERE tenant_id = t.id AND id BETWEEN $1 AND $2 AND direction = 'outbound' ORDER BY id LIMIT 2
) m LIMIT 2
"""


_RESTORED = f"""
SELECT tenant_id, conversation_id, id FROM messages WHERE status = 'unknown' AND error_code = '{RESTORED}'
ORDER BY conversation_id, lane, out_seq
"""


async def restored(pool: Pool) -> list[OutboundRef]:
    """Messages that a restore left to a person, those of a conversation in their order."""
    return [OutboundRef(**row) for row in await pool.fetch(_RESTORED)]


async def beginning(pool: Connection | Pool, digits: str) -> list[OutboundRef]:
    """Up to two outbound messages whose id begins with `digits`: 1 to 32 hexadecimal digits, without hyphens."""
    first, last = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
    return [OutboundRef(**row) for row in await pool.fetch(_BEGINNING, first, last)]


_LOCK = """
SELECT channel_id, provider, status, error_code, dedupe_key, content, role, message_type, media, template, lane,
    window_policy, window_refused_at, expires_at, expires_at <= clock_timestamp() AS expired, metadata, sent_at,
    campaign_recipient_id
FROM messages WHERE tenant_id = $1 AND id = $2 FOR NO KEY UPDATE
"""

# The state is checked once more: two operators may have decided at the same time.
_REPLACED = f"""
UPDATE messages SET status = 'failed', due_at = NULL, claim_id = NULL, failed_at = now(), error_code = 'resent',
    error_message = $3
WHERE tenant_id = $1 AND id = $2 AND (
    {only_if("status = 'unknown'")} OR status = 'failed' AND error_code = 'unknown')
RETURNING id
"""

# Whether the provider accepted the original message, or another one that was to send it again.
_ACCEPTED = """
SELECT EXISTS (
    SELECT FROM messages WHERE tenant_id = $1 AND conversation_id = $2 AND sent_at IS NOT NULL
        AND (id = $3::uuid OR starts_with(dedupe_key, 'resend:' || $3::uuid || ':')))
"""

_ACTIVE = "SELECT status = 'active' FROM conversations WHERE tenant_id = $1 AND id = $2"

BY_A_PERSON: Final = "a person had it sent again"
AS_ABSENT: Final = "the provider's list has no such message, so it was sent anew"
AS_REFUSED: Final = "the provider had not taken it, as its late answer says, so it was sent anew"
MOST_RESENDS: Final = 3  # of one message by themselves; a person may go on


async def resend(connection: Connection, message: OutboundRef, handoff: timedelta) -> SendRequested:
    """Send a message again as a person decides, in the caller's transaction; returns the job to publish after the
    commit.

    The new row has the key `resend:<id>:<n>`, and this one is failed. <id> is the message whose outcome was unknown
    first, however often it was sent again since. Raises DecisionRefused where the outcome is known by now.
    """
    await conversations.lock(connection, {(message.tenant_id, message.conversation_id)})
    return await _resend(connection, message, await _locked(connection, message), handoff, why=BY_A_PERSON)


async def resend_absent(connection: Connection, message: OutboundRef, *, why: str = AS_ABSENT) -> None:
    """As `resend`, but without a person; the new row is due at once.

    Raises DecisionRefused also after MOST_RESENDS, and for an engine's answer in a conversation that is not active any
    more.
    """
    await conversations.lock(connection, {(message.tenant_id, message.conversation_id)})
    row = await _locked(connection, message)
    if row["status"] != "unknown":
        raise DecisionRefused(_known(row["status"], row["error_code"]))
    if row["error_code"] == RESTORED:
        raise DecisionRefused("waits for a person: the database was restored")
    by_engine = isinstance(row["metadata"], Mapping) and "engine" in row["metadata"]
    if by_engine and not await connection.fetchval(_ACTIVE, message.tenant_id, message.conversation_id):
        raise DecisionRefused("is an answer in a conversation that is not answered any more")
    origin, tries = _origin(message, row)
    if tries and await connection.fetchval(_ACCEPTED, message.tenant_id, message.conversation_id, UUID(origin)):
        raise DecisionRefused("was to send anew what the provider had taken after all")
    if tries >= MOST_RESENDS:
        raise DecisionRefused(f"was sent anew {MOST_RESENDS} times, and the outcome of each is unknown")
    await _resend(connection, message, row, timedelta(0), why=why)


async def _locked(connection: Connection, message: OutboundRef) -> asyncpg.Record:
    row = await connection.fetchrow(_LOCK, message.tenant_id, message.id)
    if row is None:
        raise DecisionRefused("is gone")
    return row


def _origin(message: OutboundRef, row: asyncpg.Record) -> tuple[str, int]:
    """The message whose outcome was unknown first, and how often it was sent again since."""
    again = _RESEND.fullmatch(row["dedupe_key"] or "")
    return (again[1], int(again[2])) if again else (str(message.id), 0)


async def _resend(
    connection: Connection, message: OutboundRef, row: asyncpg.Record, handoff: timedelta, *, why: str
) -> SendRequested:
    given_up = row["status"] == "failed" and row["error_code"] == "unknown"
    if row["status"] != "unknown" and not given_up:
        raise DecisionRefused(_known(row["status"], row["error_code"]))
    if row["sent_at"] is not None:  # by a late answer, which does not change an abandoned message
        raise DecisionRefused("was taken by the provider after all, as its late answer says")
    if row["expired"]:
        raise DecisionRefused(f"was to be sent before {row['expires_at']:%Y-%m-%d %H:%M} UTC")
    if await connection.fetchval(_REPLACED, message.tenant_id, message.id, why) is None:
        raise DecisionRefused("was decided meanwhile")
    origin, tries = _origin(message, row)
    new = outbound.NewMessage(
        tenant_id=message.tenant_id,
        conversation_id=message.conversation_id,
        channel_id=row["channel_id"],
        provider=row["provider"],
        dedupe_key=f"resend:{origin}:{tries + 1}",
        content=row["content"],
        role=row["role"],
        message_type=row["message_type"],
        media=tuple(Media(**part) for part in row["media"]),
        template=outbound_rows.template_of(row["template"]),
        lane=row["lane"],
        window_policy=row["window_policy"],
        window_refused_at=row["window_refused_at"],
        expires_at=row["expires_at"],
        metadata=row["metadata"],
        campaign_recipient_id=row["campaign_recipient_id"],
    )
    while (request := await outbound.add_outbound(connection, new, handoff)) is None:
        tries += 1  # the key exists; an API client may have chosen it for a message of its own
        new = replace(new, dedupe_key=f"resend:{origin}:{tries + 1}")
    about = (message.tenant_id, row["channel_id"], message.conversation_id)
    await record(
        connection,
        Event("message.failed", *about, message.id, detail={"error_code": "resent"}),
        Event("message.queued", *about, request.message_id, detail={"resend_of": str(message.id)}),
    )
    return request


async def fail(connection: Connection, message: OutboundRef) -> None:
    """unknown → failed, as a person decides, in the caller's transaction. Raises DecisionRefused where it isn't
    unknown."""
    await conversations.lock(connection, {(message.tenant_id, message.conversation_id)})
    row = await _locked(connection, message)
    if not await outbound.fail(
        connection, message.tenant_id, message.id, "unknown", "given up by a person", of=("unknown",)
    ):
        raise DecisionRefused(_known(row["status"], row["error_code"]))
    about = (message.tenant_id, row["channel_id"], message.conversation_id, message.id)
    await record(connection, Event("message.failed", *about, detail={"error_code": "unknown"}))


def _known(status: str, error_code: str | None) -> str:
    if (status, error_code) == ("failed", "resent"):
        return "was sent again already; if the outcome of that one is unknown too, it has an id of its own"
    if (status, error_code) == ("failed", "unknown"):
        return "was given up already"
    return f"is not unknown any more: it is {status}" + (f" ({error_code})" if error_code else "")
