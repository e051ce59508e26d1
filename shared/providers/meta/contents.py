"""Reads the content of one message in Meta's webhooks: type, text, file, and reference. No I/O; never raises."""

from collections.abc import Iterator
from itertools import islice

from shared.domain.model import Media, MessageType
from shared.providers import readable_text
from shared.providers.json_fields import Fields, fields_of, items_of, printable_word, text_of
from shared.providers.readable_text import Readable

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
# Fields that tell the type of a message without one.
_TYPE_FIELDS = (*_MEDIA, "text", "location", "contacts", "interactive", "button", "reaction", "order", "edit", "revoke")
_MOST_CARDS = 20  # shared contacts that the text lists
_WRITTEN = ("text", *_MEDIA)  # types whose text, such as a caption, is in the customer's own words
_SPOKEN = ("text", "interactive", "button")  # types that are unsupported without a text


def kind_of(item: Fields) -> str:
    """Meta's word for the type; where it is missing, the name of the content's field; else `unsupported`."""
    return printable_word(text_of(item, "type")) or next(
        (name for name in _TYPE_FIELDS if item.get(name)), "unsupported"
    )


def type_of(kind: str, text: str) -> str:
    """Our word for the type. A button without a title and a text without words are `unsupported`."""
    return "unsupported" if kind in _SPOKEN and not text.strip() else _TYPES.get(kind, kind)


def content(item: Fields, kind: str) -> Readable:
    """The readable text of a message of any type; empty where it has none."""
    part = fields_of(item, kind)
    match kind:
        case "interactive":
            return _interactive(part)
        case "button":
            title = Readable(text_of(part, "text"), "own")
            return title if title.text else Readable(text_of(part, "payload"), "unclear")
        case "location":
            name, address, url = (text_of(part, key) for key in ("name", "address", "url"))
            return Readable(
                readable_text.place(name, address, part.get("latitude"), part.get("longitude"), url), "data"
            )
        case "order":
            return Readable(readable_text.order(part), "data")
        case "contacts":
            return Readable("\n".join(filter(None, map(_card, islice(_cards(item), _MOST_CARDS)))), "data")
        case "reaction":
            return Readable(text_of(part, "emoji"), "data")  # an empty or missing one removes the reaction
        case "edit":
            inner = fields_of(part, "message")
            return content(inner, kind_of(inner)) if kind_of(inner) != "edit" else Readable("", "data")
    if kind in _TYPES:
        return Readable(_written(part), "own" if kind in _WRITTEN else "unclear")
    # A type without a name here may have its text in a field of its own name, or in `text`.
    return readable_text.first(
        (
            Readable(_written(part), "unclear"),
            Readable(_written(fields_of(item, "text")), "own"),
            Readable(text_of(item, kind), "unclear"),
        )
    )


def _written(part: Fields) -> str:
    return next(filter(None, (text_of(part, name) for name in ("body", "caption", "text"))), "")


def _interactive(part: Fields) -> Readable:
    kind = text_of(part, "type")
    if kind == "call_permission_reply":
        return Readable(f"call permission: {text_of(fields_of(part, kind), 'response') or '?'}", "data")
    return readable_text.first(map(readable_text.reply, _replies(part, kind)))


def _replies(part: Fields, kind: str) -> Iterator[Fields]:
    """The fields of an interactive message that may hold the answer: first the one that its type names."""
    yield fields_of(part, kind)
    yield from (fields_of(part, name) for name in part if name not in (kind, "type"))


def _cards(item: Fields) -> Iterator[Fields]:
    return (card for _, card in items_of(item, "contacts", "", []))


def _card(card: Fields) -> str:
    """A contact that a customer shares, as text: `Luis Pérez: +52 55 1234 5678`."""
    name = fields_of(card, "name")
    named = text_of(name, "formatted_name") or text_of(name, "first_name")
    phones = (text_of(phone, "phone") or text_of(phone, "wa_id") for _, phone in items_of(card, "phones", "", []))
    return ": ".join(filter(None, (named, ", ".join(filter(None, phones)))))


def media_of(item: Fields, kind: str) -> tuple[Media, ...]:
    """The file of a message, with its id; of an edited message, the new file."""
    if kind == "edit":
        inner = fields_of(fields_of(item, "edit"), "message")
        return media_of(inner, kind_of(inner)) if kind_of(inner) != "edit" else ()
    part = fields_of(item, kind)
    if kind not in _MEDIA or not (text_of(part, "id") or text_of(part, "url")):
        return ()
    names = ("url", "id", "mime_type", "filename", "sha256")
    return (Media(*(text_of(part, name) or None for name in names)),)


def reply_to(item: Fields) -> str | None:
    """The message that this one answers, reacts to, edits or revokes."""
    for name, key in (
        ("reaction", "message_id"),
        ("edit", "original_message_id"),
        ("revoke", "original_message_id"),
        ("context", "id"),
    ):
        if external_id := text_of(fields_of(item, name), key):
            return external_id
    return None
