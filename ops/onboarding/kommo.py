"""Sets up a chat channel of a Kommo account: CRM webhooks carry a secret in the URL, the Chats API signs its own."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from pydantic import SecretStr, ValidationError

from ops.errors import Problem
from ops.onboarding import endpoint_secrets
from ops.onboarding.base import Given, Urls
from ops.onboarding.prompts import asked, secret
from shared.crypto import KeyRing
from shared.database import Connection, new_id
from shared.domain.model import ChannelKind
from shared.providers.kommo.send import KommoCredentials
from shared.store import endpoints
from shared.store.channels import Listed
from shared.store.endpoints import EndpointRow

KINDS: tuple[ChannelKind, ...] = ("whatsapp",)
CALLER = "Kommo"
URL_HOLDS_SECRET = True

_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)


def address(given: Given, _: ChannelKind) -> str:
    """What Kommo calls a channel in one account (its scope_id), which then is our channel's address."""
    channel_id = asked("--channel-id", given.channel_id, "Channel id").strip()
    account_id = asked("--account-id", given.account_id, "Chats API account id (amojo_id)").strip()
    for option, value in (("--channel-id", channel_id), ("--account-id", account_id)):
        if not _ID.fullmatch(value):
            raise Problem(f"{option}: {value!r} is none of Kommo's.", "It is a UUID; see docs/providers.md, Kommo.")
    return f"{channel_id}_{account_id}".lower()


def account(given: Given) -> "KommoAccount":
    bot_id = asked("--bot-id", given.bot_id, "Bot id").strip()
    return KommoAccount.checked(secret("KOMMO_CHANNEL_SECRET", "Channel secret"), bot_id)


@dataclass(frozen=True, slots=True)
class KommoAccount:
    """The channel's secret makes the calls and signs the Chats API's webhooks; that of the URL lets CRM webhooks in."""

    secret: SecretStr
    bot_id: str
    business_id: str | None = None

    @classmethod
    def checked(cls, secret: str, bot_id: str) -> "KommoAccount":
        """Raises Problem that names the field and where Kommo shows it."""
        try:
            KommoCredentials(secret=SecretStr(secret), bot_id=bot_id)
        except ValidationError as error:
            fields = " and ".join(str(part["loc"][0]) for part in error.errors())
            raise Problem(f"Wrong: {fields}.", "Kommo's support sends both when it registers your channel.") from None
        return cls(SecretStr(secret), bot_id)

    @property
    def settings(self) -> Mapping[str, object]:
        """Our own bot, in whose name we write: what it says is no manager's."""
        return {"manager": {"own_bot": self.bot_id}}

    def sealed_for_calls(self, keys: KeyRing, tenant_id: UUID, channel_id: UUID) -> str:
        opened = {"secret": self.secret.get_secret_value(), "bot_id": self.bot_id}
        return keys.seal(json.dumps(opened), tenant_id=tenant_id, owner=channel_id)

    async def endpoint(self, connection: Connection, keys: KeyRing, own: Sequence[Listed], tenant_id: UUID) -> UUID:
        """Always a new one: CRM webhooks don't say which channel they are about, so each channel has its own URL."""
        row = EndpointRow(new_id(), tenant_id, "kommo", "")
        opened = {"channel_secrets": [self.secret.get_secret_value()], "url_secrets": [endpoint_secrets.new()]}
        await endpoints.add(connection, row._replace(secrets=endpoint_secrets.sealed(keys, row, opened)))
        return row.id

    async def accept(self, connection: Connection, keys: KeyRing, endpoint_id: UUID) -> None:
        row = {row.id: row for row in await endpoints.live(connection)}.get(endpoint_id)
        if row is not None:
            known = endpoint_secrets.opened(keys, row)
            before = endpoint_secrets.texts(known.get("channel_secrets"))
            changed = {
                "channel_secrets": endpoint_secrets.newest_first(self.secret.get_secret_value(), before),
                "url_secrets": endpoint_secrets.texts(known.get("url_secrets")) or [endpoint_secrets.new()],
            }
            if changed != known:
                await endpoints.set_secrets(connection, row.id, endpoint_secrets.sealed(keys, row, changed))


def urls(base: str, secret: str) -> Urls:
    return Urls(f"{base}/{endpoint_secrets.ending(secret)}", None, f"{base}/chats/:scope_id")


def entered_secret(keys: KeyRing, row: EndpointRow) -> str:
    return endpoint_secrets.in_url(keys, row)


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
