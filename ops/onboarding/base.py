"""The interface of a provider's setup at a terminal: an operator's options, and where the URLs are entered."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from pydantic import ValidationError

from ops.errors import Problem
from shared.actions.channels import Account, Urls, WrongAddress
from shared.domain.model import ChannelKind
from shared.store.channels import Listed

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


@runtime_checkable
class Setup(Protocol):
    """What a provider's module says. What its functions miss they ask for; they raise Problem that names the field."""

    CALLER: str  # the name of the service that calls our webhooks, in a sentence

    def address(self, given: Given, kind: ChannelKind, /) -> str:
        """The sender address that the provider knows us by: the channel's address."""
        ...

    def account(self, given: Given, /) -> Account:
        """The account, with its secrets."""
        ...

    def entered(self, channel: Listed, urls: Urls, verify_token: str, /) -> list[str]:
        """What a person does at the provider, in lines."""
        ...


@contextmanager
def option(name: str) -> Iterator[None]:
    """Turn the complaint about an address into the Problem of this option."""
    try:
        yield
    except WrongAddress as wrong:
        raise Problem(f"{name}: {wrong.detail}", wrong.remedy) from None


def fields(error: ValidationError) -> list[str]:
    """The fields of an account that are wrong, as their options and variables are called."""
    return [re.sub(r"(?<=[a-z])([A-Z])", r"_\1", str(part["loc"][0])).lower() for part in error.errors() if part["loc"]]
