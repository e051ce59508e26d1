"""Finds or makes the endpoint of a channel's account, and changes the secrets that it accepts webhooks by."""

from collections.abc import Sequence
from uuid import UUID

import orjson

from shared.crypto import CryptoError, KeyRing
from shared.database import Connection, new_id
from shared.providers import endpoint_secrets
from shared.providers.onboarding import Account
from shared.providers.own_endpoint import Secrets
from shared.store import endpoints
from shared.store.channel_records import ChannelRecord
from shared.store.endpoints import EndpointRow


class SecretsClosed(Exception):
    """The secrets of an endpoint open with none of the keys that are configured."""


def opened(keys: KeyRing, row: EndpointRow) -> Secrets:
    """An endpoint's secrets; none where they don't open."""
    return _opened(keys, row.secrets, row.tenant_id, row.id)


def _opened(keys: KeyRing, sealed: str, tenant_id: UUID | None, owner: UUID) -> Secrets:
    try:
        known = orjson.loads(keys.open(sealed, tenant_id=tenant_id, owner=owner))
    except (CryptoError, orjson.JSONDecodeError):
        return {}
    return known if isinstance(known, dict) else {}


def _sealed(keys: KeyRing, row: EndpointRow, known: Secrets) -> str:
    return keys.seal(orjson.dumps(dict(known)).decode(), tenant_id=row.tenant_id, owner=row.id)


async def endpoint_of(
    connection: Connection,
    keys: KeyRing,
    tenant_id: UUID,
    provider: str,
    account: Account,
    own: Sequence[ChannelRecord],
    *,
    several_tenants: bool,
) -> UUID:
    """The endpoint that this account has already (`own`: the tenant's channels there), or a new one.

    It accepts the account's webhooks afterwards. With `several_tenants` it is the operator's, and serves others too; an
    endpoint that serves others is never changed without.
    """
    for channel in own:
        credentials = _opened(keys, channel.credentials, tenant_id, channel.id)
        if channel.endpoint_id is not None and account.is_of(credentials):
            await accept(connection, keys, channel.endpoint_id, account, several_tenants=several_tenants)
            return channel.endpoint_id
    there = await endpoints.of_tenant(connection, tenant_id, provider)
    if several_tenants:
        there = [*await endpoints.of_several_tenants(connection, provider), *there]
    for row in there:
        if account.is_one_with(opened(keys, row)):
            await accept(connection, keys, row.id, account, several_tenants=several_tenants)
            return row.id
    row = EndpointRow(new_id(), None if several_tenants else tenant_id, provider, "")
    await endpoints.add(connection, row._replace(secrets=_sealed(keys, row, account.secrets({}))))
    return row.id


async def accept(
    connection: Connection, keys: KeyRing, endpoint_id: UUID, account: Account, *, several_tenants: bool
) -> None:
    """Accept webhooks that this account's secret signs at an endpoint; as `endpoint_of`, one that serves others only
    with `several_tenants`."""
    row = await endpoints.get(connection, endpoint_id)
    if row is not None and (several_tenants or row.tenant_id is not None):
        known = opened(keys, row)
        changed = account.secrets(known)
        if changed != known:
            await endpoints.set_secrets(connection, row.id, _sealed(keys, row, changed))


async def change_url(connection: Connection, keys: KeyRing, endpoint_id: UUID) -> None:
    """Another secret at the end of the URL; the one before stays good until there is a third. Raises SecretsClosed."""
    row = await endpoints.get(connection, endpoint_id)
    known = {} if row is None else opened(keys, row)
    if row is None or not known:
        raise SecretsClosed
    before = endpoint_secrets.texts(known.get("url_secrets"))
    changed = {**known, "url_secrets": endpoint_secrets.newest_first(endpoint_secrets.new(), before)}
    await endpoints.set_secrets(connection, row.id, _sealed(keys, row, changed))
