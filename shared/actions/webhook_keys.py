"""Makes what signs a webhook's deliveries, seals it, rotates it, and opens it for the worker that signs.

The secret is `whsec_…` (HMAC-SHA256), the pair `whsk_…` and `whpk_…` (Ed25519, the base64 of 32 bytes each), as
Standard Webhooks writes them: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import secrets
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.crypto import KeyRing
from shared.database import Connection
from shared.store import webhook_keys as store
from shared.store.webhook_keys import SealedKeys, SealedPair

_SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class NewKeys:
    """What is to sign a webhook's deliveries."""

    secret: str = field(repr=False)  # whsec_…
    private_key: str = field(repr=False)  # whsk_…
    public_key: str  # whpk_…


@dataclass(frozen=True, slots=True)
class Signing:
    """What signs a webhook's deliveries now: the present ones first, then the previous ones while they are valid."""

    secrets: tuple[str, ...] = field(repr=False)
    private_keys: tuple[str, ...] = field(repr=False)


def new_keys() -> NewKeys:
    """A new secret and a new key pair."""
    private = Ed25519PrivateKey.generate()
    return NewKeys(
        f"whsec_{_base64(secrets.token_bytes(_SECRET_BYTES))}",
        f"whsk_{_base64(private.private_bytes_raw())}",
        f"whpk_{_base64(private.public_key().public_bytes_raw())}",
    )


def sealed_pair(keys: KeyRing, tenant_id: UUID, webhook_id: UUID, made: NewKeys) -> SealedPair:
    """The key pair as it is stored."""
    return SealedPair(made.public_key, keys.seal(made.private_key, tenant_id=tenant_id, owner=webhook_id))


async def signing(connection: Connection, keys: KeyRing, tenant_id: UUID, webhook_id: UUID) -> Signing | None:
    """What signs a webhook's deliveries; None where there is no such webhook. As palomar_worker.

    A webhook that came by SQL or by an import gets its key pair here. Raises CryptoError for what opens with no key.
    """
    found = await store.get(connection, tenant_id, webhook_id)
    if found is not None and not found.private_key:
        await store.add_pair(connection, tenant_id, webhook_id, sealed_pair(keys, tenant_id, webhook_id, new_keys()))
        found = await store.get(connection, tenant_id, webhook_id)
    return None if found is None else opened(keys, found, datetime.now(UTC))


async def rotate(
    connection: Connection, keys: KeyRing, tenant_id: UUID, webhook_id: UUID, overlap: timedelta
) -> tuple[NewKeys, datetime]:
    """Give a webhook, whose row the caller has locked, a new secret and key pair. As palomar_worker.

    Returns them, and until when the ones before sign too.
    """
    made = new_keys()
    sealed = keys.seal(made.secret, tenant_id=tenant_id, owner=webhook_id)
    pair = sealed_pair(keys, tenant_id, webhook_id, made)
    return made, await store.rotate(connection, tenant_id, webhook_id, sealed, pair, overlap)


def opened(keys: KeyRing, found: SealedKeys, now: datetime) -> Signing:
    """What signs at this time. Raises CryptoError for what opens with no key."""
    is_valid = found.previous_until is not None and found.previous_until > now
    sealed_secrets = (found.secret, found.previous_secret if is_valid else "")
    sealed_private = (found.private_key, found.previous_private_key if is_valid else "")

    def each(tokens: tuple[str, ...]) -> tuple[str, ...]:
        owner = {"tenant_id": found.tenant_id, "owner": found.webhook_id}
        return tuple(keys.open(token, **owner) for token in tokens if token)

    return Signing(each(sealed_secrets), each(sealed_private))


def _base64(raw: bytes) -> str:
    return b64encode(raw).decode()
