"""Sets up a number or a messaging service of Twilio's; the channels of a tenant's account share one endpoint."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from pydantic import SecretStr, ValidationError

from ops.errors import Problem
from ops.onboarding import endpoint_secrets
from ops.onboarding.base import Given, Urls
from ops.onboarding.prompts import asked, secret
from shared.crypto import CryptoError, KeyRing
from shared.database import Connection, new_id
from shared.domain import addresses
from shared.domain.model import ChannelKind
from shared.providers.twilio.endpoint import RETRIES, STATUS
from shared.providers.twilio.send import TwilioCredentials
from shared.store import endpoints
from shared.store.channels import Listed
from shared.store.endpoints import EndpointRow

KINDS: tuple[ChannelKind, ...] = ("whatsapp", "sms")
CALLER = "Twilio"
URL_HOLDS_SECRET = False

# Where in Twilio's console the two URLs are entered: (place, name of the first field, name of the second).
_PLACES = {
    "whatsapp": (
        "Messaging → Senders → WhatsApp senders → this number",
        "Webhook URL for incoming messages",
        "Status callback URL",
    ),
    "sms": (
        "Phone Numbers → Manage → Active numbers → this number → Messaging",
        "A message comes in, Webhook, HTTP POST",
        "(no field for it here: every message we send carries it)",
    ),
    "service": (
        "Messaging → Services → this service → Integration",
        "Send a webhook, Request URL, HTTP Post",
        "Delivery Status Callback",
    ),
}


def address(given: Given, kind: ChannelKind) -> str:
    if given.address and given.messaging_service:
        raise Problem("A channel has one sender.", "Give --address or --messaging-service, not both.")
    if given.messaging_service:
        return messaging_service(given.messaging_service)
    return sender_address(kind, asked("--address", given.address, "The number, such as +14155238886"))


def sender_address(kind: ChannelKind, given: str) -> str:
    """A channel's own address: as it was given, without punctuation, so that the provider knows it as its sender.

    A phone number in international form, for SMS also a short code. Raises Problem.
    """
    found = addresses.phone(given)
    if found is None or (kind == "whatsapp" and not found.canonical.startswith("+")):
        short = " or a short code" if kind == "sms" else ""
        raise Problem(
            f"--address: {given!r} is no phone number{short}.", "Write it in international form, such as +14155238886."
        )
    digits = "".join(filter(str.isdigit, found.given))
    return f"+{digits}" if found.canonical.startswith("+") else digits


def messaging_service(given: str) -> str:
    """The id of a messaging service, which then is the channel's address. Raises Problem."""
    if not (given.startswith("MG") and given.isascii() and given.isalnum() and len(given) == 34):
        raise Problem(
            f"--messaging-service: {given!r} is none.",
            "It is MG and 32 letters and digits, shown at Twilio under Messaging → Services.",
        )
    return given


def account(given: Given) -> "TwilioAccount":
    sid = asked("--account-sid", given.account_sid, "Account SID").strip()
    return TwilioAccount.checked(sid, secret("TWILIO_AUTH_TOKEN", "Auth token"))


@dataclass(frozen=True, slots=True)
class TwilioAccount:
    """The auth token both makes calls and signs webhooks."""

    sid: str
    token: SecretStr
    business_id: str | None = None
    settings: ClassVar[Mapping[str, object]] = {}

    @classmethod
    def checked(cls, sid: str, token: str) -> "TwilioAccount":
        """Raises Problem that names the field and where Twilio shows it."""
        try:
            TwilioCredentials(account_sid=sid, auth_token=SecretStr(token))
        except ValidationError as error:
            fields = " and ".join(str(part["loc"][0]) for part in error.errors())
            raise Problem(
                f"Wrong: {fields}.", "Both stand on the first page of Twilio's console; an account SID begins with AC."
            ) from None
        return cls(sid, SecretStr(token))

    def sealed_for_calls(self, keys: KeyRing, tenant_id: UUID, channel_id: UUID) -> str:
        opened = {"account_sid": self.sid, "auth_token": self.token.get_secret_value()}
        return keys.seal(json.dumps(opened), tenant_id=tenant_id, owner=channel_id)

    async def endpoint(self, connection: Connection, keys: KeyRing, own: Sequence[Listed], tenant_id: UUID) -> UUID:
        for channel in own:
            if channel.endpoint_id is not None and _account_sid(keys, channel) == self.sid:
                await self.accept(connection, keys, channel.endpoint_id)
                return channel.endpoint_id
        row = EndpointRow(new_id(), tenant_id, "twilio", "")
        opened = {"auth_tokens": [self.token.get_secret_value()]}
        await endpoints.add(connection, row._replace(secrets=endpoint_secrets.sealed(keys, row, opened)))
        return row.id

    async def accept(self, connection: Connection, keys: KeyRing, endpoint_id: UUID) -> None:
        row = {row.id: row for row in await endpoints.live(connection)}.get(endpoint_id)
        if row is not None:
            known = endpoint_secrets.texts(endpoint_secrets.opened(keys, row).get("auth_tokens"))
            token = self.token.get_secret_value()
            if known[:1] != [token]:
                changed = {"auth_tokens": endpoint_secrets.newest_first(token, known)}
                await endpoints.set_secrets(connection, row.id, endpoint_secrets.sealed(keys, row, changed))


def _account_sid(keys: KeyRing, channel: Listed) -> str | None:
    """The account of a channel; None where its credentials don't open, or are not Twilio's."""
    try:
        opened = keys.open(channel.credentials, tenant_id=channel.tenant_id, owner=channel.id)
        return TwilioCredentials.model_validate_json(opened).account_sid
    except (CryptoError, ValidationError):
        return None


def urls(base: str, _: str) -> Urls:
    return Urls(f"{base}{RETRIES}", f"{base}/{STATUS}{RETRIES}")


def entered_secret(_: KeyRing, __: EndpointRow) -> str:
    return ""  # webhooks are signed with the auth token, which Twilio has


def entered(channel: Listed, urls: Urls, _: str) -> list[str]:
    place, first, second = _PLACES["service" if channel.address.startswith("MG") else channel.kind]
    return [
        f"Enter at Twilio, {place}:",
        f"  {first}:",
        f"    {urls.messages}",
        f"  {second}:",
        f"    {urls.receipts}",
        "",
        f"{RETRIES} belongs to them: it makes Twilio try five times, on any failure.",
    ]
