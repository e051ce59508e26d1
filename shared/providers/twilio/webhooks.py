"""Parses Twilio's webhooks: messages of WhatsApp and SMS, and delivery receipts.

Sources: https://www.twilio.com/docs/messaging/guides/webhook-request and
https://www.twilio.com/docs/messaging/guides/outbound-message-status-in-status-callbacks (fields), SDK 9.13.
"""

from collections.abc import Mapping

from shared.providers.base import Notice, Parsed, RawWebhook
from shared.providers.twilio.fields import read_fields
from shared.providers.twilio.messages import CONTENT, SIDS, media_of, read_message, read_receipt

_RECEIVED = ("receiving", "received")
# Status callbacks of WhatsApp name it in `EventType` too; other products put their own events there.
_EVENT_STATUSES = ("sent", "delivered", "read", "undelivered", "failed")
_OTHER_PRODUCTS = {"ConversationSid": "conversation", "CallSid": "call"}


def parse(raw: RawWebhook) -> Parsed:
    """Parse all of a webhook. Never raises; what cannot be read is a sentence in `errors`.

    The fields, not the path, tell a customer's message from a receipt: a message has content fields and the status
    `received`, or no status at all; anything else is a receipt. Fields without a name here stay in `extra`. A message
    without `To` has an empty `channel_address`: its endpoint still names the channel.
    """
    read = read_fields(raw)
    if isinstance(read, str):
        return Parsed(errors=(read,))
    fields = read.first
    if not any(map(str.strip, fields)):
        return Parsed(notices=(Notice("empty", read.whole),))
    external_id = next((fields[name] for name in SIDS if fields.get(name)), "")
    product = next((name for name in _OTHER_PRODUCTS if fields.get(name)), None)
    if product and not (external_id and fields.get("From")):
        return Parsed(notices=(Notice(_OTHER_PRODUCTS[product], read.whole),))
    if not external_id:
        return Parsed(errors=("MessageSid: missing; this is neither a message nor a status callback of Twilio's",))
    status = _status(fields)
    # Without a status it is a message, even an empty one: a status callback always has a status.
    if not status or (status in _RECEIVED and (not CONTENT.isdisjoint(fields) or media_of(fields))):
        return read_message(external_id, read)
    return Parsed(receipts=(read_receipt(external_id, status, read, raw.url),))


def _status(fields: Mapping[str, str]) -> str:
    status = (fields.get("MessageStatus") or fields.get("SmsStatus") or "").strip().lower()
    event = fields.get("EventType", "").strip().lower()
    return status or (event if event in _EVENT_STATUSES else "")
