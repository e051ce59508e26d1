"""The interface of a provider's setup: an operator's options, the account a channel calls with, the URLs to enter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable
from uuid import UUID

from shared.crypto import KeyRing
from shared.database import Connection
from shared.domain.model import ChannelKind
from shared.store.channels import Listed
from shared.store.endpoints import EndpointRow

KINDS: Final[tuple[ChannelKind, ...]] = ("whatsapp", "sms", "email")


@dataclass(frozen=True, slots=True)
class Given:
    """What an operator gave by options. None was left out: the function that needs it asks for it."""

    address: str | None = None
    messaging_service: str | None = None
    account_sid: str | None = None
    phone_number_id: str | None = None
    account_id: str | None = None
    channel_id: str | None = None
    bot_id: str | None = None
    smtp_host: str | None = None
    smtp_port: int | None = None
    smtp_tls: str = "starttls"
    smtp_user: str | None = None
    from_address: str = ""
    from_name: str = ""


@dataclass(frozen=True, slots=True)
class Urls:
    """What is to be entered at the provider."""

    messages: str
    receipts: str | None  # None: they come to the same
    chats: str | None = None  # of Kommo's Chats API, which has a URL of its own


class Account(Protocol):
    """An operator's account at a provider: what a channel calls with, and whose webhooks its endpoint lets in."""

    @property
    def business_id(self) -> str | None:
        """What the provider calls the account that the number belongs to, where it is stored with the channel."""
        ...

    @property
    def settings(self) -> Mapping[str, object]:
        """What the channel's settings know of it; they are laid over those it has."""
        ...

    def sealed_for_calls(self, keys: KeyRing, tenant_id: UUID, channel_id: UUID) -> str:
        """The channel's credentials."""
        ...

    async def endpoint(self, connection: Connection, keys: KeyRing, own: Sequence[Listed], tenant_id: UUID) -> UUID:
        """The endpoint this account has already (`own`: the tenant's channels), letting its secret in; or a new one."""
        ...

    async def accept(self, connection: Connection, keys: KeyRing, endpoint_id: UUID) -> None:
        """Let webhooks signed with this account's secret in at an endpoint."""
        ...


@runtime_checkable
class Setup(Protocol):
    """What a provider's module says. What its functions miss they ask for; they raise Problem that names the field."""

    KINDS: tuple[ChannelKind, ...]  # of channel that it has; where it is one, it need not be named
    CALLER: str  # the name of the service that calls our webhooks, in a sentence
    URL_HOLDS_SECRET: bool  # whether the webhook URL ends with a secret, where nothing is signed

    def address(self, given: Given, kind: ChannelKind, /) -> str:
        """The sender address that the provider knows us by: the channel's address."""
        ...

    def account(self, given: Given, /) -> Account:
        """The account, with its secrets."""
        ...

    def urls(self, base: str, secret: str, /) -> Urls:
        """The webhook URLs of an endpoint, whose own is `base`; `secret` is what they end with where they hold one."""
        ...

    def entered_secret(self, keys: KeyRing, row: EndpointRow, /) -> str:
        """The secret of an endpoint that is entered at the provider; empty where there is none, or it doesn't open."""
        ...

    def entered(self, channel: Listed, urls: Urls, secret: str, /) -> list[str]:
        """What a person does at the provider, in lines."""
        ...
