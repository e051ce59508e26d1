"""messageTemplates.*: approved forms of words, and texts of the tenant's own, with variables."""

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import Field, StringConstraints, TypeAdapter

from ingress.api import cursors
from ingress.api.call import Call
from ingress.api.declaration import Example, mutation, query
from ingress.api.models import ListInput, Name, Output, Page, Part, TenantInput
from ingress.api.problems import VERSION_MISMATCH, not_found
from shared.actions import message_templates as templates
from shared.domain import template_text
from shared.domain.template_status import Status
from shared.store import channels
from shared.store import message_templates as store
from shared.store.message_templates import TemplateValues
from shared.store.newest_first import Position

READ: Final = "messageTemplates:read"
WRITE: Final = "messageTemplates:write"
MOST_VARIABLES: Final = 100
_POSITION: Final = TypeAdapter(Position)

Content = Annotated[
    str,
    StringConstraints(min_length=1, max_length=10_000),
    Field(description="The text, with variables in double braces.", examples=["Hello {{1}}!"]),
]
Variable = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Value = Annotated[str, StringConstraints(max_length=1024)]
Language = Annotated[str, StringConstraints(min_length=1, max_length=35), Field(examples=["en_US"])]
ExternalId = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Category = Annotated[str, StringConstraints(min_length=1, max_length=64), Field(examples=["MARKETING"])]

_ID: Final = "019ac2f0-91aa-7c35-a1b2-6e2d3c4b5a60"
_HELLO: Final[dict[str, Any]] = {
    "id": _ID,
    "tenantId": "019ac2ef-1111-7a63-9c55-0c3a1a2b3c4d",
    "channelId": None,
    "name": "greeting",
    "language": "en_US",
    "externalId": None,
    "category": None,
    "content": "Hello {{1}}!",
    "variables": ["1"],
    "status": "approved",
    "isActive": True,
    "isSynced": False,
    "createdAt": "2026-11-28T16:00:00Z",
    "updatedAt": "2026-11-28T16:00:00Z",
    "deletedAt": None,
}


class MessageTemplate(Part):
    """A form of words with variables."""

    id: UUID
    tenant_id: UUID
    channel_id: UUID | None = Field(description="The channel that it is approved for; null: a text of your own.")
    name: str
    language: str | None
    external_id: str | None = Field(description="Twilio's ContentSid, Meta's template id.")
    category: str | None
    content: str
    variables: list[str] = Field(description="Their names.")
    status: Status
    is_active: bool
    is_synced: bool = Field(description="The provider has listed it: messageTemplates.sync keeps it as it is there.")
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None

    @classmethod
    def of(cls, stored: store.MessageTemplate) -> "MessageTemplate":
        """The template of a row."""
        values = stored.values
        return cls(
            id=stored.id,
            tenant_id=stored.tenant_id,
            channel_id=values.channel_id,
            name=values.name,
            language=values.language,
            external_id=values.external_id,
            category=values.category,
            content=values.content,
            variables=list(values.variables),
            status=values.status,
            is_active=values.is_active,
            is_synced=stored.is_synced,
            created_at=stored.created_at,
            updated_at=stored.updated_at,
            deleted_at=stored.deleted_at,
        )


class MessageTemplateAnswer(Output):
    message_template: MessageTemplate


class MessageTemplatePage(Page):
    message_templates: list[MessageTemplate]


class TemplatePreview(Output):
    text: str = Field(description="A variable without a value stands in it as it does in the template.")
    missing: list[str] = Field(description="Variables of the text that were given no value.")
    unused: list[str] = Field(description="Values for which the text has no variable.")


class ListMessageTemplates(ListInput):
    is_active: bool | None = Field(default=None, description="Only those that are, or are not, active.")
    channel_id: UUID | None = Field(default=None, description="Only those that are approved for this channel.")
    status: Status | None = None


class MessageTemplateId(TenantInput):
    id: UUID


class CreateMessageTemplate(TenantInput):
    name: Name
    content: Content
    variables: list[Variable] | None = Field(
        default=None, max_length=MOST_VARIABLES, description="Their names. Left out: those that stand in the content."
    )
    channel_id: UUID | None = Field(default=None, description="Left out: a text of your own, for any channel.")
    language: Language | None = None
    external_id: ExternalId | None = Field(default=None, description="Twilio's ContentSid, Meta's template id.")
    category: Category | None = Field(
        default=None, description="One of category marketing is not sent to contacts who take no marketing."
    )
    status: Status = Field(
        default="approved",
        description="The provider's, which messageTemplates.sync reads. Only approved templates are sent; `gone`: the "
        "provider lists it no longer.",
    )
    is_active: bool = True


class UpdateMessageTemplate(MessageTemplateId):
    """What is left out stays as it is; null removes what may be null."""

    name: Name | None = None
    content: Content | None = None
    variables: list[Variable] | None = Field(
        default=None, max_length=MOST_VARIABLES, description="Left out: those of the content, where that changes."
    )
    channel_id: UUID | None = None
    language: Language | None = None
    external_id: ExternalId | None = None
    category: Category | None = None
    status: Status | None = None
    is_active: bool | None = None


class PreviewMessageTemplate(MessageTemplateId):
    variables: dict[Variable, Value] = Field(default_factory=dict, max_length=MOST_VARIABLES)


@query(
    "messageTemplates.list",
    scope=READ,
    examples=[Example({"limit": 1}, {"messageTemplates": [_HELLO], "nextCursor": None})],
)
async def list_(call: Call, given: ListMessageTemplates) -> MessageTemplatePage:
    """List message templates, newest first."""
    if given.channel_id is not None:
        await _check_channel(call, given.channel_id)
    rows = await store.page(
        call.connection,
        call.tenant_id,
        is_active=given.is_active,
        channel_id=given.channel_id,
        status=given.status,
        after=cursors.position(call, given, _POSITION),
        limit=given.limit + 1,
    )
    shown, next_cursor = cursors.page(call, given, rows, _POSITION, lambda row: (row.created_at, row.id))
    return MessageTemplatePage(message_templates=[MessageTemplate.of(row) for row in shown], next_cursor=next_cursor)


@query("messageTemplates.get", scope=READ, examples=[Example({"id": _ID}, {"messageTemplate": _HELLO})])
async def get(call: Call, given: MessageTemplateId) -> MessageTemplateAnswer:
    """Get a message template."""
    return _answer(await _live(call, given.id))


@mutation(
    "messageTemplates.create",
    scope=WRITE,
    examples=[
        Example({"name": "greeting", "content": "Hello {{1}}!", "language": "en_US"}, {"messageTemplate": _HELLO})
    ],
)
async def create(call: Call, given: CreateMessageTemplate) -> MessageTemplateAnswer:
    """Create a message template.

    With `channelId` it is one that the channel's provider has, and is sent as such: its name, language and external id
    are the provider's. Creating it here does not submit it to the provider.
    """
    if given.channel_id is not None:
        await _check_channel(call, given.channel_id)
    values = TemplateValues(
        channel_id=given.channel_id,
        name=given.name,
        language=given.language,
        external_id=given.external_id,
        category=given.category,
        content=given.content,
        variables=_names(given.variables, given.content),
        status=given.status,
        is_active=given.is_active,
    )
    return _answer(await templates.create(call.connection, call.tenant_id, values))


@mutation(
    "messageTemplates.update",
    scope=WRITE,
    errors=[VERSION_MISMATCH],
    examples=[Example({"id": _ID, "content": "Hi {{1}}!"}, {"messageTemplate": {**_HELLO, "content": "Hi {{1}}!"}})],
)
async def update(call: Call, given: UpdateMessageTemplate) -> MessageTemplateAnswer:
    """Change a message template. With If-Match only the version that you have seen is changed."""
    stored = await _live(call, given.id, lock=True)
    call.expect_version(stored.updated_at)
    before, named = stored.values, given.model_fields_set
    if given.channel_id is not None:
        await _check_channel(call, given.channel_id)
    content = before.content if given.content is None else given.content
    keeps_variables = given.variables is None and content == before.content
    values = TemplateValues(
        channel_id=given.channel_id if "channel_id" in named else before.channel_id,
        name=before.name if given.name is None else given.name,
        language=given.language if "language" in named else before.language,
        external_id=given.external_id if "external_id" in named else before.external_id,
        category=given.category if "category" in named else before.category,
        content=content,
        variables=before.variables if keeps_variables else _names(given.variables, content),
        status=before.status if given.status is None else given.status,
        is_active=before.is_active if given.is_active is None else given.is_active,
    )
    return _answer(await templates.update(call.connection, stored, values))


@mutation(
    "messageTemplates.delete",
    scope=WRITE,
    errors=[VERSION_MISMATCH],
    examples=[Example({"id": _ID}, {"messageTemplate": {**_HELLO, "deletedAt": "2026-11-28T17:00:00Z"}})],
)
async def delete(call: Call, given: MessageTemplateId) -> MessageTemplateAnswer:
    """Delete a message template here, not at the provider. What is queued with it still leaves.

    messageTemplates.sync brings it back while its provider lists it: `isActive` false keeps it from being sent.
    """
    if call.if_match is not None:
        call.expect_version((await _live(call, given.id, lock=True)).updated_at)
    deleted = await templates.delete(call.connection, call.tenant_id, given.id)
    if deleted is None:
        raise not_found("message template")
    return _answer(deleted)


@query(
    "messageTemplates.preview",
    scope=READ,
    examples=[Example({"id": _ID, "variables": {"1": "Ana"}}, {"text": "Hello Ana!", "missing": [], "unused": []})],
)
async def preview(call: Call, given: PreviewMessageTemplate) -> TemplatePreview:
    """Show what a template says with these values. Nothing is sent."""
    filled = template_text.fill((await _live(call, given.id)).values.content, given.variables)
    return TemplatePreview(text=filled.text, missing=list(filled.missing), unused=list(filled.unused))


async def _live(call: Call, template_id: UUID, *, lock: bool = False) -> store.MessageTemplate:
    found = await store.get(call.connection, call.tenant_id, template_id, lock=lock)
    if found is None or found.deleted_at is not None:
        raise not_found("message template")
    return found


async def _check_channel(call: Call, channel_id: UUID) -> None:
    if not await channels.lives(call.connection, call.tenant_id, channel_id):
        raise not_found("channel", "channelId")


def _names(given: list[str] | None, content: str) -> tuple[str, ...]:
    names = template_text.variables(content) if given is None else given
    return tuple(dict.fromkeys(names))


def _answer(stored: store.MessageTemplate) -> MessageTemplateAnswer:
    return MessageTemplateAnswer(message_template=MessageTemplate.of(stored))
