"""messageTemplates.sync: the templates of a channel's account, as its provider lists them."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from pydantic import Field

from ingress.api.call import Call
from ingress.api.channel_calls import unchanged
from ingress.api.declaration import Example, mutation
from ingress.api.models import Output, TenantInput
from ingress.api.problems import CONFLICT, PROVIDER_AWAY, FieldError, Problem, invalid, not_found, pointer
from ingress.api.procedures.message_templates import WRITE
from shared.actions import template_sync
from shared.actions.template_sync import ListedTemplate, NoTemplateList
from shared.store import channel_records
from shared.store.channel_records import ChannelRecord

AGAIN: Final = 30.0  # seconds; Retry-After where the provider gives no list
_FIELD: Final = "channelId"


class SyncMessageTemplates(TenantInput):
    channel_id: UUID = Field(description="A channel at Twilio or Meta.")


class SyncedMessageTemplates(Output):
    """What was written. messageTemplates.list with `channelId` has the templates themselves."""

    listed: int = Field(description="Templates that the provider lists.")
    created: int = Field(description="Of them, those that were not here.")
    updated: int = Field(description="Those whose text, status or category has changed.")
    gone: int = Field(description="Templates here that the provider listed once, and now no longer.")


@dataclass(frozen=True, slots=True)
class _Listing:
    channel: ChannelRecord
    templates: list[ListedTemplate]


async def _listed(call: Call, given: SyncMessageTemplates) -> _Listing:
    """The provider's list, with the channel as it was when the provider was asked."""
    async with call.in_transaction():
        channel = await channel_records.get(call.connection, call.tenant_id, given.channel_id)
    if channel is None:
        raise not_found("channel", _FIELD)
    there_are = template_sync.with_templates()
    if channel.provider not in there_are:
        detail = f"The provider of this channel, {channel.provider}, has no message templates."
        raise invalid(_FIELD, detail, f"Give a channel of {' or '.join(there_are)}.")
    try:
        return _Listing(channel, await template_sync.listed(call.settings, call.keys, channel))
    except NoTemplateList as none:
        detail = f"{none.reason[0].upper()}{none.reason[1:]}."
        if none.passing:
            raise Problem(PROVIDER_AWAY, detail, retry_after=AGAIN) from None
        remedy = "Try its credentials with channels.test, and enter new ones with channels.rotateSecrets."
        raise Problem(CONFLICT, detail, errors=[FieldError(pointer(_FIELD), detail, remedy)]) from None


@mutation(
    "messageTemplates.sync",
    outside=_listed,
    scope=WRITE,
    errors=[PROVIDER_AWAY],
    examples=[
        Example(
            {"channelId": "019ac2ef-2222-7a63-9c55-0c3a1a2b3c4d"},
            {"listed": 12, "created": 2, "updated": 1, "gone": 0},
        )
    ],
)
async def sync(call: Call, given: SyncMessageTemplates, listing: _Listing) -> SyncedMessageTemplates:
    """Bring a channel's message templates in line with its provider's list, with their approval.

    New ones are created here and known ones updated; one that the provider lists no longer gets the status `gone`.
    `isActive` stays as it is, and so do templates that you have entered and that the provider does not list. It takes
    up to half a minute where there are thousands.
    """
    channel = await unchanged(call, listing.channel)
    done = await template_sync.store(call.connection, channel, listing.templates)
    return SyncedMessageTemplates(listed=done.listed, created=done.created, updated=done.updated, gone=done.gone)
