"""Reads what both of Kommo's interfaces have: bracketed form keys, chats, kinds of messages. No I/O."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from urllib.parse import parse_qsl

from shared.domain.model import Address, AgentMessage, InboundMessage, Media, MessageFields, MessageType
from shared.providers import readable_text
from shared.providers.base import Notice, Parsed
from shared.providers.json_fields import Fields, fields_of, plain, text_of
from shared.providers.readable_text import Readable

TYPES: Final[Mapping[str, MessageType]] = {
    "text": "text",
    "picture": "image",
    "image": "image",
    "audio": "audio",
    "voice": "audio",
    "video": "video",
    "file": "file",
    "sticker": "sticker",
    "location": "location",
    "contact": "contacts",
}
# Types of an author that is not a person.
AUTOMATIC: Final = ("bot", "salesbot", "robot", "system")
# Types of an author on the tenant's side, a person or not. A customer's type is `external` or missing.
OWN: Final = ("internal", "user", "manager", *AUTOMATIC)

MOST_NOTICES: Final = 100  # in one POST; Kommo has some forty kinds of events, and each of them becomes a row

_LONGEST_ID = 200  # characters; Kommo's have 36
_ID = re.compile(r"[!-~]{1,200}")  # without blanks: a blank separates the two ids of an address
_DEEPEST = 10  # levels of brackets


@dataclass(slots=True)
class Found:
    """The parts of a webhook that have been read so far."""

    messages: list[InboundMessage] = field(default_factory=list)
    agent_messages: list[AgentMessage] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    not_announced: int = 0  # kinds of events beyond MOST_NOTICES

    @property
    def place(self) -> int:
        """The place of the next message in the webhook."""
        return len(self.messages) + len(self.agent_messages)

    def add_message(
        self,
        external_id: str,
        *,
        to_customer: bool,
        chat: Address,
        channel_address: str,
        message_type: str,
        readable: Readable,
        media: tuple[Media, ...],
        timestamp: datetime | None,
        author: Fields,
        customer: Fields,
        extra: Fields,
        reply_to: str | None = None,
        awaits_report: bool = False,
    ) -> None:
        """Add a message in a customer's chat: to the customer where `to_customer`, else from them."""
        shared = MessageFields(
            external_id=external_id,
            channel_kind="whatsapp",
            channel_address=channel_address,
            message_type=message_type,
            text=readable.text,
            media=media,
            timestamp=timestamp,
            contact_name=text_of(customer, "name") or None,
            reply_to=reply_to,
            place=self.place,
            extra=extra,
        )
        if to_customer:
            self.agent_messages.append(
                AgentMessage(
                    **shared,
                    customer=(chat,),
                    author_id=text_of(author, "id"),
                    author_name=text_of(author, "name") or None,
                    automatic=is_automatic(author),
                    awaits_report=awaits_report,
                )
            )
        else:
            self.messages.append(
                InboundMessage(**shared, sender=(chat,), wording=readable.wording, given_from=chat.canonical)
            )

    def add_notice(self, name: str, data: Fields, channel_address: str = "") -> None:
        """Add a notice of one kind of event, named `other` where it has no name."""
        if len(self.notices) < MOST_NOTICES:
            self.notices.append(Notice(name or "other", plain(data), channel_address))
        else:
            self.not_announced += 1

    def parsed(self) -> Parsed:
        if self.not_announced:
            count = MOST_NOTICES + self.not_announced
            self.errors.append(f"body: {count} kinds of events; the first {MOST_NOTICES} are announced")
        return Parsed(
            messages=tuple(self.messages),
            notices=tuple(self.notices),
            errors=tuple(self.errors),
            agent_messages=tuple(self.agent_messages),
        )


def nested(body: bytes, errors: list[str]) -> dict[str, object]:
    """A form whose keys are paths, as PHP writes them: `message[add][0][id]` → {"message": {"add": {"0": {"id": …}}}}.

    Where a key comes twice, or is a value in one place and a group in another, the first counts, and the other is a
    sentence in `errors`.
    """
    root: dict[str, object] = {}
    for key, value in parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, errors="replace"):
        head, bracket, rest = key.partition("[")
        steps = [head, *rest.removesuffix("]").split("][")] if bracket else [head]
        if bracket and (not key.endswith("]") or len(steps) > _DEEPEST):
            steps = [key]
        holder = _group(root, steps[:-1])
        if holder is None:
            errors.append(f"{_shown(key)}: is a value and a group at once")
            continue
        last = steps[-1] or str(len(holder))  # `tags[]`: the next one
        if last in holder:
            errors.append(f"{_shown(key)}: came twice; the first one counts")
        else:
            holder[last] = value
    return root


def _group(root: dict[str, object], steps: list[str]) -> dict[str, object] | None:
    """The group at the end of these steps, made where it is missing; None where one of the steps is a value."""
    holder = root
    for step in steps:
        below = holder.setdefault(step, {})
        if not isinstance(below, dict):
            return None
        holder = below
    return holder


def _shown(key: str) -> str:
    return key if len(key) <= 60 and key.isascii() and key.isprintable() else "a key"


def id_of(holder: Fields, name: str) -> str:
    """The id of this name; empty where there is none, or where it is too long for an index."""
    given = text_of(holder, name)
    return given if len(given) <= _LONGEST_ID else ""


def chat_address(chat_id: str, participant_id: str) -> Address | None:
    """A customer's chat as an address. Its `given`, to which we send, includes the customer's own id where known.

    None where the chat's id is empty, has blanks, or is longer than 200 characters.
    """
    if not _ID.fullmatch(chat_id):
        return None
    given = f"{chat_id} {participant_id}" if _ID.fullmatch(participant_id) else chat_id
    return Address("kommo_chat", given, chat_id)


def message_type(given: str, fallback: str = "text") -> str:
    """Our word for Kommo's type of a message, or Kommo's own word."""
    word = given.strip().lower()[:40] or fallback
    return TYPES.get(word, word)


def media_of(url: str, named: Fields) -> tuple[Media, ...]:
    """The file at this URL, if there is one, under the name that `named` gives it."""
    return (Media(url=url, filename=text_of(named, "file_name") or None),) if url else ()


def content(said: Fields) -> Readable:
    """The readable text of a message: its text, else the place or the contact that it shares."""
    where, whom = fields_of(said, "location"), fields_of(said, "contact")
    place = readable_text.place(text_of(where, "title"), text_of(where, "address"), where.get("lat"), where.get("lon"))
    card = ": ".join(filter(None, (text_of(whom, "name"), text_of(whom, "phone"))))
    return readable_text.first(
        (Readable(text_of(said, "text"), "own"), Readable(place, "data"), Readable(card, "data"))
    )


def is_automatic(author: Fields) -> bool:
    """Whether the author is a bot."""
    return text_of(author, "type").strip().lower() in AUTOMATIC


def is_own(author: Fields) -> bool:
    """Whether the author is on the tenant's side."""
    return text_of(author, "type").strip().lower() in OWN
