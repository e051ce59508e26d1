"""Conversations for the API's tests, with their channel and contact, as persist leaves them."""

import itertools
from collections.abc import Mapping
from datetime import timedelta
from typing import Final
from uuid import UUID

from shared.database import new_id
from tests.support.api import ApiStage, Tenant

_ADDRESSES: Final = itertools.count(34_700_000_000)

_CHANNEL = """
INSERT INTO channels (id, tenant_id, provider, kind, address, credentials, settings)
VALUES ($1, $2, $3, $4, $5, 'sealed', $6)
"""
_CONTACT = "INSERT INTO contacts (id, tenant_id, name) VALUES ($1, $2, 'Ana')"
_ADDRESS = """
INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id) VALUES ($1, 'phone', $2, $2, $3)
"""
_CONVERSATION = """
INSERT INTO conversations (id, tenant_id, channel_id, contact_id, provider, address, recipient, phone, contact_name,
    kommo_chat_id, last_user_message_at, unread_count, user_message_count)
VALUES ($1, $2, $3, $4, $5, $6, $6, $6, 'Ana', CASE $5 WHEN 'kommo' THEN $6 END, now() - $7::interval, 1, 1)
"""
_MESSAGE = """
INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, status, content,
    external_id, received_at, created_at)
SELECT $1, tenant_id, id, channel_id, provider, 'inbound', 'user', 'received', $4, gen_random_uuid()::text, now(),
    clock_timestamp()
FROM conversations WHERE tenant_id = $2 AND id = $3
"""
_TEMPLATE = """
INSERT INTO message_templates (id, tenant_id, name, content, external_id, status)
VALUES ($1, $2, $3, 'Hola {{1}}', 'HX' || $3, 'approved')
"""


async def add_channel(
    api: ApiStage,
    whose: Tenant,
    provider: str = "twilio",
    kind: str = "whatsapp",
    settings: Mapping[str, object] | None = None,
) -> UUID:
    """A channel that nothing is sent from."""
    channel_id = new_id()
    address = f"+{next(_ADDRESSES)}"
    await api.pool.execute(_CHANNEL, channel_id, whose.id, provider, kind, address, dict(settings or {}))
    return channel_id


async def add_conversation(
    api: ApiStage,
    whose: Tenant,
    channel_id: UUID | None = None,
    *,
    provider: str = "twilio",
    kind: str = "whatsapp",
    last_message_ago: timedelta = timedelta(0),
) -> UUID:
    """A conversation whose customer, who is a contact, last wrote so long ago; on a channel of its own where none is
    named."""
    channel_id = channel_id or await add_channel(api, whose, provider, kind)
    conversation_id, contact_id, address = new_id(), new_id(), f"+{next(_ADDRESSES)}"
    async with api.pool.acquire() as connection, connection.transaction():
        await connection.execute(_CONTACT, contact_id, whose.id)
        await connection.execute(_ADDRESS, whose.id, address, contact_id)
        await connection.execute(
            _CONVERSATION, conversation_id, whose.id, channel_id, contact_id, provider, address, last_message_ago
        )
    return conversation_id


async def say(api: ApiStage, whose: Tenant, conversation_id: UUID, *texts: str) -> list[UUID]:
    """The customer says these; the ids of their messages."""
    ids = [new_id() for _ in texts]
    for message_id, text in zip(ids, texts, strict=True):
        await api.pool.execute(_MESSAGE, message_id, whose.id, conversation_id, text)
    return ids


async def make(api: ApiStage, whose: Tenant) -> str:
    """The id of a new conversation with a message."""
    conversation_id = await add_conversation(api, whose)
    await say(api, whose, conversation_id, "hello")
    return str(conversation_id)


async def make_template(api: ApiStage, whose: Tenant) -> str:
    """The id of a new approved template, for any channel."""
    template_id = new_id()
    await api.pool.execute(_TEMPLATE, template_id, whose.id, f"welcome {template_id}")
    return str(template_id)
