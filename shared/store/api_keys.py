"""api_keys and operator_keys: finds a key of the management API by its prefix, adds, lists and revokes it."""

import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from shared.database import Connection, Pool, new_id
from shared.store.by_key import only_if
from shared.store.newest_first import id_or_last


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is stored; the key itself is not. `tenant_id` is None for an operator's."""

    id: UUID
    tenant_id: UUID | None
    name: str
    prefix: str
    hash: bytes
    scopes: tuple[str, ...]
    last_used_at: datetime | None
    expires_at: datetime | None
    created_at: datetime


_COLUMNS: Final = "id, name, prefix, hash, scopes, last_used_at, expires_at, created_at"
# A tenant's SQL session may write any number of rows with one prefix, or with the hash of its own key.
_FIND = f"""
(SELECT tenant_id, {_COLUMNS} FROM api_keys
WHERE prefix = $1 AND hash = $2 AND deleted_at IS NULL
    AND EXISTS (SELECT FROM tenants t WHERE t.id = api_keys.tenant_id AND t.deleted_at IS NULL)
LIMIT 1)
UNION ALL
SELECT NULL, {_COLUMNS} FROM operator_keys WHERE prefix = $1 AND hash = $2 AND deleted_at IS NULL
"""
_ADD = f"""
INSERT INTO api_keys (tenant_id, id, name, prefix, hash, scopes, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING tenant_id, {_COLUMNS}
"""
_ADD_OPERATORS = f"""
INSERT INTO operator_keys (id, name, prefix, hash, scopes, expires_at)
VALUES ($1, $2, $3, $4, $5, $6) RETURNING NULL::uuid AS tenant_id, {_COLUMNS}
"""
_LIST = f"""
SELECT tenant_id, {_COLUMNS} FROM api_keys
WHERE tenant_id = $1 AND deleted_at IS NULL
    AND id < {id_or_last(2)}
ORDER BY id DESC LIMIT $3
"""
_GET = f"""
SELECT tenant_id, {_COLUMNS} FROM api_keys WHERE tenant_id = $1 AND id = $2 AND {only_if("deleted_at IS NULL")}
"""
_LIVE = """
SELECT count(*) FROM api_keys
WHERE tenant_id = $1 AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > now())
"""
_EVERY = f"""
SELECT tenant_id, {_COLUMNS} FROM api_keys WHERE deleted_at IS NULL
UNION ALL SELECT NULL, {_COLUMNS} FROM operator_keys WHERE deleted_at IS NULL
ORDER BY tenant_id NULLS FIRST, created_at
"""
_REVOKE = f"""
UPDATE api_keys SET deleted_at = now()
WHERE tenant_id = $1 AND id = $2 AND {only_if("deleted_at IS NULL")} RETURNING tenant_id, {_COLUMNS}
"""
_REVOKE_OPERATORS = f"""
UPDATE operator_keys SET deleted_at = now()
WHERE id = $1 AND {only_if("deleted_at IS NULL")} RETURNING NULL::uuid AS tenant_id, {_COLUMNS}
"""
# Once a minute is enough for a person, and spares a busy key's row. A row that a tenant's session has locked is left
# alone: look-ups of all keys share these connections.
_USED = """
UPDATE api_keys SET last_used_at = now()
WHERE tenant_id = $1 AND id = (
    SELECT id FROM api_keys
    WHERE tenant_id = $1 AND id = $2 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
    FOR NO KEY UPDATE SKIP LOCKED
)
"""
_USED_OPERATORS = """
UPDATE operator_keys SET last_used_at = now()
WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
"""


async def find(connection: Connection, prefix: str, digest: bytes) -> ApiKey | None:
    """The live key with this prefix and SHA-256, of a living tenant or of an operator; None where there is none.

    As palomar_worker: no tenant is known yet.
    """
    row = await connection.fetchrow(_FIND, prefix, digest)
    return None if row is None or not hmac.compare_digest(row["hash"], digest) else _key(row)


async def add(
    connection: Connection,
    tenant_id: UUID | None,
    *,
    name: str,
    prefix: str,
    digest: bytes,
    scopes: list[str],
    expires_at: datetime | None,
) -> ApiKey:
    """Add a tenant's key, or an operator's where there is no tenant."""
    values = (name, prefix, digest, scopes, expires_at)
    if tenant_id is None:
        return _key(await connection.fetchrow(_ADD_OPERATORS, new_id(), *values))
    return _key(await connection.fetchrow(_ADD, tenant_id, new_id(), *values))


async def page(connection: Connection, tenant_id: UUID, after: UUID | None, limit: int) -> list[ApiKey]:
    """A tenant's live keys, newest first, behind the key `after`."""
    return [_key(row) for row in await connection.fetch(_LIST, tenant_id, after, limit)]


async def get(connection: Connection, tenant_id: UUID, key_id: UUID) -> ApiKey | None:
    """The key; None where there is none, or a revoked one."""
    row = await connection.fetchrow(_GET, tenant_id, key_id)
    return None if row is None else _key(row)


async def live(connection: Connection, tenant_id: UUID) -> int:
    """How many keys open the tenant's API."""
    count: int = await connection.fetchval(_LIVE, tenant_id)
    return count


async def every(connection: Connection | Pool) -> list[ApiKey]:
    """All live keys: the operators', then the tenants'."""
    return [_key(row) for row in await connection.fetch(_EVERY)]


async def revoke(connection: Connection, tenant_id: UUID | None, key_id: UUID) -> ApiKey | None:
    """Revoke a key; None where there is no such live key."""
    if tenant_id is None:
        row = await connection.fetchrow(_REVOKE_OPERATORS, key_id)
    else:
        row = await connection.fetchrow(_REVOKE, tenant_id, key_id)
    return None if row is None else _key(row)


async def note_use(connection: Connection | Pool, key: ApiKey) -> None:
    """Note that a key is used now, at most once a minute."""
    if key.tenant_id is None:
        await connection.execute(_USED_OPERATORS, key.id)
    else:
        await connection.execute(_USED, key.tenant_id, key.id)


def _key(row: asyncpg.Record | None) -> ApiKey:
    assert row is not None, "INSERT … RETURNING gives a row"
    return ApiKey(**{**row, "scopes": tuple(row["scopes"])})
