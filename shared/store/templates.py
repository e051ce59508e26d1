"""Queues an approved template, within a tenant's transaction; tells whether there is one."""

from collections.abc import Mapping
from uuid import UUID

from shared.database import Connection

_QUEUE = "SELECT queue_template_message($1, $2, $3, $4, $5)"
_NAMES = """
SELECT name, external_id FROM message_templates WHERE tenant_id = $1 AND $2 IN (id::text, name, external_id)
"""
_EXISTS = "SELECT true FROM message_templates WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL"


async def queue_template_message(
    connection: Connection,
    conversation_id: UUID,
    template: str,
    variables: Mapping[str, str] | None = None,
    *,
    language: str | None = None,
    dedupe_key: str | None = None,
) -> UUID:
    """Queue an approved template to a conversation of the tenant's; returns the message's id. The clock
    publishes it once the caller's transaction has committed.

    `template` is a row of message_templates by its id, name or external id, else the provider's own name for it. A
    second call with the same `dedupe_key` queues nothing and returns the first one's message. Raises
    asyncpg.ForeignKeyViolationError for a conversation that the tenant doesn't have,
    asyncpg.FeatureNotSupportedError for a provider without templates, and asyncpg.InvalidParameterValueError that names
    what else is wrong.
    """
    queued: UUID = await connection.fetchval(
        _QUEUE, conversation_id, template, dict(variables or {}), language, dedupe_key
    )
    return queued


async def names(connection: Connection, tenant_id: UUID, template: str) -> set[str]:
    """The names by which a message may have this template, as queue_template_message looks it up; of deleted rows
    too."""
    rows = await connection.fetch(_NAMES, tenant_id, template)
    return {template, *(name for row in rows for name in row if name is not None)}


async def exists(connection: Connection, tenant_id: UUID, template_id: UUID) -> bool:
    """Whether the tenant has this row of message_templates."""
    return await connection.fetchval(_EXISTS, tenant_id, template_id) is not None
