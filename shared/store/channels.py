"""channels and tenants: reads a channel with its settings, adds, changes, stops and resumes it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final
from uuid import UUID

import asyncpg

from shared.database import Connection, Pool
from shared.domain.channels import Channel, stored_settings
from shared.domain.consents import DEFAULT_WORDS, Words, words_of
from shared.process.log import get_logger
from shared.store.arrays import arrays
from shared.store.by_key import only_if

log = get_logger(__name__)

CONVERSATIONS_AT_ONCE: Final = 1000  # conversations of a resumed channel that one statement makes due

_COLUMNS = "id, tenant_id, endpoint_id, provider, kind, address, status, settings, updated_at, business_id"

_TENANT_LIVES = "EXISTS (SELECT FROM tenants t WHERE t.id = channels.tenant_id AND t.deleted_at IS NULL)"


def as_read(tenant_id: str, channel_id: str, updated_at: str) -> str:
    """SQL that finds the channel with this key, if it is as it was then, in which it was not deleted."""
    return f"""SELECT FROM channels JOIN tenants ON tenants.id = channels.tenant_id AND tenants.deleted_at IS NULL
    WHERE channels.tenant_id = {tenant_id} AND channels.id = {channel_id} AND channels.updated_at = {updated_at}"""


_BY_ENDPOINTS = f"""
SELECT {_COLUMNS}, (SELECT t.settings -> 'consents' FROM tenants t WHERE t.id = channels.tenant_id) AS consents
FROM channels WHERE endpoint_id = ANY($1::uuid[]) AND proven AND deleted_at IS NULL AND {_TENANT_LIVES}
ORDER BY id
"""
_ONE = f"""
SELECT {_COLUMNS} FROM channels WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL AND {_TENANT_LIVES}
"""
_BY_KEYS = f"""
SELECT {_COLUMNS} FROM channels
WHERE (tenant_id, id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[])) AND deleted_at IS NULL AND {_TENANT_LIVES}
"""
_LIVES = "SELECT FROM channels WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL"
_ALL = f"SELECT {_COLUMNS} FROM channels WHERE deleted_at IS NULL ORDER BY tenant_id, id"
_CREDENTIALS = "SELECT credentials FROM channels WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL"
_STOP = """
UPDATE channels SET status = 'stopped', status_reason = $3
WHERE tenant_id = $1 AND id = $2 AND status = 'active' RETURNING id
"""
_SWITCH_OFF = """
UPDATE channels SET status = 'stopped', status_reason = $3 WHERE tenant_id = $1 AND id = $2
"""
# The limit that stays null where it is none, and the rest of what is set for Meta.
_SET_LIMITS = """
UPDATE channels AS c SET settings = c.settings || jsonb_build_object('meta', CASE jsonb_typeof(c.settings -> 'meta')
    WHEN 'object' THEN c.settings -> 'meta' ELSE '{}' END || jsonb_build_object('messaging_limit', given.people))
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS given (tenant_id, id, people)
WHERE c.tenant_id = given.tenant_id AND c.id = given.id AND jsonb_typeof(c.settings) = 'object'
    AND c.settings #> '{meta,messaging_limit}' IS DISTINCT FROM CASE WHEN given.people IS NOT NULL
        THEN to_jsonb(given.people) WHEN c.settings #> '{meta,messaging_limit}' IS NOT NULL THEN 'null' END
RETURNING c.tenant_id, c.id
"""
_RESUME = """
UPDATE channels SET status = 'active', status_reason = NULL WHERE tenant_id = $1 AND id = $2 AND status = 'stopped'
RETURNING id
"""
# The first message of each lane: the process that sends it drains the lane. A bounded number of conversations, in the
# order of an index.
_MAKE_DUE = f"""
WITH resumed AS MATERIALIZED (
    SELECT id, address FROM conversations
    WHERE channel_id = $2 AND tenant_id = $1 AND address > $3 ORDER BY address LIMIT $4
), due AS (
    UPDATE messages m SET due_at = now(), not_before = NULL
    FROM resumed CROSS JOIN unnest(ARRAY['normal', 'bulk']) AS of (lane) CROSS JOIN LATERAL (
        SELECT id FROM messages
        WHERE tenant_id = $1 AND conversation_id = resumed.id AND lane = of.lane
            AND status IN ('queued', 'ready', 'sending')
        ORDER BY out_seq LIMIT 1
    ) AS head
    WHERE m.tenant_id = $1 AND m.id = head.id AND {only_if("m.status = 'ready'")}
)
SELECT address FROM resumed ORDER BY address DESC LIMIT 1
"""
_ADD_TENANT = "INSERT INTO tenants (id, name) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING"
_ADD = """
INSERT INTO channels (id, tenant_id, endpoint_id, provider, kind, name, address, credentials, settings, business_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
_SET_SETTINGS = "UPDATE channels SET settings = $3 WHERE tenant_id = $1 AND id = $2 RETURNING id"


def channel_of(row: asyncpg.Record, words: Words = DEFAULT_WORDS) -> Channel:
    """A row of `channels` as the workers need it."""
    settings, wrong = stored_settings(row["settings"])
    if wrong:
        _log_unread(row["id"], row["updated_at"], ", ".join(wrong.values()))
    return Channel(
        id=row["id"],
        tenant_id=row["tenant_id"],
        endpoint_id=row["endpoint_id"],
        provider=row["provider"],
        kind=row["kind"],
        address=row["address"],
        status=row["status"],
        settings=settings,
        updated_at=row["updated_at"],
        business_id=row["business_id"],
        words=words,
        unread=frozenset(wrong),
    )


@lru_cache(maxsize=1000)
def _log_unread(channel_id: UUID, _: datetime, fields: str) -> None:
    """Log it once for each version of a channel's row: the row is read for every message."""
    log.error(
        "channel settings can't be read: what they decide waits for a process that can",
        channel=str(channel_id),
        fields=fields,
    )


async def of_endpoints(connection: Connection | Pool, endpoint_ids: Sequence[UUID]) -> list[Channel]:
    """The channels that these endpoints serve, with their tenants' words.

    Without channels whose address is not proven yet: it may be another tenant's.
    """
    rows = await connection.fetch(_BY_ENDPOINTS, list(endpoint_ids))
    return [channel_of(row, _words(row["tenant_id"], row["consents"])) for row in rows]


def _words(tenant_id: UUID, consents: object) -> Words:
    """A tenant's words; the defaults where they can't be read, for to overlook a STOP would be the worse mistake."""
    if consents is None:
        return DEFAULT_WORDS
    try:
        return words_of(consents if isinstance(consents, Mapping) else {"words": consents})
    except ValueError as error:
        _log_unread_words(tenant_id, str(error))
        return DEFAULT_WORDS


@lru_cache(maxsize=1000)
def _log_unread_words(tenant_id: UUID, fields: str) -> None:
    log.error("tenant's words can't be read: the default ones hold", tenant=str(tenant_id), fields=fields)


async def get(connection: Connection | Pool, tenant_id: UUID, channel_id: UUID) -> Channel | None:
    """A channel; None where it does not exist, or it or its tenant was deleted."""
    row = await connection.fetchrow(_ONE, tenant_id, channel_id)
    return None if row is None else channel_of(row)


async def by_key(connection: Connection, keys: Collection[tuple[UUID, UUID]]) -> dict[tuple[UUID, UUID], Channel]:
    """The channels of these (tenant, channel), without those that `get` does not find."""
    rows = await connection.fetch(_BY_KEYS, *arrays(sorted(keys), 2)) if keys else []
    return {(row["tenant_id"], row["id"]): channel_of(row) for row in rows}


async def lives(connection: Connection, tenant_id: UUID, channel_id: UUID) -> bool:
    """Whether the tenant has this channel, and it is not deleted."""
    return await connection.fetchrow(_LIVES, tenant_id, channel_id) is not None


async def every(connection: Connection | Pool) -> list[Channel]:
    """All channels of all tenants, for an operator."""
    return [channel_of(row) for row in await connection.fetch(_ALL)]


async def credentials(connection: Connection | Pool, tenant_id: UUID, channel_id: UUID) -> str | None:
    """The sealed credentials of a channel."""
    sealed: str | None = await connection.fetchval(_CREDENTIALS, tenant_id, channel_id)
    return sealed


async def stop(connection: Connection, tenant_id: UUID, channel_id: UUID, reason: str) -> bool:
    """Stop a channel: no message leaves through it until it is resumed. False where it was stopped already."""
    return await connection.fetchval(_STOP, tenant_id, channel_id, reason) is not None


async def set_messaging_limits(
    connection: Connection, limits: Mapping[tuple[UUID, UUID], int | None]
) -> list[tuple[UUID, UUID]]:
    """Write the messaging limit into the settings of each (tenant, channel); returns those that had another one."""
    ordered = sorted(limits)
    rows = await connection.fetch(_SET_LIMITS, *arrays(ordered, 2), [limits[key] for key in ordered])
    return [(row["tenant_id"], row["id"]) for row in rows]


async def switch_off(connection: Connection, tenant_id: UUID, channel_id: UUID, reason: str) -> None:
    """Stop a channel, and one that was stopped already for this reason from now on."""
    await connection.execute(_SWITCH_OFF, tenant_id, channel_id, reason)


async def resume(connection: Connection | Pool, tenant_id: UUID, channel_id: UUID) -> bool:
    """Resume a stopped channel, and make its postponed messages due at once. False where it was not stopped.

    Call it outside of a transaction: it makes some conversations due in each statement, which commits by itself. After
    an interruption the remaining messages are due within minutes.
    """
    if await connection.fetchval(_RESUME, tenant_id, channel_id) is None:
        return False
    after: str | None = ""
    while after is not None:
        after = await _make_due(connection, tenant_id, channel_id, after)
    return True


async def resume_in_transaction(connection: Connection, tenant_id: UUID, channel_id: UUID) -> None:
    """As `resume`, within the caller's transaction: only the first CONVERSATIONS_AT_ONCE conversations are due at once,
    so that it stays short; the others are due within minutes."""
    await connection.fetchval(_RESUME, tenant_id, channel_id)
    await _make_due(connection, tenant_id, channel_id, after="")


async def _make_due(connection: Connection | Pool, tenant_id: UUID, channel_id: UUID, after: str) -> str | None:
    """Make messages due of the next conversations after this address; returns the last address, None after the last."""
    last: str | None = await connection.fetchval(_MAKE_DUE, tenant_id, channel_id, after, CONVERSATIONS_AT_ONCE)
    return last


async def add_tenant(connection: Connection, tenant_id: UUID, name: str) -> None:
    """Add a tenant; does nothing where it exists."""
    await connection.execute(_ADD_TENANT, tenant_id, name)


async def add(
    connection: Connection,
    *,
    channel_id: UUID,
    tenant_id: UUID,
    endpoint_id: UUID,
    provider: str,
    kind: str,
    name: str,
    address: str,
    credentials: str,
    settings: dict[str, object],
    business_id: str | None = None,
) -> None:
    """Add a channel. Raises asyncpg.UniqueViolationError where the tenant has this address already."""
    await connection.execute(
        _ADD, channel_id, tenant_id, endpoint_id, provider, kind, name, address, credentials, settings, business_id
    )


_SET_CREDENTIALS = "UPDATE channels SET credentials = $3 WHERE tenant_id = $1 AND id = $2 RETURNING id"


async def set_credentials(connection: Connection | Pool, tenant_id: UUID, channel_id: UUID, credentials: str) -> bool:
    """Replace a channel's sealed credentials. False: no such channel."""
    return await connection.fetchval(_SET_CREDENTIALS, tenant_id, channel_id, credentials) is not None


_SET_BUSINESS = "UPDATE channels SET business_id = $3 WHERE tenant_id = $1 AND id = $2"


async def set_business(connection: Connection, tenant_id: UUID, channel_id: UUID, business_id: str) -> None:
    """Note the provider's id of the business account that the number belongs to."""
    await connection.execute(_SET_BUSINESS, tenant_id, channel_id, business_id)


async def set_settings(
    connection: Connection | Pool, tenant_id: UUID, channel_id: UUID, settings: dict[str, object]
) -> bool:
    """Replace a channel's settings, which `domain.channels.read_settings` has checked. False: no such channel."""
    return await connection.fetchval(_SET_SETTINGS, tenant_id, channel_id, settings) is not None


# -- for an operator, with settings that the workers could not read ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listed:
    """A channel as stored, with raw settings and sealed credentials."""

    tenant_id: UUID
    tenant: str
    id: UUID
    endpoint_id: UUID | None
    provider: str
    kind: str
    name: str
    address: str
    status: str
    status_reason: str | None
    settings: Mapping[str, object]
    credentials: str
    proven: bool  # false: the address came by SQL, on an endpoint of several tenants


_LIST = """
SELECT c.tenant_id, t.name AS tenant, c.id, c.endpoint_id, c.provider, c.kind, c.name, c.address, c.status,
    c.status_reason, c.settings, c.credentials, c.proven
FROM channels c JOIN tenants t ON t.id = c.tenant_id
WHERE c.deleted_at IS NULL AND t.deleted_at IS NULL ORDER BY t.name, c.tenant_id, c.id
"""
_TENANTS = "SELECT id, name FROM tenants WHERE deleted_at IS NULL ORDER BY name, id"


async def listed(connection: Connection | Pool) -> list[Listed]:
    """All channels of all tenants, by tenant's name."""
    return [Listed(**row) for row in await connection.fetch(_LIST)]


async def tenants(connection: Connection | Pool) -> list[tuple[UUID, str]]:
    """(id, name) of every tenant. Names may repeat."""
    return [(row["id"], row["name"]) for row in await connection.fetch(_TENANTS)]
