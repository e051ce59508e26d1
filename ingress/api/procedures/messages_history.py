"""messagesHistory.*: every message of the tenant's, found and exported."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import Field, StringConstraints, TypeAdapter

from ingress.api import cursors
from ingress.api.call import Call
from ingress.api.declaration import Example, query, subscription
from ingress.api.models import ListInput, Moment, Output, Page, TenantInput, as_object
from ingress.api.problems import not_found
from shared.domain.statuses import Status
from shared.store.messages import history
from shared.store.messages.history import HistoryRecord, Position, Wanted

READ: Final = "messagesHistory:read"
AT_ONCE: Final = 1000  # messages that an export reads in one transaction
_POSITION: Final = TypeAdapter(history.Position)

Text = Annotated[str, StringConstraints(min_length=2, max_length=200)]

_ID: Final = "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c60"
_HELLO: Final[dict[str, Any]] = {
    "id": _ID,
    "tenantId": "019ac2ef-1111-7a63-9c55-0c3a1a2b3c4d",
    "conversationId": "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c50",
    "whatsappInstanceId": "019ac2ef-2222-7a63-9c55-0c3a1a2b3c4d",
    "contactId": "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c4d",
    "provider": "twilio",
    "messageId": "SM0123456789abcdef0123456789abcdef",
    "chatId": "+14155238886",
    "direction": "inbound",
    "type": "text",
    "content": "hello",
    "metadata": {},
    "status": "received",
    "errorCode": None,
    "sentAt": None,
    "deliveredAt": None,
    "readAt": None,
    "createdAt": "2026-11-28T16:00:00Z",
}


class HistoryMessage(Output):
    """A message, with the names of `messages_history`."""

    id: UUID
    tenant_id: UUID
    conversation_id: UUID
    whatsapp_instance_id: UUID = Field(description="The channel.")
    contact_id: UUID | None
    provider: str
    message_id: str | None = Field(description="The provider's id of it.")
    chat_id: str = Field(description="The customer's address.")
    direction: Literal["inbound", "outbound"]
    type: str
    content: str
    metadata: dict[str, Any]
    status: str
    error_code: str | None
    sent_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    created_at: datetime

    @classmethod
    def of(cls, record: HistoryRecord) -> "HistoryMessage":
        """The message of a row. What a client wrote by SQL may hold anything where an object belongs."""
        return cls(
            id=record.id,
            tenant_id=record.tenant_id,
            conversation_id=record.conversation_id,
            whatsapp_instance_id=record.channel_id,
            contact_id=record.contact_id,
            provider=record.provider,
            message_id=record.external_id,
            chat_id=record.chat_id,
            direction="inbound" if record.direction == "inbound" else "outbound",
            type=record.message_type,
            content=record.content,
            metadata=as_object(record.metadata),
            status=record.status,
            error_code=record.error_code,
            sent_at=record.sent_at,
            delivered_at=record.delivered_at,
            read_at=record.read_at,
            created_at=record.created_at,
        )


class HistoryMessageAnswer(Output):
    message: HistoryMessage


class HistoryPage(Page):
    messages: list[HistoryMessage]


class HistoryMessageId(TenantInput):
    id: UUID


class HistoryFilters(TenantInput):
    contact_id: UUID | None = None
    whatsapp_instance_id: UUID | None = Field(default=None, description="The channel.")
    direction: Literal["inbound", "outbound"] | None = None
    status: Status | None = None
    since: Moment | None = Field(default=None, description="It was made then or later.")
    until: Moment | None = Field(default=None, description="It was made before then.")


class ListHistory(ListInput, HistoryFilters):
    pass


class SearchHistory(ListHistory):
    text: Text = Field(description="What its content holds, whatever the case.")


class ExportHistory(HistoryFilters):
    text: Text | None = Field(default=None, description="What its content holds, whatever the case.")


@query("messagesHistory.list", scope=READ, examples=[Example({"limit": 1}, {"messages": [_HELLO], "nextCursor": None})])
async def list_(call: Call, given: ListHistory) -> HistoryPage:
    """List messages, newest first.

    With filters that few messages fit, a page may hold less than `limit`, or nothing, and yet have a `nextCursor`: go
    on with it.
    """
    return await _page(call, given, None)


@query(
    "messagesHistory.search",
    scope=READ,
    examples=[Example({"text": "hello"}, {"messages": [_HELLO], "nextCursor": None})],
)
async def search(call: Call, given: SearchHistory) -> HistoryPage:
    """Find messages by a text, newest first. As messagesHistory.list, a page may hold few and have a `nextCursor`."""
    return await _page(call, given, given.text)


@query("messagesHistory.get", scope=READ, examples=[Example({"id": _ID}, {"message": _HELLO})])
async def get(call: Call, given: HistoryMessageId) -> HistoryMessageAnswer:
    """Get a message."""
    found = await history.get(call.connection, call.tenant_id, given.id)
    if found is None:
        raise not_found("message")
    return HistoryMessageAnswer(message=HistoryMessage.of(found))


@subscription("messagesHistory.export", scope=READ, examples=[Example({"direction": "inbound"}, _HELLO)], is_file=True)
async def export(call: Call, given: ExportHistory) -> AsyncIterator[HistoryMessage]:
    """Export messages, newest first, until there are no more.

    REST answers it as a file: GET `/v1/messages-history/export.csv` or `export.ndjson`, a line each message.
    """
    wanted, position, more = _wanted(given, given.text), None, True
    while more:
        async with call.transaction() as connection:
            rows, read_up_to = await history.page(connection, call.tenant_id, wanted, position, AT_ONCE)
        for row in rows:
            yield HistoryMessage.of(row)
        position = _behind(rows) if len(rows) == AT_ONCE else read_up_to
        more = position is not None


def _behind(rows: Any) -> Position:
    return rows[-1].created_at, rows[-1].id


async def _page(call: Call, given: ListHistory, text: str | None) -> HistoryPage:
    after = cursors.position(call, given, _POSITION)
    rows, read_up_to = await history.page(call.connection, call.tenant_id, _wanted(given, text), after, given.limit + 1)
    shown, next_cursor = cursors.page(call, given, rows, _POSITION, lambda row: (row.created_at, row.id), read_up_to)
    return HistoryPage(messages=[HistoryMessage.of(row) for row in shown], next_cursor=next_cursor)


def _wanted(given: HistoryFilters, text: str | None) -> Wanted:
    return Wanted(
        given.contact_id,
        given.whatsapp_instance_id,
        given.direction,
        given.status,
        text,
        given.since,
        given.until,
    )
