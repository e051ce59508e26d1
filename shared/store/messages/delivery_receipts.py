"""message_statuses: stores each delivery receipt once and moves its message; a receipt without a message is parked."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.database import Connection, new_id
from shared.domain.model import Receipt, Template
from shared.domain.window import Policy
from shared.queue.jobs import Lane
from shared.store.arrays import arrays
from shared.store.by_key import only_if
from shared.store.messages.outbound import record_canceled
from shared.store.messages.outbound_rows import template_of


@dataclass(frozen=True, slots=True)
class IncomingReceipt:
    """A receipt with its channel and webhook."""

    tenant_id: UUID
    channel_id: UUID
    provider: str
    receipt: Receipt
    received_at: datetime
    inbound_id: str | None = None  # of its webhook; not stored with a parked one


@dataclass(frozen=True, slots=True)
class ReceiptMessage:
    """The message of a receipt, locked."""

    id: UUID
    tenant_id: UUID
    conversation_id: UUID
    channel_id: UUID
    provider: str
    status: str
    content: str
    media: list[dict[str, str]]
    metadata: dict[str, object]
    lane: Lane
    template: Template | None
    sent_as: Template | None
    window_policy: Policy | None
    claimed_at: datetime | None
    abandoned: bool  # failed only as its outcome was unknown, or sent again since
    campaign_recipient_id: UUID | None
    resends: str | None  # prefix of the dedupe_keys of the messages that send it again; None: it was not sent again


# The prefix of the dedupe_keys of the messages that were made to send this one again.
RESENDS: Final = """CASE WHEN status = 'failed' AND error_code = 'resent'
        THEN coalesce(substring(dedupe_key FROM '^resend:[0-9a-f-]{36}:'), 'resend:' || id || ':') END"""

_LOCATE = """
SELECT asked.place, m.id, m.conversation_id, m.status IN ('unknown', 'failed') AS doubtful
FROM unnest($1::int[], $2::uuid[], $3::uuid[], $4::text[], $5::uuid[])
    AS asked (place, tenant_id, channel_id, external_id, message_id)
JOIN LATERAL (
    SELECT id, conversation_id, status FROM messages
    WHERE tenant_id = asked.tenant_id AND id = asked.message_id AND direction = 'outbound'
    UNION ALL
    SELECT id, conversation_id, status FROM messages
    WHERE tenant_id = asked.tenant_id AND channel_id = asked.channel_id AND external_id = asked.external_id
        AND direction = 'outbound'
    LIMIT 1
) m ON true
"""

_INSERT = """
INSERT INTO message_statuses (id, tenant_id, channel_id, message_id, external_id, status, error_code, error_message,
    occurred_at, received_at)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::timestamptz[], $10::timestamptz[])
ON CONFLICT (tenant_id, channel_id, external_id, status) DO NOTHING
RETURNING id
"""

_LOCK = f"""
SELECT id, tenant_id, conversation_id, channel_id, provider, status, content, media, metadata, lane, template,
    sent_as, window_policy, claimed_at, campaign_recipient_id,
    status = 'failed' AND coalesce(error_code, '') IN ('unknown', 'resent') AS abandoned,
    {RESENDS} AS resends
FROM messages WHERE (tenant_id, id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))
ORDER BY tenant_id, id FOR NO KEY UPDATE
"""

# Meta gives whole seconds of its own clock; a message is still never delivered before it was sent.
_MOVE = """
UPDATE messages m SET status = new.status, due_at = NULL, claim_id = NULL, not_before = NULL,
    external_id = coalesce(m.external_id, new.external_id),
    sent_at = coalesce(m.sent_at, greatest(new.at, m.claimed_at)),
    delivered_at = CASE WHEN new.status IN ('delivered', 'read')
        THEN coalesce(m.delivered_at, greatest(new.at, m.claimed_at, m.sent_at)) ELSE m.delivered_at END,
    read_at = CASE WHEN new.status = 'read' THEN greatest(new.at, m.claimed_at, m.sent_at, m.delivered_at)
        ELSE m.read_at END,
    failed_at = CASE WHEN new.status = 'failed' THEN greatest(new.at, m.claimed_at, m.sent_at) ELSE m.failed_at END,
    error_code = new.error_code, error_message = new.error_message
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[], $6::text[], $7::text[])
    AS new (tenant_id, id, status, external_id, at, error_code, error_message)
WHERE m.tenant_id = new.tenant_id AND m.id = new.id
"""

# Messages that were to send it again and have not left. Only of its conversation: a client may have chosen such a key
# for a message of another one.
_CANCEL_RESENDS = f"""
UPDATE messages SET status = 'canceled', due_at = NULL, error_code = 'already_sent'
WHERE tenant_id = $1 AND conversation_id = $2 AND starts_with(dedupe_key, $3)
    AND {only_if("status IN ('queued', 'held', 'ready')")}
RETURNING id, tenant_id, channel_id, conversation_id
"""

_APPLIED = """
UPDATE message_statuses s SET applied = true
FROM unnest($1::uuid[], $2::uuid[]) AS done (tenant_id, id)
WHERE s.tenant_id = done.tenant_id AND s.id = done.id
"""


async def locate(connection: Connection, incoming: Sequence[IncomingReceipt]) -> dict[int, tuple[UUID, UUID, bool]]:
    """Index → (message, conversation, whether it may be sent again), of receipts whose message exists, by our id or the
    provider's."""
    rows = await connection.fetch(
        _LOCATE,
        list(range(len(incoming))),
        [a.tenant_id for a in incoming],
        [a.channel_id for a in incoming],
        [a.receipt.external_id for a in incoming],
        [a.receipt.message_id for a in incoming],
    )
    return {row["place"]: (row["id"], row["conversation_id"], row["doubtful"]) for row in rows}


async def insert(
    connection: Connection, incoming: Sequence[IncomingReceipt], found: dict[int, tuple[UUID, UUID, bool]]
) -> dict[int, UUID]:
    """Insert each receipt once; returns index → row id of the new ones. A receipt without a message is parked."""
    first: dict[tuple[UUID, UUID, str, str], int] = {}
    for index, a in enumerate(incoming):
        first.setdefault((a.tenant_id, a.channel_id, a.receipt.external_id, a.receipt.status), index)
    order = [first[key] for key in sorted(first, key=str)]
    ids = {index: new_id() for index in order}
    rows = await connection.fetch(
        _INSERT,
        [ids[i] for i in order],
        [incoming[i].tenant_id for i in order],
        [incoming[i].channel_id for i in order],
        [found[i][0] if i in found else None for i in order],
        [incoming[i].receipt.external_id for i in order],
        [incoming[i].receipt.status for i in order],
        [incoming[i].receipt.error_code for i in order],
        [(incoming[i].receipt.error_message or "")[:500] or None for i in order],
        [incoming[i].receipt.timestamp for i in order],
        [incoming[i].received_at for i in order],
    )
    inserted = {row["id"] for row in rows}
    return {index: row_id for index, row_id in ids.items() if row_id in inserted}


async def lock_messages(connection: Connection, keys: set[tuple[UUID, UUID]]) -> dict[UUID, ReceiptMessage]:
    """Lock the messages (tenant, id), in the same order as everywhere."""
    ordered = sorted(keys)
    rows = await connection.fetch(_LOCK, *arrays(ordered, 2))
    return {
        row["id"]: ReceiptMessage(
            id=row["id"],
            tenant_id=row["tenant_id"],
            conversation_id=row["conversation_id"],
            channel_id=row["channel_id"],
            provider=row["provider"],
            status=row["status"],
            content=row["content"],
            media=row["media"],
            metadata=row["metadata"],
            lane=row["lane"],
            template=template_of(row["template"]),
            sent_as=template_of(row["sent_as"]),
            window_policy=row["window_policy"],
            claimed_at=row["claimed_at"],
            abandoned=row["abandoned"],
            campaign_recipient_id=row["campaign_recipient_id"],
            resends=row["resends"],
        )
        for row in rows
    }


@dataclass(frozen=True, slots=True)
class Move:
    """The new state of a message, by a receipt."""

    tenant_id: UUID
    message_id: UUID
    status: str
    external_id: str
    at: datetime
    error_code: str | None
    error_message: str | None


async def move(connection: Connection, moves: Sequence[Move]) -> None:
    """Move messages, which the caller has locked, to the states that their receipts report."""
    if not moves:
        return
    ordered = sorted(moves, key=lambda m: (m.tenant_id, m.message_id))
    await connection.execute(
        _MOVE,
        [m.tenant_id for m in ordered],
        [m.message_id for m in ordered],
        [m.status for m in ordered],
        [m.external_id for m in ordered],
        [m.at for m in ordered],
        [m.error_code for m in ordered],
        [m.error_message for m in ordered],
    )


async def cancel_resends(connection: Connection, tenant_id: UUID, conversation_id: UUID, resends: str) -> None:
    """Cancel the messages that were to send a message again, with their events. The caller has locked that message,
    which is older than they are: everywhere older messages are locked first."""
    canceled = await connection.fetch(_CANCEL_RESENDS, tenant_id, conversation_id, resends)
    await record_canceled(connection, canceled, "already_sent")


async def applied(connection: Connection, rows: Sequence[tuple[UUID, UUID]]) -> None:
    """Mark the receipts (tenant, row id) that moved their message."""
    ordered = sorted(rows)
    await connection.execute(_APPLIED, *arrays(ordered, 2))
