"""Creates, changes and deletes a webhook of a tenant's own, each with its event in the same transaction."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from uuid import UUID

from shared.actions import webhook_keys
from shared.crypto import KeyRing
from shared.database import Connection, as_worker, new_id
from shared.store import webhook_keys as sealed_keys
from shared.store import webhooks as store
from shared.store.events import Event, record
from shared.store.webhooks import Webhook, WebhookValues


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """A webhook with a new secret, which can't be shown again."""

    stored: Webhook
    secret: str = field(repr=False)


async def create(connection: Connection, keys: KeyRing, tenant_id: UUID, given: WebhookValues) -> NewWebhook:
    """Create a webhook with a new secret and key pair, in the form of Standard Webhooks, which are stored sealed."""
    webhook_id = new_id()
    made = webhook_keys.new_keys()
    sealed = keys.seal(made.secret, tenant_id=tenant_id, owner=webhook_id)
    pair = webhook_keys.sealed_pair(keys, tenant_id, webhook_id, made)
    async with as_worker(connection):  # a tenant's session may not write what is sealed
        await store.insert(connection, tenant_id, webhook_id, given, sealed)
        await sealed_keys.add_pair(connection, tenant_id, webhook_id, pair)
    await record(connection, event("webhook.created", tenant_id, webhook_id))
    return NewWebhook(await _get(connection, tenant_id, webhook_id), made.secret)


async def update(
    connection: Connection, before: Webhook, given: WebhookValues, *, switches: bool | None = None
) -> Webhook:
    """Change a webhook whose row the caller has locked; without an event where nothing changes.

    `switches` says whether `is_active` was written at all, by default where it changes: to write true over true
    enables a webhook that we have disabled.
    """
    rest = replace(given, is_active=before.values.is_active)
    if switches is None:
        switches = rest != given
    enables = switches and given.is_active and before.health.disabled_at is not None
    if given == before.values and not enables:
        return before
    if rest != before.values:
        await store.update(connection, before.tenant_id, before.id, rest)
    if enables or given.is_active != before.values.is_active:
        await store.switch(connection, before.tenant_id, before.id, is_active=given.is_active)
    await record(connection, event("webhook.updated", before.tenant_id, before.id))
    return await _get(connection, before.tenant_id, before.id)


async def rotate(connection: Connection, keys: KeyRing, before: Webhook, overlap: timedelta) -> NewWebhook:
    """Give a webhook, whose row the caller has locked, a new secret and key pair.

    The ones before sign too for so long, so that receivers change at leisure.
    """
    async with as_worker(connection):
        made, _ = await webhook_keys.rotate(connection, keys, before.tenant_id, before.id, overlap)
    await record(connection, event("webhook.secret_rotated", before.tenant_id, before.id))
    return NewWebhook(await _get(connection, before.tenant_id, before.id), made.secret)


async def delete(connection: Connection, tenant_id: UUID, webhook_id: UUID) -> Webhook | None:
    """Delete a webhook softly. None where there is no live one."""
    if not await store.delete(connection, tenant_id, webhook_id):
        return None
    await record(connection, event("webhook.deleted", tenant_id, webhook_id))
    return await _get(connection, tenant_id, webhook_id)


def event(name: str, tenant_id: UUID, webhook_id: UUID, **more: str | int) -> Event:
    """An event about a webhook itself."""
    return Event(name, tenant_id, detail={"webhook_id": str(webhook_id), **more})


async def _get(connection: Connection, tenant_id: UUID, webhook_id: UUID) -> Webhook:
    found = await store.get(connection, tenant_id, webhook_id)
    assert found is not None, "the caller has just written it"
    return found
