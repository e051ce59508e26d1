"""Encrypts secrets that were written by SQL.

The database has no key, so these secrets wait there in clear until the clock comes. A channel that came by SQL or by an
import then gets an endpoint of its tenant's own, where its provider says that the channel's secrets suffice for one. An
endpoint that several tenants share is the operator's, and a tenant's secret never changes it.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final
from uuid import UUID

import orjson

from shared.crypto import CryptoError, KeyRing
from shared.database import Connection, new_id
from shared.database.each_row import each
from shared.process.log import get_logger
from shared.providers import names, provider
from shared.queue.worker import Context
from shared.settings import Settings
from shared.store import channel_endpoints, channel_secrets, endpoints, webhook_secrets
from shared.store.channel_endpoints import Unserved
from shared.store.channel_secrets import Unsealed
from shared.store.endpoints import EndpointRow
from shared.store.webhook_secrets import WebhookSecret

log = get_logger(__name__)

# Of the providers whose channels get an endpoint by their secrets.
OWN_ENDPOINTS: Final = {name: make for name in names() if (make := provider(name).own_endpoint) is not None}


async def seal_credentials(connection: Connection, settings: Settings, limit: int) -> None:
    """Seal the waiting secrets of channels. A channel whose secrets can't be sealed stays stopped, and they wait."""
    waiting = await channel_secrets.unsealed(connection, limit)
    keys = _keys(settings, "credentials", [(channel.id, channel.newest) for channel in waiting])
    if keys is None:
        return
    later: list[Unsealed] = []

    async def seal(channel: Unsealed) -> None:
        owner = {"tenant_id": channel.tenant_id, "owner": channel.id}
        try:
            known = orjson.loads(keys.open(channel.sealed, **owner)) if channel.sealed else {}
            secrets = {**known, **channel.secrets}
            sealed = keys.seal(orjson.dumps(secrets).decode(), **owner)
        except CryptoError as error:
            _warn_once("credentials", channel.id, channel.newest, str(error))
            later.append(channel)
        else:
            await channel_secrets.seal(connection, channel, sealed)
            await _serve(connection, keys, settings, channel, secrets)
            log.info("credentials sealed", channel=str(channel.id))

    later += await each("credentials", connection, waiting, seal)
    await channel_secrets.seal_later(connection, later)


async def seal_webhook_secrets(connection: Connection, settings: Settings, limit: int) -> None:
    """Seal the waiting signing secrets of tenants' webhooks."""
    waiting = await webhook_secrets.waiting(connection, limit)
    keys = _keys(settings, "webhook secret", [(webhook.id, webhook.newest) for webhook in waiting])
    if keys is None:
        return

    async def seal(webhook: WebhookSecret) -> None:
        sealed = keys.seal(webhook.secret, tenant_id=webhook.tenant_id, owner=webhook.id) if webhook.secret else ""
        await webhook_secrets.seal(connection, webhook, sealed)
        log.info("webhook secret sealed", webhook=str(webhook.id))

    await webhook_secrets.seal_later(connection, await each("webhook secret", connection, waiting, seal))


def _keys(settings: Settings, what: str, waiting: Sequence[tuple[UUID, int]]) -> KeyRing | None:
    """The keys to seal with; None where none are configured. `waiting`: (owner, newest row), which stay due as they
    are."""
    try:
        return KeyRing.parse(settings.secret_keys.get_secret_value())
    except CryptoError as error:
        for owner, newest in waiting:
            _warn_once(what, owner, newest, str(error))
        return None


async def serve_channels(
    connection: Connection, settings: Settings, name: str, after: tuple[UUID, UUID] = channel_endpoints.FIRST
) -> tuple[int, tuple[UUID, UUID] | None]:
    """Give an endpoint to some of a provider's channels that have secrets but none, and note each one's webhook URL.

    Returns how many got an endpoint, and the (tenant, channel) after which to go on: None after the last.
    """
    served = 0
    await channel_endpoints.set_webhook_urls(connection, name, _base(settings))
    waiting = await channel_endpoints.without_endpoint(connection, name, after)

    async def serve(channel: Unserved) -> None:
        nonlocal served
        try:
            keys = KeyRing.parse(settings.secret_keys.get_secret_value())
            secrets = orjson.loads(keys.open(channel.sealed, tenant_id=channel.tenant_id, owner=channel.id))
        except CryptoError as error:
            _warn_once("endpoint", channel.id, 0, str(error))
        else:
            served += await _serve(connection, keys, settings, channel, secrets)

    await each("endpoint", connection, waiting, serve)
    more = len(waiting) == channel_endpoints.SERVED_AT_ONCE
    return served, (waiting[-1].tenant_id, waiting[-1].id) if more else None


async def serve_every_channel(ctx: Context[None]) -> None:
    """Call `serve_channels` until it has gone through all channels of these providers, in short transactions."""
    for name in OWN_ENDPOINTS:
        after: tuple[UUID, UUID] | None = channel_endpoints.FIRST
        while after is not None:
            async with ctx.transaction() as tx:
                served, after = await serve_channels(tx, ctx.settings, name, after)
            if served:
                ctx.log.info("numbers have a webhook address now", count=served)


async def _serve(
    connection: Connection,
    keys: KeyRing,
    settings: Settings,
    channel: Unsealed | Unserved,
    secrets: Mapping[str, object],
) -> bool:
    """Make the channel's endpoint accept webhooks signed with these secrets.

    False where the secrets don't suffice, or the endpoint is the operator's.
    """
    own_endpoint = OWN_ENDPOINTS.get(channel.provider)
    wanted = own_endpoint(secrets) if own_endpoint is not None else None
    if wanted is None:
        return False
    own = {
        row.id: (row, _opened(keys, row))
        for row in await endpoints.of_tenant(connection, channel.tenant_id, channel.provider)
    }
    if channel.endpoint_id is not None:
        chosen = own.get(channel.endpoint_id)
        if chosen is None:
            return False
    else:
        chosen = next((pair for pair in own.values() if wanted.is_one_with(pair[1])), None)
    row, known = chosen or (EndpointRow(new_id(), channel.tenant_id, channel.provider, ""), {})
    changed = wanted.secrets(known)
    if changed != known:
        sealed = keys.seal(orjson.dumps(changed).decode(), tenant_id=row.tenant_id, owner=row.id)
        if chosen is None:
            await endpoints.add(connection, row._replace(secrets=sealed))
        else:
            await endpoints.set_secrets(connection, row.id, sealed)
    if channel.endpoint_id is None:
        await channel_endpoints.set_endpoint(connection, channel.tenant_id, channel.id, row.id)
    await channel_endpoints.set_webhook_url(connection, channel.tenant_id, channel.id, _base(settings))
    return True


def _base(settings: Settings) -> str:
    return f"{settings.public_url.rstrip('/')}/webhooks"


def _opened(keys: KeyRing, row: EndpointRow) -> Mapping[str, object]:
    """An endpoint's secrets; empty where they can't be decrypted."""
    try:
        secrets = orjson.loads(keys.open(row.secrets, tenant_id=row.tenant_id, owner=row.id))
    except (CryptoError, orjson.JSONDecodeError):
        return {}
    return secrets if isinstance(secrets, dict) else {}


@lru_cache(maxsize=1000)
def _warn_once(what: str, owner: UUID, _: int, why: str) -> None:
    """Log it once for each row that was entered, not every second."""
    log.error(f"{what} waits: its secrets can't be sealed or opened", owner=str(owner), error=why)
