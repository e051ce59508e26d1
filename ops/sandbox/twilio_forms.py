"""The forms of Twilio's webhooks with their signatures, and which send it refuses. No I/O.

Facts from Twilio's documentation: messaging/guides/webhook-request, messaging/guides/track-outbound-message-status,
usage/security, api/errors.
"""

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import orjson
from twilio.request_validator import RequestValidator

from ops.sandbox.receipts import Planned
from ops.sandbox.record import SentMessage
from ops.sandbox.twilio_errors import error_message

ACCOUNT_SID = "AC" + "5a" * 16
AUTH_TOKEN = "7e" * 16  # of an account that exists on this machine only
SERVICE_SENDER = "+15005550006"  # the number a messaging service of the sandbox sends from
API_VERSION = "2010-04-01"
BODY_LIMIT = 1600  # characters
INSTALLED_CHANNEL = "XE" + "5a" * 16

_WHATSAPP = "whatsapp:"
_PHONE = re.compile(r"\+[1-9]\d{6,14}")
_USER_ID = re.compile(r"[A-Z]{2}\.[A-Za-z0-9.]{1,128}")  # business-scoped: a country, then an id without a phone number


class Problem(NamedTuple):
    status: int
    code: int
    message: str
    retry_after: int | None = None  # seconds


class MediaItem(NamedTuple):
    url: str
    content_type: str


def new_sid(prefix: str) -> str:
    """`SM…`, `MM…`: a prefix and 32 hex digits."""
    return prefix + uuid.uuid4().hex


def is_whatsapp(address: str) -> bool:
    return address.startswith(_WHATSAPP)


def sign(url: str, params: Mapping[str, str], token: str) -> str:
    """X-Twilio-Signature of a form POSTed to `url` (its query included, a fragment not), with the account's token."""
    return str(RequestValidator(token).compute_signature(url.partition("#")[0], params))


def webhook_headers(url: str, form: Mapping[str, str], token: str) -> dict[str, str]:
    """The headers of one webhook; its repeats carry the same ones, so make them once."""
    return {
        "X-Twilio-Signature": sign(url, form, token),
        "I-Twilio-Idempotency-Token": str(uuid.uuid4()),
        "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
        "User-Agent": "TwilioProxy/1.1",
        "Accept": "*/*",
    }


def inbound_form(
    *,
    sender: str,
    to: str,
    text: str = "",
    account: str = ACCOUNT_SID,
    message_sid: str | None = None,
    profile_name: str | None = None,
    media: Sequence[MediaItem] = (),
    extra: Mapping[str, str | None] | None = None,
) -> dict[str, str]:
    """The form of a customer's message: WhatsApp where `sender` starts with `whatsapp:`, else SMS.

    `sender` may be a business-scoped id (`whatsapp:MX.123…`), which comes without a WaId. `extra` goes on top of
    everything; a None in it takes the field away.
    """
    sid = message_sid or new_sid("MM" if media else "SM")
    form = {
        "MessageSid": sid,
        "SmsSid": sid,
        "SmsMessageSid": sid,
        "AccountSid": account,
        "From": sender,
        "To": to,
        "Body": text,
        "NumMedia": str(len(media)),
        "NumSegments": "1",
        "SmsStatus": "received",
        "ApiVersion": API_VERSION,
    }
    for index, item in enumerate(media):
        form[f"MediaUrl{index}"] = item.url
        form[f"MediaContentType{index}"] = item.content_type
    if is_whatsapp(sender):
        form |= _whatsapp_fields(sender, profile_name or "Customer", media)
    for name, value in (extra or {}).items():
        if value is None:
            form.pop(name, None)
        else:
            form[name] = value
    return form


def _whatsapp_fields(sender: str, profile_name: str, media: Sequence[MediaItem]) -> dict[str, str]:
    address = sender.removeprefix(_WHATSAPP)
    contact: dict[str, object] = {"ProfileName": profile_name}
    fields = {"ProfileName": profile_name, "MessageType": _message_type(media), "ReferralNumMedia": "0"}
    if _PHONE.fullmatch(address):
        contact["WaId"] = fields["WaId"] = address.removeprefix("+")
    else:
        fields["ExternalUserId"] = sender
    metadata = {"type": "whatsapp", "data": {"context": contact}}
    return fields | {"ChannelMetadata": orjson.dumps(metadata).decode()}


def _message_type(media: Sequence[MediaItem]) -> str:
    if not media:
        return "text"
    kind = media[0].content_type.partition("/")[0]
    return kind if kind in ("image", "audio", "video") else "document"


def receipt_form(message: SentMessage, step: Planned) -> dict[str, str]:
    """The status callback of one step of a message."""
    form = {
        "MessageSid": message.sid,
        "SmsSid": message.sid,
        "MessageStatus": step.status,
        "SmsStatus": step.status,
        "AccountSid": message.account,
        "To": message.to,
        "From": shown_sender(message),
        "ApiVersion": API_VERSION,
    }
    if message.sender.startswith("MG"):
        form["MessagingServiceSid"] = message.sender
    if step.error_code:
        form["ErrorCode"] = step.error_code
        form["ErrorMessage"] = step.error_message or error_message(int(step.error_code))
    if is_whatsapp(message.to):
        form |= {
            "ChannelPrefix": "whatsapp",
            "ChannelInstallSid": INSTALLED_CHANNEL,
            "ChannelToAddress": _masked(message.to.removeprefix(_WHATSAPP)),
        }
        if step.status == "sent":
            form["StructuredMessage"] = "true" if message.content_sid else "false"
        else:
            form["EventType"] = step.status.upper()
        if step.error_code:
            form["ChannelStatusMessage"] = form["ErrorMessage"]
    return form


def shown_sender(message: SentMessage) -> str:
    if not message.sender.startswith("MG"):
        return message.sender
    return _WHATSAPP + SERVICE_SENDER if is_whatsapp(message.to) else SERVICE_SENDER


def _masked(address: str) -> str:
    """`+1650380XXXX`: the last four digits are hidden."""
    return address[:-4] + "XXXX"


def send_problem(form: Mapping[str, str], media_urls: Sequence[str]) -> Problem | None:
    """Why Twilio refuses to create this message; None where it takes it."""
    to, sender, body = form.get("To", ""), form.get("From", ""), form.get("Body", "")
    service, content, variables = (
        form.get(key, "") for key in ("MessagingServiceSid", "ContentSid", "ContentVariables")
    )
    if not to:
        return Problem(400, 21604, "A 'To' phone number is required.")
    if not sender and not service:
        return Problem(400, 21603, "A 'From' phone number is required.")
    if not (body or media_urls or content):
        return Problem(400, 21602, "Message body is required.")
    if len(body) > BODY_LIMIT:
        return Problem(400, 21617, f"The concatenated message body exceeds the {BODY_LIMIT} character limit")
    if not _address_fits(to):
        return Problem(400, 21211, f"Invalid 'To' Phone Number: {_masked(to)}")
    if sender and is_whatsapp(sender) != is_whatsapp(to):
        return Problem(400, 21910, "Invalid From and To pair. From and To should be of the same channel")
    if content and not re.fullmatch(r"HX[0-9a-f]{32}", content):
        return Problem(400, 21655, "The ContentSid is Invalid")
    if variables and not _is_object(variables):
        return Problem(400, 21656, "The ContentVariables Parameter is invalid")
    return None


def _address_fits(to: str) -> bool:
    bare = to.removeprefix(_WHATSAPP)
    return bool(_PHONE.fullmatch(bare) or (is_whatsapp(to) and _USER_ID.fullmatch(bare)))


def _is_object(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False
