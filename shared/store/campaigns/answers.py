"""campaign_answers: enters people's answers and opt-outs into the recipients of campaigns that have written to them.

Whoever stores a customer's message or an opt-out inserts a row here, in the same transaction (messages/inbound.py, the
trigger of 0054_campaign_looks.sql). They hold other locks, in other orders: if they changed recipients, they and those
who store receipts would wait for each other in a circle. The clock's transaction holds these locks alone, and waits for
none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, cast
from uuid import UUID

import asyncpg

from shared.database import Connection
from shared.domain.campaigns.answers import Answer, Kind, Written, becomes
from shared.domain.campaigns.settings import CampaignSettings
from shared.store.arrays import arrays

_LONGEST: Final = timedelta(days=31)  # answers count for 30 days at most
_MOST: Final = 1000  # recipients that one contact is in that time
_USUAL: Final = CampaignSettings().replied_within

SHARE: Final = 100  # answers of one tenant that are read at once

# From tenant to tenant by the index, some of each, and in turns: a tenant with many answers, or whose messages are
# locked, delays no other.
_OLDEST = f"""
SELECT tenant_id, id, contact_id, kind, channel_id, channel_kind, refused_message, reason, at FROM campaign_answers
WHERE (tenant_id, id) IN (
    WITH RECURSIVE tenants_waiting AS (
        (SELECT tenant_id FROM campaign_answers ORDER BY tenant_id LIMIT 1)
        UNION ALL
        SELECT (SELECT a.tenant_id FROM campaign_answers a WHERE a.tenant_id > t.tenant_id ORDER BY a.tenant_id LIMIT 1)
        FROM tenants_waiting t WHERE t.tenant_id IS NOT NULL
    )
    SELECT t.tenant_id, one.id FROM tenants_waiting t CROSS JOIN LATERAL (
        SELECT id, row_number() OVER (ORDER BY created_at) AS place FROM campaign_answers
        WHERE tenant_id = t.tenant_id ORDER BY created_at LIMIT {SHARE}
    ) AS one
    ORDER BY one.place, t.tenant_id LIMIT $1
)
ORDER BY created_at FOR UPDATE SKIP LOCKED
"""
# Step by step, by the LIMITs: from an answer to the contact's recipients, and from each to its message and campaign. A
# planner that knows little of these tables would begin with all campaigns of a channel.
_WRITTEN = f"""
SELECT a.id AS answer_id, r.tenant_id, r.id AS recipient_id, r.status AS recipient_status, m.id AS message_id, m.status,
    coalesce(m.sent_at, m.claimed_at) AS left_at, k.replied_within
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::timestamptz[])
    AS a (tenant_id, id, contact_id, channel_id, channel_kind, at)
CROSS JOIN LATERAL (
    SELECT tenant_id, id, status, message_id, campaign_id FROM campaign_recipients
    WHERE tenant_id = a.tenant_id AND contact_id = a.contact_id AND queued_at > a.at - $7::interval
    LIMIT {_MOST}
) AS r
CROSS JOIN LATERAL (
    SELECT whatsapp_instance_id AS channel_id, settings -> 'replied_within' AS replied_within FROM campaigns
    WHERE tenant_id = r.tenant_id AND id = r.campaign_id LIMIT 1
) AS k
CROSS JOIN LATERAL (SELECT kind FROM channels WHERE tenant_id = r.tenant_id AND id = k.channel_id LIMIT 1) AS via
CROSS JOIN LATERAL (
    SELECT id, status, sent_at, claimed_at FROM messages WHERE tenant_id = r.tenant_id AND id = r.message_id LIMIT 1
) AS m
WHERE a.channel_id = k.channel_id OR a.channel_kind = via.kind
"""
# Whoever moves a message's recipient holds the message.
_LOCK = """
SELECT id FROM messages WHERE (tenant_id, id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))
ORDER BY tenant_id, id FOR NO KEY UPDATE SKIP LOCKED
"""
_ENTER = """
UPDATE campaign_recipients AS r SET status = new.status,
    reason = CASE WHEN new.status = 'opted_out' THEN coalesce(new.reason, r.reason) ELSE r.reason END,
    replied_at = CASE WHEN new.status = 'replied' THEN new.at ELSE r.replied_at END,
    opted_out_at = CASE WHEN new.status = 'opted_out' THEN new.at ELSE r.opted_out_at END
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::timestamptz[])
    AS new (tenant_id, id, status, reason, at)
WHERE r.tenant_id = new.tenant_id AND r.id = new.id AND r.status NOT IN ('opted_out', new.status)
"""
_DONE = "DELETE FROM campaign_answers WHERE (tenant_id, id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))"


@dataclass(frozen=True, slots=True)
class _Entry:
    tenant_id: UUID
    answer_id: UUID
    recipient_id: UUID
    message_id: UUID
    kind: Kind
    reason: str | None
    at: datetime


async def enter(connection: Connection, limit: int) -> int:
    """Enter the oldest answers of each tenant, at most so many in all; returns how many are done. One whose message is
    locked waits."""
    answers = await connection.fetch(_OLDEST, limit)
    if not answers:
        return 0
    entries = await _entries(connection, answers)
    locked = {
        row["id"]
        for row in await connection.fetch(_LOCK, *arrays(sorted({(e.tenant_id, e.message_id) for e in entries}), 2))
    }
    # An answer goes in whole, or waits. Of two to one recipient the opt-out goes in last.
    waiting = {entry.answer_id for entry in entries if entry.message_id not in locked}
    for kind in ("replied", "opted_out"):
        now = {e.recipient_id: e for e in entries if e.kind == kind and e.answer_id not in waiting}
        if now:
            keys = [(e.tenant_id, e.recipient_id, e.kind, e.reason, e.at) for e in now.values()]
            await connection.execute(_ENTER, *arrays(sorted(keys, key=lambda key: key[:2]), 5))
    done = [(row["tenant_id"], row["id"]) for row in answers if row["id"] not in waiting]
    await connection.execute(_DONE, *arrays(done, 2))
    return len(done)


async def _entries(connection: Connection, answers: Sequence[asyncpg.Record]) -> list[_Entry]:
    """What these answers change, of which recipient."""
    by_id = {row["id"]: row for row in answers}
    keys = [
        (row["tenant_id"], row["id"], row["contact_id"], row["channel_id"], row["channel_kind"], row["at"])
        for row in answers
    ]
    found = []
    for row in await connection.fetch(_WRITTEN, *arrays(keys, 6), _LONGEST):
        answer = by_id[row["answer_id"]]
        kind = becomes(_answer(answer), _written(row))
        if kind is not None:
            given = (row["recipient_id"], row["message_id"], kind, answer["reason"], answer["at"])
            found.append(_Entry(row["tenant_id"], answer["id"], *given))
    return found


def _answer(row: asyncpg.Record) -> Answer:
    try:
        refused = None if row["refused_message"] is None else UUID(row["refused_message"])
    except ValueError:  # entered by SQL
        refused = None
    return Answer(cast("Kind", row["kind"]), row["at"], refused)


def _written(row: asyncpg.Record) -> Written:
    hours = row["replied_within"]  # SQL may have written anything there
    known = isinstance(hours, (int, float)) and not isinstance(hours, bool) and 0 < hours <= 30 * 24
    within = timedelta(hours=hours if known else _USUAL)
    return Written(row["message_id"], row["status"], row["left_at"], row["recipient_status"], within)
