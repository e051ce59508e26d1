"""whatsappSettings.*: WhatsApp numbers at Meta, as the documented table `whatsapp_settings` has them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from ingress.api import channel_calls, cursors
from ingress.api.call import Call
from ingress.api.channel_calls import Trial
from ingress.api.channel_models import MASK, Secret
from ingress.api.declaration import Example, mutation, query
from ingress.api.models import ListInput, Output, Page, Part, TenantInput
from ingress.api.problems import VERSION_MISMATCH, invalid, not_found
from shared.actions import channels as actions
from shared.actions import whatsapp_settings as table
from shared.actions.channels import Account, NewChannel, WrongAddress
from shared.store import channel_records as records
from shared.store.channel_records import ChannelRecord

READ: Final = "whatsappSettings:read"
WRITE: Final = "whatsappSettings:write"
_POSITION: Final = TypeAdapter(records.Position)

Digits = Annotated[str, StringConstraints(pattern=r"^[0-9]{5,20}$")]

_ID: Final = "019ac2f0-7f2e-7a63-9c55-0c3a1a2b3c4f"
_NUMBER: Final[dict[str, Any]] = {
    "id": _ID,
    "tenantId": "019ac2ef-1111-7a63-9c55-0c3a1a2b3c4d",
    "apiKey": MASK,
    "phoneNumberId": "106540352242922",
    "businessId": "102290129340398",
    "accessToken": MASK,
    "webhookToken": MASK,
    "webhookUrl": f"https://palomar.example.com/webhooks/meta/{_ID}",
    "isActive": True,
    "statusReason": None,
    "createdAt": "2026-11-28T16:00:00Z",
    "lastUpdatedAt": "2026-11-28T16:00:00Z",
}
_GIVEN: Final = {
    "phoneNumberId": "106540352242922",
    "businessId": "102290129340398",
    "apiKey": "0123456789abcdef",
    "accessToken": "EAAG0123456789",
    "webhookToken": "a word of yours",
}


class WhatsappSettings(Part):
    """A number, with its secrets masked."""

    id: UUID
    tenant_id: UUID
    api_key: str = Field(description="The app's secret, masked.")
    phone_number_id: str
    business_id: str | None
    access_token: str = Field(description="Masked.")
    webhook_token: str = Field(description="What Meta verifies the URL by, masked.")
    webhook_url: str | None = Field(description="Enter it at Meta, with the webhook token.")
    is_active: bool
    status_reason: str | None = Field(description="Why no message leaves.")
    created_at: datetime
    last_updated_at: datetime


class WhatsappSettingsAnswer(Output):
    whatsapp_settings: WhatsappSettings


class WhatsappSettingsPage(Page):
    whatsapp_settings: list[WhatsappSettings]


class WhatsappSettingsId(TenantInput):
    id: UUID


class CreateWhatsappSettings(TenantInput):
    phone_number_id: Digits
    business_id: Digits
    api_key: Secret = Field(description="The secret of the number's app: App settings → Basic.")
    access_token: Secret = Field(description="Of a system user: Business settings → System users.")
    webhook_token: Secret = Field(description="A word of yours, that you enter at Meta beside the webhook URL.")
    is_active: bool = True


class UpdateWhatsappSettings(WhatsappSettingsId):
    """What is left out stays as it is. A secret that is given replaces the one before."""

    business_id: Digits | None = None
    api_key: Secret | None = None
    access_token: Secret | None = None
    webhook_token: Secret | None = None
    is_active: bool | None = None


class TestedWhatsappSettings(Output):
    works: bool
    problem: str | None = Field(description="Why not, and what to do.")
    whatsapp_settings: WhatsappSettings


@query(
    "whatsappSettings.list",
    scope=READ,
    examples=[Example({"limit": 1}, {"whatsappSettings": [_NUMBER], "nextCursor": None})],
)
async def list_(call: Call, given: ListInput) -> WhatsappSettingsPage:
    """List WhatsApp numbers at Meta, newest first."""
    rows = await records.page(
        call.connection,
        call.tenant_id,
        provider=table.PROVIDER,
        kind=table.KIND,
        after=cursors.position(call, given, _POSITION),
        limit=given.limit + 1,
    )
    shown, next_cursor = cursors.page(call, given, rows, _POSITION, lambda row: (row.created_at, row.id))
    return WhatsappSettingsPage(whatsapp_settings=[_shown(call, row) for row in shown], next_cursor=next_cursor)


@query("whatsappSettings.get", scope=READ, examples=[Example({"id": _ID}, {"whatsappSettings": _NUMBER})])
async def get(call: Call, given: WhatsappSettingsId) -> WhatsappSettingsAnswer:
    """Get the settings of a number."""
    return _answer(call, await _live(call, given.id))


@mutation("whatsappSettings.create", scope=WRITE, examples=[Example(_GIVEN, {"whatsappSettings": _NUMBER})])
async def create(call: Call, given: CreateWhatsappSettings) -> WhatsappSettingsAnswer:
    """Create the settings of a number: a channel, whose id they have."""
    declared = actions.onboarding(table.PROVIDER)
    try:
        address = declared.address(given.phone_number_id, table.KIND)
    except WrongAddress as wrong:
        raise invalid("phoneNumberId", wrong.detail, wrong.remedy) from None
    account = _account(given.model_dump(by_alias=True, include={"business_id", "api_key", "access_token",
                                                                "webhook_token"}))  # fmt: skip
    new = NewChannel(table.PROVIDER, table.KIND, address, "", account, {})
    made = await channel_calls.add(call, new, "phoneNumberId")
    if not given.is_active:
        made = await actions.update(
            call.connection, made, name=made.name, settings=dict(made.settings), is_active=False
        )
    return _answer(call, made)


@mutation(
    "whatsappSettings.update",
    scope=WRITE,
    errors=[VERSION_MISMATCH],
    examples=[Example({"id": _ID, "accessToken": "EAAG9876543210"}, {"whatsappSettings": _NUMBER})],
)
async def update(call: Call, given: UpdateWhatsappSettings) -> WhatsappSettingsAnswer:
    """Change the settings of a number; this also rotates secrets. The secret before signs webhooks until the next
    change."""
    before = await _live(call, given.id, lock=True)
    call.expect_version(before.updated_at)
    changes = given.model_dump(by_alias=True, include={"business_id", "api_key", "access_token", "webhook_token"},
                               exclude_none=True)  # fmt: skip
    if changes:
        known = await table.known(call.connection, call.keys, before)
        account = _account(known | changes)
        await actions.enter_account(call.connection, call.keys, before, account, by_operator=False)
    if given.is_active is not None:
        await actions.update(
            call.connection, before, name=before.name, settings=dict(before.settings), is_active=given.is_active
        )
    return _answer(call, await _live(call, given.id))


@mutation(
    "whatsappSettings.delete",
    scope=WRITE,
    errors=[VERSION_MISMATCH],
    examples=[Example({"id": _ID}, {"whatsappSettings": _NUMBER})],
)
async def delete(call: Call, given: WhatsappSettingsId) -> WhatsappSettingsAnswer:
    """Delete the settings of a number. Nothing comes in or leaves through it any more; its conversations stay."""
    before = await _live(call, given.id, lock=True)
    call.expect_version(before.updated_at)
    await actions.delete(call.connection, call.tenant_id, given.id)
    return _answer(call, before)


async def _tried(call: Call, given: WhatsappSettingsId) -> Trial:
    async with call.in_transaction():
        channel = await _live(call, given.id)
    return await channel_calls.tried(call, channel)


@mutation(
    "whatsappSettings.test",
    outside=_tried,
    scope=WRITE,
    examples=[Example({"id": _ID}, {"works": True, "problem": None, "whatsappSettings": _NUMBER})],
)
async def test(call: Call, given: WhatsappSettingsId, trial: Trial) -> TestedWhatsappSettings:
    """Try the access token of a number at Meta. A number that was stopped for it and works again is resumed."""
    tested = await channel_calls.tested(call, trial)
    after = _shown(call, await _live(call, given.id))
    return TestedWhatsappSettings(works=tested.works, problem=tested.problem, whatsapp_settings=after)


async def _live(call: Call, channel_id: UUID, *, lock: bool = False) -> ChannelRecord:
    found = await table.get(call.connection, call.tenant_id, channel_id, lock=lock)
    if found is None:
        raise not_found("WhatsApp settings")
    return found


def _account(given: Mapping[str, str]) -> Account:
    """The account of these fields. Raises a Problem that names the wrong one as the table does."""
    try:
        return table.account(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        wrong = str(first["loc"][0]) if first["loc"] else ""
        name = next((name for name, theirs in table.FIELDS.items() if theirs == wrong), wrong)
        raise invalid(name, f"{first['msg']}.", "Compare it with what Meta shows.") from None


def _answer(call: Call, row: ChannelRecord) -> WhatsappSettingsAnswer:
    return WhatsappSettingsAnswer(whatsapp_settings=_shown(call, row))


def _shown(call: Call, row: ChannelRecord) -> WhatsappSettings:
    urls = None if row.endpoint_id is None else actions.urls(call.settings, row.provider, row.endpoint_id)
    return WhatsappSettings(
        id=row.id,
        tenant_id=row.tenant_id,
        api_key=MASK,
        phone_number_id=row.address,
        business_id=row.business_id,
        access_token=MASK,
        webhook_token=MASK,
        webhook_url=urls.messages if urls is not None else None,
        is_active=row.status == "active",
        status_reason=row.status_reason,
        created_at=row.created_at,
        last_updated_at=row.updated_at,
    )
