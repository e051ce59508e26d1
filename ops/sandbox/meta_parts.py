"""Checks the part of a message that its type names, as Meta does: lengths and required fields. No I/O.

…/whatsapp/reference/whatsapp-business-phone-number/message-api.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

MEDIA = ("image", "audio", "video", "document", "sticker")
KINDS = ("text", "template", "interactive", "reaction", "location", "contacts", *MEDIA)
LONGEST_TEXT = 4096  # characters, as all lengths here
LONGEST_CAPTION = 1024
LONGEST_BODY = 1024  # of an interactive message
MOST_BUTTONS, MOST_ROWS = 3, 10
_BUTTON, _ROW, _DESCRIPTION = 20, 24, 72

Part = Mapping[str, object]


class Problem(NamedTuple):
    """A refusal: HTTP status, Meta's codes and its sentence."""

    status: int
    code: int
    message: str
    subcode: int | None = None
    retry_after: int | None = None  # seconds


def said_in(kind: str, part: Part) -> str:
    """What a person would read in it."""
    match kind:
        case "text":
            return _text(part, "body")
        case "interactive":
            return _text(_fields(part, "body"), "text")
        case "reaction":
            return _text(part, "emoji")
        case _:
            return _text(part, "caption")


def wrong_in(kind: str, part: Part) -> Problem | None:
    """Why Meta refuses this part; None where it takes it."""
    if kind == "template" and not (_text(part, "name") and _text(_fields(part, "language"), "code")):
        return Problem(400, 131008, "(#131008) Required parameter is missing: template name and language")
    if kind == "reaction" and not _text(part, "message_id"):
        return Problem(400, 131008, "(#131008) Required parameter is missing: reaction message_id")
    if kind in MEDIA and not (part.get("id") or part.get("link")):
        return Problem(400, 131008, f"(#131008) Required parameter is missing: {kind} id or link")
    for name, length, longest in _lengths(kind, part):
        if not 0 < length <= longest:
            return Problem(400, 131009, f"(#131009) Parameter value is not valid: {name} must be 1 to {longest} long")
    return None


def _lengths(kind: str, part: Part) -> Iterator[tuple[str, int, int]]:
    """Name, length and greatest length of what is limited in it."""
    if kind == "text":
        yield "text body", len(_text(part, "body")), LONGEST_TEXT
    if "caption" in part:
        yield "caption", len(_text(part, "caption")), LONGEST_CAPTION
    if kind != "interactive":
        return
    yield "interactive body", len(said_in(kind, part)), LONGEST_BODY
    action = _fields(part, "action")
    if part.get("type") == "button":
        buttons = [_fields(button, "reply") for button in _items(action, "buttons")]
        yield "buttons", len(buttons), MOST_BUTTONS
        for button in buttons:
            yield "button title", len(_text(button, "title")), _BUTTON
        return
    rows = [row for section in _items(action, "sections") for row in _items(section, "rows")]
    yield "list button", len(_text(action, "button")), _BUTTON
    yield "rows", len(rows), MOST_ROWS
    for row in rows:
        yield "row title", len(_text(row, "title")), _ROW
        if "description" in row:
            yield "row description", len(_text(row, "description")), _DESCRIPTION


def _text(part: Part, name: str) -> str:
    value = part.get(name)
    return value if isinstance(value, str) else ""


def _fields(part: Part, name: str) -> Part:
    value = part.get(name)
    return value if isinstance(value, dict) else {}


def _items(part: Part, name: str) -> list[Part]:
    value = part.get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
