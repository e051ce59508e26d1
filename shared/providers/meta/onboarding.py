"""How a number at Meta is added. An app has one webhook URL for all its numbers. No I/O."""

from collections.abc import Mapping
from typing import Final

from pydantic import Field, SecretStr, field_validator

from shared.domain.model import ChannelKind
from shared.providers import endpoint_secrets
from shared.providers.endpoint_secrets import newest_first, texts
from shared.providers.onboarding import Account, Onboarding, SecretText, Urls, WrongAddress
from shared.providers.own_endpoint import Secrets


class MetaAccount(Account):
    """The access token makes the calls, the app's secret signs webhooks, the verify token says that the URL is ours."""

    business_id: str = Field(
        pattern=r"^[0-9]{1,30}$", description="The WhatsApp Business Account's id: WhatsApp → API Setup."
    )
    access_token: SecretText = Field(description="Of a system user: Business settings → System users.")
    app_secret: SecretText = Field(description="App settings → Basic.")
    verify_token: SecretText | None = Field(
        default=None, description="What you enter beside the webhook URL. Left out: the one there is, or a new one."
    )

    @field_validator("access_token", "app_secret", mode="after")
    @classmethod
    def _fits_a_header(cls, given: SecretStr) -> SecretStr:
        text = given.get_secret_value()
        if not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError("it holds a blank, a line break or a letter that no such secret has")
        return given

    @property
    def stored_business_id(self) -> str | None:
        return self.business_id

    def credentials(self) -> Mapping[str, object]:
        return {"access_token": self.access_token.get_secret_value()}

    def is_one_with(self, known: Secrets) -> bool:
        return self.app_secret.get_secret_value() in texts(known.get("app_secrets"))

    def secrets(self, known: Secrets) -> Secrets:
        return {
            "app_secrets": newest_first(self.app_secret.get_secret_value(), texts(known.get("app_secrets"))),
            "verify_token": self._verify_token(known),
        }

    def _verify_token(self, known: Secrets) -> str:
        if self.verify_token is not None:
            return self.verify_token.get_secret_value()
        return verify_token(known) or endpoint_secrets.new()


def address(given: str, _: ChannelKind) -> str:
    """The id of a phone number, which then is the channel's address."""
    number_id = given.strip()
    if not (number_id.isascii() and number_id.isdigit() and 5 <= len(number_id) <= 20):
        raise WrongAddress(
            f"{number_id!r} is none.", "It is digits, and not the number itself: WhatsApp → API Setup shows both."
        )
    return number_id


def urls(base: str, _: str) -> Urls:
    return Urls(base, None)


def verify_token(known: Secrets) -> str:
    token = known.get("verify_token")
    return token if isinstance(token, str) else ""


ONBOARDING: Final = Onboarding(
    kinds=("whatsapp",),
    account=MetaAccount,
    address=address,
    urls=urls,
    several_tenants=True,
    verify_token=verify_token,
)
