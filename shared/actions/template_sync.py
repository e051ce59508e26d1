"""Brings a channel's message templates in line with its provider's list: `listed` asks, `store` writes what changed.

No transaction may be open while the provider answers, hence the two steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast
from uuid import UUID

from shared import providers
from shared.actions.message_templates import event
from shared.crypto import CryptoError, KeyRing
from shared.database import Connection, new_id
from shared.domain.model import ChannelKind
from shared.domain.template_status import GONE
from shared.providers.templates import ListedTemplate, NoTemplateList
from shared.settings import Settings
from shared.store import message_templates as templates
from shared.store.channel_records import ChannelRecord
from shared.store.events import record
from shared.store.message_templates import MessageTemplate, TemplateValues

__all__ = ["ListedTemplate", "NoTemplateList", "Synced", "listed", "store", "with_templates"]


@dataclass(frozen=True, slots=True)
class Synced:
    """What a sync did: how many templates the provider lists, and how many rows were written for them."""

    listed: int
    created: int
    updated: int
    gone: int


def with_templates() -> list[str]:
    """The names of the providers that have message templates to list."""
    return [name for name in providers.names() if providers.provider(name).list_templates is not None]


async def listed(settings: Settings, keys: KeyRing, channel: ChannelRecord) -> list[ListedTemplate]:
    """Ask the provider for all templates of a channel's account. Raises NoTemplateList."""
    ask = providers.provider(channel.provider).list_templates
    assert ask is not None, "the caller has looked at with_templates"
    try:
        opened = keys.open(channel.credentials, tenant_id=channel.tenant_id, owner=channel.id)
    except CryptoError as error:
        raise NoTemplateList(f"the channel's credentials can't be used: {error}", passing=False) from None
    found = await ask(
        opened, kind=cast("ChannelKind", channel.kind), business_id=channel.business_id, settings=settings
    )
    return list({one.external_id: one for one in found}.values())  # one that moved between two pages came twice


async def store(connection: Connection, channel: ChannelRecord, given: Sequence[ListedTemplate]) -> Synced:
    """Write a provider's list into the templates of a channel, whose row the caller has locked, with their events.

    A template that a sync has brought once and that is not listed any more is `gone`. One that was entered by hand
    stays, unless the list has it: then it is the provider's from now on.
    """
    tenant_id = channel.tenant_id
    rows = await templates.lock_of_channel(connection, tenant_id, channel.id)
    pairs = _matched(rows, given)
    created = [(new_id(), _values(one, channel.id)) for one, row in pairs if row is None]
    updated = [
        (row.id, _values(one, channel.id, row.values)) for one, row in pairs if row is not None and _differs(one, row)
    ]
    known = {row.id for _, row in pairs if row is not None}
    gone = [row for row in rows if row.is_synced and row.id not in known and row.values.status != GONE]
    if created:
        await templates.insert_synced(connection, tenant_id, channel.id, created)
    if updated:
        await templates.update_synced(connection, tenant_id, channel.id, updated)
    if gone:
        await templates.set_gone(connection, tenant_id, [row.id for row in gone])
    changed = [*updated, *((row.id, replace(row.values, status=GONE)) for row in gone)]
    await record(
        connection,
        *(event("template.created", tenant_id, template_id, values) for template_id, values in created),
        *(event("template.updated", tenant_id, template_id, values) for template_id, values in changed),
    )
    return Synced(listed=len(given), created=len(created), updated=len(updated), gone=len(gone))


def _matched(
    rows: Sequence[MessageTemplate], given: Sequence[ListedTemplate]
) -> list[tuple[ListedTemplate, MessageTemplate | None]]:
    """Each listed template with its row: the one with its id, else one with its name and language.

    A template that was deleted at the provider and submitted anew has another id there. It keeps its row, so that a
    campaign that names the row goes on, and its name stays unambiguous.
    """
    by_id = {row.values.external_id: row for row in rows if row.values.external_id is not None}
    ids = {one.external_id for one in given}
    by_name: dict[tuple[str, str | None], list[MessageTemplate]] = {}
    for row in rows:
        if row.values.external_id not in ids:
            by_name.setdefault((row.values.name, row.values.language), []).append(row)
    pairs: list[tuple[ListedTemplate, MessageTemplate | None]] = []
    for one in given:
        found = by_id.get(one.external_id)
        if found is None and (same_name := by_name.get((one.name, one.language))):
            found = same_name.pop(0)
        pairs.append((one, found))
    return pairs


def _values(one: ListedTemplate, channel_id: UUID, before: TemplateValues | None = None) -> TemplateValues:
    return TemplateValues(
        channel_id=channel_id,
        name=one.name,
        language=one.language,
        external_id=one.external_id,
        category=one.category,
        content=one.content,
        variables=one.variables,
        status=one.status,
        is_active=True if before is None else before.is_active,
    )


def _differs(one: ListedTemplate, row: MessageTemplate) -> bool:
    assert row.values.channel_id is not None, "it is of the channel"
    return not row.is_synced or _values(one, row.values.channel_id, row.values) != row.values
