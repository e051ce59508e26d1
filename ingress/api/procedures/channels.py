"""channels.*: the senders of a tenant, with their settings, the secrets of their accounts, and their webhook URLs."""

from typing import Any, Final

from pydantic import TypeAdapter

from ingress.api import cursors
from ingress.api.call import Call
from ingress.api.channel_calls import (
    Trial,
    account_of,
    add,
    change_url,
    checked,
    declared_of,
    kind_of,
    live,
    tested,
    tried,
    urls_of,
)
from ingress.api.channel_models import (
    MASK,
    Channel,
    ChannelAnswer,
    ChannelId,
    ChannelPage,
    CreateChannel,
    ListChannels,
    ProviderField,
    ProviderInfo,
    Providers,
    RotateSecrets,
    Tested,
    UpdateChannel,
    WebhookUrlsAnswer,
)
from ingress.api.declaration import Example, mutation, query
from ingress.api.models import TenantInput
from ingress.api.problems import (
    VERSION_MISMATCH,
    invalid,
    not_found,
)
from shared.actions import channels as actions
from shared.actions.channels import NewChannel, WrongAddress
from shared.store import channel_records as records

READ: Final = "channels:read"
WRITE: Final = "channels:write"
_POSITION: Final = TypeAdapter(records.Position)

_ID: Final = "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c4f"
_LOGIN: Final = {"accountSid": "AC00000000000000000000000000000000", "authToken": "0123456789abcdef"}
_SALES: Final[dict[str, Any]] = {
    "id": _ID,
    "tenantId": "019ac2ef-1111-7a63-9c55-0c3a1a2b3c4d",
    "provider": "twilio",
    "kind": "whatsapp",
    "name": "Sales",
    "address": "+14155238886",
    "businessId": None,
    "isActive": True,
    "statusReason": None,
    "settings": {},
    "credentials": MASK,
    "createdAt": "2026-11-28T16:00:00Z",
    "updatedAt": "2026-11-28T16:00:00Z",
}


@query(
    "channels.providers",
    scope=READ,
    examples=[
        Example(
            {},
            {
                "providers": [
                    {
                        "name": "twilio",
                        "kinds": ["whatsapp", "sms"],
                        "fields": [
                            {"name": "authToken", "description": "It signs webhooks.", "required": True, "secret": True}
                        ],
                    }
                ]
            },
        )
    ],
)
async def providers(call: Call, given: TenantInput) -> Providers:
    """List the providers whose channels can be created, and what each one needs to know."""
    return Providers(
        providers=[
            ProviderInfo(
                name=name,
                kinds=list(declared.kinds),
                fields=[
                    ProviderField(name=f.name, description=f.description, required=f.required, secret=f.secret)
                    for f in actions.fields(declared.account)
                ],
            )
            for name, declared in actions.onboardings().items()
        ]
    )


@query("channels.list", scope=READ, examples=[Example({"limit": 1}, {"channels": [_SALES], "nextCursor": None})])
async def list_(call: Call, given: ListChannels) -> ChannelPage:
    """List channels, newest first."""
    rows = await records.page(
        call.connection,
        call.tenant_id,
        provider=given.provider,
        kind=given.kind,
        after=cursors.position(call, given, _POSITION),
        limit=given.limit + 1,
    )
    shown, next_cursor = cursors.page(call, given, rows, _POSITION, lambda row: (row.created_at, row.id))
    return ChannelPage(channels=[Channel.of(row) for row in shown], next_cursor=next_cursor)


@query("channels.get", scope=READ, examples=[Example({"id": _ID}, {"channel": _SALES})])
async def get(call: Call, given: ChannelId) -> ChannelAnswer:
    """Get a channel."""
    return ChannelAnswer(channel=Channel.of(await live(call, given.id)))


@mutation(
    "channels.create",
    scope=WRITE,
    examples=[
        Example(
            {"provider": "twilio", "kind": "whatsapp", "address": "+14155238886", "name": "Sales",
             "credentials": _LOGIN},
            {"channel": _SALES},
        )
    ],
)  # fmt: skip
async def create(call: Call, given: CreateChannel) -> ChannelAnswer:
    """Create a channel. channels.webhookUrls then says what to enter at the provider."""
    declared = declared_of(given.provider)
    kind = kind_of(declared, given.kind)
    try:
        address = declared.address(given.address, kind)
    except WrongAddress as wrong:
        raise invalid("address", wrong.detail, wrong.remedy) from None
    account = account_of(declared, given.credentials)
    settings = checked(actions.merged(given.settings or {}, account.channel_settings))
    new = NewChannel(given.provider, kind, address, given.name or "", account, settings)
    return ChannelAnswer(channel=Channel.of(await add(call, new, "address")))


@mutation(
    "channels.update",
    scope=WRITE,
    errors=[VERSION_MISMATCH],
    examples=[Example({"id": _ID, "name": "Sales", "settings": {"reply": {"engine": "none"}}}, {"channel": _SALES})],
)
async def update(call: Call, given: UpdateChannel) -> ChannelAnswer:
    """Change a channel. It takes effect with the next message."""
    before = await live(call, given.id, lock=True)
    call.expect_version(before.updated_at)
    settings = checked(actions.merged(before.settings, given.settings or {}))
    name = (given.name or "") if "name" in given.model_fields_set else before.name
    after = await actions.update(call.connection, before, name=name, settings=settings, is_active=given.is_active)
    return ChannelAnswer(channel=Channel.of(after))


@mutation("channels.delete", scope=WRITE, errors=[VERSION_MISMATCH],
          examples=[Example({"id": _ID}, {"channel": _SALES})])  # fmt: skip
async def delete(call: Call, given: ChannelId) -> ChannelAnswer:
    """Delete a channel. Nothing comes in or leaves through it any more; its conversations stay."""
    if call.if_match is not None:
        call.expect_version((await live(call, given.id, lock=True)).updated_at)
    deleted = await actions.delete(call.connection, call.tenant_id, given.id)
    if deleted is None:
        raise not_found("channel")
    return ChannelAnswer(channel=Channel.of(deleted))


@mutation(
    "channels.rotateSecrets",
    scope=WRITE,
    examples=[Example({"id": _ID, "credentials": _LOGIN}, {"channel": _SALES})],
)
async def rotate_secrets(call: Call, given: RotateSecrets) -> ChannelAnswer:
    """Exchange the credentials of a channel's account, the secret in its webhook URL, or both.

    Webhooks that the secret before signed are accepted until the next rotation.
    """
    if given.credentials is None and not given.new_url:
        raise invalid("credentials", "Nothing is to be changed.", "Give credentials, or newUrl.")
    channel = await live(call, given.id, lock=True)
    declared = declared_of(channel.provider)
    if given.new_url and not declared.url_holds_secret:
        raise invalid("newUrl", "The URL of this channel holds no secret.", "Leave it out: its webhooks are signed.")
    if given.credentials is not None:
        account = account_of(declared, given.credentials)
        await actions.enter_account(call.connection, call.keys, channel, account, by_operator=False)
        channel = await live(call, given.id)
    if given.new_url:
        await change_url(call, channel)
    return ChannelAnswer(channel=Channel.of(await live(call, given.id)))


async def _tried(call: Call, given: ChannelId) -> Trial:
    async with call.in_transaction():
        channel = await live(call, given.id)
    return await tried(call, channel)


@mutation(
    "channels.test",
    outside=_tried,
    scope=WRITE,
    examples=[Example({"id": _ID}, {"works": True, "problem": None, "channel": _SALES})],
)
async def test(call: Call, given: ChannelId, trial: Trial) -> Tested:
    """Try a channel's credentials at its provider. A channel that was stopped for them and works again is resumed."""
    return await tested(call, trial)


@query(
    "channels.webhookUrls",
    scope=WRITE,
    examples=[
        Example(
            {"id": _ID},
            {
                "webhookUrls": {
                    "messages": f"https://palomar.example.com/webhooks/twilio/{_ID}",
                    "receipts": f"https://palomar.example.com/webhooks/twilio/{_ID}/status",
                    "chats": None,
                    "verifyToken": None,
                }
            },
        )
    ],
)
async def webhook_urls(call: Call, given: ChannelId) -> WebhookUrlsAnswer:
    """Get the webhook URLs of a channel, to be entered at its provider. They may hold secrets: hence the scope."""
    return WebhookUrlsAnswer(webhook_urls=await urls_of(call, await live(call, given.id)))
