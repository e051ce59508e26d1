"""How a chat channel of a Kommo account is added: the URL of CRM webhooks holds a secret. No I/O."""

import re
from collections.abc import Mapping
from typing import Final

from pydantic import Field

from shared.domain.model import ChannelKind
from shared.providers import endpoint_secrets
from shared.providers.endpoint_secrets import newest_first, texts
from shared.providers.onboarding import Account, Onboarding, SecretText, Urls, WrongAddress
from shared.providers.own_endpoint import Secrets

BOT_ID: Final = r"^[!-~]{1,200}$"
_UUID: Final = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_ID: Final = re.compile(_UUID, re.ASCII)
_SCOPE_ID: Final = re.compile(rf"{_UUID}_{_UUID}", re.ASCII)


class KommoAccount(Account):
    """The channel's secret makes the calls and signs the Chats API's webhooks; that of the URL lets CRM webhooks in."""

    secret: SecretText = Field(description="Kommo's support sends it when it registers your channel.")
    bot_id: str = Field(pattern=BOT_ID, description="The id of the channel's bot, in whose name we write.")

    @property
    def channel_settings(self) -> Mapping[str, object]:
        """Our own bot, in whose name we write: what it says is no manager's."""
        return {"manager": {"own_bot": self.bot_id}}

    def credentials(self) -> Mapping[str, object]:
        return {"secret": self.secret.get_secret_value(), "bot_id": self.bot_id}

    def secrets(self, known: Secrets) -> Secrets:
        """Of an endpoint of the channel's own: CRM webhooks don't say which channel they are about."""
        before = texts(known.get("channel_secrets"))
        return {
            "channel_secrets": newest_first(self.secret.get_secret_value(), before),
            "url_secrets": texts(known.get("url_secrets")) or [endpoint_secrets.new()],
        }


def is_id(text: str) -> bool:
    """Whether it is an id of Kommo's: a UUID."""
    return _ID.fullmatch(text) is not None


def address(given: str, _: ChannelKind) -> str:
    """What Kommo calls a channel in one account (its scope_id), which then is our channel's address."""
    if not _SCOPE_ID.fullmatch(given.strip()):
        raise WrongAddress(
            f"{given!r} is no scope id of Kommo's.", "Give the channel's id, _ and the Chats API account id (amojo_id)."
        )
    return given.strip().lower()


def urls(base: str, secret: str) -> Urls:
    return Urls(f"{base}/{endpoint_secrets.ending(secret)}", None, f"{base}/chats/:scope_id")


ONBOARDING: Final = Onboarding(
    kinds=("whatsapp",), account=KommoAccount, address=address, urls=urls, url_holds_secret=True
)
