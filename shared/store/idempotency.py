"""idempotency_keys and operator_idempotency_keys: remembers the answer to a request that may come again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from shared.database import Connection


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose keys these are: a tenant's, or an operator's key's own."""

    id: UUID
    operator: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """What the first request with a key asked and was answered."""

    request_hash: bytes
    answer: Mapping[str, object]  # empty where it mentioned a person who has been erased since


# Waits while another transaction inserts the same key: until it commits, or until its rollback frees the key.
_CLAIM = """
INSERT INTO idempotency_keys (tenant_id, key, request_hash) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING true
"""
_CLAIM_OPERATORS = """
INSERT INTO operator_idempotency_keys (operator_key_id, key, request_hash) VALUES ($1, $2, $3)
ON CONFLICT DO NOTHING RETURNING true
"""
_KEPT = "SELECT request_hash, response FROM idempotency_keys WHERE tenant_id = $1 AND key = $2"
_KEPT_OPERATORS = "SELECT request_hash, response FROM operator_idempotency_keys WHERE operator_key_id = $1 AND key = $2"
_KEEP = "UPDATE idempotency_keys SET status_code = 200, response = $3 WHERE tenant_id = $1 AND key = $2"
_KEEP_OPERATORS = """
UPDATE operator_idempotency_keys SET status_code = 200, response = $3 WHERE operator_key_id = $1 AND key = $2
"""
_FORGET = """
DELETE FROM idempotency_keys WHERE (tenant_id, key) IN (
    SELECT tenant_id, key FROM idempotency_keys WHERE created_at < now() - make_interval(days => $1) LIMIT $2)
"""
_FORGET_OPERATORS = """
DELETE FROM operator_idempotency_keys WHERE (operator_key_id, key) IN (
    SELECT operator_key_id, key FROM operator_idempotency_keys
    WHERE created_at < now() - make_interval(days => $1) LIMIT $2)
"""
_STATEMENTS: Final = {False: (_CLAIM, _KEPT, _KEEP), True: (_CLAIM_OPERATORS, _KEPT_OPERATORS, _KEEP_OPERATORS)}


async def claim(connection: Connection, owner: Owner, key: str, request_hash: bytes) -> Kept | None:
    """Claim a key in the effect's own transaction; returns what it led to where it has been claimed before.

    While another transaction holds the key uncommitted, this waits for its end.
    """
    claims, _, _ = _STATEMENTS[owner.operator]
    while True:
        if await connection.fetchval(claims, owner.id, key, request_hash):
            return None
        if (found := await kept(connection, owner, key)) is not None:  # else the retention has just removed it
            return found


async def kept(connection: Connection, owner: Owner, key: str) -> Kept | None:
    """What a key led to; None where no committed transaction has claimed it."""
    _, selects, _ = _STATEMENTS[owner.operator]
    row = await connection.fetchrow(selects, owner.id, key)
    return None if row is None else Kept(row["request_hash"], row["response"] or {})


async def keep(connection: Connection, owner: Owner, key: str, answer: Mapping[str, object]) -> None:
    """Keep the answer of a claimed key."""
    _, _, keeps = _STATEMENTS[owner.operator]
    await connection.execute(keeps, owner.id, key, dict(answer))


async def forget(connection: Connection, days: int, limit: int) -> int:
    """Delete keys older than so many days, at most `limit` of them; returns how many."""
    deleted = int((await connection.execute(_FORGET, days, limit)).split()[-1])
    if deleted < limit:
        deleted += int((await connection.execute(_FORGET_OPERATORS, days, limit - deleted)).split()[-1])
    return deleted
