"""Reads and changes the secrets that an endpoint accepts webhooks by: sealed JSON, each list with the newest first."""

import json
import secrets
from collections.abc import Iterable, Mapping
from uuid import UUID

import orjson

from ops.errors import Problem
from shared.crypto import CryptoError, KeyRing
from shared.database import Connection
from shared.store import endpoints
from shared.store.endpoints import EndpointRow

KEPT = 2  # the one before stays good while it is being rotated, or until the new URL is entered


def opened(keys: KeyRing, row: EndpointRow) -> dict[str, object]:
    """An endpoint's secrets; none where they don't open."""
    try:
        opened = orjson.loads(keys.open(row.secrets, tenant_id=row.tenant_id, owner=row.id))
    except (CryptoError, orjson.JSONDecodeError):
        return {}
    return opened if isinstance(opened, dict) else {}


def sealed(keys: KeyRing, row: EndpointRow, known: Mapping[str, object]) -> str:
    return keys.seal(json.dumps(dict(known)), tenant_id=row.tenant_id, owner=row.id)


def texts(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def newest_first(secret: str, known: Iterable[str]) -> list[str]:
    """This secret, then the one before it."""
    return list(dict.fromkeys([secret, *known]))[:KEPT]


def new() -> str:
    """A secret of ours, as it may stand in a URL."""
    return secrets.token_urlsafe(24)


def in_url(keys: KeyRing, row: EndpointRow) -> str:
    """What the webhook URL ends with; empty where the endpoint's secrets don't open."""
    return next(iter(texts(opened(keys, row).get("url_secrets"))), "")


async def change_url(connection: Connection, keys: KeyRing, endpoint_id: UUID) -> None:
    """Another secret at the end of the URL; the one before stays good until there is a third. Raises Problem."""
    row = {row.id: row for row in await endpoints.live(connection)}[endpoint_id]
    known = opened(keys, row)
    if not known:
        raise Problem("The secrets of this channel's endpoint can't be opened.", "Check PALOMAR_SECRET_KEYS.")
    changed = {**known, "url_secrets": newest_first(new(), texts(known.get("url_secrets")))}
    await endpoints.set_secrets(connection, row.id, sealed(keys, row, changed))


def ending(secret: str) -> str:
    """How the URL of an endpoint ends where it holds a secret."""
    return secret or "(its secret does not open)"
