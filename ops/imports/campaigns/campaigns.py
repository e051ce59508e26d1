"""Imports message_templates, campaigns and campaign_recipients. What would start by itself becomes a draft."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from ops.imports.campaigns import people, tables
from ops.imports.steps import attempt, identified, in_order, store
from ops.imports.tally import Fate
from ops.imports.target import Target
from ops.imports.values import Reader, our_id
from shared.database import Connection
from shared.store.imports import joins
from shared.store.imports.progress import Key
from shared.store.imports.rows import (
    CampaignRow,
    Json,
    RecipientRow,
    TemplateRow,
)


async def write_templates(connection: Connection, readers: Sequence[Reader], into: Target) -> list[Fate]:
    fates: dict[int, Fate] = {}
    keys = await identified(
        connection, readers, into, table="message_templates", our_table="message_templates", fates=fates
    )

    def convert(reader: Reader) -> TemplateRow:
        key = into.key(reader, into.tenant_of(reader))
        created_at = reader.time("created_at") or reader.now
        return TemplateRow(
            id=our_id(into.system, "message_templates", *key),
            tenant_id=key[0],
            name=people.named(reader),
            content=reader.text("content") or "",
            variables=reader.json("variables") or Json("[]"),
            is_active=reader.flag("is_active", default=True),
            created_at=created_at,
            updated_at=reader.time("updated_at") or created_at,
            deleted_at=reader.time("deleted_at"),
            metadata=reader.imported(),
        )

    rows = attempt(convert, readers, fates)
    await store(connection, {i: (keys[i], row) for i, row in rows.items()}, into, fates, table="message_templates")
    return in_order(fates, readers)


async def write_campaigns(connection: Connection, readers: Sequence[Reader], into: Target) -> list[Fate]:
    fates: dict[int, Fate] = {}
    keys = await identified(connection, readers, into, table="campaigns", our_table="campaigns", fates=fates)
    asked = [(key[0], template_id) for i, key in keys.items() if (template_id := readers[i].id("message_template_id"))]
    templates = await into.ours(connection, "message_templates", "message_templates", asked)

    def convert(reader: Reader) -> CampaignRow:
        return _campaign(reader, into, templates)

    rows = attempt(convert, readers, fates)
    await store(connection, {i: (keys[i], row) for i, row in rows.items()}, into, fates, table="campaigns")
    return in_order(fates, readers)


def _campaign(reader: Reader, into: Target, templates: dict[Key, UUID]) -> CampaignRow:
    key = into.key(reader, into.tenant_of(reader))
    through = into.channel(key[0], reader.id("whatsapp_instance_id") or "")
    template_id = reader.id("message_template_id")
    template = templates.get((key[0], template_id)) if template_id else None
    if template_id and template is None:
        reader.mended.add("its template is missing: left out")
    message = reader.text("message")
    if message is None and template is None:
        reader.mended.add("neither text nor template: without text")
        message = ""
    created_at = reader.time("created_at") or reader.now
    return CampaignRow(
        id=our_id(into.system, "campaigns", *key),
        tenant_id=key[0],
        whatsapp_instance_id=through.id,
        message_template_id=template,
        name=people.named(reader),
        message=message,
        status=_campaign_status(reader),
        scheduled_at=reader.planned("scheduled_at"),
        started_at=reader.time("started_at"),
        completed_at=reader.time("completed_at"),
        total_recipients=reader.number("total_recipients"),
        sent_count=reader.number("sent_count"),
        failed_count=reader.number("failed_count"),
        created_at=created_at,
        updated_at=reader.time("updated_at") or created_at,
        deleted_at=reader.time("deleted_at"),
        metadata=reader.imported(),
    )


def _campaign_status(reader: Reader) -> str:
    """What was to start by itself is a draft here, what was under way is paused: nothing imported is ever due."""
    status = reader.choice("status", tables.CAMPAIGN_STATUSES, "canceled")
    if status == "scheduled":
        reader.mend("was scheduled: a draft", "status")
        return "draft"
    if status == "running":
        reader.mend("was under way: paused", "status")
        return "paused"
    return status


async def write_recipients(connection: Connection, readers: Sequence[Reader], into: Target) -> list[Fate]:
    fates: dict[int, Fate] = {}
    keys = await identified(
        connection, readers, into, table="campaign_recipients", our_table="campaign_recipients", fates=fates
    )
    named = attempt(
        lambda reader: (
            into.key(reader, into.tenant_of(reader), "campaign_id"),
            into.key(reader, into.tenant_of(reader), "contact_id"),
        ),
        readers,
        fates,
    )
    campaigns = await into.ours(connection, "campaigns", "campaigns", [pair[0] for pair in named.values()])
    contacts = await into.ours(connection, "contacts", "contacts", [pair[1] for pair in named.values()])
    started = await joins.started(connection, {(key[0], ours) for key, ours in campaigns.items()})
    rows: dict[int, tuple[Key, RecipientRow]] = {}
    for index, (campaign, contact) in named.items():
        if campaign not in campaigns or contact not in contacts:
            what = "campaign" if campaign not in campaigns else "contact"
            fates[index] = Fate(is_new=False, skipped=f"its {what} is missing, or was skipped")
            continue
        own_id = our_id(into.system, "campaign_recipients", *keys[index])
        row = _recipient(readers[index], own_id, keys[index][0], campaigns[campaign], contacts[contact])
        if row.status in ("pending", "queued"):
            row = _unsent(readers[index], row, was_started=row.campaign_id in started)
        rows[index] = (keys[index], row)
    await store(connection, rows, into, fates, table="campaign_recipients", join=_same_recipients)
    return in_order(fates, readers)


def _recipient(reader: Reader, own_id: UUID, tenant_id: UUID, campaign_id: UUID, contact_id: UUID) -> RecipientRow:
    created_at = reader.time("created_at") or reader.now
    return RecipientRow(
        id=own_id,
        tenant_id=tenant_id,
        campaign_id=campaign_id,
        contact_id=contact_id,
        status=reader.choice("status", tables.RECIPIENT_STATUSES, "canceled"),
        sent_at=reader.time("sent_at"),
        delivered_at=reader.time("delivered_at"),
        read_at=reader.time("read_at"),
        failed_at=reader.time("failed_at"),
        error_message=reader.text("error_message"),
        message_data=reader.object("message_data"),
        created_at=created_at,
        updated_at=reader.time("updated_at") or created_at,
        metadata=reader.imported(),
    )


def _unsent(reader: Reader, row: RecipientRow, *, was_started: bool) -> RecipientRow:
    """A draft's recipients wait until it is started; those of a campaign that had begun the old system may yet send."""
    if not was_started:
        return replace(row, status="pending")
    reader.mended.add("was still to be sent: canceled")
    return replace(row, status="canceled", error_message=row.error_message or "not sent when it was imported")


async def _same_recipients(connection: Connection, rows: Sequence[RecipientRow]) -> dict[UUID, UUID]:
    asked = {(row.tenant_id, row.campaign_id, row.contact_id) for row in rows}
    found = await joins.recipients(connection, asked)
    pairs = {row.id: (row.campaign_id, row.contact_id) for row in rows}
    return {own_id: found[pair] for own_id, pair in pairs.items() if pair in found}
