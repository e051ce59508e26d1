"""Creates, changes and deletes a message template, each with its event in the same transaction."""

from uuid import UUID

from shared.database import Connection
from shared.store import message_templates as store
from shared.store.events import Event, record
from shared.store.message_templates import MessageTemplate, TemplateValues


async def create(connection: Connection, tenant_id: UUID, given: TemplateValues) -> MessageTemplate:
    """Create a template."""
    created = await store.insert(connection, tenant_id, given)
    await record(connection, _event("template.created", created))
    return created


async def update(connection: Connection, before: MessageTemplate, given: TemplateValues) -> MessageTemplate:
    """Change a template whose row the caller has locked; without an event where nothing changes."""
    if given == before.values:
        return before
    after = await store.update(connection, before.tenant_id, before.id, given)
    await record(connection, _event("template.updated", after))
    return after


async def delete(connection: Connection, tenant_id: UUID, template_id: UUID) -> MessageTemplate | None:
    """Delete a template softly: what is queued with it still leaves. None where there is no live one."""
    deleted = await store.delete(connection, tenant_id, template_id)
    if deleted is not None:
        await record(connection, _event("template.deleted", deleted))
    return deleted


def _event(name: str, template: MessageTemplate) -> Event:
    return Event(
        name,
        template.tenant_id,
        channel_id=template.values.channel_id,
        detail={"template_id": str(template.id), "status": template.values.status},
    )
