"""Replies that a conversation owes: the lease of the process that makes one, and when the next is due.

The lease is part of the conversation's row; `conversations.update_from_messages` makes a reply due.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from shared.database import Connection, Pool, new_id
from shared.store.arrays import arrays
from shared.store.by_key import only_if


@dataclass(frozen=True, slots=True)
class ReplyClaim:
    """A conversation that this process may answer until the lease ends."""

    lease_id: UUID
    channel_id: UUID
    user_message_count: int
    unanswered: int  # of the customer's messages
    waited: timedelta  # since the first unanswered one


# Wanted and not due: it was parked, and an operator has replayed its job.
_CLAIM = f"""
UPDATE conversations SET reply_lease_id = $3, reply_lease_until = now() + $4::interval,
    reply_due_at = now() + $4::interval
WHERE tenant_id = $1 AND id = $2 AND (reply_due_at IS NOT NULL OR reply_wanted_since IS NOT NULL)
    AND {only_if("status = 'active' AND deleted_at IS NULL")}
    AND (reply_lease_until IS NULL OR reply_lease_until < now())
RETURNING channel_id, user_message_count, user_message_count - answered_count AS unanswered,
    now() - coalesce(reply_wanted_since, now()) AS waited
"""

_RENEW = """
UPDATE conversations SET reply_lease_until = now() + $4::interval, reply_due_at = now() + $4::interval
WHERE tenant_id = $1 AND id = $2 AND reply_lease_id = $3 RETURNING id
"""

# An escalated or closed conversation owes no reply.
_DROP_DUE = """
UPDATE conversations SET reply_due_at = NULL, reply_wanted_since = NULL
WHERE (tenant_id, id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))
    AND (reply_due_at IS NOT NULL OR reply_wanted_since IS NOT NULL) AND (status <> 'active' OR deleted_at IS NOT NULL)
"""

_LOCK_OWED = """
SELECT tenant_id, id, channel_id, recipient, contact_name, last_user_message_at, user_message_count,
    user_message_count - answered_count AS unanswered,
    reply_due_at IS NOT NULL OR reply_wanted_since IS NOT NULL AS owed,
    status = 'active' AND deleted_at IS NULL AS active, coalesce(reply_lease_until >= now(), false) AS leased,
    clock_timestamp() AS now
FROM conversations
WHERE (tenant_id, id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))
ORDER BY tenant_id, id FOR NO KEY UPDATE
"""
_LOCK_OWED_FREE = f"{_LOCK_OWED} SKIP LOCKED"

_LOCK_ANSWER = """
SELECT status, user_message_count, reply_lease_id, provider, last_user_message_at, contact_name FROM conversations
WHERE tenant_id = $1 AND id = $2 FOR NO KEY UPDATE
"""

_ANSWERED = """
UPDATE conversations SET reply_due_at = NULL, reply_wanted_since = NULL, reply_lease_id = NULL,
    reply_lease_until = NULL, reply_restored_at = NULL, answered_count = greatest(answered_count, $4)
WHERE tenant_id = $1 AND id = $2 AND reply_lease_id = $3
"""

_SETTLE = """
UPDATE conversations c SET reply_due_at = NULL, reply_wanted_since = NULL, reply_lease_id = NULL,
    reply_lease_until = NULL, reply_restored_at = NULL,
    answered_count = greatest(c.answered_count, done.user_message_count)
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS done (tenant_id, id, user_message_count)
WHERE c.tenant_id = done.tenant_id AND c.id = done.id
"""

_DEFER = """
UPDATE conversations SET reply_lease_id = NULL, reply_lease_until = NULL, reply_due_at = now() + $3::interval
WHERE (tenant_id, id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))
"""

_RELEASE = """
UPDATE conversations SET reply_lease_id = NULL, reply_lease_until = NULL, reply_due_at = now() + $4::interval
WHERE tenant_id = $1 AND id = $2 AND reply_lease_id = $3
"""

_PARK = f"""
UPDATE conversations SET reply_due_at = NULL, reply_wanted_since = coalesce(reply_wanted_since, now())
WHERE tenant_id = $1 AND id = $2 AND {only_if("reply_due_at IS NOT NULL")}
    AND (reply_lease_until IS NULL OR reply_lease_until < now())
"""

# Not a locked row, which the clock does not take either.
_POSTPONE = f"""
UPDATE conversations SET reply_due_at = now() + $3::interval,
    reply_wanted_since = coalesce(reply_wanted_since, now())
WHERE (tenant_id, id) IN (
    SELECT tenant_id, id FROM conversations
    WHERE tenant_id = $1 AND id = $2 AND {only_if("reply_due_at IS NOT NULL")}
        AND (reply_lease_until IS NULL OR reply_lease_until < now())
    FOR NO KEY UPDATE SKIP LOCKED)
"""

# As in `conversations.update_from_messages`: after the debounce, but no later than the longest wait in all.
_RELEASE_UNTIL_QUIET = """
UPDATE conversations SET reply_lease_id = NULL, reply_lease_until = NULL,
    reply_due_at = least(now() + $4::interval, greatest(now(), coalesce(reply_wanted_since, now()) + $5::interval))
WHERE tenant_id = $1 AND id = $2 AND reply_lease_id = $3
"""


async def claim(connection: Connection, tenant_id: UUID, conversation_id: UUID, lease: timedelta) -> ReplyClaim | None:
    """Take the conversation's reply lease. None: no reply is owed, or another process has the lease.

    A message that comes meanwhile is not lost: reply_due_at stays set until an answer to the newest message is
    recorded.
    """
    lease_id = new_id()
    row = await connection.fetchrow(_CLAIM, tenant_id, conversation_id, lease_id, lease)
    if row is None:
        await drop_due(connection, [(tenant_id, conversation_id)])
        return None
    return ReplyClaim(lease_id, row["channel_id"], row["user_message_count"], row["unanswered"], row["waited"])


@dataclass(frozen=True, slots=True)
class OwingConversation:
    """A conversation that is locked until the transaction ends, and what it says of a reply.

    `owed`: a reply is wanted. `active`: it may be answered. `leased`: another process is answering it.
    """

    tenant_id: UUID
    id: UUID
    channel_id: UUID
    recipient: str
    contact_name: str | None
    last_user_message_at: datetime | None
    user_message_count: int
    unanswered: int  # of the customer's messages
    owed: bool
    active: bool
    leased: bool
    now: datetime  # PostgreSQL's clock

    @property
    def key(self) -> tuple[UUID, UUID]:
        return self.tenant_id, self.id


async def lock_owing(connection: Connection, keys: set[tuple[UUID, UUID]], *, wait: bool) -> list[OwingConversation]:
    """Lock conversations (tenant, id), in one order for all, and read them; without `wait` only those that no other
    transaction has locked.

    While the lock is held nothing changes in them: an answer that is made meanwhile needs no lease.
    """
    ordered = arrays(sorted(keys), 2)
    rows = await connection.fetch(_LOCK_OWED if wait else _LOCK_OWED_FREE, *ordered)
    return [OwingConversation(**row) for row in rows]


async def settle(connection: Connection, conversations: Sequence[OwingConversation]) -> None:
    """Note that all messages of these locked conversations are answered: no reply is owed for them."""
    if conversations:
        counts = [one.user_message_count for one in conversations]
        await connection.execute(_SETTLE, *arrays([one.key for one in conversations], 2), counts)


async def defer(connection: Connection, conversations: Sequence[OwingConversation], wait: timedelta) -> None:
    """Make the replies of these locked conversations due after `wait`."""
    if conversations:
        await connection.execute(_DEFER, *arrays([one.key for one in conversations], 2), wait)


async def drop_due(connection: Connection, keys: Sequence[tuple[UUID, UUID]]) -> None:
    """Owe no reply in those of these (tenant, conversation) that are not active."""
    if keys:
        await connection.execute(_DROP_DUE, *arrays(sorted(keys), 2))


async def renew(pool: Pool, tenant_id: UUID, conversation_id: UUID, lease_id: UUID, lease: timedelta) -> bool:
    """Renew the lease while the engine answers. False: another process has it by now."""
    return await pool.fetchval(_RENEW, tenant_id, conversation_id, lease_id, lease) is not None


@dataclass(frozen=True, slots=True)
class AnswerState:
    """A locked conversation whose answer is ready to be recorded."""

    active: bool
    ours: bool
    user_message_count: int
    provider: str
    last_user_message_at: datetime | None
    contact_name: str | None


async def lock_for_answer(
    connection: Connection, tenant_id: UUID, conversation_id: UUID, lease_id: UUID
) -> AnswerState | None:
    """Lock the conversation; None where it is gone."""
    row = await connection.fetchrow(_LOCK_ANSWER, tenant_id, conversation_id)
    if row is None:
        return None
    return AnswerState(
        active=row["status"] == "active",
        ours=row["reply_lease_id"] == lease_id,
        user_message_count=row["user_message_count"],
        provider=row["provider"],
        last_user_message_at=row["last_user_message_at"],
        contact_name=row["contact_name"],
    )


async def answered(connection: Connection | Pool, tenant_id: UUID, conversation_id: UUID, claim: ReplyClaim) -> None:
    """Note that the messages up to the claim are answered: no reply is owed for them."""
    await connection.execute(_ANSWERED, tenant_id, conversation_id, claim.lease_id, claim.user_message_count)


async def release(
    connection: Connection | Pool, tenant_id: UUID, conversation_id: UUID, lease_id: UUID, due_in: timedelta
) -> None:
    """Release the lease; the reply is still owed, and due after `due_in`."""
    await connection.execute(_RELEASE, tenant_id, conversation_id, lease_id, due_in)


async def postpone(
    connection: Connection | Pool, tenant_id: UUID, conversation_id: UUID, wait: timedelta | None
) -> None:
    """Make an owed reply that no process is making due after `wait`; with None park it.

    A parked reply is wanted and never due, until its job is replayed or the customer writes again.
    """
    if wait is None:
        await connection.execute(_PARK, tenant_id, conversation_id)
    else:
        await connection.execute(_POSTPONE, tenant_id, conversation_id, wait)


async def release_until_quiet(
    connection: Connection | Pool,
    tenant_id: UUID,
    conversation_id: UUID,
    lease_id: UUID,
    debounce: timedelta,
    longest_wait: timedelta,
) -> None:
    """Release the lease, as the customer goes on writing; the reply is due after the channel's debounce."""
    await connection.execute(_RELEASE_UNTIL_QUIET, tenant_id, conversation_id, lease_id, debounce, longest_wait)
