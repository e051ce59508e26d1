"""sessions.*: where a bot stands in its talk with each person, as the documented table `whatsapp_sessions` has it."""

from dataclasses import asdict
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from pydantic import Field, TypeAdapter

from ingress.api import cursors
from ingress.api.call import Call
from ingress.api.declaration import Example, query
from ingress.api.models import ListInput, Output, Page, Part, TenantInput
from ingress.api.problems import not_found
from shared.store import sessions as store

READ: Final = "sessions:read"
_POSITION: Final = TypeAdapter(store.Position)

_ID: Final = "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c54"
_AT: Final = "2026-11-28T16:00:00Z"
_BROWSING: Final[dict[str, Any]] = {
    "id": _ID,
    "tenantId": "019ac2ef-1111-7a63-9c55-0c3a1a2b3c4d",
    "channelId": "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c4f",
    "conversationId": "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c50",
    "customerProfileId": "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c4d",
    "phoneNumber": "+14155238886",
    "state": "BROWSING_CATEGORIES",
    "contextData": {"page": 2},
    "lastMessageAt": _AT,
    "createdAt": _AT,
    "updatedAt": _AT,
}


class Session(Part):
    """A bot's place in its talk with a person."""

    id: UUID
    tenant_id: UUID
    channel_id: UUID
    conversation_id: UUID | None = Field(description="Its messages: conversations.messages.")
    customer_profile_id: UUID | None = Field(description="The contact.")
    phone_number: str
    state: str
    context_data: Any = Field(description="What the bot remembers.")
    last_message_at: datetime
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, stored: store.Session) -> "Session":
        """The session of a row."""
        row = asdict(stored)
        return cls(customer_profile_id=row.pop("contact_id"), **row)


class SessionAnswer(Output):
    session: Session


class SessionPage(Page):
    sessions: list[Session]


class SessionId(TenantInput):
    id: UUID


@query("sessions.list", scope=READ, examples=[Example({"limit": 1}, {"sessions": [_BROWSING], "nextCursor": None})])
async def list_(call: Call, given: ListInput) -> SessionPage:
    """List sessions, the one with the newest message first."""
    rows = await store.page(
        call.connection,
        call.tenant_id,
        after=cursors.position(call, given, _POSITION),
        limit=given.limit + 1,
    )
    shown, next_cursor = cursors.page(call, given, rows, _POSITION, lambda row: (row.last_message_at, row.id))
    return SessionPage(sessions=[Session.of(row) for row in shown], next_cursor=next_cursor)


@query("sessions.get", scope=READ, examples=[Example({"id": _ID}, {"session": _BROWSING})])
async def get(call: Call, given: SessionId) -> SessionAnswer:
    """Get a session."""
    found = await store.get(call.connection, call.tenant_id, given.id)
    if found is None:
        raise not_found("session")
    return SessionAnswer(session=Session.of(found))
