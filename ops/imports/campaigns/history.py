"""Imports messages_history. It has no conversations, so one is made for each instance and number."""

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Final

import orjson

from ops.imports import addresses, conversations, messages
from ops.imports.campaigns import tables
from ops.imports.steps import attempt, in_order
from ops.imports.tally import Fate
from ops.imports.target import Target
from ops.imports.values import Reader, Skip, first_time
from shared.database import Connection
from shared.domain.model import Address
from shared.store.imports.progress import Key
from shared.store.imports.rows import (
    Json,
)

TALKS: Final = "conversations of messages_history"


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
    # A digest: the erasure of a person would not look for a number here.
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
