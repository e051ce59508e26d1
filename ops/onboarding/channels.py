"""Manages channels for an operator: adds and lists them, changes settings, seals and tests credentials."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast
from uuid import UUID

import asyncpg
import orjson

from ops import onboarding
from ops.errors import Problem
from ops.onboarding.base import Account, Urls
from shared import providers
from shared.crypto import CryptoError, KeyRing
from shared.database import Connection, Pool, new_id
from shared.domain import addresses
from shared.domain.channels import read_settings
from shared.domain.model import ChannelKind
from shared.settings import Settings
from shared.store import channel_endpoints, channels, endpoints, webhook_secrets
from shared.store.channels import Listed

SHORT_ID = 8  # characters of a channel's id that name it, if only one begins so


def urls(settings: Settings, provider: str, endpoint_id: UUID, secret: str = "") -> Urls:
    """The webhook URLs of an endpoint; `secret` is what they end with where they hold one."""
    return onboarding.setup(provider).urls(
        f"{settings.public_url.rstrip('/')}/webhooks/{provider}/{endpoint_id}", secret
    )


def keyring(settings: Settings) -> KeyRing:
    """Raises Problem where no key is configured."""
    try:
        return KeyRing.parse(settings.secret_keys.get_secret_value())
    except CryptoError as error:
        raise Problem("Secrets can't be sealed or opened.", str(error)) from error


# -- settings ----------------------------------------------------------------------------------------------------------


def settings_of(text: str, source: str) -> dict[str, object]:
    """A settings file as JSON. Raises Problem that names the file."""
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Problem(f"{source} is no JSON: {error}.", 'It should hold an object, such as {"reply": {…}}.') from None
    if not isinstance(parsed, dict):
        raise Problem(f"{source} holds no JSON object.", 'It should hold one, such as {"reply": {"engine": "rules"}}.')
    return parsed


def checked(settings: Mapping[str, object], source: str) -> dict[str, object]:
    """Settings that a channel can have. Raises Problem that names each wrong field."""
    try:
        read_settings(settings)
    except ValueError as error:
        raise Problem(f"{error}.", f"Mend {source}; nothing was changed.") from None
    return dict(settings)


def merged(old: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    """`changes` laid over `old`: objects merge, lists and values replace, null takes back to the default."""
    result = dict(old)
    for name, change in changes.items():
        before = result.get(name)
        if change is None:
            result.pop(name, None)
        elif isinstance(change, dict):
            result[name] = merged(cast("Mapping[str, object]", before) if isinstance(before, dict) else {}, change)
        else:
            result[name] = change
    return result


# -- making one --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewChannel:
    provider: str
    kind: ChannelKind
    tenant: str  # name or id
    new_tenant: bool
    address: str
    name: str
    account: Account
    settings: Mapping[str, object]


async def add(connection: Connection, keys: KeyRing, new: NewChannel) -> Listed:
    """Make a channel, in the caller's transaction; its endpoint is the account's where the tenant has one.

    Raises Problem for an unknown or ambiguous tenant, or an address that is a channel already.
    """
    tenant_id = await _tenant(connection, new.tenant, make=new.new_tenant)
    every = await channels.listed(connection)
    own = [channel for channel in every if channel.tenant_id == tenant_id]
    if twin := next((channel for channel in own if _is_same(channel, new)), None):
        raise Problem(
            f"The {new.kind} {_what(new.kind)} {twin.address} is channel {twin.id} already.",
            f"Change it with ./palomar channels set {twin.id}.",
        )
    channel_id = new_id()
    endpoint_id = await new.account.endpoint(connection, keys, own, tenant_id)
    if rival := next((c for c in every if c.proven and c.endpoint_id == endpoint_id and _is_same(c, new)), None):
        raise Problem(
            f"The {new.kind} {_what(new.kind)} {rival.address} is a channel of {rival.tenant} already.",
            "Its messages could be given to neither of two tenants. Remove it there first.",
        )
    await channel_endpoints.free(connection, endpoint_id, new.kind, new.address)
    try:
        await channels.add(
            connection,
            channel_id=channel_id,
            tenant_id=tenant_id,
            endpoint_id=endpoint_id,
            provider=new.provider,
            kind=new.kind,
            name=new.name,
            address=new.address,
            credentials=new.account.sealed_for_calls(keys, tenant_id, channel_id),
            settings=dict(new.settings),
            business_id=new.account.business_id,
        )
    except asyncpg.UniqueViolationError as error:  # another session was faster
        raise Problem(
            f"The {new.kind} {_what(new.kind)} {new.address} is a channel already.", "See ./palomar channels list."
        ) from error
    return next(channel for channel in await channels.listed(connection) if channel.id == channel_id)


async def _tenant(connection: Connection, named: str, *, make: bool) -> UUID:
    every = await channels.tenants(connection)
    found = [tenant_id for tenant_id, name in every if named in (name, str(tenant_id))]
    if make and found:
        raise Problem(f"There is a tenant {named!r} already.", "Leave --new-tenant out to add the channel to it.")
    if make:
        tenant_id = new_id()
        await channels.add_tenant(connection, tenant_id, named)
        return tenant_id
    if len(found) > 1:
        raise Problem(f"{len(found)} tenants are called {named!r}.", f"Give one's id: {', '.join(map(str, found))}.")
    if not found:
        names = ", ".join(name for _, name in every[:20]) or "none yet"
        raise Problem(f"There is no tenant {named!r}.", f"Add --new-tenant to make it. There are: {names}.")
    return found[0]


def _what(kind: str) -> str:
    return "address" if kind == "email" else "number"


def _is_same(channel: Listed, new: NewChannel) -> bool:
    return (channel.provider, channel.kind, _canonical(channel.address)) == (
        new.provider,
        new.kind,
        _canonical(new.address),
    )


def _canonical(address: str) -> str:
    found = addresses.phone(address) or addresses.email(address)
    return found.canonical if found else address


# -- one that is there -------------------------------------------------------------------------------------------------


async def find(pool: Connection | Pool, named: str) -> Listed:
    """The channel of this id, or of an id that begins so. Raises Problem."""
    beginning = named.strip().lower()
    every = await channels.listed(pool)
    found = [
        c for c in every if str(c.id) == beginning or (len(beginning) >= SHORT_ID and str(c.id).startswith(beginning))
    ]
    if len(found) != 1:
        what = f"{len(found)} channels' ids begin with" if found else "There is no channel"
        raise Problem(f"{what} {named!r}.", "./palomar channels list shows their ids.")
    return found[0]


async def enter_account(connection: Connection, keys: KeyRing, channel: Listed, account: Account) -> None:
    """Exchange a channel's credentials, and let webhooks signed with the new token in.

    One that had no endpoint is stopped where it gets one that several tenants share, until `prove`: its address may
    have come by SQL.
    """
    sealed = account.sealed_for_calls(keys, channel.tenant_id, channel.id)
    await channels.set_credentials(connection, channel.tenant_id, channel.id, sealed)
    if account.business_id is not None:
        await channels.set_business(connection, channel.tenant_id, channel.id, account.business_id)
    if channel.endpoint_id is not None:
        await account.accept(connection, keys, channel.endpoint_id)
    else:  # it was imported, or came by SQL: nothing comes in until it has one
        own = [other for other in await channels.listed(connection) if other.tenant_id == channel.tenant_id]
        endpoint_id = await account.endpoint(connection, keys, own, channel.tenant_id)
        await channel_endpoints.set_endpoint(connection, channel.tenant_id, channel.id, endpoint_id)


async def problem(settings: Settings, keys: KeyRing, channel: Listed) -> str | None:
    """Ask the provider about a channel's account with the real credentials; None where they work."""
    try:
        opened = keys.open(channel.credentials, tenant_id=channel.tenant_id, owner=channel.id)
        sender = providers.provider(channel.provider).make_sender(opened, settings)
    except (CryptoError, ValueError) as error:
        return f"its credentials can't be used: {error}"
    try:
        return await sender.check(channel.address)
    finally:
        await sender.close()


async def prove(connection: Connection, channel: Listed) -> None:
    """Give what comes to a channel's address to its tenant, after its provider has said that it is theirs.

    Raises Problem where another tenant has it on the same endpoint, and where the channel has another one by now.
    """
    try:
        async with connection.transaction():
            proven = await channel_endpoints.prove(connection, channel)
    except asyncpg.UniqueViolationError as error:
        raise Problem(
            f"The {channel.kind} {_what(channel.kind)} {channel.address} is another tenant's channel already.",
            "Remove it there first; ./palomar channels list shows whose it is.",
        ) from error
    if not proven:
        raise Problem("The channel's address was changed meanwhile.", "Look at it and try it again.")


async def reseal(connection: Connection, keys: KeyRing) -> tuple[int, int]:
    """Seal every secret under the first key; (how many were, how many had it already).

    Afterwards the older keys may leave PALOMAR_SECRET_KEYS. Raises Problem naming a secret that opens with no key.
    """
    changed = same = 0
    for channel in await channels.every(connection):
        token = await channels.credentials(connection, channel.tenant_id, channel.id)
        assert token is not None, "credentials are NOT NULL"
        new = _resealed(keys, token, channel.tenant_id, channel.id)
        if new != token:
            await channels.set_credentials(connection, channel.tenant_id, channel.id, new)
        changed, same = changed + (new != token), same + (new == token)
    for endpoint in await endpoints.live(connection):
        new = _resealed(keys, endpoint.secrets, endpoint.tenant_id, endpoint.id)
        if new != endpoint.secrets:
            await endpoints.set_secrets(connection, endpoint.id, new)
        changed, same = changed + (new != endpoint.secrets), same + (new == endpoint.secrets)
    for tenant_id, webhook_id, token in await webhook_secrets.every(connection):
        new = _resealed(keys, token, tenant_id, webhook_id)
        if new != token:
            await webhook_secrets.set_sealed(connection, tenant_id, webhook_id, new)
        changed, same = changed + (new != token), same + (new == token)
    return changed, same


def _resealed(keys: KeyRing, token: str, tenant_id: UUID | None, owner: UUID) -> str:
    try:
        return keys.reseal(token, tenant_id=tenant_id, owner=owner)
    except CryptoError as error:
        raise Problem(f"The secrets of {owner} don't open.", str(error)) from error
