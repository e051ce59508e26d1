"""After a restore or fail-over: leaves to a person what may have been sent since, and renumbers the events.

A restored backup and a promoted standby hold rows as they were at an earlier moment. Whatever was to be sent then may
have been sent since, so none of it is sent by itself. All functions work in the caller's transaction.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.database import Connection, Pool
from shared.domain.statuses import RESTORED
from shared.store.messages.agent_reports import OWED_OF

LONG: Final = 24 * 3600.0  # seconds a statement may take here, while no other process works

# Unknown ones too: the channel's policy would send them again or abandon them, which may have happened before.
_MESSAGES: Final = f"""
WITH suspended AS (
    UPDATE messages SET status = 'unknown', unknown_at = coalesce(unknown_at, now()), due_at = NULL, claim_id = NULL,
        not_before = NULL, error_code = '{RESTORED}',
        error_message = 'it was ' || status || ' in a database that was restored, and may have left since'
    WHERE status IN ('queued', 'ready', 'sending') OR status = 'held'
        OR status = 'unknown' AND error_code IS DISTINCT FROM '{RESTORED}'
    RETURNING tenant_id, channel_id, conversation_id, id
), announced AS (
    INSERT INTO events (name, tenant_id, channel_id, conversation_id, message_id, detail)
    SELECT 'message.decision_wanted', tenant_id, channel_id, conversation_id, id, '{{"error_code": "{RESTORED}"}}'
    FROM suspended
)
SELECT count(*) FROM suspended
"""

# Parked ones too: the broker may still hold the job, and to replay it would make an answer.
_REPLIES: Final = """
WITH suspended AS (
    UPDATE conversations SET reply_restored_at = now(), reply_due_at = NULL, reply_wanted_since = NULL,
        reply_lease_id = NULL, reply_lease_until = NULL
    WHERE reply_due_at IS NOT NULL OR reply_due_at IS NULL AND reply_wanted_since IS NOT NULL
    RETURNING id
)
SELECT count(*) FROM suspended
"""

_REPORTS: Final = f"""
WITH suspended AS (UPDATE messages SET due_at = NULL WHERE due_at IS NOT NULL AND {OWED_OF} RETURNING id)
SELECT count(*) FROM suspended
"""

_CAMPAIGNS: Final = f"""
WITH suspended AS (
    UPDATE campaigns SET status = 'paused', due_at = NULL, paused_reason = '{RESTORED}'
    WHERE status IN ('scheduled', 'running')
    RETURNING tenant_id, whatsapp_instance_id, id
), announced AS (
    INSERT INTO events (name, tenant_id, channel_id, detail)
    SELECT 'campaign.paused', tenant_id, whatsapp_instance_id,
        jsonb_build_object('campaign_id', id, 'error_code', '{RESTORED}')
    FROM suspended
)
SELECT count(*) FROM suspended
"""

# One that was missed is nothing that leaves by itself. An attempt that is asked for of an ended one is not made.
_DELIVERIES: Final = f"""
WITH suspended AS (
    UPDATE webhook_logs SET success = false, due_at = NULL, held = NULL, replay_at = NULL, replay_kind = NULL,
        completed_at = now(), error_message = '{RESTORED}'
    WHERE due_at IS NOT NULL OR held = 'waiting' OR replay_at IS NOT NULL AND success IS NULL AND held IS NULL
    RETURNING id
)
SELECT count(*) FROM suspended
"""
_WEBHOOKS: Final = (
    "DELETE FROM webhook_replays",
    "UPDATE webhook_logs SET replay_at = NULL, replay_kind = NULL WHERE replay_at IS NOT NULL",
    "UPDATE webhook_health SET due_at = NULL, holder = NULL, held_until = NULL "
    "WHERE due_at IS NOT NULL OR holder IS NOT NULL",
)


@dataclass(frozen=True, slots=True)
class Suspended:
    """How many rows were suspended, by kind."""

    messages: int  # unknown, for a person to decide
    replies: int  # likewise
    reports: int  # to Kommo, about agents' messages: not made
    campaigns: int  # paused
    deliveries: int  # to tenants' own systems: failed


async def suspend(connection: Connection) -> Suspended:
    """Suspend everything that may have been sent before, so that none of it is sent by itself."""
    suspended = Suspended(
        messages=await connection.fetchval(_MESSAGES, timeout=LONG),
        replies=await connection.fetchval(_REPLIES, timeout=LONG),
        reports=await connection.fetchval(_REPORTS, timeout=LONG),
        campaigns=await connection.fetchval(_CAMPAIGNS, timeout=LONG),
        deliveries=await connection.fetchval(_DELIVERIES, timeout=LONG),
    )
    for statement in _WEBHOOKS:
        await connection.execute(statement, timeout=LONG)
    return suspended


# -- who reads events in their order: the relay, and matching for webhooks ---------------------------------------------

_NOT_OURS: Final = """
SELECT greatest((SELECT e.xid FROM events e ORDER BY e.xid DESC LIMIT 1), (SELECT xid FROM relay_cursor),
    (SELECT xid FROM webhook_cursor)) >= pg_snapshot_xmax(pg_current_snapshot())
"""

# In the order of their sequence: what both have read, what only the one that is ahead has read, what neither has. A
# tenant whose events are matched apart is as far as its own place says.
_RENUMBER: Final = """
UPDATE events e SET xid = CASE ((e.xid, e.seq) <= (r.xid, r.seq))::int + coalesce(
        (SELECT (e.xid, e.seq) <= (b.xid, b.seq) FROM webhook_behind b WHERE b.tenant_id = e.tenant_id),
        (e.xid, e.seq) <= (w.xid, w.seq))::int
    WHEN 2 THEN '0'::xid8 WHEN 1 THEN '1'::xid8 ELSE pg_current_xact_id() END
FROM relay_cursor r, webhook_cursor w
"""
_START: Final = """
WITH ahead AS (SELECT (r.xid, r.seq) >= (w.xid, w.seq) AS relay, (w.xid, w.seq) >= (r.xid, r.seq) AS webhooks
    FROM relay_cursor r, webhook_cursor w),
relay AS (UPDATE relay_cursor SET xid = CASE WHEN relay THEN pg_current_xact_id() ELSE '1'::xid8 END, seq = 0,
    moved_at = now() FROM ahead),
behind AS (UPDATE webhook_behind SET xid = '1', seq = 0)
UPDATE webhook_cursor SET xid = CASE WHEN webhooks THEN pg_current_xact_id() ELSE '1'::xid8 END, seq = 0,
    moved_at = now() FROM ahead
"""
_RELEASE: Final = (
    "UPDATE relay_cursor SET holder = NULL, held_until = NULL",
    "UPDATE webhook_cursor SET holder = NULL, held_until = NULL",
)
_BEGIN_EPOCH: Final = "UPDATE event_epoch SET epoch = gen_random_uuid()"


async def adopt_events(connection: Connection) -> bool:
    """Make the relay go on after the published events, and the webhooks after those that were matched.

    Call it before the transaction writes any event. Events are ordered by PostgreSQL's transaction ids. Those of
    another cluster may be ahead of this cluster's: then they are renumbered (True). Otherwise all events would be
    skipped until this cluster's ids have come so far.
    """
    for statement in _RELEASE:
        await connection.execute(statement)
    foreign: bool = await connection.fetchval(_NOT_OURS, timeout=LONG)
    if foreign:
        await connection.execute(_RENUMBER, timeout=LONG)
        await connection.execute(_START)
    return foreign


async def begin_epoch(connection: Connection) -> None:
    """Say that the order of events is another one: a client's cursor of before is none of it."""
    await connection.execute(_BEGIN_EPOCH)


# -- what a person decides ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OwedReply:
    """A conversation with a suspended reply."""

    id: UUID
    tenant_id: UUID
    tenant: str
    channel: str
    customer_wrote_at: datetime | None
    restored_at: datetime


_REPLY: Final = """
SELECT c.id, c.tenant_id, t.name AS tenant, ch.address AS channel, c.last_user_message_at AS customer_wrote_at,
    c.reply_restored_at AS restored_at
FROM conversations c JOIN tenants t ON t.id = c.tenant_id
JOIN channels ch ON ch.tenant_id = c.tenant_id AND ch.id = c.channel_id
WHERE c.reply_restored_at IS NOT NULL
"""
_LISTED: Final = f"{_REPLY} ORDER BY c.reply_restored_at, c.id LIMIT $1"
_BEGINNING: Final = f"{_REPLY} AND c.id BETWEEN $1 AND $2 ORDER BY c.id LIMIT 2"
_DECIDED: Final = """
UPDATE conversations SET reply_restored_at = NULL, reply_due_at = CASE WHEN $3 THEN now() ELSE reply_due_at END,
    reply_wanted_since = CASE WHEN $3 THEN now() ELSE reply_wanted_since END
WHERE tenant_id = $1 AND id = $2 AND reply_restored_at IS NOT NULL RETURNING id
"""


async def replies(pool: Pool, limit: int) -> list[OwedReply]:
    """Suspended replies that are not decided."""
    return [OwedReply(**row) for row in await pool.fetch(_LISTED, limit)]


async def replies_beginning(pool: Pool, digits: str) -> list[OwedReply]:
    """Up to two of them whose conversation's id begins with these hexadecimal digits."""
    first, last = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
    return [OwedReply(**row) for row in await pool.fetch(_BEGINNING, first, last)]


async def decide_reply(connection: Connection, reply: OwedReply, *, answer: bool) -> bool:
    """Answer the customer after all, or not, as a person decides. False where it was decided or answered meanwhile."""
    return await connection.fetchval(_DECIDED, reply.tenant_id, reply.id, answer) is not None
