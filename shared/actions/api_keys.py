"""Creates and revokes keys of the management API, each with its event in the same transaction."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.database import Connection
from shared.domain import api_keys
from shared.store import api_keys as store
from shared.store import turns
from shared.store.api_keys import ApiKey
from shared.store.events import Event, record

MOST_KEYS: Final = 100  # live ones of a tenant: rate limits count by key


class TooManyKeys(Exception):
    """The tenant has MOST_KEYS live keys already."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made. `key` is nowhere else, and can't be shown again."""

    stored: ApiKey
    key: str = field(repr=False)


async def create(
    connection: Connection, tenant_id: UUID | None, name: str, scopes: Iterable[str], expires_at: datetime | None = None
) -> NewKey:
    """Create a tenant's key, or an operator's, without an event, where there is no tenant. Raises TooManyKeys."""
    if tenant_id is not None:
        await turns.take(connection, f"api_keys {tenant_id}")
        if await store.live(connection, tenant_id) >= MOST_KEYS:
            raise TooManyKeys
    key = api_keys.new_key()
    stored = await store.add(
        connection,
        tenant_id,
        name=name,
        prefix=api_keys.prefix_of(key),
        digest=api_keys.digest_of(key),
        scopes=sorted(set(scopes)),
        expires_at=expires_at,
    )
    if tenant_id is not None:
        await record(connection, Event("api_key.created", tenant_id, detail={"api_key_id": str(stored.id)}))
    return NewKey(stored, key)


async def revoke(connection: Connection, tenant_id: UUID | None, key_id: UUID) -> ApiKey | None:
    """Revoke a key for good; None where there is no such live key. API processes refuse it within seconds."""
    revoked = await store.revoke(connection, tenant_id, key_id)
    if revoked is not None and tenant_id is not None:
        await record(connection, Event("api_key.revoked", tenant_id, detail={"api_key_id": str(key_id)}))
    return revoked
