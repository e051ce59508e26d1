"""Reads one message in Meta's webhooks: its customer, its content, and the facts around it. No I/O; never raises."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import orjson

from shared.domain import addresses
from shared.domain.model import Address, AgentMessage, InboundMessage, MessageFields
from shared.providers.json_fields import Fields, fields_of, instant, items_of, plain, text_of
from shared.providers.meta.contents import content, kind_of, media_of, reply_to, type_of
from shared.providers.readable_text import Readable

ECHOES = "message_echoes"
_READ = frozenset(("id", "from", "timestamp"))
_READ_OF_VALUE = frozenset(
    ("messaging_product", "metadata", "contacts", "messages", ECHOES, "statuses", "errors", "user_preferences")
)
_MOST_BESIDE = 4096  # bytes of shared facts, of which each message of a batch gets a copy
_LONGEST_NAME = 256  # characters, also of ids that stand once for a whole batch; WhatsApp's profile names have 25
# A business-scoped user id is `US.1234…`. Another text in its place may be an id of a new form, and is used as it is. A
# word that begins in lower case is no id: no answer could reach it.
_ODD_ID = re.compile(r"[A-Z0-9][A-Za-z0-9._\-]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Around:
    """The facts around the messages of one `value`, read once for all of them."""

    phone_number_id: str
    display_number: str
    contacts: Mapping[str, Fields]  # by each of their canonical addresses
    alone: Fields  # the one contact beside the messages of one writer
    beside: Fields  # what we have no name for
    account: str  # the WhatsApp business account's id

    @classmethod
    def of(cls, value: Fields, account: str) -> "Around":
        contacts = [_contact_of(contact) for _, contact in items_of(value, "contacts", "", [])]
        # "A user's ID and phone number may not always match": a lone contact beside one writer's messages is theirs.
        writers = {
            (text_of(message, "from"), text_of(message, "from_user_id"), text_of(message, "to"))
            for name in ("messages", ECHOES)
            for _, message in items_of(value, name, "", [])
        }
        metadata = fields_of(value, "metadata")
        by_address: dict[str, Fields] = {}
        for contact in contacts:
            for canonical in _canonical(contact, ("wa_id", "user_id", "parent_user_id")):
                by_address.setdefault(canonical, contact)
        return cls(
            text_of(metadata, "phone_number_id")[:_LONGEST_NAME],
            text_of(metadata, "display_phone_number")[:_LONGEST_NAME],
            by_address,
            contacts[0] if len(contacts) == 1 and len(writers) == 1 else {},
            _little({name: part for name, part in value.items() if name not in _READ_OF_VALUE}) or {},
            account,
        )


def _contact_of(contact: Fields) -> Fields:
    """An entry of `contacts`; of an entry too large to be copied to each message, only the known fields."""
    if (held := _little(contact)) is not None:
        return held
    profile = {name: text_of(fields_of(contact, "profile"), name)[:_LONGEST_NAME] for name in ("name", "username")}
    ids = {name: text_of(contact, name)[:_LONGEST_NAME] for name in ("wa_id", "user_id", "parent_user_id")}
    return plain({**ids, "profile": plain(profile)})


def _little(fields: Fields) -> Fields | None:
    """The fields; None where they are too large to be copied to each message. The raw webhook has them.

    Copied without a bound, a batch of three megabytes would grow to gigabytes.
    """
    held = plain(fields)
    return held if len(orjson.dumps(held)) <= _MOST_BESIDE else None


def read_message(item: Fields, around: Around, place: int = 0) -> InboundMessage | str:
    """One of `value.messages`, or a sentence that begins with the field that is wrong.

    Fields without a name here stay in `extra`, together with the customer's entry of `contacts` and the other fields of
    `value`.
    """
    contact = _contact(item, around, _WRITER)
    sender = _people(item, contact, _WRITER)
    if not sender:
        return "from: missing or unreadable, and so is from_user_id; the sender cannot be answered"
    said = content(item, kind_of(item))
    return InboundMessage(
        **_fields(item, said, contact, around, place),
        sender=sender,
        wording=said.wording,
        given_from=next(filter(None, (text_of(contact, "wa_id"), text_of(item, "from"))), sender[0].given),
        given_to=around.display_number,
    )


def read_echo(item: Fields, around: Around, place: int = 0) -> AgentMessage | str:
    """One of `value.message_echoes` of the field `smb_message_echoes`, or a sentence that begins with the wrong field.

    An agent wrote it in the WhatsApp Business app or on a device linked to it. Messages sent through the API are not
    echoed. …/whatsapp/webhooks/reference/smb_message_echoes
    """
    contact = _contact(item, around, _READER)
    customer = _people(item, contact, _READER)
    if not customer:
        return "to: missing or unreadable, and so is to_user_id; nothing says whose conversation it belongs to"
    said = content(item, kind_of(item))
    return AgentMessage(**_fields(item, said, contact, around, place), customer=customer)


def _fields(item: Fields, said: Readable, contact: Fields, around: Around, place: int) -> MessageFields:
    kind = kind_of(item)
    return MessageFields(
        external_id=_id(item),
        channel_kind="whatsapp",
        channel_address=around.phone_number_id,
        message_type=type_of(kind, said.text),
        text=said.text,
        media=media_of(item, kind),
        timestamp=instant(item.get("timestamp")),
        contact_name=_name(contact),
        reply_to=reply_to(item),
        place=place,
        extra=_extra(item, contact, around),
    )


def _id(item: Fields) -> str:
    """Meta's id of the message; of one without an id a hash, so that it is neither lost nor stored twice."""
    return text_of(item, "id") or f"sha256:{sha256(orjson.dumps(plain(item))).hexdigest()}"


def _extra(item: Fields, contact: Fields, around: Around) -> dict[str, object]:
    extra = {name: part for name, part in item.items() if name not in _READ}
    if set(fields_of(item, "text")) == {"body"}:
        del extra["text"]
    return plain({**extra, "contact": contact, "value": around.beside, "waba_id": around.account})


# -- the customer ------------------------------------------------------------------------------------------------------

# System messages about a customer whose number or id changes. All of these are one person's addresses, so that an
# opt-out holds. …/whatsapp/webhooks/reference/messages/system; the last name is from before 2025.
_CHANGED = ("user_changed_number", "user_changed_user_id", "customer_changed_number")
_CHANGED_IDS = ("previous_user_id", "previous_parent_user_id", "user_id", "parent_user_id")

_WRITER = ("from", "from_user_id", "from_parent_user_id")
_READER = ("to", "to_user_id", "to_parent_user_id")


def _contact(item: Fields, around: Around, names: Sequence[str]) -> Fields:
    """The entry of `contacts` for this message's customer; an empty one where none matches."""
    known = _canonical(item, names)
    return next((around.contacts[one] for one in known if one in around.contacts), around.alone)


def _canonical(holder: Fields, names: Sequence[str]) -> list[str]:
    found = (_person(text_of(holder, name)) for name in names)
    return [address.canonical for address in found if address is not None]


def _people(item: Fields, contact: Fields, names: Sequence[str]) -> tuple[Address, ...]:
    """All addresses of the customer, a phone number first; none where all are unreadable.

    `wa_id` goes before `from`, because answers go to it. Both may be missing where the customer has a user name.
    """
    number, *user_ids = names
    found = [_person(text_of(contact, "wa_id")), _person(text_of(item, number))]
    for holder, ids in ((item, user_ids), (contact, ("user_id", "parent_user_id"))):
        found += [_user_id(text_of(holder, name)) for name in ids]
    changed = fields_of(item, "system")
    if text_of(changed, "type") in _CHANGED:
        found += [_person(text_of(changed, name)) for name in ("wa_id", "new_wa_id")]
        found += [_user_id(text_of(changed, name)) for name in _CHANGED_IDS]
    by_canonical: dict[str, Address] = {}
    for address in found:
        if address is not None:
            by_canonical.setdefault(address.canonical, address)
    return tuple(sorted(by_canonical.values(), key=lambda address: address.kind != "phone"))


def _person(given: str) -> Address | None:
    return addresses.phone(given) or _user_id(given)


def _user_id(given: str) -> Address | None:
    return addresses.user_id(given) or (Address("user_id", given, given) if _ODD_ID.fullmatch(given) else None)


def _name(contact: Fields) -> str | None:
    profile = fields_of(contact, "profile")
    return (text_of(profile, "name") or text_of(profile, "username"))[:_LONGEST_NAME] or None
