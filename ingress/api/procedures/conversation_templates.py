"""conversations.*: WhatsApp's 24-hour window, and the templates that reach a customer outside it."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

from pydantic import Field, StringConstraints, TypeAdapter

from ingress.api import cursors
from ingress.api.call import Call
from ingress.api.channel_models import ProviderName
from ingress.api.declaration import Example, mutation, query
from ingress.api.models import ListInput, Output, TenantInput
from ingress.api.not_queued import refuse
from ingress.api.problems import invalid, not_found
from ingress.api.procedures.conversations import (
    ANA,
    HELLO,
    ID,
    READ,
    WRITE,
    Conversation,
    ConversationId,
    ConversationPage,
    Message,
    MessageAnswer,
    existing,
)
from shared.actions import template_messages
from shared.actions.messages import NotQueued
from shared.actions.template_messages import NewTemplateMessage, TemplateRefused
from shared.database import new_id
from shared.store import conversation_records as records
from shared.store import templates
from shared.store.messages import windows

_POSITION: Final = TypeAdapter(records.Position)
_TEMPLATE: Final = {
    **HELLO,
    "messageType": "template",
    "content": "",
    "template": {"name": "HX0123456789abcdef0123456789abcdef", "variables": {"1": "Ana"}, "language": None},
}

TemplateName = Annotated[str, StringConstraints(min_length=1, max_length=512, strip_whitespace=True)]
VariableName = Annotated[str, StringConstraints(min_length=1, max_length=100)]
VariableValue = Annotated[str, StringConstraints(max_length=1024)]
Language = Annotated[str, StringConstraints(min_length=2, max_length=20, pattern=r"^[A-Za-z_-]+$")]
Variables = Annotated[
    dict[VariableName, VariableValue],
    Field(
        max_length=100,
        description='Its variables by their names: {"1": "Ana"}. At Meta also header.1, and header.image, header.video '
        "or header.document with the https link of a file; button.0 for what a button needs.",
        examples=[{"1": "Ana"}],
    ),
]


class ConversationWindow(Output):
    """WhatsApp's 24-hour window of a conversation."""

    can_send_proactive: bool = Field(description="Whether a text may be sent now. Always true on SMS and e-mail.")
    open_until: datetime | None = Field(description="null where the customer never wrote, and without a window.")
    last_user_message_at: datetime | None


class ListNeedingTemplates(ListInput):
    provider: ProviderName = Field(description="twilio, meta or kommo.")


class _TemplateInput(TenantInput):
    variables: Variables = Field(default_factory=dict)
    language: Language | None = Field(default=None, description="Meta needs it, such as en_US, unless we know it.")


class SendTemplate(ConversationId, _TemplateInput):
    template: TemplateName = Field(
        description="One of messageTemplates by its id, name or external id; else the provider's own name of it."
    )


class QueueTemplateMessage(_TemplateInput):
    conversation_id: UUID
    template_id: UUID = Field(description="One of messageTemplates.")


@query(
    "conversations.window",
    scope=READ,
    examples=[
        Example(
            {"id": ID},
            {
                "canSendProactive": True,
                "openUntil": "2026-11-29T15:58:00Z",
                "lastUserMessageAt": "2026-11-28T16:00:00Z",
            },
        )
    ],
)
async def window(call: Call, given: ConversationId) -> ConversationWindow:
    """Tell whether a conversation may be written to without a template, and until when."""
    await existing(call, given.id)
    status = await windows.check_whatsapp_24_hour_window(call.connection, given.id)
    return ConversationWindow(
        can_send_proactive=status.can_send_proactive,
        open_until=status.open_until,
        last_user_message_at=status.last_user_message_at,
    )


@query(
    "conversations.needingTemplates",
    scope=READ,
    examples=[Example({"provider": "twilio"}, {"conversations": [ANA], "nextCursor": None})],
)
async def needing_templates(call: Call, given: ListNeedingTemplates) -> ConversationPage:
    """List the active conversations on WhatsApp that only a template reaches now, that with the newest message first.

    A page may hold less than `limit` and yet have a `nextCursor`: go on with it.
    """
    after = cursors.position(call, given, _POSITION)
    rows, read_up_to = await records.page_needing_templates(
        call.connection, call.tenant_id, given.provider, after, given.limit + 1
    )
    shown, next_cursor = cursors.page(
        call, given, rows, _POSITION, lambda row: (row.last_message_at, row.id), read_up_to
    )
    return ConversationPage(conversations=[Conversation.of(row) for row in shown], next_cursor=next_cursor)


@mutation(
    "conversations.sendTemplate",
    scope=WRITE,
    examples=[
        Example(
            {"id": ID, "template": "HX0123456789abcdef0123456789abcdef", "variables": {"1": "Ana"}},
            {"message": _TEMPLATE},
        )
    ],
)
async def send_template(call: Call, given: SendTemplate) -> MessageAnswer:
    """Send an approved template through Twilio or Meta, which WhatsApp takes outside the 24-hour window too."""
    return await _queue(call, given.id, given.template, given.variables, given.language, ("id", "template"))


@mutation(
    "conversations.queueTemplateMessage",
    scope=WRITE,
    examples=[
        Example(
            {"conversationId": ID, "templateId": "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c70", "variables": {"1": "Ana"}},
            {"message": _TEMPLATE},
        )
    ],
)
async def queue_template_message(call: Call, given: QueueTemplateMessage) -> MessageAnswer:
    """Send a template of messageTemplates: conversations.sendTemplate by the template's id."""
    if not await templates.exists(call.connection, call.tenant_id, given.template_id):
        raise not_found("template", "templateId")
    return await _queue(
        call,
        given.conversation_id,
        str(given.template_id),
        given.variables,
        given.language,
        ("conversationId", "templateId"),
    )


async def _queue(
    call: Call,
    conversation_id: UUID,
    template: str,
    variables: Mapping[str, str],
    language: str | None,
    fields: tuple[str, str],
) -> MessageAnswer:
    """Queue it. `fields` are the members of the input that name the conversation and the template."""
    message = NewTemplateMessage(
        call.tenant_id, conversation_id, template, variables, language, cause=call.idempotency_key or str(new_id())
    )
    try:
        handoff = timedelta(seconds=call.settings.handoff_lease)
        queued, job = await template_messages.queue(call.connection, message, handoff)
    except NotQueued as refused:
        refuse(refused, fields[0])
    except TemplateRefused as refused:
        field = fields[1] if refused.field == "template" else refused.field
        raise invalid(field, refused.reason, refused.remedy) from None
    if job is not None:
        call.publish(job)
    return MessageAnswer(message=Message.of(queued))
