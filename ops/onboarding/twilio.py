"""Sets up a number or a messaging service of Twilio's; the channels of a tenant's account share one endpoint."""

from pydantic import SecretStr, ValidationError

from ops.errors import Problem
from ops.onboarding import base
from ops.onboarding.base import Given
from ops.onboarding.prompts import asked, secret
from shared.actions.channels import Account, Urls
from shared.domain.model import ChannelKind
from shared.providers.twilio import onboarding
from shared.providers.twilio.endpoint import RETRIES
from shared.providers.twilio.onboarding import TwilioAccount
from shared.store.channels import Listed

CALLER = "Twilio"

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
        with base.option("--messaging-service"):
            return onboarding.messaging_service(given.messaging_service)
    return sender_address(kind, asked("--address", given.address, "The number, such as +14155238886"))


def sender_address(kind: ChannelKind, given: str) -> str:
    """The channel's own address. Raises Problem."""
    with base.option("--address"):
        return onboarding.sender_address(given, kind)


def account(given: Given) -> Account:
    sid = asked("--account-sid", given.account_sid, "Account SID").strip()
    token = secret("TWILIO_AUTH_TOKEN", "Auth token")
    try:
        return TwilioAccount(account_sid=sid, auth_token=SecretStr(token))
    except ValidationError as error:
        fields = " and ".join(base.fields(error))
        raise Problem(
            f"Wrong: {fields}.", "Both stand on the first page of Twilio's console; an account SID begins with AC."
        ) from None


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
