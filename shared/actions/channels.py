"""Adds, changes, tries and deletes channels, with their accounts' secrets, each with its event in one transaction.

The palomar command and the management API use it. What is sealed is written as palomar_worker (`as_worker`): a tenant's
session may not write it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast
from uuid import UUID

import asyncpg
import orjson

from shared import providers
from shared.actions import endpoint_secrets
from shared.crypto import CryptoError, KeyRing
from shared.database import Connection, as_worker, new_id
from shared.domain import addresses
from shared.domain.channels import read_settings
from shared.domain.model import ChannelKind
from shared.providers.endpoint_secrets import in_url
from shared.providers.onboarding import Account, Onboarding, Urls, WrongAddress, fields
from shared.settings import Settings
from shared.store import channel_endpoints, channel_records, channels, endpoints
from shared.store.channel_records import ChannelRecord
from shared.store.channels import Listed
from shared.store.events import Event, record

__all__ = [
    "Account",
    "AddressTaken",
    "NewChannel",
    "NoSuchProvider",
    "Onboarding",
    "Urls",
    "WrongAddress",
    "fields",
]

SWITCHED_OFF: Final = "switched off by its tenant"  # the reason of a channel that the tenant stopped
Stored = Listed | ChannelRecord


class NoSuchProvider(LookupError):
    """No provider has this name, or its channels can't be added. `there_are` are the names of the others."""

    def __init__(self, there_are: list[str]) -> None:
        super().__init__(f"there are: {', '.join(there_are)}")
        self.there_are = there_are


class AddressTaken(Exception):
    """The address is a channel already: `channel`, or one that a concurrent transaction has just made."""

    def __init__(self, channel: ChannelRecord | None) -> None:
        super().__init__("the address is a channel already")
        self.channel = channel


@dataclass(frozen=True, slots=True)
class NewChannel:
    """A channel to be added, whose address its provider's Onboarding has checked."""

    provider: str
    kind: ChannelKind
    address: str
    name: str
    account: Account
    settings: Mapping[str, object]


def onboardings() -> dict[str, Onboarding]:
    """How channels are added, of each provider that has a way."""
    found = {name: providers.provider(name).onboarding for name in providers.names()}
    return {name: one for name, one in found.items() if one is not None}


def onboarding(provider: str) -> Onboarding:
    """How a provider's channels are added. Raises NoSuchProvider."""
    every = onboardings()
    if provider not in every:
        raise NoSuchProvider(list(every))
    return every[provider]


def urls(settings: Settings, provider: str, endpoint_id: UUID, secret: str = "") -> Urls:
    """The webhook URLs of an endpoint; `secret` is what they end with where they hold one."""
    base = f"{settings.public_url.rstrip('/')}/webhooks/{provider}/{endpoint_id}"
    return onboarding(provider).urls(base, secret)


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


async def add(
    connection: Connection, keys: KeyRing, tenant_id: UUID, new: NewChannel, *, by_operator: bool
) -> ChannelRecord:
    """Add a channel, on its account's endpoint. Raises AddressTaken.

    With `by_operator` the endpoint may be one of several tenants, and the address counts as this tenant's.
    """
    declared = onboarding(new.provider)
    async with as_worker(connection):
        own = await channel_records.of_provider(connection, tenant_id, new.provider)
        _check_free(new, own)
        channel_id = new_id()
        endpoint_id = await endpoint_secrets.endpoint_of(
            connection, keys, tenant_id, new.provider, new.account, own,
            several_tenants=by_operator and declared.several_tenants,
        )  # fmt: skip
        _check_free(new, await channel_records.on_endpoint(connection, endpoint_id))
        await channel_endpoints.free(connection, endpoint_id, new.kind, new.address)
        try:
            added = await channel_records.insert(
                connection,
                channel_id=channel_id,
                tenant_id=tenant_id,
                endpoint_id=endpoint_id,
                provider=new.provider,
                kind=new.kind,
                name=new.name,
                address=new.address,
                credentials=_sealed(keys, tenant_id, channel_id, new.account),
                settings=dict(new.settings),
                business_id=new.account.stored_business_id,
                proven=by_operator,
            )
        except asyncpg.UniqueViolationError as error:  # another session was faster
            raise AddressTaken(None) from error
    await record(connection, Event("channel.created", tenant_id, channel_id))
    return added


def _sealed(keys: KeyRing, tenant_id: UUID, channel_id: UUID, account: Account) -> str:
    return keys.seal(orjson.dumps(dict(account.credentials())).decode(), tenant_id=tenant_id, owner=channel_id)


def _check_free(new: NewChannel, there: list[ChannelRecord]) -> None:
    wanted = (new.provider, new.kind, _canonical(new.address))
    twin = next((one for one in there if (one.provider, one.kind, _canonical(one.address)) == wanted), None)
    if twin is not None:
        raise AddressTaken(twin)


def _canonical(address: str) -> str:
    found = addresses.phone(address) or addresses.email(address)
    return found.canonical if found else address


async def update(
    connection: Connection,
    before: ChannelRecord,
    *,
    name: str,
    settings: Mapping[str, object],
    is_active: bool | None = None,
) -> ChannelRecord:
    """Change a channel whose row the caller has locked; without an event where nothing changes.

    Raises ValueError that names each wrong field of the settings.
    """
    read_settings(settings)
    on = is_active is True and before.status != "active"
    # One that its provider has stopped too: else it would send again as soon as it is tried and works.
    off = is_active is False and (before.status, before.status_reason) != ("stopped", SWITCHED_OFF)
    if (name, settings) == (before.name, before.settings) and not on and not off:
        return before
    after = await channel_records.update(connection, before.tenant_id, before.id, name, settings)
    if on:
        await channels.resume_in_transaction(connection, before.tenant_id, before.id)
    elif off:
        await channels.switch_off(connection, before.tenant_id, before.id, SWITCHED_OFF)
    await record(connection, Event("channel.updated", before.tenant_id, before.id))
    return await channel_records.get(connection, before.tenant_id, before.id) or after


async def enter_account(
    connection: Connection, keys: KeyRing, channel: Stored, account: Account, *, by_operator: bool
) -> None:
    """Exchange a channel's credentials, and accept webhooks that its new secret signs beside those of the one before.

    One that had no endpoint is stopped where it gets one that several tenants share, until `prove`: its address may
    have come by SQL.
    """
    tenant_id, channel_id = channel.tenant_id, channel.id
    several = by_operator and onboarding(channel.provider).several_tenants
    async with as_worker(connection):
        await channels.set_credentials(connection, tenant_id, channel_id, _sealed(keys, tenant_id, channel_id, account))
        business_id = account.stored_business_id
        if business_id is not None and (by_operator or not await _serves_others(connection, channel)):
            await channels.set_business(connection, tenant_id, channel_id, business_id)
        if account.channel_settings:
            known = merged(channel.settings, account.channel_settings)
            await channels.set_settings(connection, tenant_id, channel_id, known)
        if channel.endpoint_id is not None:
            await endpoint_secrets.accept(connection, keys, channel.endpoint_id, account, several_tenants=by_operator)
        else:  # it was imported, or came by SQL: nothing comes in until it has one
            own = await channel_records.of_provider(connection, tenant_id, channel.provider)
            endpoint_id = await endpoint_secrets.endpoint_of(
                connection, keys, tenant_id, channel.provider, account, own, several_tenants=several
            )
            await channel_endpoints.set_endpoint(connection, tenant_id, channel_id, endpoint_id)
    await record(connection, Event("channel.secrets_changed", tenant_id, channel_id))


async def _serves_others(connection: Connection, channel: Stored) -> bool:
    """Whether the channel's endpoint is the operator's."""
    row = None if channel.endpoint_id is None else await endpoints.get(connection, channel.endpoint_id)
    return row is not None and row.tenant_id is None


async def change_url(connection: Connection, keys: KeyRing, channel: Stored) -> None:
    """Another secret at the end of the channel's webhook URL. Raises SecretsClosed."""
    assert channel.endpoint_id is not None, "the caller has checked that it has a URL"
    async with as_worker(connection):
        await endpoint_secrets.change_url(connection, keys, channel.endpoint_id)
    await record(connection, Event("channel.secrets_changed", channel.tenant_id, channel.id))


async def delete(connection: Connection, tenant_id: UUID, channel_id: UUID) -> ChannelRecord | None:
    """Delete a channel: nothing comes in or leaves through it. Its conversations stay. None where there is no live
    one."""
    deleted = await channel_records.delete(connection, tenant_id, channel_id)
    if deleted is not None:
        await record(connection, Event("channel.deleted", tenant_id, channel_id))
    return deleted


async def problem(settings: Settings, keys: KeyRing, channel: Stored) -> str | None:
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


async def prove(connection: Connection, channel: Stored) -> bool:
    """Give what comes to a channel's address to its tenant, after its provider has said that it is theirs.

    False where the channel has another address by now. Raises AddressTaken where another tenant has it on the same
    endpoint.
    """
    try:
        async with as_worker(connection):
            return await channel_endpoints.prove(connection, channel)
    except asyncpg.UniqueViolationError as error:
        raise AddressTaken(None) from error


async def tried(connection: Connection, channel: ChannelRecord, complaint: str | None) -> None:
    """Record that a channel was tried at its provider; one that was stopped for another reason than its tenant's wish
    and works again is resumed, its address proven. Raises AddressTaken as `prove`."""
    if complaint is None:
        await prove(connection, channel)
        if channel.status != "active" and channel.status_reason != SWITCHED_OFF:
            await channels.resume_in_transaction(connection, channel.tenant_id, channel.id)
    await record(
        connection, Event("channel.tested", channel.tenant_id, channel.id, detail={"works": complaint is None})
    )


async def secrets_in_urls(connection: Connection, keys: KeyRing, channel: Stored) -> tuple[str, str]:
    """(what the webhook URLs end with, the verify token to enter beside them), each empty where there is none.

    Empty too where the endpoint is not the tenant's own, as palomar_api sees it, or its secrets don't open.
    """
    row = None if channel.endpoint_id is None else await endpoints.get(connection, channel.endpoint_id)
    if row is None:
        return "", ""
    declared, known = onboarding(channel.provider), endpoint_secrets.opened(keys, row)
    ending = in_url(known) if declared.url_holds_secret else ""
    return ending, declared.verify_token(known)
