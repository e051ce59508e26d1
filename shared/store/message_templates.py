"""message_templates: approved forms of words, and a tenant's own texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
import orjson

from shared.database import Connection, Pool, new_id
from shared.domain import template_text
from shared.domain.model import Template
from shared.domain.template_status import GONE, Status
from shared.store.arrays import arrays
from shared.store.by_key import only_if
from shared.store.newest_first import Position, behind


@dataclass(frozen=True, slots=True)
class TemplateValues:
    """What a tenant writes of a template."""

    channel_id: UUID | None  # the one it is approved for; None: a text of the tenant's own
    name: str
    language: str | None
    external_id: str | None  # Twilio's ContentSid, Meta's template id
    category: str | None
    content: str
    variables: tuple[str, ...]
    status: Status
    is_active: bool


@dataclass(frozen=True, slots=True)
class MessageTemplate:
    """A row of `message_templates`."""

    id: UUID
    tenant_id: UUID
    values: TemplateValues
    is_synced: bool  # its provider has listed it: messageTemplates.sync writes it
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


_COLUMNS: Final = """id, tenant_id, channel_id, name, language, external_id, category, content, variables, status,
    is_active, is_synced, created_at, updated_at, deleted_at"""
_GET = f"SELECT {_COLUMNS} FROM message_templates WHERE tenant_id = $1 AND id = $2"
_LOCK = f"{_GET} FOR NO KEY UPDATE"
_PAGE = f"""
SELECT {_COLUMNS} FROM message_templates
WHERE tenant_id = $1 AND deleted_at IS NULL AND ($2::boolean IS NULL OR is_active = $2)
    AND ($3::uuid IS NULL OR channel_id = $3) AND ($4::text IS NULL OR status = $4) {behind(5)}
"""
_NAMED = f"""
SELECT {_COLUMNS} FROM message_templates WHERE tenant_id = $1 AND name = $2 AND deleted_at IS NULL ORDER BY id LIMIT 10
"""
_INSERT = f"""
INSERT INTO message_templates (tenant_id, id, channel_id, name, language, external_id, category, content, variables,
    status, is_active)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING {_COLUMNS}
"""
_UPDATE = f"""
UPDATE message_templates SET channel_id = $3, name = $4, language = $5, external_id = $6, category = $7, content = $8,
    variables = $9, status = $10, is_active = $11
WHERE tenant_id = $1 AND id = $2 RETURNING {_COLUMNS}
"""
_DELETE = f"""
UPDATE message_templates SET deleted_at = now()
WHERE tenant_id = $1 AND id = $2 AND {only_if("deleted_at IS NULL")} RETURNING {_COLUMNS}
"""
# -- many rows at a time, as a provider lists them
_OF_CHANNEL = f"""
SELECT {_COLUMNS} FROM message_templates WHERE tenant_id = $1 AND channel_id = $2 AND deleted_at IS NULL
ORDER BY created_at, id FOR NO KEY UPDATE
"""
_LISTED: Final = """unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::text[]) AS n (id, name, language, external_id, category, content, variables, status)"""
_INSERT_SYNCED = f"""
INSERT INTO message_templates (tenant_id, channel_id, id, name, language, external_id, category, content, variables,
    status, is_synced)
SELECT $1, $2, n.id, n.name, n.language, n.external_id, n.category, n.content, n.variables::jsonb, n.status, true
FROM {_LISTED}
"""
_UPDATE_SYNCED = f"""
UPDATE message_templates t SET name = n.name, language = n.language, external_id = n.external_id,
    category = n.category, content = n.content, variables = n.variables::jsonb, status = n.status, is_synced = true
FROM {_LISTED} WHERE t.tenant_id = $1 AND t.channel_id = $2 AND t.id = n.id
"""
_SET_GONE = f"""
UPDATE message_templates SET status = '{GONE}' WHERE tenant_id = $1 AND id = ANY($2::uuid[])
"""


_LOCK_NAMED = f"""
SELECT {_COLUMNS} FROM message_templates
WHERE deleted_at IS NULL AND (name, tenant_id, channel_id) IN (SELECT * FROM unnest($3::text[], $1::uuid[], $2::uuid[]))
ORDER BY id FOR NO KEY UPDATE
"""
_SET_APPROVAL = """
UPDATE message_templates t SET status = n.status, category = n.category
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) AS n (tenant_id, id, status, category)
WHERE t.tenant_id = n.tenant_id AND t.id = n.id
"""
# A template has a category for each of its languages. One that is not in the table has none.
_IS_MARKETING = """
SELECT EXISTS (
    SELECT FROM message_templates
    WHERE tenant_id = $1 AND channel_id = $2 AND name = $3 AND deleted_at IS NULL AND lower(category) = 'marketing'
        AND ($4::text IS NULL OR language IS NULL OR language = $4)
)
"""


async def is_marketing(connection: Connection | Pool, tenant_id: UUID, channel_id: UUID, template: Template) -> bool:
    """Whether the provider of this channel has approved the template for marketing, as far as the table says."""
    found = await connection.fetchval(_IS_MARKETING, tenant_id, channel_id, template.name, template.language)
    return bool(found)


async def get(
    connection: Connection, tenant_id: UUID, template_id: UUID, *, lock: bool = False
) -> MessageTemplate | None:
    """The template, deleted or not. With `lock` its row is locked until the transaction ends."""
    row = await connection.fetchrow(_LOCK if lock else _GET, tenant_id, template_id)
    return None if row is None else _template(row)


async def page(
    connection: Connection,
    tenant_id: UUID,
    *,
    is_active: bool | None,
    channel_id: UUID | None,
    status: Status | None,
    after: Position | None,
    limit: int,
) -> list[MessageTemplate]:
    """Live templates, newest first, behind the position `after`."""
    rows = await connection.fetch(_PAGE, tenant_id, is_active, channel_id, status, *(after or (None, None)), limit)
    return [_template(row) for row in rows]


async def named(connection: Connection, tenant_id: UUID, name: str) -> list[MessageTemplate]:
    """Live templates of this name, one for each of its languages; ten at most."""
    return [_template(row) for row in await connection.fetch(_NAMED, tenant_id, name)]


async def insert(connection: Connection, tenant_id: UUID, given: TemplateValues) -> MessageTemplate:
    """Insert a template. Its channel must be the tenant's."""
    return _template(await connection.fetchrow(_INSERT, tenant_id, new_id(), *_columns(given)))


async def update(connection: Connection, tenant_id: UUID, template_id: UUID, given: TemplateValues) -> MessageTemplate:
    """Write a template's columns. The template must be there."""
    return _template(await connection.fetchrow(_UPDATE, tenant_id, template_id, *_columns(given)))


async def delete(connection: Connection, tenant_id: UUID, template_id: UUID) -> MessageTemplate | None:
    """Delete a template softly; None where there is no live one."""
    row = await connection.fetchrow(_DELETE, tenant_id, template_id)
    return None if row is None else _template(row)


async def lock_of_channel(connection: Connection, tenant_id: UUID, channel_id: UUID) -> list[MessageTemplate]:
    """A channel's live templates, oldest first, locked until the transaction ends."""
    return [_template(row) for row in await connection.fetch(_OF_CHANNEL, tenant_id, channel_id)]


async def insert_synced(
    connection: Connection, tenant_id: UUID, channel_id: UUID, given: Sequence[tuple[UUID, TemplateValues]]
) -> None:
    """Insert templates that the channel's provider lists."""
    await connection.execute(_INSERT_SYNCED, tenant_id, channel_id, *_arrays(given))


async def update_synced(
    connection: Connection, tenant_id: UUID, channel_id: UUID, given: Sequence[tuple[UUID, TemplateValues]]
) -> None:
    """Write into templates of a channel what its provider says of them; whether they are active stays."""
    await connection.execute(_UPDATE_SYNCED, tenant_id, channel_id, *_arrays(given))


async def set_gone(connection: Connection, tenant_id: UUID, template_ids: Sequence[UUID]) -> None:
    """Note that the provider lists these templates no longer."""
    await connection.execute(_SET_GONE, tenant_id, list(template_ids))


async def lock_named(connection: Connection, named: Sequence[tuple[UUID, UUID, str]]) -> list[MessageTemplate]:
    """The live templates of these (tenant, channel, name), locked until the transaction ends."""
    return [_template(row) for row in await connection.fetch(_LOCK_NAMED, *arrays(named, 3))]


async def set_approval(connection: Connection, given: Sequence[tuple[UUID, UUID, Status, str | None]]) -> None:
    """Write state and category of templates (tenant, id) that the caller has locked."""
    await connection.execute(_SET_APPROVAL, *arrays(given, 4))


def _arrays(given: Sequence[tuple[UUID, TemplateValues]]) -> list[list[object]]:
    rows = [
        (
            template_id, one.name, one.language, one.external_id, one.category, one.content,
            orjson.dumps(one.variables).decode(), one.status,
        )
        for template_id, one in given
    ]  # fmt: skip
    return [list(column) for column in zip(*rows, strict=True)]


def _columns(given: TemplateValues) -> tuple[object, ...]:
    return (
        given.channel_id, given.name, given.language, given.external_id, given.category, given.content,
        list(given.variables), given.status, given.is_active,
    )  # fmt: skip


def _template(row: asyncpg.Record | None) -> MessageTemplate:
    assert row is not None, "the statement returns the row that it wrote"
    values = TemplateValues(
        channel_id=row["channel_id"],
        name=row["name"],
        language=row["language"],
        external_id=row["external_id"],
        category=row["category"],
        content=row["content"],
        variables=_variables(row["variables"], row["content"]),
        status=row["status"],
        is_active=row["is_active"],
    )
    return MessageTemplate(
        id=row["id"],
        tenant_id=row["tenant_id"],
        values=values,
        is_synced=row["is_synced"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        deleted_at=row["deleted_at"],
    )


def _variables(stored: object, content: str) -> tuple[str, ...]:
    """The names that are stored. A row that came by SQL or import may hold another JSON: then those of its text."""
    if isinstance(stored, list) and stored and all(isinstance(name, str) for name in stored):
        return tuple(stored)
    return tuple(template_text.variables(content))
