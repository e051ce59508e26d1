"""One message of a customer's in Meta's webhooks: who wrote, what kind it is, what it says. Pure; never raises."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from shared import addresses
from shared.providers.base import Address, InboundMessage, Media, MessageType
from shared.providers.json_fields import Fields, fields_of, instant, items_of, plain, printable_word, text_of

_TYPES: dict[str, MessageType] = {
    "text": "text",
    "image": "image",
    "audio": "audio",
    "voice": "audio",
    "video": "video",
    "document": "file",
    "sticker": "sticker",
    "location": "location",
    "contacts": "contacts",
    "interactive": "button",
    "button": "button",
    "reaction": "reaction",
    "system": "system",
    "unsupported": "unsupported",
    "unknown": "unsupported",
}
_MEDIA = ("image", "audio", "voice", "video", "document", "sticker")
# Where the type is not told, the one of these that stands there.
_TELLING = (*_MEDIA, "text", "location", "contacts", "interactive", "button", "reaction", "order", "edit", "revoke")
_REPLIES = ("button_reply", "list_reply", "nfm_reply")
_READ = frozenset(("id", "from", "timestamp"))
_READ_OF_VALUE = frozenset(
    ("messaging_product", "metadata", "contacts", "messages", "statuses", "errors", "user_preferences")
)
_MOST_BESIDE = 8192  # bytes
# A business-scoped user id is `US.1234…`; what else stands in its place is taken as it is.
_ODD_USER_ID = re.compile(r"[A-Za-z0-9._\-]{1,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Around:
    """What stands around the messages of one `value`, read once for all of them."""

    phone_number_id: str
    display_number: str
    contacts: Mapping[str, Fields]  # by each of their canonical addresses
    alone: Fields  # the one contact beside the messages of one writer
    beside: Fields  # what we have no name for
    account: str  # the WhatsApp business account's id

    @classmethod
    def of(cls, value: Fields, account: str) -> "Around":
        contacts = [contact for _, contact in items_of(value, "contacts", "", [])]
        # "A user's ID and phone number may not always match": a lone contact beside one writer's messages is theirs.
        writers = {
            (text_of(message, "from"), text_of(message, "from_user_id"))
            for _, message in items_of(value, "messages", "", [])
        }
        metadata = fields_of(value, "metadata")
        by_address: dict[str, Fields] = {}
        for contact in contacts:
            for canonical in _canonical(contact, ("wa_id", "user_id", "parent_user_id")):
                by_address.setdefault(canonical, contact)
        return cls(
            text_of(metadata, "phone_number_id"),
            text_of(metadata, "display_phone_number"),
            by_address,
            contacts[0] if len(contacts) == 1 and len(writers) == 1 else {},
            _little({name: part for name, part in value.items() if name not in _READ_OF_VALUE}),
            account,
        )


def _little(fields: Fields) -> Fields:
    """The fields, unless they are so many that a copy with each message would be too much; the raw webhook has them."""
    held = plain(fields)
    return held if len(orjson.dumps(held)) <= _MOST_BESIDE else {}


def read_message(item: Fields, around: Around) -> InboundMessage | str:
    """One of `value.messages`, or a sentence that begins with the field that is wrong.

    Fields we have no name for stay in `extra`, which also holds the customer's entry of `contacts` and what else stands
    in `value`.
    """
    external_id = text_of(item, "id")
    if not external_id:
        return "id: missing; the message could not be told from another"
    contact = _contact(item, around)
    sender = _sender(item, contact)
    if not sender:
        return "from: missing or unreadable, and so is from_user_id; whoever wrote cannot be answered"
    kind = _kind(item)
    profile = fields_of(contact, "profile")
    extra = {name: part for name, part in item.items() if name not in _READ}
    if set(fields_of(item, "text")) == {"body"}:
        del extra["text"]
    return InboundMessage(
        external_id=external_id,
        channel_kind="whatsapp",
        sender=sender,
        channel_address=around.phone_number_id,
        message_type=_TYPES.get(kind, kind),
        text=_text(item, kind),
        media=_media(item, kind),
        timestamp=instant(item.get("timestamp")),
        contact_name=text_of(profile, "name") or text_of(profile, "username") or None,
        reply_to=_reply_to(item),
        given_from=next(filter(None, _given(item, contact)), sender[0].given),
        given_to=around.display_number,
        extra=plain({**extra, "contact": contact, "value": around.beside, "waba_id": around.account}),
    )


# -- who wrote ---------------------------------------------------------------------------------------------------------


def _contact(item: Fields, around: Around) -> Fields:
    """The entry of `contacts` that is this message's sender; an empty one where none is, or nobody can tell."""
    known = _canonical(item, ("from", "from_user_id", "from_parent_user_id"))
    return next((around.contacts[one] for one in known if one in around.contacts), around.alone)


def _canonical(holder: Fields, names: Sequence[str]) -> list[str]:
    found = (addresses.person(text_of(holder, name)) for name in names)
    return [address.canonical for address in found if address is not None]


def _sender(item: Fields, contact: Fields) -> tuple[Address, ...]:
    """Every address of the customer's, a phone number first; none where all are unreadable.

    `wa_id` goes before `from`: it is the one to answer to. Both may be absent, where the customer has a user name.
    """
    found = [addresses.person(given) for given in _given(item, contact)]
    for holder, names in (
        (item, ("from_user_id", "from_parent_user_id")),
        (contact, ("user_id", "parent_user_id")),
    ):
        found += [_user_id(text_of(holder, name)) for name in names]
    by_canonical: dict[str, Address] = {}
    for address in found:
        if address is not None:
            by_canonical.setdefault(address.canonical, address)
    return tuple(sorted(by_canonical.values(), key=lambda address: address.kind != "phone"))


def _given(item: Fields, contact: Fields) -> tuple[str, str]:
    return text_of(contact, "wa_id"), text_of(item, "from")


def _user_id(given: str) -> Address | None:
    known = addresses.user_id(given)
    if known is None and _ODD_USER_ID.fullmatch(given):
        return Address("user_id", given, given)
    return known


# -- what it says ------------------------------------------------------------------------------------------------------


def _kind(item: Fields) -> str:
    """Meta's word for the type; where it is missing, what stands in the message; else `unsupported`."""
    told = printable_word(text_of(item, "type"))
    return told or next((name for name in _TELLING if item.get(name)), "unsupported")


def _text(item: Fields, kind: str) -> str:
    part = fields_of(item, kind)
    match kind:
        case "interactive":
            answers = (fields_of(part, name) for name in _REPLIES)
            return next(filter(None, (text_of(answer, "title") or text_of(answer, "body") for answer in answers)), "")
        case "reaction":
            return text_of(part, "emoji")  # an empty or absent one takes the reaction back
        case "edit":
            inner = fields_of(part, "message")
            return _text(inner, _kind(inner)) if _kind(inner) != "edit" else ""
        case _:
            return next(filter(None, (text_of(part, name) for name in ("body", "caption", "text"))), "")


def _media(item: Fields, kind: str) -> tuple[Media, ...]:
    """The file of a message, with the id to fetch it by; of an edited one, the file that it now has."""
    if kind == "edit":
        inner = fields_of(fields_of(item, "edit"), "message")
        return _media(inner, _kind(inner)) if _kind(inner) != "edit" else ()
    part = fields_of(item, kind)
    if kind not in _MEDIA or not (text_of(part, "id") or text_of(part, "url")):
        return ()
    names = ("url", "id", "mime_type", "filename", "sha256")
    return (Media(*(text_of(part, name) or None for name in names)),)


def _reply_to(item: Fields) -> str | None:
    """The message that this one answers, reacts to, edits or revokes."""
    for name, key in (
        ("reaction", "message_id"),
        ("edit", "original_message_id"),
        ("revoke", "original_message_id"),
        ("context", "id"),
    ):
        if told := text_of(fields_of(item, name), key):
            return told
    return None
