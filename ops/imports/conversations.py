"""Imports people, conversations and messages of any system: finds or creates ours, and joins those that are one.

What was sent elsewhere is a record: nothing imported here is ever due.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

import orjson

from ops.imports import consents, provider_ids, shared_mail
from ops.imports.attachments import attachments
from ops.imports.steps import attempt, identified, in_order, store
from ops.imports.tally import NEW, THERE, Fate
from ops.imports.target import Target, Through
from ops.imports.values import NO_TIME, Reader, Skip, first_time, our_id
from shared.database import Connection
from shared.domain import addresses
from shared.domain.model import Address
from shared.store import contacts
from shared.store.contacts import Person
from shared.store.imports import joins, progress
from shared.store.imports.joins import External, ImportTarget, Message
from shared.store.imports.progress import Key
from shared.store.imports.rows import ContactRow, ConversationRow, Json, MessageRow

NEVER_SENT: Final = "imported"  # error code of what was still to be sent when it was imported
_EMAIL_PARTS: Final = 2

INBOUND: Final = frozenset(
    ("inbound", "incoming", "in", "received", "customer", "client", "user", "contact", "true", "t", "1", "yes")
)
OUTBOUND: Final = frozenset(
    (
        "outbound", "outgoing", "out", "sent", "distributor", "business", "staff", "agent", "operator", "assistant",
        "ai", "bot", "system", "false", "f", "0", "no",
    )
)  # fmt: skip


def phone(given: str | None) -> Address | None:
    """A number, None for what is none."""
    return None if given is None else addresses.phone(given)


def email(given: str | None) -> Address | None:
    """An e-mail address, None for what is none. Its canonical form is in lower case."""
    text = (given or "").strip()
    parts = text.split("@")
    if len(parts) != _EMAIL_PARTS or not all(parts) or len(text) > 254 or any(map(str.isspace, text)):
        return None
    return Address("email", text, text.lower())


# -- people ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Somebody:
    """A row of a source's table of people."""

    row: ContactRow
    addresses: tuple[Address, ...]


async def write_people(
    connection: Connection,
    readers: Sequence[Reader],
    into: Target,
    *,
    table: str,
    whose: str,
    convert: Callable[[Reader, Key], Somebody],
) -> list[Fate]:
    """Contacts by the source's ids; whoever is one of ours by an address joins that one.

    Each has an alias, also who is new: a later row, or a webhook, may show them to be one person with another contact,
    and the row that had the source's id is no more.
    """
    fates: dict[int, Fate] = {}
    keys = await identified(connection, readers, into, table=table, our_table="contacts", whose=whose, fates=fates)
    people = attempt(lambda reader: convert(reader, into.key(reader, into.tenant_of(reader, whose))), readers, fates)
    reachable_by = {index: (one.row.tenant_id, one.addresses) for index, one in people.items()}
    for index, own in (await shared_mail.own_addresses(connection, reachable_by)).items():
        if own != people[index].addresses:
            people[index] = _without_mail(people[index], own, readers[index])
    reachable = {index: somebody for index, somebody in people.items() if somebody.addresses}
    found, made = await contacts.find_or_join(
        connection,
        [Person(one.row.tenant_id, one.addresses, one.row.name, one.row.id) for one in reachable.values()],
    )
    theirs = dict(zip(reachable, found, strict=True))
    announced = {
        index: one.row for index, one in reachable.items() if theirs[index] == one.row.id and one.row.id in made
    }
    await joins.set_details(connection, list(announced.values()))
    fates |= dict.fromkeys(announced, NEW)
    joined = {index: one for index, one in reachable.items() if index not in announced}
    await joins.fill_metadata(connection, [(theirs[index], one.row) for index, one in joined.items()])
    in_use = {(one.row.tenant_id, theirs[i]) for i, one in joined.items() if one.row.deleted_at is None}
    await contacts.revive(connection, in_use)
    fates |= dict.fromkeys(joined, THERE)
    others = {index: (keys[index], one.row) for index, one in people.items() if index not in reachable}
    stored = await store(connection, others, into, fates, table=table)
    theirs |= {index: row.id for index, (_, row) in others.items() if row.id in stored}
    await progress.add_aliases(connection, into.system, table, {keys[index]: one for index, one in theirs.items()})
    return in_order(fates, readers)


def _without_mail(one: Somebody, own: tuple[Address, ...], reader: Reader) -> Somebody:
    """With a mail address that others have too in `metadata.imported` alone."""
    reader.mended.add("a mail address of people of several numbers: left out")
    metadata = orjson.loads(one.row.metadata)
    mail = next(address.given for address in one.addresses if address not in own)
    metadata["imported"] = {**metadata.get("imported", {}), "email": mail}
    return Somebody(replace(one.row, metadata=Json(orjson.dumps(metadata).decode())), own)


# -- conversations -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Started:
    """A conversation that a source knows. The first of `addresses` names it; one without any is a closed record, of
    `contact_id` where that is known."""

    through: Through
    addresses: tuple[Address, ...]
    name: str | None
    metadata: Json
    created_at: datetime
    last_message_at: datetime
    updated_at: datetime
    status: str = "active"
    kommo_chat_id: str | None = None
    unread_count: int = 0
    ai_context_summary: str | None = None
    deleted_at: datetime | None = None
    last_user_message_at: datetime | None = None
    contact_id: UUID | None = None


def complete(reader: Reader, one: Started) -> Started:
    """The conversation with all that its row says, which was read to its end. Without an address it is closed: nothing
    can be sent there, and what was said is kept."""
    if not one.addresses:
        reader.mended.add("no usable address: a closed record")
        one = replace(one, status="closed")
    return replace(one, metadata=reader.imported(one.metadata))


async def add_conversations(
    connection: Connection, started: dict[int, tuple[Key, Started]], into: Target, fates: dict[int, Fate], *, table: str
) -> dict[int, UUID | None]:
    """Conversations by the source's ids; one with a channel and address of ours joins ours. Returns index → contact."""
    if not started:
        return {}
    reachable = {index: (key, one) for index, (key, one) in started.items() if one.addresses}
    found, _ = await contacts.find_or_join(
        connection, [Person(key[0], one.addresses, one.name) for key, one in reachable.values()]
    )
    theirs: dict[int, UUID | None] = {index: one.contact_id for index, (_, one) in started.items()}
    theirs |= dict(zip(reachable, found, strict=True))
    rows = {
        index: (key, _conversation(our_id(into.system, table, *key), key[0], theirs[index], one))
        for index, (key, one) in started.items()
    }
    new = await store(connection, rows, into, fates, table=table, join=joins.same_conversations)
    windows = {
        key: one.last_user_message_at
        for index, (key, one) in started.items()
        if one.last_user_message_at is not None and rows[index][1].id not in new
    }
    ours = await into.ours(connection, table, "conversations", windows)
    await joins.advance_windows(connection, {(key[0], ours[key]): windows[key] for key in sorted(ours)})
    return theirs


def _conversation(own_id: UUID, tenant_id: UUID, contact_id: UUID | None, one: Started) -> ConversationRow:
    nowhere = f"imported {own_id}"  # no provider takes it for an address
    kommo = one.through.provider == "kommo" and not one.addresses
    return ConversationRow(
        id=own_id,
        tenant_id=tenant_id,
        channel_id=one.through.id,
        contact_id=contact_id,
        provider=one.through.provider,
        address=one.addresses[0].canonical if one.addresses else nowhere,
        recipient=one.addresses[0].given if one.addresses else nowhere,
        phone=next((address.given for address in one.addresses if address.kind == "phone"), None),
        kommo_chat_id=nowhere if kommo else one.kommo_chat_id,
        contact_name=one.name,
        status=one.status,
        last_message_at=one.last_message_at,
        last_user_message_at=one.last_user_message_at,
        unread_count=one.unread_count,
        ai_context_summary=one.ai_context_summary,
        metadata=one.metadata,
        created_at=one.created_at,
        updated_at=one.updated_at,
        deleted_at=one.deleted_at,
    )


# -- messages ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Said:
    """A message that a source knows. `status` is the source's word for what became of one that was sent."""

    inbound: bool
    message_type: str
    content: str
    metadata: Json
    created_at: datetime | None  # None: nobody knows
    external_id: str | None = None
    role: str | None = None
    status: str = "sent"
    error_message: str | None = None
    sent_at: datetime | None = None
    delivered_at: datetime | None = None
    read_at: datetime | None = None
    ai_processing_status: str | None = None
    ai_processed_at: datetime | None = None
    ai_metadata: Json | None = None


def direction(reader: Reader, column: str) -> bool:
    """Whether a customer wrote it. Raises Skip for a word that says neither."""
    word = reader.word(column)
    if word not in INBOUND and word not in OUTBOUND:
        raise Skip("neither from nor to a customer")
    return word in INBOUND


async def write_messages(
    connection: Connection,
    readers: Sequence[Reader],
    into: Target,
    *,
    table: str,
    whose: str,
    conversations: str,
    conversation_of: Callable[[Reader], str | None],
    convert: Callable[[Reader], Said],
) -> list[Fate]:
    """Messages by the source's ids, in the conversations that the source's table `conversations` became."""
    fates: dict[int, Fate] = {}
    keys = await identified(connection, readers, into, table=table, our_table="messages", whose=whose, fates=fates)
    talks = await _talks(connection, readers, keys, into, fates, conversations, conversation_of)
    said = attempt(convert, readers, fates)
    ids = {index: our_id(into.system, table, *keys[index]) for index in said}
    claims = {index: _claim(ids[index], talks[index], one) for index, one in said.items() if one.external_id}
    for index in await provider_ids.of_others(connection, claims):
        said[index] = _without_id(said[index], readers[index])
    rows = {index: _message(ids[index], talks[index], one, readers[index]) for index, one in said.items()}
    known = await _known(connection, list(rows.values()))
    fresh = {index: row for index, row in rows.items() if row.id not in known}
    numbered = await _numbered(connection, fresh)
    joined = {keys[index]: known[row.id] for index, row in rows.items() if row.id in known}
    await progress.add_aliases(connection, into.system, table, joined)
    fates |= {index: THERE for index, row in rows.items() if row.id in known}
    new = await store(
        connection,
        {index: (keys[index], row) for index, row in numbered.items()},
        into,
        fates,
        table=table,
        join=_known,
    )
    stored = [row for row in numbered.values() if row.id in new]
    await _settle(connection, stored)
    await consents.keep(connection, stored)
    return in_order(fates, readers)


async def _talks(
    connection: Connection,
    readers: Sequence[Reader],
    keys: dict[int, Key],
    into: Target,
    fates: dict[int, Fate],
    conversations: str,
    conversation_of: Callable[[Reader], str | None],
) -> dict[int, ImportTarget]:
    """Index → the conversation of ours that a message is in, locked."""
    asked = {
        index: (keys[index][0], conversation_id)
        for index in keys
        if (conversation_id := conversation_of(readers[index])) is not None
    }
    ours = await into.ours(connection, conversations, "conversations", asked.values())
    locked = await joins.lock_conversations(connection, {(key[0], ours[key]) for key in asked.values() if key in ours})
    talks = {
        index: locked[key[0], ours[key]]
        for index, key in asked.items()
        if key in ours and (key[0], ours[key]) in locked
    }
    missing = Fate(is_new=False, skipped="its conversation is missing, or was skipped")
    fates |= {index: missing for index in keys if index not in talks}
    return talks


def _message(own_id: UUID, talk: ImportTarget, said: Said, reader: Reader) -> MessageRow:
    if said.created_at is None:
        reader.mended.add("no time that can be: at its conversation's beginning")
    created_at = said.created_at or talk.created_at
    # The customer's window opens by when they wrote; not knowing it opens none.
    received_at = (said.created_at or NO_TIME) if said.inbound else None
    status, error_code = ("received", None) if said.inbound else _outcome(said.status)
    reached = status in ("sent", "delivered", "read") and not said.inbound
    return MessageRow(
        id=own_id,
        tenant_id=talk.tenant_id,
        conversation_id=talk.id,
        channel_id=talk.channel_id,
        provider=talk.provider,
        direction="inbound" if said.inbound else "outbound",
        role="user" if said.inbound else said.role or "assistant",
        message_type=said.message_type,
        content=said.content,
        media=_media(said, reader),
        metadata=reader.imported(said.metadata),
        external_id=said.external_id,
        provider_timestamp=received_at,
        received_at=received_at,
        status=status,
        out_seq=None,
        error_code=error_code,
        error_message=None if said.inbound else said.error_message,
        sent_at=first_time(said.sent_at, created_at) if reached else None,
        delivered_at=said.delivered_at if reached else None,
        read_at=said.read_at if reached else None,
        failed_at=created_at if status == "failed" else None,
        ai_processing_status=said.ai_processing_status,
        ai_processed_at=said.ai_processed_at,
        ai_metadata=said.ai_metadata,
        created_at=created_at,
    )


def _media(said: Said, reader: Reader) -> Json:
    """The files that the row names, in columns of any name or in its metadata."""
    metadata = orjson.loads(said.metadata)
    return Json(orjson.dumps(attachments(reader.rest(), metadata)).decode())


def _outcome(status: str) -> tuple[str, str | None]:
    """Our status and error code of one that was sent, or was to be."""
    if status in ("sent", "delivered", "read"):
        return status, None
    return ("failed", "failed_before_import") if status == "failed" else ("failed", NEVER_SENT)


async def _known(connection: Connection, rows: Sequence[MessageRow]) -> dict[UUID, UUID]:
    """Of rows whose provider's id is a message of ours already: their id → ours."""
    asked = {row.id: (row.tenant_id, row.channel_id, row.external_id) for row in rows if row.external_id is not None}
    found = await joins.by_external_id(connection, set(asked.values()))
    return {own_id: found[key].id for own_id, key in asked.items() if key in found}


def _claim(own_id: UUID, talk: ImportTarget, said: Said) -> tuple[External, Message]:
    direction = "inbound" if said.inbound else "outbound"
    return (talk.tenant_id, talk.channel_id, said.external_id or ""), Message(own_id, talk.id, direction, said.content)


def _without_id(said: Said, reader: Reader) -> Said:
    """With the id of another message in `metadata.imported` alone."""
    reader.mended.add("provider's id is another message's: left out")
    reader.originals["external_id"] = said.external_id or ""
    return replace(said, external_id=None)


async def _numbered(connection: Connection, rows: dict[int, MessageRow]) -> dict[int, MessageRow]:
    """With a place in its conversation for each that was sent, in the order of their times."""
    sent = sorted((i for i, row in rows.items() if row.direction == "outbound"), key=lambda i: rows[i].created_at)
    wanted = Counter((rows[index].tenant_id, rows[index].conversation_id) for index in sent)
    places = await joins.take_places(connection, dict(wanted))
    numbered = dict(rows)
    for index in sent:
        conversation_id = rows[index].conversation_id
        numbered[index] = replace(rows[index], out_seq=places[conversation_id])
        places[conversation_id] += 1
    return numbered


async def _settle(connection: Connection, new: Sequence[MessageRow]) -> None:
    totals: dict[tuple[UUID, UUID], tuple[int, datetime]] = {}
    for row in new:
        inbound, newest = totals.get((row.tenant_id, row.conversation_id), (0, NO_TIME))
        totals[row.tenant_id, row.conversation_id] = (
            inbound + (row.direction == "inbound"),
            max(newest, row.created_at),
        )
    await joins.settle(connection, totals)
