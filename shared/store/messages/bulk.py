"""messages of a campaign: inserts those of a page in one statement, and has them wait while it is paused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson

from shared.database import Connection, Pool
from shared.domain.model import Template
from shared.store.by_key import only_if
from shared.store.messages.outbound_rows import template_json


@dataclass(frozen=True, slots=True)
class ReadyMessage:
    """A message on which consents and the window are decided. `dedupe_key`: as NewMessage's."""

    id: UUID
    conversation_id: UUID
    campaign_recipient_id: UUID
    dedupe_key: str
    content: str
    message_type: str
    media: Sequence[Mapping[str, str]]
    template: Template | None
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """What all messages of one statement have in common."""

    tenant_id: UUID
    channel_id: UUID
    provider: str
    expires_at: datetime | None


# Each gets the next place in its conversation. `fail`: where the window closes before it leaves, no other form of it is
# sent.
_ADD_READY = """
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest($6::uuid[], $7::uuid[], $8::uuid[], $9::text[], $10::text[], $11::text[], $12::text[],
        $13::jsonb[], $14::jsonb[]) AS one (id, conversation_id, campaign_recipient_id, dedupe_key, content,
        message_type, media, template, metadata)
), place AS (
    UPDATE conversations c
    SET next_out_seq = c.next_out_seq + 1, last_message_at = greatest(c.last_message_at, now())
    FROM asked
    WHERE c.tenant_id = $1 AND c.id = asked.conversation_id
        AND NOT EXISTS (SELECT FROM messages WHERE tenant_id = $1 AND dedupe_key = asked.dedupe_key)
    RETURNING c.id, c.next_out_seq - 1 AS out_seq
)
INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, status, dedupe_key, content,
    role, message_type, media, template, lane, window_policy, expires_at, metadata, due_at, out_seq, created_at,
    admitted_at, campaign_recipient_id)
SELECT asked.id, $1, asked.conversation_id, $2, $3, 'outbound', 'ready', asked.dedupe_key, asked.content,
    'assistant', asked.message_type, asked.media::jsonb, asked.template, 'bulk', 'fail', $4, asked.metadata,
    now() + $5::interval, place.out_seq, clock_timestamp(), clock_timestamp(), asked.campaign_recipient_id
FROM asked JOIN place ON place.id = asked.conversation_id
ON CONFLICT (tenant_id, dedupe_key) WHERE dedupe_key IS NOT NULL DO NOTHING
RETURNING id
"""

# Not where the campaign has been resumed since the message was read: then it is due already.
_WAIT_FOR_CAMPAIGN = f"""
UPDATE messages SET due_at = clock_timestamp() + $3::interval, not_before = clock_timestamp() + $3::interval
WHERE tenant_id = $1 AND id = $2 AND {only_if("status = 'ready'")}
    AND NOT campaign_sends(tenant_id, campaign_recipient_id)
"""


async def add_ready(
    connection: Connection, page: Page, messages: Sequence[ReadyMessage], handoff: timedelta
) -> set[UUID]:
    """Insert the messages, of a conversation at most one; returns the ids of those that are new.

    The caller holds the conversations' locks, and publishes the jobs after the commit; the rows are due again a handoff
    lease later. A message whose dedupe_key there is already is left out.
    """
    rows = await connection.fetch(
        _ADD_READY,
        page.tenant_id,
        page.channel_id,
        page.provider,
        page.expires_at,
        handoff,
        [one.id for one in messages],
        [one.conversation_id for one in messages],
        [one.campaign_recipient_id for one in messages],
        [one.dedupe_key for one in messages],
        [one.content.replace("\0", "\ufffd") for one in messages],
        [one.message_type for one in messages],
        [orjson.dumps(one.media).decode() for one in messages],  # a list in a list is no array of jsonb
        [template_json(one.template) for one in messages],
        [one.metadata for one in messages],
    )
    return {row["id"] for row in rows}


async def wait_for_campaign(connection: Connection | Pool, tenant_id: UUID, message_id: UUID, wait: timedelta) -> None:
    """Postpone a ready message of a paused campaign."""
    await connection.execute(_WAIT_FOR_CAMPAIGN, tenant_id, message_id, wait)
