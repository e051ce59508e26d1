"""Twilio, WhatsApp and SMS: webhooks in (`verify`, `parse`), messages out (`make_sender`).

Sources: https://www.twilio.com/docs/usage/security (signature), https://www.twilio.com/docs/messaging/guides/webhook-request
and https://www.twilio.com/docs/messaging/guides/outbound-message-status-in-status-callbacks (fields), SDK 9.13.
"""

import hmac
import re
from binascii import b2a_base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import orjson
from yarl import URL

from shared.domain import addresses
from shared.domain.model import Address, ChannelKind, ConsentState, InboundMessage, Media, MessageType, Receipt
from shared.providers import readable_text
from shared.providers.base import SOLE_CHANNEL, Notice, Parsed, RawWebhook
from shared.providers.readable_text import Readable

# Twilio sends some 40 fields; ten media items make 60. Beyond this it is not Twilio, and not worth sorting.
_MOST_FIELDS = 500
_ORDINARY_FORM = 8192  # characters
_ALGORITHMS = {"HMAC_SHA1": "sha1", "HMAC_SHA256": "sha256"}


# -- signature ---------------------------------------------------------------------------------------------------------


def verify(raw: RawWebhook, tokens: Sequence[str]) -> bool:
    """Whether one of `tokens` (auth tokens or shared keys' secrets; blank ones count for nothing) signed this request.

    Signed is the URL, with or without its port, and of a form every pair sorted by name, a name's equal values once.
    A JSON body is signed through `bodySHA256` in the URL's query, and not acceptable without it. A GET is its URL.
    False, and never an exception, for anything else. Bytes that are no UTF-8 are signed as the U+FFFD they decode to,
    as every framework with the SDK's validator does; Twilio itself sends none.
    """
    claimed = raw.headers.get("x-twilio-signature", "")
    algorithm = _algorithm(raw.headers.get("x-twilio-webhooks-signature-settings", ""))
    suffix = _signed_fields(raw)
    if not claimed or not claimed.isascii() or algorithm is None or suffix is None:
        return False
    wanted = claimed.encode("ascii")
    address, mark, query = raw.url.partition("?")
    rest = (mark + query).encode("utf-8", "replace") + suffix
    keys = [token.encode("utf-8", "replace") for token in tokens if token]
    return any(
        hmac.compare_digest(b2a_base64(hmac.digest(key, url + rest, algorithm), newline=False), wanted)
        for url in _with_and_without_port(address)
        for key in keys
    )


def _algorithm(settings: str) -> str | None:
    """hashlib's name for what `key=…,algorithm=HMAC_SHA256` asks for; SHA-1 where nothing is asked, None if unknown."""
    for part in settings.split(",") if settings else ():
        name, _, value = part.partition("=")
        if name.strip() == "algorithm" and value.strip():
            return _ALGORITHMS.get(value.strip().upper())
    return "sha1"


def _signed_fields(raw: RawWebhook) -> bytes | None:
    """What follows the URL under the signature; None where no signature can be right."""
    if _is_get(raw):
        return b""
    if _is_json(raw):
        given = next((value for name, value in _form(_query(raw.url)) or () if name == "bodySHA256"), "")
        matches = hmac.compare_digest(sha256(raw.body).hexdigest().encode(), given.encode("utf-8"))
        return b"" if matches else None
    pairs = _form(raw.body.decode("utf-8", "replace"))
    if pairs is None:
        return None
    return "".join([name + value for name, value in sorted(set(pairs))]).encode("utf-8")


@lru_cache(maxsize=1024)
def _with_and_without_port(address: str) -> tuple[bytes, ...]:
    """A URL without its query as it stands, and with the scheme's own port added, or its port left out."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return (address.encode("utf-8", "replace"),)
    if port is None:
        netloc = f"{parts.netloc}:{443 if parts.scheme == 'https' else 80}"
    else:
        netloc = parts.netloc.rpartition(":")[0]
    return address.encode("utf-8", "replace"), parts._replace(netloc=netloc).geturl().encode("utf-8", "replace")


# -- fields ------------------------------------------------------------------------------------------------------------


def _is_get(raw: RawWebhook) -> bool:
    return raw.method.upper() in ("GET", "HEAD")


def _is_json(raw: RawWebhook) -> bool:
    media_type = raw.content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def _query(url: str) -> str:
    """The query of a URL; bytes that were no UTF-8 arrive as lone surrogates, and leave as `?`."""
    return url.partition("#")[0].partition("?")[2].encode("utf-8", "replace").decode()


def _form(text: str) -> list[tuple[str, str]] | None:
    """Names and values of a form, blank values too, in order; None where there are too many to be Twilio's.

    yarl reads a form five times faster than parse_qsl, with the same result, but remembers the last 128 it read:
    only bodies of an ordinary size may stay in memory.
    """
    if text.count("&") >= _MOST_FIELDS:
        return None
    if len(text) <= _ORDINARY_FORM:
        return list(URL.build(query_string=text, encoded=True).query.items())
    return parse_qsl(text, keep_blank_values=True, errors="replace")


@dataclass(frozen=True, slots=True)
class _Fields:
    first: dict[str, str]  # of a repeated name the first value
    whole: dict[str, object]  # of a repeated name all of them, in a list


def _fields(raw: RawWebhook) -> _Fields | str:
    """The fields of the form, the JSON object or a GET's query, or a sentence that says why there are none."""
    if _is_json(raw) and not _is_get(raw):
        try:
            loaded = orjson.loads(raw.body)
        except orjson.JSONDecodeError as error:
            return f"body: not the JSON its Content-Type says ({error.msg}); Twilio posts a form or an object"
        if not isinstance(loaded, dict):
            return 'body: a JSON object of Twilio\'s fields is needed, such as {"MessageSid": …}'
        values = {name: _as_text(value) for name, value in loaded.items()}
        return _Fields(values, {**values})
    pairs = _form(_query(raw.url) if _is_get(raw) else raw.body.decode("utf-8", "replace"))
    if pairs is None:
        return f"body: {_MOST_FIELDS} fields or more; Twilio sends fewer than a hundred"
    first = dict(pairs)
    if len(first) == len(pairs):  # as nearly always
        return _Fields(first, {**first})
    first = {}
    repeated: dict[str, list[str]] = {}
    for name, value in pairs:
        if name in first:
            repeated.setdefault(name, [first[name]]).append(value)
        else:
            first[name] = value
    return _Fields(first, {**first, **repeated})


def _as_text(value: object) -> str:
    """A JSON value as the form would have held it."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # read at a depth orjson does not write
        return "(nested too deep)"


# -- what came in ------------------------------------------------------------------------------------------------------

# A webhook that has one of these speaks of a message's content; status callbacks have none of them.
_TAPPED = ("ButtonText", "ButtonPayload", "ListId", "ListTitle", "InteractiveData", "FlowData")
_PLACE = ("Label", "Address", "Latitude", "Longitude")
_CONTENT = frozenset(("Body", "NumMedia", "MessageType", "Latitude", *_TAPPED))
_RECEIVED = ("receiving", "received")
# Status callbacks of WhatsApp say it here too; other products put their own events in this field.
_EVENT_STATUSES = ("sent", "delivered", "read", "undelivered", "failed")
_SIDS = ("MessageSid", "SmsMessageSid", "SmsSid")
_NAMED = frozenset((*_SIDS, "From", "To", "Body", "NumMedia", "ProfileName", "OriginalRepliedMessageSid"))
_NAMED_IN_RECEIPTS = frozenset((*_SIDS, "MessageStatus", "SmsStatus", "ErrorCode", "ErrorMessage", "To"))
_MEDIA_FIELD = re.compile(r"Media(Url|ContentType)([0-9]{1,2})", re.ASCII)
# RCS is an SMS to us: the same person by the same number, and an answer that Twilio delivers by either of the two.
_CHANNELS: dict[str, ChannelKind] = {"whatsapp": "whatsapp", "": "sms", "rcs": "sms"}
_CONSENT: dict[str, tuple[str, ConsentState]] = {
    "STOP": ("opt_out", "opted_out"),
    "START": ("opt_in", "opted_in"),
}
_OTHER_PRODUCTS = {"ConversationSid": "conversation", "CallSid": "call"}
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


def parse(raw: RawWebhook) -> Parsed:
    """All a webhook says. Never raises; what cannot be read is a sentence in `errors`.

    Its content tells a customer's message from a receipt, not the path it came to: a message has content fields and
    no status but `received`, or no status at all; anything else is a receipt. Fields we have no name for stay in
    `extra`.
    A message without `To` has an empty `channel_address`: the endpoint it came to still names the channel.
    """
    read = _fields(raw)
    if isinstance(read, str):
        return Parsed(errors=(read,))
    fields = read.first
    if not any(map(str.strip, fields)):
        return Parsed(notices=(Notice("empty", read.whole),))
    external_id = next((fields[name] for name in _SIDS if fields.get(name)), "")
    product = next((name for name in _OTHER_PRODUCTS if fields.get(name)), None)
    if product and not (external_id and fields.get("From")):
        return Parsed(notices=(Notice(_OTHER_PRODUCTS[product], read.whole),))
    if not external_id:
        return Parsed(errors=("MessageSid: missing; this is neither a message nor a status callback of Twilio's",))
    status = _status(fields)
    # Without a status it can only be a message, though it were an empty one: a status callback names one.
    if not status or (status in _RECEIVED and (not _CONTENT.isdisjoint(fields) or _media(fields))):
        return _message(external_id, read)
    return Parsed(receipts=(_receipt(external_id, status, read, raw.url),))


def _status(fields: Mapping[str, str]) -> str:
    status = (fields.get("MessageStatus") or fields.get("SmsStatus") or "").strip().lower()
    event = fields.get("EventType", "").strip().lower()
    return status or (event if event in _EVENT_STATUSES else "")


def _message(external_id: str, read: _Fields) -> Parsed:
    fields = read.first
    given_from, given_to = fields.get("From", ""), fields.get("To", "")
    sender = _sender(fields)
    if not sender:
        return Parsed(errors=("From: missing or unreadable; whoever wrote cannot be answered",))
    scheme, _ = addresses.split_scheme(given_from)
    if scheme not in _CHANNELS:
        return Parsed(errors=(f"From: the channel `{scheme}` is not supported; use a WhatsApp or SMS sender",))
    rcs = scheme == "rcs" and addresses.phone(given_to) is None
    media = _media(fields)
    opt_out_type = fields.get("OptOutType", "").strip().upper()
    change, consent = _CONSENT.get(opt_out_type, ("", None))
    said = readable_text.first(_contents(fields, tapped_first=bool(scheme)))
    message = InboundMessage(
        external_id=external_id,
        channel_kind=_CHANNELS[scheme],
        sender=sender,
        # An RCS message comes to the name of an agent, `rcs:shop_x1y2_agent`, which no channel has for its address.
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
    """What may be the message's text, the best first. Of what was tapped in WhatsApp or RCS, what stands on it goes
    before the body; where nobody says what that is, its id. Of a form its answers, of a location where it is."""
    tapped = Readable(fields.get("ButtonText") or fields.get("ListTitle") or "", "own")
    if tapped_first:
        yield tapped
    chosen = fields.get("ButtonPayload") or fields.get("ListId") or ""
    filled = fields.get("InteractiveData") or fields.get("FlowData") or ""
    body = fields.get("Body", "")
    # A body beside a form is no writing, and one that is the id of what was tapped is that id once more.
    yield Readable(body, "unclear" if filled or body == chosen else "own")
    yield tapped
    yield Readable(readable_text.form_json(filled), "data")
    yield Readable(chosen, "unclear")
    if _has_location(fields):
        yield Readable(readable_text.place(*(fields.get(name, "") for name in _PLACE)), "data")


def _has_location(fields: Mapping[str, str]) -> bool:
    return bool(fields.get("Latitude") and fields.get("Longitude"))


def _sender(fields: Mapping[str, str]) -> tuple[Address, ...]:
    """Every address of the customer's, a phone number first; none where `From` is unreadable.

    A user id may stand in `From` itself, without any phone number, or beside it in `ExternalUserId`; that of the
    customer at the whole business portfolio in `ParentExternalUserId`.
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
    """`MediaUrlN` or `MediaContentTypeN`, taken apart; None for any other, at the cost of a look at its beginning."""
    return _MEDIA_FIELD.fullmatch(name) if name.startswith("Media") else None


def _media(fields: Mapping[str, str]) -> tuple[Media, ...]:
    """What the MediaUrlN fields hold, in order; `NumMedia` is not asked, for it may be wrong or missing."""
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
    media_type = mime_type.partition(";")[0].strip().lower()
    if media_type in _VCARDS:
        return "contacts"
    if media_type == "image/webp" and channel == "whatsapp":  # WhatsApp makes other pictures JPEG
        return "sticker"
    if media_type == "application/ogg":
        return "audio"
    match media_type.partition("/")[0]:
        case "image":
            return "image"
        case "audio":
            return "audio"
        case "video":
            return "video"
    return "file"


def _receipt(external_id: str, status: str, read: _Fields, url: str) -> Receipt:
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
        extra={name: value for name, value in read.whole.items() if name not in _NAMED_IN_RECEIPTS},
    )


def _our_message_id(url: str) -> UUID | None:
    """What `TwilioSender` put into the status callback's query as `m`."""
    for name, value in _form(_query(url)) or ():
        if name == "m":
            try:
                return UUID(value)
            except ValueError:
                return None
    return None


def _canonical(given: str) -> str:
    address = addresses.person(given)
    return address.canonical if address else ""
