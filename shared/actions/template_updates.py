"""Applies what providers say of message templates beside their lists: a template is paused, rejected, approved again.

Only the state and the category change here; `template_sync` brings whole templates. It is applied in order of arrival:
Meta names no version of a template, and a sync puts right what came out of order.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from shared.actions.message_templates import event
from shared.database import Connection
from shared.providers.base import TemplateChange
from shared.store import message_templates as templates
from shared.store.events import record
from shared.store.message_templates import MessageTemplate, TemplateValues


@dataclass(frozen=True, slots=True)
class ChannelChange:
    """What a provider says of a template of this channel's account."""

    tenant_id: UUID
    channel_id: UUID
    change: TemplateChange


async def apply(connection: Connection, changes: Sequence[ChannelChange]) -> None:
    """Write the changes into the templates that they name, with the event `template.updated` for each one that
    differs. A template that is not in the table comes with the next sync."""
    if not changes:
        return
    named = sorted({(one.tenant_id, one.channel_id, one.change.name) for one in changes})
    rows: defaultdict[tuple[UUID, UUID | None, str], list[MessageTemplate]] = defaultdict(list)
    for row in await templates.lock_named(connection, named):
        rows[row.tenant_id, row.values.channel_id, row.values.name].append(row)
    values: dict[UUID, tuple[MessageTemplate, TemplateValues]] = {}
    for one in changes:
        for row in rows[one.tenant_id, one.channel_id, one.change.name]:
            if _is_meant(row, one.change):
                _, before = values.get(row.id, (row, row.values))
                values[row.id] = row, _changed(before, one.change)
    differing = [(row, after) for row, after in values.values() if after != row.values]
    if differing:
        await templates.set_approval(
            connection, [(row.tenant_id, row.id, after.status, after.category) for row, after in differing]
        )
        await record(connection, *(event("template.updated", row.tenant_id, row.id, after) for row, after in differing))


def _is_meant(row: MessageTemplate, change: TemplateChange) -> bool:
    """By its id; a row without one, which was entered by hand, by name and language."""
    given = row.values
    if given.external_id is not None:
        return given.external_id == change.external_id
    return bool(change.language) and _plain(given.language or "") == _plain(change.language)


def _plain(language: str) -> str:
    """Meta writes `es_MX` in lists and `es-MX` in places."""
    return language.replace("-", "_").lower()


def _changed(before: TemplateValues, change: TemplateChange) -> TemplateValues:
    return replace(before, status=change.status or before.status, category=change.category or before.category)
