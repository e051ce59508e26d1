"""Reads a row of a source: mends a value where that loses little, else skips the row, with the reason. No I/O.

Limits are those of a careful reader: a text that no messenger would carry is cut, an id that no index would
take is refused.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID, uuid5

import orjson

from shared.store.imports.rows import Json, TextArray
from shared.store.imports.source import LONGEST, LONGEST_JSON, REST, Row

LONGEST_NAME: Final = 500
LONGEST_ID: Final = 255
LONGEST_LIST: Final = 1000  # names in a list
LARGEST: Final = 2**31 - 1  # of a number
CLOCK_SKEW: Final = timedelta(minutes=2)  # a time so little ahead is another clock's now
NO_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)  # of a message whose time is unknown: it opens no window

_NAMESPACE: Final = UUID("6f1c1f0c-6d7f-5c0e-9d0b-7d2f5a8b3c11")
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
# A column that is unknown here and may hold a secret is left out of `metadata`.
_SECRET: Final = re.compile(r"secret|passw|token|credential|api_?key|private_?key|authorization", re.IGNORECASE)
_LONGEST_ORIGINAL: Final = 1_000  # characters of what was mended
_NUL_IN_JSON: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000", re.IGNORECASE)

MESSAGE_TYPES: Final = {
    **{name: name for name in (
        "text", "image", "audio", "video", "file", "sticker", "location", "contacts", "button", "reaction", "template",
        "system", "unsupported",
    )},
    "chat": "text", "media": "file", "document": "file", "photo": "image", "picture": "image", "voice": "audio",
    "ptt": "audio", "gif": "video", "contact": "contacts", "vcard": "contacts", "interactive": "button",
    "buttons": "button", "list": "button",
}  # fmt: skip


class Skip(Exception):
    """This row does not come over; the text says why, in words that suit many rows."""


def is_uuid(text: str) -> bool:
    return _UUID.fullmatch(text) is not None


def our_id(system: str, table: str, tenant_id: UUID | None, source_id: str) -> UUID:
    """The id of a source's row here: its own where it is a UUID, else one that is the same at each import."""
    if is_uuid(source_id):
        return UUID(source_id)
    return uuid5(_NAMESPACE, "\0".join((system, str(tenant_id or ""), table, source_id)))


@dataclass(slots=True)
class Reader:
    """One row, read column by column. What was mended is noted in `mended`, and what stood there in `originals`."""

    row: Row
    now: datetime  # of the source's snapshot
    mended: set[str] = field(default_factory=set)
    originals: dict[str, str] = field(default_factory=dict)

    def mend(self, what: str, name: str) -> None:
        """Note what was mended, and what the column said."""
        self.mended.add(what)
        said = self.row.get(name)
        if said is not None:
            text = said if isinstance(said, str) else said.isoformat()
            self.originals[name] = text[:_LONGEST_ORIGINAL].replace("\0", "\ufffd")

    def rest(self, *, secrets: bool = False) -> dict[str, object]:
        """The columns that have no name here, without those that are null, and those that may be secrets."""
        rest = orjson.loads(self.json(REST) or "{}")
        if not isinstance(rest, dict):
            return {"row": rest}  # JSON that can't be read, as its text
        hidden = {n for n, value in rest.items() if value is not None and not secrets and _SECRET.search(n)}
        if hidden:
            self.mended.add("a column that may hold a secret: left out")
        return {name: value for name, value in rest.items() if value is not None and name not in hidden}

    def imported(self, metadata: Json | None = None) -> Json:
        """The metadata, with the columns that have no name here, and what was mended, as `imported`. Call it last."""
        held = {**self.rest(), **self.originals}
        base = (metadata or "{}").strip()
        if not held:
            return Json(base)
        added = f'"imported": {orjson.dumps(held).decode()}'
        return Json("{" + added + "}" if base[1:-1].strip() == "" else f"{base[:-1]}, {added}}}")

    def text(self, name: str, longest: int = LONGEST) -> str | None:
        """A text, None where there is none; blank counts as none."""
        found = self.row.get(name)
        if found is None:
            return None
        text = found if isinstance(found, str) else found.isoformat()
        if "\0" in text:
            self.mended.add("NUL replaced")
            text = text.replace("\0", "\ufffd")
        if len(text) > longest:
            self.mended.add("text too long: cut")
            text = text[:longest]
        return text if text.strip() else None

    def name(self, name: str) -> str | None:
        found = self.text(name, LONGEST_NAME)
        return None if found is None else found.strip()

    def word(self, name: str) -> str:
        """A word of a closed set, in lower case; empty where there is none."""
        return (self.name(name) or "").lower()

    def id(self, name: str) -> str | None:
        """An id of the source's. Raises Skip for one that is too long to be any."""
        found = self.row.get(name)
        if not isinstance(found, str) or not found:
            return None
        if len(found) > LONGEST_ID:
            raise Skip("an id too long to be one")
        return found

    def external_id(self, name: str) -> str | None:
        """A provider's id of a message. One too long counts as none: the row's own id identifies the message."""
        found = self.text(name)
        if found is not None and len(found) > LONGEST_ID:
            self.mend("external id too long: left out", name)
            return None
        return found

    def time(self, name: str) -> datetime | None:
        """None where there is none, or none that can be: in the future, or before there were computers."""
        found = self.row.get(name)
        if isinstance(found, str):
            try:
                found = datetime.fromisoformat(found)
            except ValueError:
                self.mend("time unreadable: left out", name)
                return None
            found = found if found.tzinfo else found.replace(tzinfo=UTC)
        if found is not None and found > self.now + CLOCK_SKEW:
            self.mend("time in the future: left out", name)
            return None
        if found is not None and found < NO_TIME:
            self.mend("time before 1970: left out", name)
            return None
        return found

    def planned(self, name: str) -> datetime | None:
        """A time that may lie ahead."""
        found = self.row.get(name)
        return found if isinstance(found, datetime) else None

    def json(self, name: str) -> Json | None:
        """A JSON value as text that PostgreSQL takes as jsonb."""
        found = self.row.get(name)
        if not isinstance(found, str):
            return None
        if len(found) > LONGEST_JSON:
            self.mended.add("JSON too long: left out")
            return None
        clean = _NUL_IN_JSON.sub(r"\1\\ufffd", found.replace("\0", "\ufffd"))
        if clean != found:
            self.mended.add("NUL replaced")
        try:
            orjson.loads(clean)
        except orjson.JSONDecodeError:
            self.mended.add("JSON unreadable: kept as text")
            return Json(orjson.dumps(clean).decode())
        return Json(clean)

    def object(self, name: str) -> Json:
        """A JSON object; another value stands in one, as `value`."""
        found = self.json(name)
        if found is None or found == "null":
            return Json("{}")
        return found if found.lstrip().startswith("{") else Json(f'{{"value": {found}}}')

    def words(self, name: str) -> TextArray:
        """A list of names: a JSON array of them, or a text with commas."""
        found = orjson.loads(self.json(name) or "[]")
        every = found if isinstance(found, list) else str(found).strip("{}").split(",")
        names = [word for one in every if (word := str(one).strip())]
        if len(names) > LONGEST_LIST:
            self.mended.add("a list too long: cut")
        return TextArray(orjson.dumps(names[:LONGEST_LIST]).decode())

    def flag(self, name: str, default: bool) -> bool:
        word = self.word(name)
        return default if not word else word in ("t", "true", "1", "yes", "y", "on")

    def number(self, name: str) -> int:
        """A count: 0 where there is none."""
        word = self.word(name)
        try:
            found = int(float(word)) if word else 0
        except (ValueError, OverflowError):
            self.mend("a count that is no number: 0", name)
            return 0
        if not 0 <= found <= LARGEST:
            self.mend("a count out of all reason: 0", name)
            return 0
        return found

    def message_type(self, name: str) -> str:
        """In our words; what we have none for is `unsupported`."""
        word = self.word(name) or "text"
        found = MESSAGE_TYPES.get(word)
        if found is None:
            self.mend("unknown message type: unsupported", name)
        return found or "unsupported"

    def choice(self, name: str, choices: Mapping[str, str], default: str) -> str:
        """One of a closed set; none stands for `default`, and so does an unknown one, which is noted."""
        word = self.word(name)
        if word and word not in choices:
            self.mend(f"unknown {name}: {default}", name)
        return choices.get(word, default)


def first_time(*times: datetime | None) -> datetime | None:
    """The first that is one."""
    return next((time for time in times if time is not None), None)


def same(names: Sequence[str]) -> dict[str, str]:
    """Choices that are called the same on both sides."""
    return {name: name for name in names}
