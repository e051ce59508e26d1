"""The send of a message: the head of its lane, the claim, the result of the call, and look-ups of unknown outcomes."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg

from shared.database import Connection, Pool, new_id
from shared.domain.channels import Channel
from shared.domain.statuses import RESTORED
from shared.queue.jobs import Lane
from shared.store import channels
from shared.store.by_key import only_if
from shared.store.consents import STOPPED_BY
from shared.store.messages import delivery_receipts
from shared.store.messages.outbound_rows import OUTBOUND_COLUMNS, Outbound, outbound_of

# The head of a lane: no later message of the lane leaves before it. A message that is still `queued` blocks too, or the
# next one would overtake it; held, failed and unknown ones don't, nor does one of a campaign that is paused, or waits.
OF_LANE: Final = """m.status IN ('queued', 'ready', 'sending') AND NOT (m.campaign_recipient_id IS NOT NULL
        AND m.status = 'ready' AND coalesce(m.not_before > clock_timestamp(), false))"""
_HEAD = f"""
SELECT {OUTBOUND_COLUMNS} FROM messages m JOIN conversations c ON c.tenant_id = m.tenant_id AND c.id = m.conversation_id
WHERE m.tenant_id = $1 AND m.conversation_id = $2 AND m.lane = $3 AND {OF_LANE}
ORDER BY m.out_seq LIMIT 1
"""

# Only if it is as it was read: another process may have tried it meanwhile, postponed it or changed its form, and the
# customer may have opted out. The campaign that it is of may be paused or canceled: see campaign_sends (0052).
MAY_BE_CLAIMED: Final = f"""{only_if("m.status = 'ready'")}
    AND (m.not_before IS NULL OR m.not_before <= clock_timestamp())
    AND {STOPPED_BY} IS NULL
    AND CASE WHEN m.campaign_recipient_id IS NULL THEN true
        ELSE campaign_sends(m.tenant_id, m.campaign_recipient_id) END"""
_CLAIM = f"""
UPDATE messages m SET status = 'sending', claim_id = $3, claimed_at = clock_timestamp(), attempts = attempts + 1,
    due_at = clock_timestamp() + $4::interval, not_before = NULL,
    called_to = $7, called_from = $8, called_as_of = $9
WHERE tenant_id = $1 AND id = $2 AND attempts = $5 AND admitted_at IS NOT DISTINCT FROM $6 AND {MAY_BE_CLAIMED}
    AND EXISTS ({channels.as_read("m.tenant_id", "m.channel_id", "$9")})
RETURNING id
"""


async def head(connection: Connection | Pool, tenant_id: UUID, conversation_id: UUID, lane: Lane) -> Outbound | None:
    """The first unfinished message of a lane; None where the lane is empty."""
    row = await connection.fetchrow(_HEAD, tenant_id, conversation_id, lane)
    return None if row is None else outbound_of(row)


async def claim(
    pool: Pool, message: Outbound, channel: Channel, lease: timedelta, claim_id: UUID | None = None
) -> UUID | None:
    """ready → sending, committed before the call; returns the claim. None: another process has the lane, or the channel
    has been changed.

    The addresses of `message` and `channel` are recorded: the call uses them, and a look-up has to use the same.
    """
    claim_id = claim_id or new_id()
    try:
        claimed = await pool.fetchval(
            _CLAIM,
            message.tenant_id,
            message.id,
            claim_id,
            lease,
            message.attempts,
            message.admitted_at,
            message.recipient,
            channel.address,
            channel.updated_at,
        )
    except asyncpg.UniqueViolationError:  # messages_one_sending: another message of the lane is being sent
        return None
    return claim_id if claimed is not None else None


_SENT = f"""
UPDATE messages SET
    status = CASE WHEN status IN ('sending', 'unknown') THEN 'sent' ELSE status END,
    due_at = CASE WHEN status IN ('sending', 'unknown') THEN NULL ELSE due_at END,
    external_id = coalesce(external_id, CASE WHEN NOT EXISTS (  -- an echo stored as an agent's message may have it
        SELECT FROM messages other
        WHERE other.tenant_id = $1 AND other.channel_id = messages.channel_id AND other.external_id = $4
            AND other.id <> $2
    ) THEN $4 END),
    sent_at = coalesce(sent_at, clock_timestamp()), claim_id = NULL,
    error_code = CASE WHEN status IN ('sending', 'unknown') THEN NULL ELSE error_code END,
    error_message = CASE WHEN status IN ('sending', 'unknown') THEN NULL ELSE error_message END,
    metadata = CASE WHEN $5 AND status IN ('sending', 'unknown') THEN {delivery_receipts.HOLD} ELSE metadata END
WHERE tenant_id = $1 AND id = $2 AND ($3::uuid IS NULL OR claim_id = $3 OR status <> 'sending')
RETURNING status, conversation_id, {delivery_receipts.RESENDS} AS resends
"""

_BACK = f"""
UPDATE messages SET status = 'ready', claim_id = NULL, not_before = clock_timestamp() + $4::interval,
    due_at = clock_timestamp() + $4::interval, error_code = $5, error_message = $6
WHERE tenant_id = $1 AND id = $2 AND {only_if("status = 'sending'")} AND claim_id = $3 RETURNING id
"""

# Refused at the moment of the claim: a message that the customer wrote since opens the window again.
# Due at once: send does not publish to the window's queue, so the clock does.
_REFUSED_WINDOW = f"""
UPDATE messages SET status = 'queued', claim_id = NULL, sent_as = NULL, due_at = clock_timestamp(),
    window_refused_at = CASE WHEN $4 THEN claimed_at ELSE window_refused_at END, error_code = $5
WHERE tenant_id = $1 AND id = $2 AND (
    {only_if("status = 'sending'")} AND claim_id = $3 OR {only_if("status = 'ready'")} AND $3 IS NULL)
RETURNING id
"""

_FAILED = f"""
UPDATE messages SET status = 'failed', claim_id = NULL, due_at = NULL, failed_at = clock_timestamp(),
    error_code = $4, error_message = $5
WHERE tenant_id = $1 AND id = $2 AND {only_if("status = 'sending'")} AND claim_id = $3 RETURNING id
"""

_UNKNOWN = f"""
UPDATE messages SET status = 'unknown', claim_id = NULL, unknown_at = clock_timestamp(),
    due_at = clock_timestamp() + $4::interval, error_code = $5, error_message = $6
WHERE tenant_id = $1 AND id = $2 AND {only_if("status = 'sending'")} AND claim_id = $3 RETURNING id
"""

_POSTPONE = f"""
UPDATE messages SET due_at = clock_timestamp() + $3::interval,
    not_before = CASE WHEN $4 THEN clock_timestamp() + $3::interval ELSE not_before END
WHERE tenant_id = $1 AND id = $2 AND {only_if("status = 'ready'")} RETURNING id
"""

_OWE_AGAIN = f"""
UPDATE messages m SET due_at = clock_timestamp() + $3::interval
WHERE tenant_id = $1 AND id = $2 AND due_at IS NULL AND error_code IS DISTINCT FROM '{RESTORED}' AND (
    {only_if("status = 'ready'")} OR status = 'unknown' AND NOT EXISTS (
        SELECT FROM channels c
        WHERE c.tenant_id = m.tenant_id AND c.id = m.channel_id AND c.settings ->> 'unknown' = 'ask'))
"""


async def sent(
    connection: Connection,
    tenant_id: UUID,
    message_id: UUID,
    claim_id: UUID | None,
    external_id: str,
    *,
    held: bool = False,
) -> str | None:
    """→ sent: the provider accepted it. Messages that were to send it again, and have not left, are canceled.

    Returns the status it has now, for a receipt may have moved it on already; None where another claim has it.
    `claim_id` None: a late answer that resolves an `unknown`. With `held`, `metadata` says that the provider holds it,
    until a receipt releases it.
    """
    row = await connection.fetchrow(_SENT, tenant_id, message_id, claim_id, external_id, held)
    if row is None:
        return None
    if row["resends"] is not None:
        await delivery_receipts.cancel_resends(connection, tenant_id, row["conversation_id"], row["resends"])
    status: str = row["status"]
    return status


async def back(
    connection: Connection | Pool,
    tenant_id: UUID,
    message_id: UUID,
    claim_id: UUID,
    wait: timedelta,
    code: str,
    detail: str,
) -> bool:
    """sending → ready: the provider certainly did not accept it; it is tried again after `wait`."""
    return (await connection.fetchval(_BACK, tenant_id, message_id, claim_id, wait, code, detail[:500])) is not None


async def window_closed(
    connection: Connection, tenant_id: UUID, message_id: UUID, claim_id: UUID | None, *, by_provider: bool, code: str
) -> bool:
    """sending (or, with no claim, ready) → queued: the window's policy decides anew."""
    return (await connection.fetchval(_REFUSED_WINDOW, tenant_id, message_id, claim_id, by_provider, code)) is not None


async def failed(
    connection: Connection, tenant_id: UUID, message_id: UUID, claim_id: UUID, code: str, detail: str
) -> bool:
    """sending → failed."""
    return await connection.fetchval(_FAILED, tenant_id, message_id, claim_id, code, detail[:500]) is not None


async def unknown(
    connection: Connection, tenant_id: UUID, message_id: UUID, claim_id: UUID, check: timedelta, code: str, detail: str
) -> bool:
    """sending → unknown, to be looked up after `check`."""
    return (await connection.fetchval(_UNKNOWN, tenant_id, message_id, claim_id, check, code, detail[:500])) is not None


async def postpone(
    connection: Connection | Pool, tenant_id: UUID, message_id: UUID, wait: timedelta, *, throttled: bool
) -> bool:
    """Make a ready message due after `wait`; with `throttled` it does not leave before."""
    return await connection.fetchval(_POSTPONE, tenant_id, message_id, wait, throttled) is not None


async def owe_again(connection: Connection | Pool, tenant_id: UUID, message_id: UUID, lease: timedelta) -> None:
    """Make a parked message due again after `lease`; not one that waits for a person's decision."""
    await connection.execute(_OWE_AGAIN, tenant_id, message_id, lease)


# -- unknown outcomes --------------------------------------------------------------------------------------------------

_OF_UNKNOWN = f"""
SELECT {OUTBOUND_COLUMNS} FROM messages m JOIN conversations c ON c.tenant_id = m.tenant_id AND c.id = m.conversation_id
WHERE m.tenant_id = $1 AND m.id = $2 AND {only_if("m.status = 'unknown'")}
    AND m.error_code IS DISTINCT FROM '{RESTORED}'
"""

# Of the same conversation, which has one recipient. A message abandoned as unknown may have been accepted all the same.
_CANDIDATES = f"""
SELECT {OUTBOUND_COLUMNS} FROM messages m JOIN conversations c ON c.tenant_id = m.tenant_id AND c.id = m.conversation_id
WHERE m.tenant_id = $1 AND m.conversation_id = $2 AND m.id <> $3 AND m.external_id IS NULL
    AND (m.status IN ('sending', 'unknown') OR m.status = 'failed' AND m.error_code = 'unknown')
ORDER BY m.created_at DESC LIMIT 100
"""

_ALREADY_MATCHED = """
SELECT asked.external_id FROM unnest($3::text[]) AS asked (external_id)
CROSS JOIN LATERAL (
    SELECT FROM messages WHERE tenant_id = $1 AND channel_id = $2 AND external_id = asked.external_id OFFSET 0
) AS known
"""

_CHECK_AGAIN = f"""
UPDATE messages SET due_at = clock_timestamp() + $3::interval, absent_at = NULL
WHERE tenant_id = $1 AND id = $2 AND {only_if("status = 'unknown'")}
"""

_ABSENT = f"""
UPDATE messages SET absent_at = coalesce(absent_at, clock_timestamp()),
    due_at = coalesce(absent_at, clock_timestamp()) + $3::interval
WHERE tenant_id = $1 AND id = $2 AND {only_if("status = 'unknown'")}
"""

_LEAVE = f"""
UPDATE messages SET due_at = NULL WHERE tenant_id = $1 AND id = $2 AND {only_if("status = 'unknown'")}
"""


async def of_unknown(pool: Pool, tenant_id: UUID, message_id: UUID) -> Outbound | None:
    """The message if its outcome is still unknown."""
    row = await pool.fetchrow(_OF_UNKNOWN, tenant_id, message_id)
    return None if row is None else outbound_of(row)


async def candidates(pool: Pool, message: Outbound) -> list[Outbound]:
    """Other messages of the conversation that the provider may have accepted under an id we don't know, newest
    first."""
    rows = await pool.fetch(_CANDIDATES, message.tenant_id, message.conversation_id, message.id)
    return [outbound_of(row) for row in rows]


async def already_matched(pool: Pool, tenant_id: UUID, channel_id: UUID, external_ids: Sequence[str]) -> set[str]:
    """Which of the provider's ids are already those of messages of ours."""
    rows = await pool.fetch(_ALREADY_MATCHED, tenant_id, channel_id, list(external_ids))
    return {row["external_id"] for row in rows}


async def check_again(connection: Connection | Pool, tenant_id: UUID, message_id: UUID, wait: timedelta) -> None:
    """Look an unknown message up again after `wait`; earlier look-ups that found it absent no longer count."""
    await connection.execute(_CHECK_AGAIN, tenant_id, message_id, wait)


async def absent(connection: Connection | Pool, tenant_id: UUID, message_id: UUID, wait: timedelta) -> None:
    """Note that the provider's list does not have it; look again once it has been absent for `wait`."""
    await connection.execute(_ABSENT, tenant_id, message_id, wait)


async def leave_unknown(connection: Connection | Pool, tenant_id: UUID, message_id: UUID) -> None:
    """Leave it unknown, never due, until a person decides or a receipt comes."""
    await connection.execute(_LEAVE, tenant_id, message_id)
