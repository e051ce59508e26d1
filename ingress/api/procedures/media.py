"""media.*: the files that customers sent, and links to download them."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import Field, TypeAdapter

from ingress.api import cursors, file_links
from ingress.api.call import Call
from ingress.api.declaration import Example, query
from ingress.api.models import ListInput, Output, Page, Part, TenantInput
from ingress.api.problems import CONFLICT, Problem, not_found
from shared.store import media_records as records
from shared.store.media_records import MediaRecord

READ: Final = "media:read"
_POSITION: Final = TypeAdapter(records.Position)

Status = Literal["wanted", "stored", "refused", "expired", "failed"]

_ID: Final = "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c52"
_PHOTO: Final[dict[str, Any]] = {
    "id": _ID,
    "tenantId": "019ac2ef-1111-7a63-9c55-0c3a1a2b3c4d",
    "messageId": "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c53",
    "conversationId": "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c50",
    "channelId": "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c4f",
    "position": 0,
    "status": "stored",
    "reason": None,
    "mimeType": "image/jpeg",
    "filename": "photo.jpg",
    "size": 48213,
    "createdAt": "2026-11-28T16:00:00Z",
    "storedAt": "2026-11-28T16:00:02Z",
}


class MediaFile(Part):
    """A file that a customer sent."""

    id: UUID
    tenant_id: UUID
    message_id: UUID
    conversation_id: UUID
    channel_id: UUID
    position: int = Field(description="In its message, from 0.")
    status: Status = Field(description="wanted: it is being fetched. Only a stored one can be downloaded.")
    reason: str | None = Field(description="Why it is not stored.")
    mime_type: str | None
    filename: str | None
    size: int | None = Field(description="In bytes.")
    created_at: datetime
    stored_at: datetime | None

    @classmethod
    def of(cls, record: MediaRecord) -> "MediaFile":
        """The file of a row."""
        return cls(**{name: value for name, value in asdict(record).items() if name != "key"})


class MediaAnswer(Output):
    media: MediaFile


class MediaPage(Page):
    media: list[MediaFile]


class MediaId(TenantInput):
    id: UUID


class LinkInput(MediaId):
    expires_in_seconds: int = Field(default=3600, ge=60, le=7 * 86400)


class MediaLink(Output):
    url: str = Field(description="Whoever has it may download the file. A path of this API where no address is set.")
    expires_at: datetime


@query("media.list", scope=READ, examples=[Example({"limit": 1}, {"media": [_PHOTO], "nextCursor": None})])
async def list_(call: Call, given: ListInput) -> MediaPage:
    """List the files that customers sent, newest first."""
    rows = await records.page(
        call.connection,
        call.tenant_id,
        after=cursors.position(call, given, _POSITION),
        limit=given.limit + 1,
    )
    shown, next_cursor = cursors.page(call, given, rows, _POSITION, lambda row: (row.created_at, row.id))
    return MediaPage(media=[MediaFile.of(row) for row in shown], next_cursor=next_cursor)


@query("media.get", scope=READ, examples=[Example({"id": _ID}, {"media": _PHOTO})])
async def get(call: Call, given: MediaId) -> MediaAnswer:
    """Get what is known about a file."""
    return MediaAnswer(media=MediaFile.of(await _there(call, given.id)))


@query(
    "media.link",
    scope=READ,
    errors=[CONFLICT],
    examples=[
        Example(
            {"id": _ID, "expiresInSeconds": 600},
            {"url": "https://api.example.com/files/…", "expiresAt": "2026-11-28T16:10:00Z"},
        )
    ],
)
async def link(call: Call, given: LinkInput) -> MediaLink:
    """Make a link to download a file, which needs no key and expires."""
    found = await _there(call, given.id)
    if found.key is None:
        raise Problem(CONFLICT, f"This file is not stored: it is {found.status}.")
    expires_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=given.expires_in_seconds)
    url = file_links.link(call.keys, call.settings.api_url, call.tenant_id, found.id, expires_at)
    return MediaLink(url=url, expires_at=expires_at)


async def _there(call: Call, media_id: UUID) -> MediaRecord:
    found = await records.get(call.connection, call.tenant_id, media_id)
    if found is None:
        raise not_found("file")
    return found
