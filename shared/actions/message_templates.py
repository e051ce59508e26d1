"""Creates, changes and deletes a message template, each with its event in the same transaction."""

from uuid import UUID

from shared.database import Connection
from shared.store import message_templates as store
from shared.store.events import Event, record
from shared.store.message_templates import MessageTemplate, TemplateValues


async def create(connection: Connection, tenant_id: UUID, given: TemplateValues) -> MessageTemplate:
    """Create a template."""
    created = await store.insert(connection, tenant_id, given)
    await record(connection, event("template.created", tenant_id, created.id, given))
    return created


async def update(connection: Connection, before: MessageTemplate, given: TemplateValues) -> MessageTemplate:
    """Change a template whose row the caller has locked; without an event where nothing changes."""
    if given == before.values:
        return before
    after = await store.update(connection, before.tenant_id, before.id, given)
    await record(connection, event("template.updated", after.tenant_id, after.id, given))
    return after


async def delete(connection: Connection, tenant_id: UUID, template_id: UUID) -> MessageTemplate | None:
    """Delete a template softly: what is queued with it still leaves. None where there is no live one."""
    deleted = await store.delete(connection, tenant_id, template_id)
    if deleted is not None:
        await record(connection, event("template.deleted", tenant_id, deleted.id, deleted.values))
    return deleted


def event(name: str, tenant_id: UUID, template_id: UUID, values: TemplateValues) -> Event:
    """The event of a template's change."""
    detail = {"template_id": str(template_id), "status": values.status}
    return Event(name, tenant_id, channel_id=values.channel_id, detail=detail)
