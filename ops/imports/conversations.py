"""Imports conversations of any system: finds or creates ours, and joins those that are one."""

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from ops.imports.steps import store
from ops.imports.tally import Fate
from ops.imports.target import Target, Through
from ops.imports.values import Reader, our_id
from shared.database import Connection
from shared.domain.model import Address
from shared.store import contacts
from shared.store.contacts import Person
from shared.store.imports import joins
from shared.store.imports.progress import Key
from shared.store.imports.rows import ConversationRow, Json


@dataclass(frozen=True, slots=True)
class SourceConversation:
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


def complete(reader: Reader, one: SourceConversation) -> SourceConversation:
    """The conversation with all that its row says, which was read to its end. Without an address it is closed: nothing
    can be sent there, and its messages stay."""
    if not one.addresses:
        reader.mended.add("no usable address: a closed record")
        one = replace(one, status="closed")
    return replace(one, metadata=reader.imported(one.metadata))


async def add_conversations(
    connection: Connection,
    started: dict[int, tuple[Key, SourceConversation]],
    into: Target,
    fates: dict[int, Fate],
    *,
    table: str,
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


def _conversation(own_id: UUID, tenant_id: UUID, contact_id: UUID | None, one: SourceConversation) -> ConversationRow:
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
