"""Reads the messages and delivery receipts that stand in the fields of Twilio's webhooks."""

import re
from collections.abc import Iterator, Mapping
from uuid import UUID

from shared.domain import addresses
from shared.domain.media import file_kind, plain_type
from shared.domain.model import Address, ChannelKind, ConsentState, InboundMessage, Media, MessageType, Receipt
from shared.providers import readable_text
from shared.providers.base import SOLE_CHANNEL, Notice, Parsed
from shared.providers.readable_text import Readable
from shared.providers.twilio.fields import Fields, form, query

# Fields of what the customer tapped or filled in.
_TAPPED = ("ButtonText", "ButtonPayload", "ListId", "ListTitle", "InteractiveData", "FlowData")
_PLACE = ("Label", "Address", "Latitude", "Longitude")
# Fields of a message's content; status callbacks have none of them.
CONTENT = frozenset(("Body", "NumMedia", "MessageType", "Latitude", *_TAPPED))
SIDS = ("MessageSid", "SmsMessageSid", "SmsSid")
_NAMED = frozenset((*SIDS, "From", "To", "Body", "NumMedia", "ProfileName", "OriginalRepliedMessageSid"))
_NAMED_IN_RECEIPTS = frozenset((*SIDS, "MessageStatus", "SmsStatus", "ErrorCode", "ErrorMessage", "To"))
_MEDIA_FIELD = re.compile(r"Media(Url|ContentType)([0-9]{1,2})", re.ASCII)
# RCS counts as SMS: it is the same person at the same number, and Twilio delivers the answer by either of the two.
_CHANNELS: dict[str, ChannelKind] = {"whatsapp": "whatsapp", "": "sms", "rcs": "sms"}
_CONSENT: dict[str, tuple[str, ConsentState]] = {
    "STOP": ("opt_out", "opted_out"),
    "START": ("opt_in", "opted_in"),
}
_MESSAGE_TYPES: dict[str, MessageType] = {
    "text": "text",
    "image": "image",
    "audio": "audio",
    "voice": "audio",
    "video": "video",
    "document": "file",
    "file": "file",
    "sticker": "sticker",
    "location": "location",
    "contact": "contacts",
    "contacts": "contacts",
    "button": "button",
    "interactive": "button",
    "reaction": "reaction",
    "system": "system",
}
_VCARDS = frozenset(("text/vcard", "text/x-vcard", "text/directory", "application/vcard"))


def read_message(external_id: str, read: Fields) -> Parsed:
    """A customer's message, with the consent that it may express; or what is wrong with it."""
    fields = read.first
    given_from, given_to = fields.get("From", ""), fields.get("To", "")
    sender = _sender(fields)
    if not sender:
        return Parsed(errors=("From: missing or unreadable; the sender cannot be answered",))
    scheme, _ = addresses.split_scheme(given_from)
    if scheme not in _CHANNELS:
        return Parsed(errors=(f"From: the channel `{scheme}` is not supported; use a WhatsApp or SMS sender",))
    rcs = scheme == "rcs" and addresses.phone(given_to) is None
    media = media_of(fields)
    opt_out_type = fields.get("OptOutType", "").strip().upper()
    change, consent = _CONSENT.get(opt_out_type, ("", None))
    said = readable_text.first(_contents(fields, tapped_first=bool(scheme)))
    message = InboundMessage(
        external_id=external_id,
        channel_kind=_CHANNELS[scheme],
        sender=sender,
        # An RCS message is addressed to an agent's name, `rcs:shop_x1y2_agent`, which is no channel's address.
        channel_address=SOLE_CHANNEL if rcs else _canonical(given_to) or fields.get("MessagingServiceSid", ""),
        message_type=_message_type(fields, media, _CHANNELS[scheme]),
        text=said.text,
        wording=said.wording,
        media=media,
        contact_name=fields.get("ProfileName") or fields.get("ProfileUsername") or None,
        reply_to=fields.get("OriginalRepliedMessageSid") or None,
        given_from=given_from,
        given_to=given_to,
        consent=consent,
        answered=opt_out_type in ("STOP", "START", "HELP"),
        extra={name: value for name, value in read.whole.items() if name not in _NAMED and not _media_field(name)},
    )
    notices = (Notice("consent", {"change": change, "address": sender[0].canonical}),) if change else ()
    return Parsed(messages=(message,), notices=notices)


def _contents(fields: Mapping[str, str], *, tapped_first: bool) -> Iterator[Readable]:
    """What may be the message's text, the best first.

    In WhatsApp and RCS the title of a tapped button goes before the body; a button without a title gives its id, a form
    its answers, a location its place.
    """
    tapped = Readable(fields.get("ButtonText") or fields.get("ListTitle") or "", "own")
    if tapped_first:
        yield tapped
    chosen = fields.get("ButtonPayload") or fields.get("ListId") or ""
    filled = fields.get("InteractiveData") or fields.get("FlowData") or ""
    body = fields.get("Body", "")
    # Beside a form the body is not the customer's own words, and neither is a body that repeats the button's id.
    yield Readable(body, "unclear" if filled or body == chosen else "own")
    yield tapped
    yield Readable(readable_text.form_json(filled), "data")
    yield Readable(chosen, "unclear")
    if _has_location(fields):
        yield Readable(readable_text.place(*(fields.get(name, "") for name in _PLACE)), "data")


def _has_location(fields: Mapping[str, str]) -> bool:
    return bool(fields.get("Latitude") and fields.get("Longitude"))


def _sender(fields: Mapping[str, str]) -> tuple[Address, ...]:
    """All addresses of the customer, a phone number first; none where `From` is unreadable.

    A user id stands in `From` where there is no phone number, or beside it in `ExternalUserId`; the customer's id for
    the whole business portfolio stands in `ParentExternalUserId`.
    """
    main = addresses.person(fields.get("From", ""))
    if main is None:
        return ()
    found = {main.canonical: main}
    others = [addresses.user_id(fields.get(name, "")) for name in ("ExternalUserId", "ParentExternalUserId")]
    if main.kind != "phone" and addresses.user_id(main.given):
        others.append(addresses.phone(fields.get("WaId", "")))
    for other in others:
        if other is not None:
            found.setdefault(other.canonical, other)
    return tuple(sorted(found.values(), key=lambda address: address.kind != "phone"))


def _media_field(name: str) -> re.Match[str] | None:
    """A match of `MediaUrlN` or `MediaContentTypeN`; None for any other name, which costs one prefix comparison."""
    return _MEDIA_FIELD.fullmatch(name) if name.startswith("Media") else None


def media_of(fields: Mapping[str, str]) -> tuple[Media, ...]:
    """The files of the MediaUrlN fields, in order. `NumMedia` is not used: it may be wrong or missing."""
    urls = [found for name in fields if (found := _media_field(name)) and found[1] == "Url"]
    numbers = sorted(int(found[2]) for found in urls)
    items = [(fields.get(f"MediaUrl{number}"), fields.get(f"MediaContentType{number}")) for number in numbers]
    return tuple(Media(url=url, mime_type=mime_type or None) for url, mime_type in items if url)


def _message_type(fields: Mapping[str, str], media: tuple[Media, ...], channel: ChannelKind) -> MessageType:
    given = fields.get("MessageType", "").strip().lower()
    named = _MESSAGE_TYPES.get(given)
    if any(fields.get(name) for name in _TAPPED):
        return "button"
    if _has_location(fields):
        return "location"
    if named and named != "text":
        return named
    if media:
        return _media_type(media[0].mime_type or "", channel)
    return "text" if named or fields.get("Body") or ("Body" in fields and not given) else "unsupported"


def _media_type(mime_type: str, channel: ChannelKind) -> MessageType:
    media_type = plain_type(mime_type)
    if media_type in _VCARDS:
        return "contacts"
    if media_type == "image/webp" and channel == "whatsapp":  # WhatsApp makes other pictures JPEG
        return "sticker"
    if media_type == "application/ogg":
        return "audio"
    return file_kind(media_type)


def read_receipt(external_id: str, status: str, read: Fields, url: str) -> Receipt:
    """The delivery receipt that a status callback is."""
    fields = read.first
    scheme, _ = addresses.split_scheme(fields.get("To") or fields.get("From", ""))
    error_code = fields.get("ErrorCode", "").strip()
    return Receipt(
        external_id=external_id,
        status=status,
        message_id=_our_message_id(url),
        channel_kind=_CHANNELS.get(scheme or fields.get("ChannelPrefix", "")),
        error_code=error_code if error_code not in ("", "0") else None,
        error_message=fields.get("ErrorMessage") or fields.get("ChannelStatusMessage") or None,
        recipient=_canonical(fields.get("To", "")) or None,
        sent_from=fields.get("From", "").removeprefix("whatsapp:"),
        extra={name: value for name, value in read.whole.items() if name not in _NAMED_IN_RECEIPTS},
    )


def _our_message_id(url: str) -> UUID | None:
    """Our message's id, which `TwilioSender` put into the status callback's query as `m`."""
    for name, value in form(query(url)) or ():
        if name == "m":
            try:
                return UUID(value)
            except ValueError:
                return None
    return None


def _canonical(given: str) -> str:
    address = addresses.person(given)
    return address.canonical if address else ""
