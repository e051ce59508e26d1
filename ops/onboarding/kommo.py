"""Sets up a chat channel of a Kommo account: CRM webhooks carry a secret in the URL, the Chats API signs its own."""

from pydantic import SecretStr, ValidationError

from ops.errors import Problem
from ops.onboarding import base
from ops.onboarding.base import Given
from ops.onboarding.prompts import asked, secret
from shared.actions.channels import Account, Urls
from shared.domain.model import ChannelKind
from shared.providers.kommo.onboarding import KommoAccount, is_id
from shared.store.channels import Listed

CALLER = "Kommo"


def address(given: Given, _: ChannelKind) -> str:
    """What Kommo calls a channel in one account (its scope_id), which then is our channel's address."""
    channel_id = asked("--channel-id", given.channel_id, "Channel id").strip()
    account_id = asked("--account-id", given.account_id, "Chats API account id (amojo_id)").strip()
    for option, value in (("--channel-id", channel_id), ("--account-id", account_id)):
        if not is_id(value):
            raise Problem(f"{option}: {value!r} is none of Kommo's.", "It is a UUID; see docs/providers.md, Kommo.")
    return f"{channel_id}_{account_id}".lower()


def account(given: Given) -> Account:
    """Raises Problem that names the field and where Kommo shows it."""
    bot_id = asked("--bot-id", given.bot_id, "Bot id").strip()
    try:
        return KommoAccount(secret=SecretStr(secret("KOMMO_CHANNEL_SECRET", "Channel secret")), bot_id=bot_id)
    except ValidationError as error:
        fields = " and ".join(base.fields(error))
        raise Problem(f"Wrong: {fields}.", "Kommo's support sends both when it registers your channel.") from None


def entered(_: Listed, urls: Urls, __: str) -> list[str]:
    return [
        "Enter at Kommo, Settings → Integrations → Web hooks (upper right) → Add webhook:",
        "  URL:",
        f"    {urls.messages}",
        "  with the events about incoming and outgoing messages. Keep the URL secret:",
        "  it lets anyone write as one of your customers.",
        "",
        "Have Kommo's support set the webhook URL of your chat channel (its webhook_url):",
        f"    {urls.chats}",
        "  :scope_id stands there as it is: Kommo puts the account's in its place.",
    ]
