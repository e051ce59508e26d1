"""Cursors of lists: where a page ended, as an opaque text that fits only the list and the filters that it came from.

A page is found by the values that its rows are sorted by (keyset), not by a count of rows: rows that come or go
meanwhile move nothing, and the thousandth page costs what the first one does.
"""

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NoBase64
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError

from ingress.api.call import Call
from ingress.api.models import PageInput
from ingress.api.problems import Problem, invalid

Row = TypeVar("Row")
Position = TypeVar("Position")

_HASH: Final = 8  # bytes
_REMEDY: Final = "Begin with the first page: leave `cursor` out."


def position(call: Call, given: PageInput, kind: TypeAdapter[Position]) -> Position | None:
    """Where the page before ended, as the values that the list is sorted by; None for the first page.

    `kind` checks them. Raises a Problem where the cursor is none of this list with these filters.
    """
    if given.cursor is None:
        return None
    try:
        packed = urlsafe_b64decode(given.cursor.encode() + b"=" * (-len(given.cursor) % 4))
        fits, values = packed[:_HASH], packed[_HASH:]
        if fits != _filters(call, given):
            raise _other_list()
        return kind.validate_json(values)
    except (NoBase64, ValueError, ValidationError):
        raise invalid("cursor", "This is no cursor of this API.", _REMEDY) from None


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
        return shown, _cursor(call, given, kind, key(shown[-1]))
    return shown, None if read_up_to is None else _cursor(call, given, kind, read_up_to)


def _cursor(call: Call, given: PageInput, kind: TypeAdapter[Position], at: Position) -> str:
    return urlsafe_b64encode(_filters(call, given) + kind.dump_json(at)).rstrip(b"=").decode()


def _filters(call: Call, given: PageInput) -> bytes:
    """A hash of which list this is and of all that its input asks for, but the page."""
    asked = given.model_dump(mode="json", exclude={"tenant_id", "limit", "cursor"})
    text = orjson.dumps([call.procedure, asked], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(text).digest()[:_HASH]


def _other_list() -> Problem:
    return invalid("cursor", "This cursor belongs to another list, or to other filters.", _REMEDY)
