"""How a mailbox is added: the SMTP login that sends, and a URL with a secret to which mail comes in. No I/O."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from shared.domain import addresses
from shared.domain.model import ChannelKind
from shared.providers import endpoint_secrets
from shared.providers.endpoint_secrets import texts
from shared.providers.onboarding import Account, Onboarding, SecretText, Urls, WrongAddress
from shared.providers.own_endpoint import Secrets

PORTS: Final[Mapping[str, int]] = {"starttls": 587, "tls": 465, "none": 25}


def address(given: str, _: ChannelKind) -> str:
    """A mailbox's address, its domain in lower case."""
    found = addresses.email(given)
    if found is None:
        raise WrongAddress(f"{given!r} is no e-mail address.", "Write it as hello@example.com.")
    user, domain = found.given.rsplit("@", 1)
    return f"{user}@{domain.lower()}"


def _from_address(given: str) -> str:
    return address(given, "email") if given else ""


class EmailAccount(Account):
    """The SMTP login makes the calls; what comes in proves itself by the end of the URL, a secret of ours."""

    host: str = Field(min_length=1, max_length=253, description="The SMTP server, such as smtp.sendgrid.net.")
    port: int | None = Field(default=None, ge=1, le=65535, description="null: 587 with starttls, 465 with tls.")
    tls: Literal["starttls", "tls", "none"] = "starttls"
    user: str = Field(max_length=320, description="Of the login there.")
    password: SecretText
    from_address: Annotated[str, AfterValidator(_from_address)] = Field(
        default="", max_length=320, description="The From, where it is not the channel's address."
    )
    from_name: str = Field(default="", max_length=100, description="The name beside it.")

    def credentials(self) -> Mapping[str, object]:
        port = PORTS[self.tls] if self.port is None else self.port
        return {**self.model_dump(), "port": port, "password": self.password.get_secret_value()}

    def secrets(self, known: Secrets) -> Secrets:
        """Of an endpoint of its own: a mail that was forwarded does not say whose it was, but its URL does."""
        return {"url_secrets": texts(known.get("url_secrets")) or [endpoint_secrets.new()]}


def urls(base: str, secret: str) -> Urls:
    return Urls(f"{base}/{endpoint_secrets.ending(secret)}", None)


ONBOARDING: Final = Onboarding(
    kinds=("email",), account=EmailAccount, address=address, urls=urls, url_holds_secret=True
)
