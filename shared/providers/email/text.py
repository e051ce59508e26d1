"""Text of mails: charsets that may lie, encoded words, and safe HTML. Pure; never raises."""

import re
from collections import Counter
from email.errors import MessageError
from email.header import decode_header
from html import unescape
from typing import Final

import html2text
import nh3

from shared.providers.email.charsets import codecs_of

_LONGEST_HEADER = 2000  # characters that are looked at for encoded words
_CONVERTED = 64 * 1024  # characters of safe HTML that become text: about half a second at worst
_DEEPEST = 300  # elements left open in one another
_ELEMENT: Final = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]{0,15})")
_TAG: Final = re.compile(r"<[^<>]*>")
# Elements that have no end, or may leave it out.
_UNCLOSED: Final = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr", "p", "li",
     "dt", "dd", "td", "th", "tr", "tbody", "thead", "tfoot", "option")
)  # fmt: skip
_TAGS: Final = nh3.ALLOWED_TAGS - {"img"}  # an image from elsewhere tells its sender who opened the mail


def decoded(raw: bytes, charset: str = "") -> str:
    """Text of bytes whose charset is told: by that one where it fits, else as UTF-8, else as well as it goes."""
    told = list(codecs_of(charset))
    for name in dict.fromkeys((*told, "utf-8")):
        try:
            return clean(raw.decode(name))
        except ValueError:
            continue
    return clean(raw.decode(next((name for name in told if name not in ("ascii", "utf-8")), "windows-1252"), "replace"))


def clean(text: str) -> str:
    """Without what PostgreSQL or UTF-8 takes in no text: U+0000, and half of a surrogate pair."""
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text.replace("\0", "\ufffd")


def words(header: str) -> str:
    """A header's text with its encoded words (RFC 2047) read, on one line."""
    text = " ".join(header[:_LONGEST_HEADER].split())
    if "=?" not in text:
        return clean(text)
    try:
        parts = decode_header(text)
    except (ValueError, MessageError):  # base64 that is none
        return clean(text)
    # What stands between encoded words comes as bytes of this codec, whose name Python does not say.
    read = [
        part if isinstance(part, str) else decoded(part, charset) if charset else _between(part)
        for part, charset in parts
    ]
    return clean(" ".join("".join(read).split()))


def _between(part: bytes) -> str:
    try:
        return part.decode("raw_unicode_escape")
    except ValueError:
        return decoded(part)


# -- HTML --------------------------------------------------------------------------------------------------------------


def safe_html(html: str) -> str:
    """What of HTML may be shown to a person: no scripts, styles, forms or images from elsewhere. Empty where elements
    stand in elements deeper than anybody writes them: the time to read such grows with the square of its depth."""
    return "" if _too_deep(html) else nh3.clean(html, tags=_TAGS)


def text_of_html(html: str, safe: str) -> str:
    """HTML as plain text, links with their addresses. `safe` is what `safe_html` made of it: a parser written in Python
    takes too long over HTML that is broken on purpose."""
    if not safe:
        return " ".join(unescape(_TAG.sub(" ", html)).split())
    reader = html2text.HTML2Text(bodywidth=0)
    reader.ignore_images = True
    reader.ignore_emphasis = True
    try:
        return clean(reader.handle(safe[:_CONVERTED])).strip()
    except Exception:  # it is made for documents, not against those who write them
        return clean(unescape(nh3.clean(safe, tags=set()))).strip()


def _too_deep(html: str) -> bool:
    depth: Counter[str] = Counter()
    for closing, name in _ELEMENT.findall(html):
        if name.lower() not in _UNCLOSED:
            depth[name.lower()] = max(depth[name.lower()] + (-1 if closing else 1), 0)
    return depth.total() > _DEEPEST
