"""Counts the segments of an SMS, which carriers charge for and may fail to join. No I/O.

3GPP TS 23.038: a text in the GSM 7-bit alphabet has 160 septets in one segment and 153 in each of several; a character
of the extension table takes two. Any other text is UCS-2, with 70 and 67 units; a character beyond the basic plane
(most emoji) takes two. Neither pair is ever divided between two segments.
"""

from dataclasses import dataclass
from typing import Final, Literal

BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
EXTENSION: Final = frozenset("\f^{}\\[~]|€")
MOST: Final = 10  # segments of one message: Twilio takes 1600 characters, and carriers seldom join more than these
TOO_LONG: Final = "too_long"  # the error code of a longer message

_ALONE: Final = {"gsm7": 160, "ucs2": 70}
_JOINED: Final = {"gsm7": 153, "ucs2": 67}

Encoding = Literal["gsm7", "ucs2"]


@dataclass(frozen=True, slots=True)
class Size:
    encoding: Encoding
    units: int  # septets or UCS-2 units
    segments: int


def size(text: str) -> Size:
    """Encoding, units and segments of a text; an empty one has one segment."""
    encoding: Encoding = "gsm7" if all(char in BASIC or char in EXTENSION for char in text) else "ucs2"
    widths = [_width(char, encoding) for char in text]
    units = sum(widths)
    if units <= _ALONE[encoding]:
        return Size(encoding, units, 1)
    segments, used = 1, 0
    for width in widths:
        if used + width > _JOINED[encoding]:
            segments, used = segments + 1, 0
        used += width
    return Size(encoding, units, segments)


def _width(char: str, encoding: Encoding) -> int:
    if encoding == "gsm7":
        return 2 if char in EXTENSION else 1
    return 2 if ord(char) > 0xFFFF else 1


def facts(text: str) -> dict[str, object]:
    """The part of a message's `metadata` under `sms`."""
    found = size(text)
    return {"sms": {"segments": found.segments, "encoding": found.encoding}}


def too_long(text: str) -> str | None:
    """Why a text can't leave as SMS, with the remedy; None where it can."""
    found = size(text)
    if found.segments <= MOST:
        return None
    why = "" if found.encoding == "gsm7" else "; a character outside the GSM alphabet more than halves what fits"
    return f"text: {len(text)} characters are {found.segments} SMS, and at most {MOST} leave; shorten it{why}"


def fitted(text: str, most: int) -> str:
    """`text` cut after a word, with three dots, to at most `most` segments; unchanged where it fits."""
    if size(text).segments <= most:
        return text
    low, high = 0, len(text)  # characters that fit, and that don't
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(_cut(text, middle)).segments <= most else (low, middle)
    return _cut(text, low)


def _cut(text: str, length: int) -> str:
    """The first `length` characters without their last, perhaps broken word. Three dots, as GSM has no ellipsis."""
    head = text[:length]
    blank = max(head.rfind(" "), head.rfind("\n"))
    return (head[:blank] if blank > length // 2 else head).rstrip(" \n,;:") + "..."
