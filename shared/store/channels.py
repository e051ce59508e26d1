"""channels and tenants: who sends, and with what."""

from collections.abc import Mapping, Sequence
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
from shared.store.by_key import only_if
from shared.store.fair_share import of_each_tenant, try_later

log = get_logger(__name__)

CONVERSATIONS_AT_ONCE: Final = 1000  # conversations of a resumed channel that one statement makes due

_COLUMNS = "id, tenant_id, endpoint_id, provider, kind, address, status, settings, updated_at, business_id"

_TENANT_LIVES = "EXISTS (SELECT FROM tenants t WHERE t.id = channels.tenant_id AND t.deleted_at IS NULL)"

_BY_ENDPOINTS = f"""
SELECT {_COLUMNS}, (SELECT t.settings -> 'consents' FROM tenants t WHERE t.id = channels.tenant_id) AS consents
FROM channels WHERE endpoint_id = ANY($1::uuid[]) AND proven AND deleted_at IS NULL AND {_TENANT_LIVES}
ORDER BY id
"""
_ONE = f"""
SELECT {_COLUMNS} FROM channels WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL AND {_TENANT_LIVES}
"""
_ALL = f"SELECT {_COLUMNS} FROM channels WHERE deleted_at IS NULL ORDER BY tenant_id, id"
_CREDENTIALS = "SELECT credentials FROM channels WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL"
_STOP = """
UPDATE channels SET status = 'stopped', status_reason = $3
WHERE tenant_id = $1 AND id = $2 AND status = 'active' RETURNING id
"""
_RESUME = """
UPDATE channels SET status = 'active', status_reason = NULL WHERE tenant_id = $1 AND id = $2 AND status = 'stopped'
RETURNING id
"""
# The first message of each lane: whoever sends it drains the lane. Of so many conversations, in the order of an index.
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
    """The channels that these endpoints serve, with their tenants' words. None whose address waits to be proven: it may
    be another tenant's."""
    rows = await connection.fetch(_BY_ENDPOINTS, list(endpoint_ids))
    return [channel_of(row, _words(row["tenant_id"], row["consents"])) for row in rows]


def _words(tenant_id: UUID, consents: object) -> Words:
    """A tenant's words; where they can't be read our own, for a STOP that nobody hears is the worse mistake."""
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
    """One channel, None where there is none (or it was deleted, or its tenant was)."""
    row = await connection.fetchrow(_ONE, tenant_id, channel_id)
    return None if row is None else channel_of(row)


async def every(connection: Connection | Pool) -> list[Channel]:
    """All channels of all tenants, for an operator."""
    return [channel_of(row) for row in await connection.fetch(_ALL)]


async def credentials(connection: Connection | Pool, tenant_id: UUID, channel_id: UUID) -> str | None:
    """The sealed credentials of a channel."""
    sealed: str | None = await connection.fetchval(_CREDENTIALS, tenant_id, channel_id)
    return sealed


async def stop(connection: Connection, tenant_id: UUID, channel_id: UUID, reason: str) -> bool:
    """Nothing leaves through this channel until it is resumed. False where it was stopped already."""
    return await connection.fetchval(_STOP, tenant_id, channel_id, reason) is not None


async def resume(connection: Connection | Pool, tenant_id: UUID, channel_id: UUID) -> bool:
    """Let a stopped channel send again, and what was put off meanwhile at once. False where it was not stopped.

    Not within a transaction: some conversations are made due in each statement, which is one of its own. What an
    interruption leaves out is due within minutes by itself.
    """
    if await connection.fetchval(_RESUME, tenant_id, channel_id) is None:
        return False
    after: str | None = ""
    while after is not None:
        after = await _make_due(connection, tenant_id, channel_id, after)
    return True


async def _make_due(connection: Connection | Pool, tenant_id: UUID, channel_id: UUID, after: str) -> str | None:
    """Of the next conversations behind this address; returns the last one's address, None where there was none."""
    last: str | None = await connection.fetchval(_MAKE_DUE, tenant_id, channel_id, after, CONVERSATIONS_AT_ONCE)
    return last


async def add_tenant(connection: Connection, tenant_id: UUID, name: str) -> None:
    """A tenant; does nothing where it exists."""
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
    """A channel. Raises asyncpg.UniqueViolationError where the tenant has this address already."""
    await connection.execute(
        _ADD, channel_id, tenant_id, endpoint_id, provider, kind, name, address, credentials, settings, business_id
    )


_SET_ENDPOINT = "UPDATE channels SET endpoint_id = $3 WHERE tenant_id = $1 AND id = $2"


async def set_endpoint(connection: Connection | Pool, tenant_id: UUID, channel_id: UUID, endpoint_id: UUID) -> None:
    """Where a channel's webhooks come in. Raises asyncpg.ForeignKeyViolationError for another tenant's endpoint."""
    await connection.execute(_SET_ENDPOINT, tenant_id, channel_id, endpoint_id)


_SET_CREDENTIALS = "UPDATE channels SET credentials = $3 WHERE tenant_id = $1 AND id = $2 RETURNING id"


async def set_credentials(connection: Connection | Pool, tenant_id: UUID, channel_id: UUID, credentials: str) -> bool:
    """Replace a channel's sealed credentials. False: no such channel."""
    return await connection.fetchval(_SET_CREDENTIALS, tenant_id, channel_id, credentials) is not None


# -- credentials that came by SQL, which the database can't seal -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unsealed:
    """A channel, locked, with secrets that wait to be sealed."""

    tenant_id: UUID
    id: UUID
    provider: str
    endpoint_id: UUID | None
    sealed: str  # what it has; empty for one that is new
    resumes: bool  # it is stopped for their sake alone
    secrets: Mapping[str, str]
    newest: int  # of the rows that the secrets came in


# The channel is what is locked: two clocks with a row each of one channel would lay the older over the newer.
_UNSEALED = f"""
SELECT c.tenant_id, c.id, c.provider, c.endpoint_id, c.credentials AS sealed,
    c.status = 'stopped' AND c.status_reason IS NOT DISTINCT FROM sealing_reason() AS resumes
FROM ({of_each_tenant("unsealed_credentials", "channel_id")}) AS due
JOIN channels c ON c.tenant_id = due.tenant_id AND c.id = due.id
ORDER BY due.place, c.tenant_id, c.id LIMIT $1 FOR NO KEY UPDATE OF c SKIP LOCKED
"""
_UNSEALED_LATER = try_later("unsealed_credentials", "channel_id")
_SECRETS = """
SELECT seq, secrets FROM unsealed_credentials WHERE tenant_id = $1 AND channel_id = $2 ORDER BY seq
"""
_DONE = "DELETE FROM unsealed_credentials WHERE tenant_id = $1 AND channel_id = $2 AND seq <= $3"


async def unsealed(connection: Connection, limit: int) -> list[Unsealed]:
    """Channels whose secrets wait, at most `limit`, of each tenant in turn; none that somebody else holds."""
    found = []
    for channel in await connection.fetch(_UNSEALED, limit):
        if rows := await connection.fetch(_SECRETS, channel["tenant_id"], channel["id"]):
            given = [
                row["secrets"] for row in rows if isinstance(row["secrets"], dict)
            ]  # one that can't be read is lost
            secrets = {name: value for row in given for name, value in row.items()}
            found.append(Unsealed(**channel, secrets=secrets, newest=rows[-1]["seq"]))
    return found


async def seal_later(connection: Connection, waiting: Sequence[Unsealed]) -> None:
    """What could not be sealed is tried again in a minute: until then it takes no other's turn."""
    await connection.execute(_UNSEALED_LATER, [c.tenant_id for c in waiting], [c.id for c in waiting])


async def seal(connection: Connection, channel: Unsealed, credentials: str) -> None:
    """Exchange the waiting secrets of a channel for sealed credentials, and let it send where it stopped for them.

    Of what was put off, some conversations' is due at once: the transaction is the caller's, and other channels' wait.
    """
    await set_credentials(connection, channel.tenant_id, channel.id, credentials)
    await connection.execute(_DONE, channel.tenant_id, channel.id, channel.newest)
    if channel.resumes:
        await connection.fetchval(_RESUME, channel.tenant_id, channel.id)
        await _make_due(connection, channel.tenant_id, channel.id, after="")


@dataclass(frozen=True, slots=True)
class Unserved:
    """A channel, locked, with sealed secrets and without an endpoint: nothing comes in through it."""

    tenant_id: UUID
    id: UUID
    provider: str
    endpoint_id: UUID | None
    sealed: str


# Of each tenant the newest ones: however many can't be served, they hide nobody else's.
_WITHOUT_ENDPOINT = """
SELECT c.tenant_id, c.id, c.provider, c.endpoint_id, c.credentials AS sealed
FROM (
    SELECT tenant_id, id, row_number() OVER (PARTITION BY tenant_id ORDER BY updated_at DESC) AS place FROM channels
    WHERE provider = $1 AND endpoint_id IS NULL AND credentials <> '' AND deleted_at IS NULL
) AS unserved JOIN channels c ON c.tenant_id = unserved.tenant_id AND c.id = unserved.id
WHERE unserved.place <= $5 AND (c.tenant_id, c.id) > ($2, $3)
ORDER BY c.tenant_id, c.id LIMIT $4 FOR NO KEY UPDATE OF c SKIP LOCKED
"""
_URL = "$1 || '/' || provider || '/' || endpoint_id"
_SET_URLS = f"""
UPDATE channels SET webhook_url = {_URL} WHERE (tenant_id, id) IN (
    SELECT tenant_id, id FROM channels
    WHERE provider = $2 AND endpoint_id IS NOT NULL AND deleted_at IS NULL AND webhook_url IS DISTINCT FROM {_URL}
    FOR NO KEY UPDATE SKIP LOCKED)
"""
_SET_URL = f"""
UPDATE channels SET webhook_url = {_URL}
WHERE tenant_id = $2 AND id = $3 AND endpoint_id IS NOT NULL AND deleted_at IS NULL
    AND webhook_url IS DISTINCT FROM {_URL}
"""
SERVED_AT_ONCE: Final = 100  # of each tenant's channels; also the channels of one transaction
FIRST: Final = (UUID(int=0), UUID(int=0))


async def without_endpoint(connection: Connection, provider: str, after: tuple[UUID, UUID]) -> list[Unserved]:
    """A provider's channels that no endpoint serves, behind a (tenant, channel), at most SERVED_AT_ONCE; none that
    somebody else holds."""
    rows = await connection.fetch(_WITHOUT_ENDPOINT, provider, *after, SERVED_AT_ONCE, SERVED_AT_ONCE)
    return [Unserved(**row) for row in rows]


async def set_webhook_url(connection: Connection, tenant_id: UUID, channel_id: UUID, base: str) -> None:
    """As `set_webhook_urls`, of one channel."""
    await connection.execute(_SET_URL, base, tenant_id, channel_id)


async def set_webhook_urls(connection: Connection, provider: str, base: str) -> None:
    """Note with each of a provider's channels where its webhooks come in; `base` is the address before the provider.

    Not with one that somebody holds: that is for the next time.
    """
    await connection.execute(_SET_URLS, base, provider)


# A deleted tenant keeps no address from others.
_FREE = """
UPDATE channels c SET proven = false FROM tenants t
WHERE c.endpoint_id = $1 AND c.kind = $2 AND c.address = $3 AND c.proven
    AND t.id = c.tenant_id AND t.deleted_at IS NOT NULL
"""
# Only what the provider was asked about: the tenant may have written another address meanwhile.
_PROVE = """
UPDATE channels SET proven = true
WHERE tenant_id = $1 AND id = $2 AND endpoint_id = $3 AND kind = $4 AND address = $5 RETURNING id
"""


async def free(connection: Connection, endpoint_id: UUID, kind: str, address: str) -> None:
    """Take an address on an endpoint from the channels of deleted tenants."""
    await connection.execute(_FREE, endpoint_id, kind, address)


async def prove(connection: Connection, channel: "Listed") -> bool:
    """The provider has said that a channel's address is its tenant's: what comes to it is given to them.

    False where it has another address by now. Raises asyncpg.UniqueViolationError where it is another's on the same
    endpoint.
    """
    if channel.endpoint_id is None or channel.proven:
        return True
    await free(connection, channel.endpoint_id, channel.kind, channel.address)
    proven = await connection.fetchval(
        _PROVE, channel.tenant_id, channel.id, channel.endpoint_id, channel.kind, channel.address
    )
    return proven is not None


_SET_BUSINESS = "UPDATE channels SET business_id = $3 WHERE tenant_id = $1 AND id = $2"


async def set_business(connection: Connection, tenant_id: UUID, channel_id: UUID, business_id: str) -> None:
    """What the provider calls the account that the number belongs to."""
    await connection.execute(_SET_BUSINESS, tenant_id, channel_id, business_id)


async def set_settings(
    connection: Connection | Pool, tenant_id: UUID, channel_id: UUID, settings: dict[str, object]
) -> bool:
    """Replace a channel's settings, which `domain.channels.read_settings` has checked. False: no such channel."""
    return await connection.fetchval(_SET_SETTINGS, tenant_id, channel_id, settings) is not None


# -- for an operator, who also sees what the workers could not use -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listed:
    """A channel as its row has it, settings unread and credentials sealed."""

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
