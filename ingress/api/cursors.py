"""Cursors of lists: where a page ended, as an opaque text that fits only the list and the filters that it came from.

Each is signed, so that the values in it are those of a row: nothing that a client makes up comes to a query.

A page is found by the values that its rows are sorted by (keyset), not by a count of rows: rows that come or go
meanwhile move nothing, and the thousandth page costs what the first one does.
"""

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import orjson
from pydantic import TypeAdapter

from ingress.api.call import Call
from ingress.api.models import PageInput
from ingress.api.problems import invalid

Row = TypeVar("Row")
Position = TypeVar("Position")

_HASH: Final = 8  # bytes
_PURPOSE: Final = "a list's cursor"
_REMEDY: Final = "Begin with the first page: leave `cursor` out."


def position(call: Call, given: PageInput, kind: TypeAdapter[Position]) -> Position | None:
    """Where the page before ended, as the values that the list is sorted by; None for the first page.

    `kind` checks them. Raises a Problem where the cursor is none of this list with these filters.
    """
    if given.cursor is None:
        return None
    text, _, signature = given.cursor.rpartition(".")
    if not call.keys.is_signed(text, signature, purpose=_PURPOSE):
        raise invalid("cursor", "This is no cursor of this API.", _REMEDY)
    packed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if packed[:_HASH] != _filters(call, given):
        raise invalid("cursor", "This cursor belongs to another list, or to other filters.", _REMEDY)
    return kind.validate_json(packed[_HASH:])


def page(
    call: Call,
    given: PageInput,
    rows: Sequence[Row],
    kind: TypeAdapter[Position],
    key: Callable[[Row], Position],
    read_up_to: Position | None = None,
) -> tuple[Sequence[Row], str | None]:
    """The rows of a page, and the cursor of the next one, of `given.limit + 1` rows that were asked for.

    `read_up_to` is where a list ended that reads a bounded number of rows in search of those that its filters want:
    then the next page begins there, however few rows were found.
    """
    shown = rows[: given.limit]
    if len(rows) > given.limit:
        return shown, behind(call, given, kind, key(shown[-1]))
    return shown, None if read_up_to is None else behind(call, given, kind, read_up_to)


def behind(call: Call, given: PageInput, kind: TypeAdapter[Position], position: Position) -> str:
    """The cursor of the page that begins behind this position."""
    packed = _filters(call, given) + kind.dump_json(position)
    text = urlsafe_b64encode(packed).rstrip(b"=").decode()
    return f"{text}.{call.keys.sign(text, purpose=_PURPOSE)}"


def _filters(call: Call, given: PageInput) -> bytes:
    """A hash of which list this is and of all that its input asks for, but the page."""
    asked = given.model_dump(mode="json", exclude={"tenant_id", "limit", "cursor"})
    text = orjson.dumps([call.procedure, asked], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).digest()[:_HASH]
