"""How a number or a messaging service of Twilio's is added; the channels of an account share one endpoint. No I/O."""

from collections.abc import Mapping
from typing import Final

from pydantic import Field

from shared.domain import addresses
from shared.domain.model import ChannelKind
from shared.providers.endpoint_secrets import newest_first, texts
from shared.providers.onboarding import Account, Onboarding, SecretText, Urls, WrongAddress
from shared.providers.own_endpoint import Secrets
from shared.providers.twilio.endpoint import RETRIES, STATUS

ACCOUNT_SID: Final = r"^AC[0-9A-Za-z]{1,62}$"


class TwilioAccount(Account):
    """The auth token both makes calls and signs webhooks."""

    account_sid: str = Field(
        pattern=ACCOUNT_SID, description="On the first page of Twilio's console; it begins with AC."
    )
    auth_token: SecretText = Field(description="Beside the account SID. It makes the calls and signs webhooks.")

    def credentials(self) -> Mapping[str, object]:
        return {"account_sid": self.account_sid, "auth_token": self.auth_token.get_secret_value()}

    def is_of(self, credentials: Secrets) -> bool:
        return credentials.get("account_sid") == self.account_sid

    def secrets(self, known: Secrets) -> Secrets:
        return {"auth_tokens": newest_first(self.auth_token.get_secret_value(), texts(known.get("auth_tokens")))}


def sender_address(given: str, kind: ChannelKind) -> str:
    """A channel's own address: as it was given, without punctuation, so that Twilio knows it as its sender.

    The id of a messaging service; or a phone number in international form, for SMS also a short code.
    """
    if given.startswith("MG"):
        return messaging_service(given)
    found = addresses.phone(given)
    if found is None or (kind == "whatsapp" and not found.canonical.startswith("+")):
        short = " or a short code" if kind == "sms" else ""
        raise WrongAddress(
            f"{given!r} is no phone number{short}.", "Write it in international form, such as +14155238886."
        )
    digits = "".join(filter(str.isdigit, found.given))
    return f"+{digits}" if found.canonical.startswith("+") else digits


def messaging_service(given: str) -> str:
    """The id of a messaging service, which then is the channel's address."""
    if not (given.startswith("MG") and given.isascii() and given.isalnum() and len(given) == 34):
        raise WrongAddress(
            f"{given!r} is none.",
            "It is MG and 32 letters and digits, shown at Twilio under Messaging → Services.",
        )
    return given


def urls(base: str, _: str) -> Urls:
    return Urls(f"{base}{RETRIES}", f"{base}/{STATUS}{RETRIES}")


ONBOARDING: Final = Onboarding(kinds=("whatsapp", "sms"), account=TwilioAccount, address=sender_address, urls=urls)
