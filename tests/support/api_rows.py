"""What no procedure makes from its example, for the API's tests: an unknown send, a file, a session, an import, a dead
letter.
"""

import asyncio
import hashlib
from uuid import UUID

from aio_pika import Message

from ops.sandbox.twilio import ACCOUNT_SID, AUTH_TOKEN
from shared import database
from shared.actions import dead_letters
from shared.queue.connection import connected
from tests.support.api import ApiStage, Tenant

_CHANNEL = """
INSERT INTO channels (id, tenant_id, provider, kind, address, credentials)
VALUES ($1, $2, 'twilio', 'whatsapp', $3, '')
"""
_CONVERSATION = """
INSERT INTO conversations (id, tenant_id, channel_id, provider, address, recipient, next_out_seq, last_user_message_at)
VALUES ($1, $2, $3, 'twilio', $4, $4, 2, now() - interval '23 hours 30 minutes')
"""
_UNKNOWN = """
INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, status, content, out_seq,
    claimed_at, unknown_at)
VALUES ($1, $2, $3, $4, 'twilio', 'outbound', 'assistant', 'unknown', 'hello', 1, now(), now())
"""
_INBOUND = """
INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, status, content,
    created_at)
VALUES ($1, $2, $3, $4, 'twilio', 'inbound', 'user', 'received', '', now() - interval '5 seconds')
"""
_BLOB = "INSERT INTO media_blobs (tenant_id, sha256, key, size, stored_at) VALUES ($1, $2, $3, $4, now())"
_FILE = """
INSERT INTO media (id, tenant_id, message_id, position, mime_type, filename, status, key, sha256, size, stored_at)
VALUES ($1, $2, $3, 0, $4, $5, 'stored', $6, $7, $8, now())
"""
_SESSION = """
INSERT INTO sessions (id, tenant_id, channel_id, conversation_id, phone_number, state, context_data)
VALUES ($1, $2, $3, $4, $5, 'BROWSING_CATEGORIES', '{"page": 2}')
"""

_IMPORT = """
INSERT INTO contact_imports (id, tenant_id, request_hash, format, existing, digest)
VALUES ($1, $2, sha256(''), 'csv', 'update', sha256(''))
"""
_WEBHOOK_LOG = """
INSERT INTO webhook_logs (id, tenant_id, webhook_id, event, success, status_code, attempt_count, completed_at, attempts)
SELECT $2, tenant_id, id, 'message_received', false, 500, 1, now(), $3
FROM webhooks WHERE tenant_id = $1 ORDER BY created_at DESC, id DESC LIMIT 1 RETURNING webhook_id
"""


async def channel_at_the_sandbox(api: ApiStage, whose: Tenant) -> str:
    """A channel of the account that the sandbox's Twilio knows."""
    credentials = {"accountSid": ACCOUNT_SID, "authToken": AUTH_TOKEN}
    address = f"+346{database.new_id().int % 10**8:08d}"
    given = {"provider": "twilio", "kind": "whatsapp", "address": address, "credentials": credentials}
    answer = await api.post("/v1/channels", whose, given)
    assert answer.status == 201, answer.body
    return str(answer.body["channel"]["id"])


async def conversation(api: ApiStage, whose: Tenant) -> tuple[UUID, UUID, UUID]:
    """(tenant, channel, conversation) of a new conversation; of a new tenant's for an operator."""
    tenant_id = whose.id or (await api.tenant()).id
    assert tenant_id is not None
    channel_id, conversation_id = database.new_id(), database.new_id()
    address = f"+34{conversation_id.int % 10**9:09d}"
    await api.pool.execute(_CHANNEL, channel_id, tenant_id, address)
    await api.pool.execute(_CONVERSATION, conversation_id, tenant_id, channel_id, address)
    return tenant_id, channel_id, conversation_id


async def unknown_send(api: ApiStage, whose: Tenant) -> str:
    tenant_id, channel_id, conversation_id = await conversation(api, whose)
    message_id = database.new_id()
    await api.pool.execute(_UNKNOWN, message_id, tenant_id, conversation_id, channel_id)
    return str(message_id)


async def inbound(api: ApiStage, tenant_id: UUID, channel_id: UUID, conversation_id: UUID) -> UUID:
    """A customer's message, of five seconds ago."""
    message_id = database.new_id()
    await api.pool.execute(_INBOUND, message_id, tenant_id, conversation_id, channel_id)
    return message_id


async def file(
    api: ApiStage, whose: Tenant, content: bytes = b"", mime_type: str = "image/jpeg", name: str = "photo.jpg"
) -> str:
    """A file that a customer sent, without its bytes in the store."""
    tenant_id, channel_id, conversation_id = await conversation(api, whose)
    message_id, file_id = await inbound(api, tenant_id, channel_id, conversation_id), database.new_id()
    digest = hashlib.sha256(content or file_id.bytes).digest()
    key = f"{tenant_id}/{digest.hex()}"
    await api.pool.execute(_BLOB, tenant_id, digest, key, len(content))
    await api.pool.execute(_FILE, file_id, tenant_id, message_id, mime_type, name, key, digest, len(content))
    return str(file_id)


async def contact_import(api: ApiStage, whose: Tenant) -> str:
    import_id, tenant_id = database.new_id(), whose.id
    await api.pool.execute(_IMPORT, import_id, tenant_id)
    return str(import_id)


async def webhook_log(api: ApiStage, whose: Tenant) -> str:
    """A failed delivery to the tenant's newest webhook; to a new one where there is none."""
    log_id = database.new_id()
    attempt = {"number": 1, "kind": "delivery", "at": "2026-11-28T16:00:00Z", "ended_at": None, "status": 500, "ms": 3,
               "response": "no", "error": "status"}  # fmt: skip
    if await api.pool.fetchval(_WEBHOOK_LOG, whose.id, log_id, [attempt]) is None:
        given = {"name": "Web shop", "url": "https://shop.example/palomar", "events": ["*"]}
        assert (await api.post("/v1/webhooks", whose, given)).status == 201
        await api.pool.execute(_WEBHOOK_LOG, whose.id, log_id, [attempt])
    return str(log_id)


async def session(api: ApiStage, whose: Tenant) -> str:
    tenant_id, channel_id, conversation_id = await conversation(api, whose)
    session_id = database.new_id()
    await api.pool.execute(_SESSION, session_id, tenant_id, channel_id, conversation_id, "+34600000001")
    return str(session_id)


async def dead_letter(api: ApiStage) -> str:
    """The id of a new dead letter of the media worker. The broker counts it a moment after it has confirmed it."""
    letter_id = f"letter-{database.new_id()}"
    async with connected(api.settings.amqp_url.get_secret_value(), "test") as connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(Message(b"{}", message_id=letter_id), "media.dead")
    async with asyncio.timeout(10):
        while True:
            _, items = await dead_letters.look(api.settings, dead_letters.work_queue("media"), 200)
            if letter_id in (item.id for item in items):
                return letter_id
            await asyncio.sleep(0.05)
