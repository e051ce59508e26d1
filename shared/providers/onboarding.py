"""Defines what a provider says about adding a channel: its fields, the account it calls with, its webhook URLs. No I/O.

The palomar command and the management API add channels by it. What only a person at a terminal needs, such as prompts
and where the URLs are entered, is in ops/onboarding.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic.alias_generators import to_camel

from shared.domain.model import ChannelKind
from shared.providers.own_endpoint import Secrets

SecretText = Annotated[SecretStr, Field(min_length=1, max_length=1000)]


class WrongAddress(ValueError):
    """An address is no sender of the provider's. The first argument says so, the second one what to give."""

    def __init__(self, detail: str, remedy: str) -> None:
        super().__init__(f"{detail} {remedy}")
        self.detail = detail
        self.remedy = remedy


class Account(BaseModel):
    """A tenant's account at a provider: what a channel calls with, and whose webhooks its endpoint accepts.

    The fields of a subclass are what a client gives, by their aliases.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, hide_input_in_errors=True
    )

    @property
    def stored_business_id(self) -> str | None:
        """What the provider calls the business that the number belongs to, where the channel's row has it."""
        return None

    @property
    def channel_settings(self) -> Mapping[str, object]:
        """What the channel's settings say about the account; they are laid over those it has."""
        return {}

    def credentials(self) -> Mapping[str, object]:
        """The channel's credentials, as JSON, to be sealed."""
        raise NotImplementedError

    def is_of(self, credentials: Secrets) -> bool:
        """Whether a channel with these credentials is of this account, so that both share an endpoint."""
        return False

    def is_one_with(self, known: Secrets) -> bool:
        """Whether the endpoint with these secrets is of this account, so that the channel shares it."""
        return False

    def secrets(self, known: Secrets) -> Secrets:
        """An endpoint's secrets, so that it accepts this account's webhooks. `known` are those that it has so far."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class AccountField:
    """A field of an account, as a client gives it."""

    name: str
    description: str
    required: bool
    secret: bool


def fields(account: type[Account]) -> list[AccountField]:
    """The fields of a provider's account, in its order."""
    return [
        AccountField(
            field.alias or name,
            field.description or "",
            field.is_required(),
            field.annotation in (SecretStr, SecretStr | None),
        )
        for name, field in account.model_fields.items()
    ]


@dataclass(frozen=True, slots=True)
class Urls:
    """What is to be entered at the provider."""

    messages: str
    receipts: str | None  # None: they come to the same
    chats: str | None = None  # of Kommo's Chats API, which has a URL of its own


def _none(_: Secrets) -> str:
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Onboarding:
    """How a channel of this provider is added."""

    kinds: tuple[ChannelKind, ...]  # where it is one, it need not be named
    account: type[Account]
    address: Callable[[str, ChannelKind], str]  # as the provider knows the sender. Raises WrongAddress
    urls: Callable[[str, str], Urls]  # of the endpoint's URL, and the secret that it ends with where it holds one
    url_holds_secret: bool = False  # whether the webhook URL ends with a secret, where nothing is signed
    several_tenants: bool = False  # whether an operator's endpoint serves the channels of several tenants
    verify_token: Callable[[Secrets], str] = _none  # of an endpoint's secrets: entered at the provider beside the URL
