"""The sends of many messages in one statement each: heads of lanes, claims, and the results `sent`.

A statement leaves out a message that another session locks: it is done alone then (sends.py), and waits for the lock
without the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal
from uuid import UUID

from shared.database import Pool, new_id
from shared.database.together import APART, Apart
from shared.domain.channels import Channel
from shared.queue.jobs import Lane
from shared.store import channels
from shared.store.arrays import arrays
from shared.store.by_key import only_if
from shared.store.messages.delivery_receipts import HOLD
from shared.store.messages.outbound_rows import OUTBOUND_COLUMNS, Outbound, outbound_of
from shared.store.messages.sends import MAY_BE_CLAIMED, OF_LANE

LaneKey = tuple[UUID, UUID, Lane]  # tenant, conversation, lane

# `lost`: the message has been moved since it was read. `channel_changed`: its channel has, or is gone.
ClaimOutcome = Literal["claimed", "lost", "channel_changed"]

# What a batch waits for any lock that is not of the messages themselves: a campaign's, a recipient's.
_LOCK_WAIT: Final = "set_config('lock_timeout', '100ms', true)"

_HEADS = f"""
SELECT asked.place, head.*
FROM unnest($1::int[], $2::uuid[], $3::uuid[], $4::text[]) AS asked (place, tenant_id, conversation_id, lane)
CROSS JOIN LATERAL (
    SELECT {OUTBOUND_COLUMNS}
    FROM messages m JOIN conversations c ON c.tenant_id = m.tenant_id AND c.id = m.conversation_id
    WHERE m.tenant_id = asked.tenant_id AND m.conversation_id = asked.conversation_id AND m.lane = asked.lane
        AND {OF_LANE}
    ORDER BY m.out_seq LIMIT 1
) AS head
"""

_GOING_ON = f"""
SELECT asked.place
FROM unnest($1::int[], $2::uuid[], $3::uuid[], $4::text[]) AS asked (place, tenant_id, conversation_id, lane)
CROSS JOIN LATERAL (
    SELECT FROM messages m
    WHERE m.tenant_id = asked.tenant_id AND m.conversation_id = asked.conversation_id AND m.lane = asked.lane
        AND {OF_LANE}
    LIMIT 1
) AS next
"""

# The rows of `asked` whose messages no other session locks, locked.
_FREE: Final = """free AS MATERIALIZED (
    SELECT asked.* FROM asked CROSS JOIN LATERAL (
        SELECT FROM messages WHERE tenant_id = asked.tenant_id AND id = asked.id FOR NO KEY UPDATE SKIP LOCKED
    ) AS message
)"""

_CLAIM = f"""
WITH asked AS MATERIALIZED (
    SELECT one.*, {_LOCK_WAIT}, EXISTS ({channels.as_read("one.tenant_id", "one.channel_id", "one.called_as_of")})
        AS channel_as_read
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::int[], $5::timestamptz[], $6::text[], $7::uuid[], $8::text[],
        $9::timestamptz[])
        AS one (tenant_id, id, claim_id, attempts, admitted_at, called_to, channel_id, called_from, called_as_of)
), {_FREE}, claimed AS (
    UPDATE messages m SET status = 'sending', claim_id = free.claim_id, claimed_at = clock_timestamp(),
        attempts = m.attempts + 1, due_at = clock_timestamp() + $10::interval, not_before = NULL,
        called_to = free.called_to, called_from = free.called_from, called_as_of = free.called_as_of
    FROM free
    WHERE m.tenant_id = free.tenant_id AND m.id = free.id AND m.attempts = free.attempts
        AND m.admitted_at IS NOT DISTINCT FROM free.admitted_at AND free.channel_as_read AND {MAY_BE_CLAIMED}
    RETURNING m.claim_id
)
SELECT claim_id, 'claimed' AS outcome FROM claimed
UNION ALL SELECT claim_id, CASE WHEN channel_as_read THEN 'lost' ELSE 'channel_changed' END FROM free
"""

# Of messages that are as their claims left them. A receipt, or the end of the lease, may have moved one meanwhile: what
# follows then, sends.sent decides.
_SENT = f"""
WITH asked AS MATERIALIZED (
    SELECT one.*, {_LOCK_WAIT} FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::bool[])
        AS one (tenant_id, id, claim_id, external_id, held)
), {_FREE}, sent AS (
    UPDATE messages m SET status = 'sent', due_at = NULL, claim_id = NULL, error_code = NULL, error_message = NULL,
        sent_at = coalesce(m.sent_at, clock_timestamp()),
        -- An echo that is stored as an agent's message may have it.
        external_id = coalesce(m.external_id, CASE WHEN NOT EXISTS (
            SELECT FROM messages other
            WHERE other.tenant_id = free.tenant_id AND other.channel_id = m.channel_id
                AND other.external_id = free.external_id AND other.id <> free.id
        ) THEN free.external_id END),
        metadata = CASE WHEN free.held THEN {HOLD} ELSE m.metadata END
    FROM free
    WHERE m.tenant_id = free.tenant_id AND m.id = free.id AND m.claim_id = free.claim_id
        AND {only_if("m.status = 'sending'")}
    RETURNING m.tenant_id, m.channel_id, m.conversation_id, m.id, free.held
), recorded AS (
    INSERT INTO events (name, tenant_id, channel_id, conversation_id, message_id, detail)
    SELECT 'message.sent', tenant_id, channel_id, conversation_id, id,
        CASE WHEN held THEN '{{"held": true}}'::jsonb ELSE '{{}}' END
    FROM sent
)
SELECT id FROM sent
"""

_POSTPONE = f"""
WITH asked AS MATERIALIZED (
    SELECT one.* FROM unnest($1::uuid[], $2::uuid[], $3::interval[]) AS one (tenant_id, id, wait)
), {_FREE}, postponed AS (
    UPDATE messages m SET due_at = clock_timestamp() + free.wait
    FROM free WHERE m.tenant_id = free.tenant_id AND m.id = free.id AND {only_if("m.status = 'ready'")}
    RETURNING m.id
)
SELECT id, true AS postponed FROM postponed UNION ALL SELECT id, false FROM free
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """A message that is to be claimed; see sends.claim."""

    message: Outbound
    channel: Channel
    id: UUID = field(default_factory=new_id)


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A claimed message that its provider has accepted."""

    message: Outbound
    claim_id: UUID
    external_id: str
    held: bool


async def heads(pool: Pool, lanes: Sequence[LaneKey]) -> list[Outbound | None]:
    """The first unfinished message of each lane; None where it is empty."""
    rows = await pool.fetch(_HEADS, *_places(lanes))
    found = {row["place"]: outbound_of(row) for row in rows}
    return [found.get(place) for place in range(len(lanes))]


async def claim(pool: Pool, claims: Sequence[Claim], lease: timedelta) -> list[ClaimOutcome | Apart]:
    """ready → sending, in one commit; returns what came of each, or APART where another session locks the message.

    Raises asyncpg.UniqueViolationError where another message of one of the lanes is being sent.
    """
    values = [
        (
            one.message.tenant_id,
            one.message.id,
            one.id,
            one.message.attempts,
            one.message.admitted_at,
            one.message.recipient,
            one.channel.id,
            one.channel.address,
            one.channel.updated_at,
        )
        for one in claims
    ]
    rows = await pool.fetch(_CLAIM, *arrays(values, 9), lease)
    outcomes: dict[UUID, ClaimOutcome] = {row["claim_id"]: row["outcome"] for row in rows}
    outcomes |= {row["claim_id"]: "claimed" for row in rows if row["outcome"] == "claimed"}
    return [outcomes.get(one.id, APART) for one in claims]


async def sent(pool: Pool, messages: Sequence[SentMessage]) -> list[bool | Apart]:
    """sending → sent, with the events, in one commit; says of each whether its lane goes on.

    APART: it is not recorded, as another session locks it or it has been moved.
    """
    values = [(one.message.tenant_id, one.message.id, one.claim_id, one.external_id, one.held) for one in messages]
    lanes = [(one.message.tenant_id, one.message.conversation_id, one.message.lane) for one in messages]
    async with pool.acquire() as connection:
        recorded = {row["id"] for row in await connection.fetch(_SENT, *arrays(values, 5))}
        # After the commit: a message that became ready before it may have found this one still in its way.
        try:
            going_on = {row["place"] for row in await connection.fetch(_GOING_ON, *_places(lanes))}
        except Exception:  # whatever it is, they are recorded
            going_on = set(range(len(lanes)))
    return [place in going_on if one.message.id in recorded else APART for place, one in enumerate(messages)]


async def postpone(pool: Pool, messages: Sequence[tuple[UUID, UUID, timedelta]]) -> list[bool | Apart]:
    """Make each ready message (tenant, id) due after its wait; says of each whether it was ready.

    APART: another session locks it.
    """
    rows = await pool.fetch(_POSTPONE, *arrays(messages, 3))
    answers = dict.fromkeys((row["id"] for row in rows), False)
    answers |= {row["id"]: True for row in rows if row["postponed"]}
    return [answers.get(message_id, APART) for _, message_id, _ in messages]


def _places(lanes: Sequence[LaneKey]) -> list[list[object]]:
    return [list(range(len(lanes))), *arrays(lanes, 3)]
