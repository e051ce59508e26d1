"""Creates, changes and deletes a webhook of a tenant's own, each with its event in the same transaction."""

from dataclasses import dataclass, field
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
    """A webhook that was just made. `secret` can't be shown again."""

    stored: Webhook
    secret: str = field(repr=False)


async def create(connection: Connection, keys: KeyRing, tenant_id: UUID, given: WebhookValues) -> NewWebhook:
    """Create a webhook with a new secret, in the form of Standard Webhooks, which is stored sealed."""
    webhook_id = new_id()
    made = webhook_keys.new_keys()
    sealed = keys.seal(made.secret, tenant_id=tenant_id, owner=webhook_id)
    pair = webhook_keys.sealed_pair(keys, tenant_id, webhook_id, made)
    async with as_worker(connection):  # a tenant's session may not write what is sealed
        created = await store.insert(connection, tenant_id, webhook_id, given, sealed)
        await sealed_keys.add_pair(connection, tenant_id, webhook_id, pair)
    await record(connection, _event("webhook.created", created))
    return NewWebhook(created, made.secret)


async def update(connection: Connection, before: Webhook, given: WebhookValues) -> Webhook:
    """Change a webhook whose row the caller has locked; without an event where nothing changes."""
    if given == before.values:
        return before
    after = await store.update(connection, before.tenant_id, before.id, given)
    await record(connection, _event("webhook.updated", after))
    return after


async def delete(connection: Connection, tenant_id: UUID, webhook_id: UUID) -> Webhook | None:
    """Delete a webhook softly. None where there is no live one."""
    deleted = await store.delete(connection, tenant_id, webhook_id)
    if deleted is not None:
        await record(connection, _event("webhook.deleted", deleted))
    return deleted


def _event(name: str, webhook: Webhook) -> Event:
    return Event(name, webhook.tenant_id, detail={"webhook_id": str(webhook.id)})
