"""Imports the contacts-and-campaigns system: many tenants, whose campaigns go out in bulk.

The document names fields (`tenantId`); a source may have them as columns of either spelling. Tenants and WhatsApp
instances are told only by their ids, unless the source has tables `tenants` and `whatsapp_instances` to name them.
"""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Final
from uuid import UUID

import orjson

from ops.imports import addresses, conversations, messages
from ops.imports.campaigns import people, tables
from ops.imports.steps import Step, System, attempt, counted, identified, in_order, store
from ops.imports.tally import Fate
from ops.imports.target import Target
from ops.imports.values import Reader, Skip, first_time, our_id
from shared.database import Connection
from shared.domain.model import Address
from shared.store.imports import joins
from shared.store.imports.progress import Key
from shared.store.imports.rows import (
    SECRET_MASK,
    CampaignRow,
    Json,
    RecipientRow,
    TemplateRow,
    WebhookLogRow,
    WebhookRow,
)
from shared.store.imports.source import Found, Source

PROVIDER: Final = "meta"  # of an instance that is no channel here yet
TALKS: Final = "conversations of messages_history"

# -- tenants and instances ---------------------------------------------------------------------------------------------


async def know_tenants(source: Source, found: Found, into: Target) -> None:
    """Tenants, by all that names one; a table of theirs gives them names."""
    ids: set[str] = set()
    for table in (tables.CONTACTS, tables.GROUPS, tables.TEMPLATES, tables.CAMPAIGNS, tables.HISTORY, tables.WEBHOOKS):
        ids |= {one for (one,) in await source.distinct(await source.find(table), "tenant_id") if one}
    names = await _names(source) if await source.has(tables.TENANTS) else {}
    async with into.pool.acquire() as connection, connection.transaction():
        new = await into.add_tenants(connection, {one: (names.get(one), None, Json("{}")) for one in ids})
    into.notes.append(f"Tenants: {len(ids)} in the source, {new} of them new here.")


async def _names(source: Source) -> dict[str, str]:
    rows = await source.distinct(await source.find(tables.TENANTS), "id", "name")
    return {one: name for one, name in rows if one and name}


async def open_instances(source: Source, found: Found, into: Target) -> None:
    """A channel for each WhatsApp instance that a campaign, or a message, went through, and for each that the source
    has a table of, by which it is called."""
    used = set(await source.distinct(found, "tenant_id", "whatsapp_instance_id"))
    named: dict[tuple[str | None, ...], tuple[str | None, str | None]] = {}
    if await source.has(tables.INSTANCES):
        table = await source.find(tables.INSTANCES)
        columns = [name for name in ("tenant_id", "id", "name", "phone_number") if name in table.places]
        for row in await source.distinct(table, *columns):
            one = dict(zip(columns, row, strict=True))
            named[one["tenant_id"], one["id"]] = (one.get("name"), one.get("phone_number"))
    for their_id, instance in sorted(used | set(named), key=str):
        tenant_id = into.tenants.get(their_id or "")
        if tenant_id is not None and instance:
            own_id = our_id(into.system, "whatsapp_instances", tenant_id, instance)
            name = " ".join(filter(None, named.get((their_id, instance), ()))) or None
            await into.open_channel(
                tenant_id, "whatsapp", provider=PROVIDER, only_that=False, call=instance, own_id=own_id, name=name
            )


# -- campaigns ---------------------------------------------------------------------------------------------------------


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
    """A draft's recipients wait for whoever starts it; of one that had begun, the old system may yet send them."""
    if not was_started:
        return replace(row, status="pending")
    reader.mended.add("was still to be sent: canceled")
    return replace(row, status="canceled", error_message=row.error_message or "not sent when it was imported")


async def _same_recipients(connection: Connection, rows: Sequence[RecipientRow]) -> dict[UUID, UUID]:
    asked = {(row.tenant_id, row.campaign_id, row.contact_id) for row in rows}
    found = await joins.recipients(connection, asked)
    pairs = {row.id: (row.campaign_id, row.contact_id) for row in rows}
    return {own_id: found[pair] for own_id, pair in pairs.items() if pair in found}


# -- messages ----------------------------------------------------------------------------------------------------------


async def write_history(connection: Connection, readers: Sequence[Reader], into: Target) -> list[Fate]:
    """The history has no conversations: one is made for each instance and number."""
    fates: dict[int, Fate] = {}
    read = attempt(lambda reader: _conversation(reader, into), readers, fates)
    chats: dict[Key, conversations.SourceConversation] = {}
    names: dict[int, str] = {}
    for index, (key, one) in read.items():
        before = chats.setdefault(key, one)
        if one.created_at < before.created_at:
            chats[key] = replace(before, created_at=one.created_at)
        names[index] = key[1]
    known = await into.ours(connection, TALKS, "conversations", chats)
    fresh = {index: (key, chats[key]) for index, key in enumerate(sorted(set(chats) - set(known)))}
    await conversations.add_conversations(connection, fresh, into, {}, table=TALKS)
    chosen = [index for index in range(len(readers)) if index not in fates]
    of = {id(readers[index]): names[index] for index in chosen}
    written = await messages.write_messages(
        connection,
        [readers[index] for index in chosen],
        into,
        table="messages_history",
        whose="tenant_id",
        conversations=TALKS,
        conversation_of=lambda reader: of[id(reader)],
        convert=_message,
    )
    fates |= dict(zip(chosen, written, strict=True))
    return in_order(fates, readers)


def _conversation(reader: Reader, into: Target) -> tuple[Key, conversations.SourceConversation]:
    tenant_id = into.tenant_of(reader)
    instance = reader.id("whatsapp_instance_id") or ""
    through = into.channel(tenant_id, instance)
    number = _number(reader)
    chat = reader.id("chat_id")
    if number is None and chat is None:
        raise Skip("neither a chat nor a phone number")
    if number is None:
        reader.mended.add("no usable address: in a closed record")
    at = first_time(reader.time("created_at"), reader.time("sent_at")) or reader.now
    started = conversations.SourceConversation(
        through=through,
        addresses=() if number is None else (number,),
        name=reader.name("contact_name"),
        metadata=Json("{}") if number is not None else Json(orjson.dumps({"chat_id": chat}).decode()),
        status="active" if number is not None else "closed",
        created_at=at,
        last_message_at=at,
        updated_at=at,
    )
    # A digest, so that no number stands where nobody would look for it when its person is to be forgotten.
    name = sha256(f"{through.id} {number.canonical if number is not None else chat}".encode()).hexdigest()
    return (tenant_id, name), started


def _number(reader: Reader) -> Address | None:
    """Of the chat (`5215512345678@c.us`), else of the contact; None where neither has one (`9988…@lid`)."""
    chat, _, place = (reader.name("chat_id") or "").partition("@")
    if place == "g.us" or place == "broadcast" or place == "newsletter":
        raise Skip("a group's chat or a broadcast")
    dialled = chat.partition(":")[0] if place in ("", "c.us", "s.whatsapp.net") else None  # a device stands behind `:`
    return addresses.phone(dialled) or addresses.phone(reader.name("contact_phone"))


def _message(reader: Reader) -> messages.SourceMessage:
    return messages.SourceMessage(
        inbound=messages.direction(reader, "direction"),
        message_type=reader.message_type("type"),
        content=reader.text("content") or "",
        metadata=reader.object("metadata"),
        created_at=reader.time("created_at"),
        external_id=reader.external_id("message_id"),
        status=reader.choice("status", tables.WAS_SENT, _by_times(reader)),
        sent_at=reader.time("sent_at"),
        delivered_at=reader.time("delivered_at"),
        read_at=reader.time("read_at"),
    )


def _by_times(reader: Reader) -> str:
    """What became of a message whose status says nothing."""
    for name in ("read", "delivered", "sent"):
        if reader.time(f"{name}_at") is not None:
            return name
    return "pending"


# -- webhooks ----------------------------------------------------------------------------------------------------------


async def write_webhooks(connection: Connection, readers: Sequence[Reader], into: Target) -> list[Fate]:
    fates: dict[int, Fate] = {}
    keys = await identified(connection, readers, into, table="webhooks", our_table="webhooks", fates=fates)

    def convert(reader: Reader) -> WebhookRow:
        key = into.key(reader, into.tenant_of(reader))
        webhook_id = our_id(into.system, "webhooks", *key)
        url = (reader.text("url") or "").strip()
        scheme, separator, rest = url.partition("://")
        if scheme.lower() not in ("http", "https") or not rest:
            raise Skip("a URL that is none")
        secret = reader.text("secret")
        created_at = reader.time("created_at") or reader.now
        return WebhookRow(
            id=webhook_id,
            tenant_id=key[0],
            name=reader.name("name") or "",
            url=f"{scheme.lower()}{separator}{rest}",
            events=reader.words("events"),
            secret=SECRET_MASK if secret else "",
            sealed_secret=into.keys.seal(secret, tenant_id=key[0], owner=webhook_id) if secret else "",
            is_active=reader.flag("is_active", default=True),
            created_at=created_at,
            updated_at=reader.time("updated_at") or created_at,
            deleted_at=reader.time("deleted_at"),
            metadata=reader.imported(),
        )

    rows = attempt(convert, readers, fates)
    await store(connection, {i: (keys[i], row) for i, row in rows.items()}, into, fates, table="webhooks")
    return in_order(fates, readers)


async def write_webhook_logs(connection: Connection, readers: Sequence[Reader], into: Target) -> list[Fate]:
    fates: dict[int, Fate] = {}
    keys = await identified(connection, readers, into, table="webhook_logs", our_table="webhook_logs", fates=fates)
    asked = [(key[0], webhook_id) for index, key in keys.items() if (webhook_id := readers[index].id("webhook_id"))]
    webhooks = await into.ours(connection, "webhooks", "webhooks", asked)

    def convert(reader: Reader) -> WebhookLogRow:
        key = into.key(reader, into.tenant_of(reader))
        webhook_id = webhooks.get((key[0], reader.id("webhook_id") or ""))
        if webhook_id is None:
            raise Skip("its webhook is missing, or was skipped")
        success = reader.flag("success", default=False)
        unfinished = reader.row.get("success") is None or reader.row.get("completed_at") is None
        if unfinished and not success:
            reader.mended.add("was still to be delivered: failed")
        error = reader.text("error_message")
        return WebhookLogRow(
            id=our_id(into.system, "webhook_logs", *key),
            tenant_id=key[0],
            webhook_id=webhook_id,
            event=reader.name("event") or "unknown",
            payload=reader.object("payload"),
            response=reader.text("response"),
            status_code=reader.number("status_code") or None,
            success=success,
            error_message=error or ("not delivered when it was imported" if unfinished and not success else None),
            attempt_count=reader.number("attempt_count"),
            created_at=reader.time("created_at") or reader.now,
            completed_at=reader.time("completed_at"),
            metadata=reader.imported(),
        )

    rows = attempt(convert, readers, fates)
    await store(connection, {i: (keys[i], row) for i, row in rows.items()}, into, fates, table="webhook_logs")
    return in_order(fates, readers)


_WHOSE: Final = ("tenant_id",)

CAMPAIGNS = System(
    identity="campaigns",
    summary="tenants with contacts, groups, campaigns, messages_history and webhooks",
    brings_tenants=True,
    steps=(
        Step(tables.CONTACTS, people.write_contacts, counted("contacts", "contacts"), _WHOSE, prepare=know_tenants),
        Step(tables.GROUPS, people.write_groups, counted("groups", "groups"), _WHOSE),
        Step(tables.GROUP_CONTACTS, people.write_members, people.count_members, _WHOSE),
        Step(tables.TEMPLATES, write_templates, counted("message_templates", "message_templates"), _WHOSE),
        Step(tables.CAMPAIGNS, write_campaigns, counted("campaigns", "campaigns"), _WHOSE, prepare=open_instances),
        Step(
            tables.RECIPIENTS,
            write_recipients,
            counted("campaign_recipients", "campaign_recipients"),
            ("tenant_id", "campaign_id"),
        ),
        Step(tables.HISTORY, write_history, counted("messages_history", "messages"), _WHOSE, prepare=open_instances),
        Step(tables.WEBHOOKS, write_webhooks, counted("webhooks", "webhooks"), _WHOSE),
        Step(
            tables.WEBHOOK_LOGS,
            write_webhook_logs,
            counted("webhook_logs", "webhook_logs"),
            ("tenant_id", "webhook_id"),
        ),
    ),
)
