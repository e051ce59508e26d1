"""What channels.* and whatsappSettings.* share: find a channel, add one, try it, read what its account is given."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import orjson
from pydantic import ValidationError

from ingress.api.call import Call
from ingress.api.channel_models import Channel, Tested, WebhookUrls
from ingress.api.problems import CONFLICT, FieldError, Problem, invalid, not_found, of_validation, pointer
from shared.actions import channels as actions
from shared.actions.channels import Account, AddressTaken, NewChannel, NoSuchProvider, Onboarding
from shared.actions.endpoint_secrets import SecretsClosed
from shared.domain.channels import ChannelSettings
from shared.domain.model import ChannelKind
from shared.store import channel_records as records
from shared.store.channel_records import ChannelRecord

LARGEST_SETTINGS: Final = 256 * 1024  # bytes of their JSON
TEST_TIMEOUT: Final = 5.0  # seconds that a provider may take to answer a test


@dataclass(frozen=True, slots=True)
class Trial:
    """What a provider said of a channel as it was then: `complaint` is None where its credentials work."""

    channel: ChannelRecord
    complaint: str | None


async def live(call: Call, channel_id: UUID, *, lock: bool = False) -> ChannelRecord:
    """The channel of this id. Raises a Problem."""
    found = await records.get(call.connection, call.tenant_id, channel_id, lock=lock)
    if found is None:
        raise not_found("channel")
    return found


async def add(call: Call, new: NewChannel, address_field: str) -> ChannelRecord:
    """Add a channel. Raises a Problem that names `address_field` where the address is a channel already."""
    try:
        return await actions.add(call.connection, call.keys, call.tenant_id, new, by_operator=False)
    except AddressTaken as taken:
        ours = taken.channel is not None and taken.channel.tenant_id == call.tenant_id
        which = f"channel {taken.channel.id}" if ours and taken.channel is not None else "a channel"
        error = FieldError(pointer(address_field), f"It is {which} already.", "Change that one: channels.update.")
        raise Problem(CONFLICT, error.detail, errors=[error]) from None


def account_of(declared: Onboarding, given: Mapping[str, object], *within: str) -> Account:
    """The account of these credentials. Raises a Problem that names each wrong field, below `credentials`."""
    try:
        return declared.account.model_validate(dict(given))
    except ValidationError as error:
        raise of_validation(error, *(within or ("credentials",))) from None


async def tried(call: Call, channel: ChannelRecord) -> Trial:
    """Try a channel at its provider. No transaction may be open meanwhile."""
    quick = call.settings.model_copy(update={"send_timeout": min(call.settings.send_timeout, TEST_TIMEOUT)})
    return Trial(channel, await actions.problem(quick, call.keys, channel))


async def tested(call: Call, trial: Trial) -> Tested:
    """Record what came of a trial."""
    channel = await unchanged(call, trial.channel)
    try:
        await actions.tried(call.connection, channel, trial.complaint)
    except AddressTaken:
        raise Problem(CONFLICT, "Another tenant has this address. Ask whoever operates this installation.") from None
    works = trial.complaint is None
    return Tested(works=works, problem=trial.complaint, channel=Channel.of(await live(call, channel.id)))


async def unchanged(call: Call, asked: ChannelRecord) -> ChannelRecord:
    """The channel, locked, after its provider was asked about it as it was. Raises the problem of one that has another
    account by now: what the provider said is not about that one."""
    channel = await live(call, asked.id, lock=True)
    account = (channel.credentials, channel.address, channel.business_id)
    if account != (asked.credentials, asked.address, asked.business_id):
        raise Problem(CONFLICT, "The channel's account was changed while its provider was asked. Do it again.")
    return channel


async def urls_of(call: Call, channel: ChannelRecord) -> WebhookUrls:
    """The webhook URLs of a channel."""
    if channel.endpoint_id is None:
        return WebhookUrls(messages=None, receipts=None, chats=None, verify_token=None)
    ending, verify_token = await actions.secrets_in_urls(call.connection, call.keys, channel)
    urls = actions.urls(call.settings, channel.provider, channel.endpoint_id, ending)
    return WebhookUrls(
        messages=urls.messages, receipts=urls.receipts, chats=urls.chats, verify_token=verify_token or None
    )


async def change_url(call: Call, channel: ChannelRecord) -> None:
    if channel.endpoint_id is None:
        raise Problem(CONFLICT, "This channel has no webhook URL yet. Give its credentials.")
    try:
        await actions.change_url(call.connection, call.keys, channel)
    except SecretsClosed:
        raise Problem(CONFLICT, "The secrets of this channel's URL don't open. Ask your operator.") from None


def declared_of(provider: str) -> Onboarding:
    try:
        return actions.onboarding(provider)
    except NoSuchProvider as none:
        raise invalid("provider", "There is no such provider.", f"Give one of: {', '.join(none.there_are)}.") from None


def kind_of(declared: Onboarding, given: ChannelKind | None) -> ChannelKind:
    if given is None and len(declared.kinds) == 1:
        return declared.kinds[0]
    if given is None or given not in declared.kinds:
        detail = "It is missing." if given is None else "This provider has no such channels."
        raise invalid("kind", detail, f"Give one of: {', '.join(declared.kinds)}.")
    return given


def checked(settings: Mapping[str, object]) -> Mapping[str, object]:
    """Settings that a channel can have. Raises a Problem that names each wrong field, and of a list the first one."""
    if len(orjson.dumps(settings)) > LARGEST_SETTINGS:
        raise invalid("settings", f"They are larger than {LARGEST_SETTINGS} bytes.", "Shorten or merge some rules.")
    try:
        ChannelSettings.model_validate(settings)
    except ValidationError as error:
        raise of_validation(error, "settings") from None
    return settings
