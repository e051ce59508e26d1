"""conversations.*: what is said with each customer, and to say something."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import Field, TypeAdapter

from ingress.api import cursors, public_urls
from ingress.api.call import Call
from ingress.api.channel_models import ProviderName
from ingress.api.declaration import Example, mutation, query
from ingress.api.models import ListInput, Moment, Output, Page, Part, PhoneNumber, TenantInput, as_object
from ingress.api.not_queued import refuse
from ingress.api.problems import invalid, not_found
from ingress.api.send_models import SendMessage
from shared.actions import messages
from shared.actions.messages import NewText, NotQueued
from shared.database import new_id
from shared.domain.conversation_status import Status
from shared.store import conversation_records as records
from shared.store.conversation_records import ConversationRecord, Wanted
from shared.store.messages import records as message_records
from shared.store.messages.records import MessageRecord

READ: Final = "conversations:read"
WRITE: Final = "conversations:write"
_POSITION: Final = TypeAdapter(records.Position)
_MESSAGE_POSITION: Final = TypeAdapter(message_records.Position)


ID: Final = "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c50"
_TENANT: Final = "019ac2ef-1111-7a63-9c55-0c3a1a2b3c4d"
_CHANNEL: Final = "019ac2ef-2222-7a63-9c55-0c3a1a2b3c4d"
_AT: Final = "2026-11-28T16:00:00Z"
ANA: Final[dict[str, Any]] = {
    "id": ID,
    "tenantId": _TENANT,
    "provider": "twilio",
    "channelId": _CHANNEL,
    "contactId": "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c4d",
    "recipient": "+14155238886",
    "phone": "+14155238886",
    "contactName": "Ana",
    "kommoChatId": None,
    "status": "active",
    "assignedTo": None,
    "unreadCount": 1,
    "lastMessageAt": _AT,
    "lastUserMessageAt": _AT,
    "aiContextSummary": None,
    "metadata": {},
    "createdAt": _AT,
    "updatedAt": _AT,
}
HELLO: Final[dict[str, Any]] = {
    "id": "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c60",
    "tenantId": _TENANT,
    "conversationId": ID,
    "provider": "twilio",
    "channelId": _CHANNEL,
    "direction": "outbound",
    "role": "assistant",
    "messageType": "text",
    "content": "Good morning, Ana.",
    "media": [],
    "template": None,
    "status": "queued",
    "externalId": None,
    "errorCode": None,
    "errorMessage": None,
    "metadata": {},
    "sentAt": None,
    "deliveredAt": None,
    "readAt": None,
    "createdAt": _AT,
    "updatedAt": _AT,
}
INVOICE: Final[dict[str, Any]] = HELLO | {
    "messageType": "file",
    "content": "Your invoice",
    "media": [{"url": "https://shop.example/invoice.pdf", "filename": "Invoice 7.pdf"}],
}


class Conversation(Part):
    """All that is said with one customer on one channel. A customer's first message to a channel begins one."""

    id: UUID
    tenant_id: UUID
    provider: str
    channel_id: UUID
    contact_id: UUID | None
    recipient: str = Field(description="The address that messages are sent to.")
    phone: str | None
    contact_name: str | None
    kommo_chat_id: str | None
    status: Status = Field(description="escalated: a person answers, and no engine does.")
    assigned_to: str | None = Field(description="The person of yours that looks after it.")
    unread_count: int
    last_message_at: datetime
    last_user_message_at: datetime | None = Field(description="WhatsApp's 24-hour window begins here.")
    ai_context_summary: str | None
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, record: ConversationRecord) -> "Conversation":
        """The conversation of a row."""
        shown = {name: getattr(record, name) for name in cls.model_fields}
        shown["metadata"] = as_object(record.metadata)
        return cls.model_validate(shown)


class Message(Part):
    """A message of a conversation: the customer's, or one to the customer."""

    id: UUID
    tenant_id: UUID
    conversation_id: UUID
    provider: str
    channel_id: UUID
    direction: Literal["inbound", "outbound"]
    role: Literal["user", "assistant", "system"]
    message_type: str
    content: str
    media: list[dict[str, Any]]
    template: dict[str, Any] | None = Field(description="The template that it leaves as, with its variables.")
    status: str = Field(
        description="received; queued, held, ready, sending, unknown; sent, delivered, read, failed, expired, canceled."
    )
    external_id: str | None = Field(description="The provider's id of it.")
    error_code: str | None
    error_message: str | None
    metadata: dict[str, Any]
    sent_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, record: MessageRecord) -> "Message":
        """The message of a row. What a client wrote by SQL may hold anything where an object belongs."""
        shown = {name: getattr(record, name) for name in cls.model_fields}
        shown["media"] = [part for part in record.media if isinstance(part, Mapping)]
        shown["metadata"] = as_object(record.metadata)
        return cls.model_validate(shown)


class ConversationAnswer(Output):
    conversation: Conversation


class ConversationPage(Page):
    conversations: list[Conversation]


class MessageAnswer(Output):
    message: Message


class MessagePage(Page):
    messages: list[Message]


class ListConversations(ListInput):
    provider: ProviderName | None = Field(default=None, description="Such as twilio, meta, kommo or email.")
    phone: PhoneNumber | None = Field(default=None, description="The customer's. Name `provider` with it.")
    channel_id: UUID | None = None
    status: Status | None = None
    last_message_since: Moment | None = Field(default=None, description="The last message is of then or later.")
    last_message_until: Moment | None = Field(default=None, description="The last message is from before then.")


class ConversationId(TenantInput):
    id: UUID


class ListMessages(ConversationId, ListInput):
    pass


@query("conversations.list", scope=READ, examples=[Example({"limit": 1}, {"conversations": [ANA], "nextCursor": None})])
async def list_(call: Call, given: ListConversations) -> ConversationPage:
    """List conversations, that with the newest message first.

    With filters that few conversations fit, a page may hold less than `limit`, or nothing, and yet have a `nextCursor`:
    go on with it.
    """
    if given.phone is not None and given.provider is None:
        raise invalid("provider", "A phone number alone names no conversation.", "Name the provider with it.")
    wanted = Wanted(given.provider, given.channel_id, given.status, given.last_message_since, given.last_message_until,
                    given.phone)  # fmt: skip
    after = cursors.position(call, given, _POSITION)
    rows, read_up_to = await records.page(call.connection, call.tenant_id, wanted, after, given.limit + 1)
    shown, next_cursor = cursors.page(
        call, given, rows, _POSITION, lambda row: (row.last_message_at, row.id), read_up_to
    )
    return ConversationPage(conversations=[Conversation.of(row) for row in shown], next_cursor=next_cursor)


@query("conversations.get", scope=READ, examples=[Example({"id": ID}, {"conversation": ANA})])
async def get(call: Call, given: ConversationId) -> ConversationAnswer:
    """Get a conversation."""
    return ConversationAnswer(conversation=Conversation.of(await existing(call, given.id)))


@query(
    "conversations.messages",
    scope=READ,
    examples=[Example({"id": ID, "limit": 1}, {"messages": [HELLO], "nextCursor": None})],
)
async def messages_(call: Call, given: ListMessages) -> MessagePage:
    """List a conversation's messages, newest first."""
    await existing(call, given.id)
    after = cursors.position(call, given, _MESSAGE_POSITION)
    rows = await message_records.of_conversation(call.connection, call.tenant_id, given.id, after, given.limit + 1)
    shown, next_cursor = cursors.page(call, given, rows, _MESSAGE_POSITION, lambda row: (row.created_at, row.id))
    return MessagePage(messages=[Message.of(row) for row in shown], next_cursor=next_cursor)


@mutation(
    "conversations.send",
    scope=WRITE,
    examples=[
        Example({"id": ID, "content": "Good morning, Ana."}, {"message": HELLO}),
        Example(
            {
                "id": ID,
                "content": "Your invoice",
                "media": [{"url": "https://shop.example/invoice.pdf", "filename": "Invoice 7.pdf"}],
            },
            {"message": INVOICE},
            summary="a file",
        ),
        Example(
            {
                "id": ID,
                "content": "Shall we deliver today?",
                "interactive": {"buttons": [{"id": "yes", "title": "Yes"}, {"id": "no", "title": "No, thanks"}]},
            },
            {"message": HELLO | {"content": "Shall we deliver today?"}},
            summary="buttons",
        ),
    ],
)
async def send(call: Call, given: SendMessage) -> MessageAnswer:
    """Send a text to a conversation's customer, a file by its link, or buttons or a list to tap.

    What the channel's provider can't send is refused, with the reason. The rest is queued at the end of what waits
    there, and leaves in order. Follow its status by conversations.messages or by events. With an Idempotency-Key it is
    sent once, however often and however late the request comes again.
    """
    if not given.content and not given.media:
        raise invalid("content", "There is nothing to send.", "Give a text, or a file in media.")
    media = [
        one.as_media(public_urls.checked(call.settings, one.url, "media", place, "url"))
        for place, one in enumerate(given.media)
    ]
    text = NewText(
        tenant_id=call.tenant_id,
        conversation_id=given.id,
        content=given.content,
        media=tuple(media),
        interactive=None if given.interactive is None else given.interactive.as_interactive(),
        cause=f"api:{call.idempotency_key or new_id()}",
        window_policy=given.window_policy,
        metadata={"api_key_id": str(call.caller.key_id)},
    )
    try:
        queued, job = await messages.queue_text(call.connection, text, timedelta(seconds=call.settings.handoff_lease))
    except NotQueued as refused:
        refuse(refused)
    if job is not None:
        call.publish(job)
    return MessageAnswer(message=Message.of(queued))


async def existing(call: Call, conversation_id: UUID, *, lock: bool = False) -> ConversationRecord:
    """The conversation with this id. Raises the problem of one that is not there."""
    found = await records.get(call.connection, call.tenant_id, conversation_id, lock=lock)
    if found is None:
        raise not_found("conversation")
    return found
