"""Manages channels for an operator: adds and lists them, changes settings, seals and tests credentials."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

import orjson

from ops.errors import Problem
from shared.actions import channels as actions
from shared.actions.channels import Account, AddressTaken
from shared.actions.endpoint_secrets import SecretsClosed
from shared.crypto import CryptoError, KeyRing
from shared.database import Connection, Pool, new_id
from shared.domain.channels import read_settings
from shared.domain.model import ChannelKind
from shared.settings import Settings
from shared.store import channels, endpoints, webhook_keys, webhook_secrets
from shared.store.channels import Listed

SHORT_ID = 8  # characters of a channel's id that name it, if only one begins so


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
    wanted = actions.NewChannel(new.provider, new.kind, new.address, new.name, new.account, new.settings)
    try:
        added = await actions.add(connection, keys, tenant_id, wanted, by_operator=True)
    except AddressTaken as taken:
        raise await _taken(connection, tenant_id, new, taken) from taken
    return next(channel for channel in await channels.listed(connection) if channel.id == added.id)


async def _taken(connection: Connection, tenant_id: UUID, new: NewChannel, taken: AddressTaken) -> Problem:
    """The Problem of an address that is a channel already: the tenant's own, or another one's on the same endpoint."""
    twin = taken.channel
    if twin is None:  # another session was faster
        return Problem(
            f"The {new.kind} {_what(new.kind)} {new.address} is a channel already.", "See ./palomar channels list."
        )
    if twin.tenant_id == tenant_id:
        return Problem(
            f"The {new.kind} {_what(new.kind)} {twin.address} is channel {twin.id} already.",
            f"Change it with ./palomar channels set {twin.id}.",
        )
    whose = next((name for owner, name in await channels.tenants(connection) if owner == twin.tenant_id), "")
    return Problem(
        f"The {new.kind} {_what(new.kind)} {twin.address} is a channel of {whose or 'a deleted tenant'} already.",
        "Its messages could be given to neither of two tenants. Remove it there first.",
    )


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


async def change_url(connection: Connection, keys: KeyRing, channel: Listed) -> None:
    """Another secret at the end of a channel's webhook URL. Raises Problem where the present ones don't open."""
    try:
        await actions.change_url(connection, keys, channel)
    except SecretsClosed as closed:
        raise Problem(
            "The secrets of this channel's endpoint can't be opened.", "Check PALOMAR_SECRET_KEYS."
        ) from closed


async def prove(connection: Connection, channel: Listed) -> None:
    """Give what comes to a channel's address to its tenant, after its provider has said that it is theirs.

    Raises Problem where another tenant has it on the same endpoint, and where the channel has another one by now.
    """
    try:
        proven = await actions.prove(connection, channel)
    except AddressTaken as taken:
        raise Problem(
            f"The {channel.kind} {_what(channel.kind)} {channel.address} is another tenant's channel already.",
            "Remove it there first; ./palomar channels list shows whose it is.",
        ) from taken
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
    for sealed in await webhook_keys.every(connection):
        seal = partial(_resealed, keys, tenant_id=sealed.tenant_id, owner=sealed.webhook_id)
        resealed = replace(
            sealed,
            private_key=seal(sealed.private_key),
            previous_secret=seal(sealed.previous_secret),
            previous_private_key=seal(sealed.previous_private_key),
        )
        if resealed != sealed:
            await webhook_keys.reseal(connection, resealed)
        changed, same = changed + (resealed != sealed), same + (resealed == sealed)
    return changed, same


def _resealed(keys: KeyRing, token: str, tenant_id: UUID | None, owner: UUID) -> str:
    try:
        return token and keys.reseal(token, tenant_id=tenant_id, owner=owner)
    except CryptoError as error:
        raise Problem(f"The secrets of {owner} don't open.", str(error)) from error
