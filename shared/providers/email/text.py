"""Reads the text of mails: wrong charsets, encoded words, and unsafe HTML. No I/O; never raises."""

import re
from collections import Counter
from email.errors import MessageError
from email.header import decode_header
from html import unescape
from typing import Final

import html2text
import nh3

from shared.providers.email.charsets import codecs_of

_LONGEST_HEADER = 2000  # characters; longer ones are cut
_CONVERTED = 64 * 1024  # characters of safe HTML that become text: about half a second at worst
_DEEPEST = 300  # open elements within each other
_ELEMENT: Final = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]{0,15})")
_TAG: Final = re.compile(r"<[^<>]*>")
# Elements without an end tag, or with an optional one.
_UNCLOSED: Final = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr", "p", "li",
     "dt", "dd", "td", "th", "tr", "tbody", "thead", "tfoot", "option")
)  # fmt: skip
_TAGS: Final = nh3.ALLOWED_TAGS - {"img"}  # a remote image tells the sender that the mail was opened


def decoded(raw: bytes, charset: str = "") -> str:
    """The text of bytes: by the named charset where it fits, else as UTF-8, else with replacement characters."""
    known = list(codecs_of(charset))
    for name in dict.fromkeys((*known, "utf-8")):
        try:
            return clean(raw.decode(name))
        except ValueError:
            continue
    return clean(
        raw.decode(next((name for name in known if name not in ("ascii", "utf-8")), "windows-1252"), "replace")
    )


def clean(text: str) -> str:
    """The text without characters that PostgreSQL or UTF-8 refuse: U+0000, and half of a surrogate pair."""
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text.replace("\0", "\ufffd")


def words(header: str) -> str:
    """A header's text on one line, with its encoded words (RFC 2047) decoded."""
    text = " ".join(header[:_LONGEST_HEADER].split())
    if "=?" not in text:
        return clean(text)
    try:
        parts = decode_header(text)
    except (ValueError, MessageError):  # invalid base64
        return clean(text)
    # The text between encoded words comes as bytes of raw_unicode_escape, without a name.
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
    """HTML that is safe to show: without scripts, styles, forms and remote images.

    Empty where its elements are nested too deep, because the time to parse it grows with the square of the depth.
    """
    return "" if _too_deep(html) else nh3.clean(html, tags=_TAGS)


def text_of_html(html: str, safe: str) -> str:
    """HTML as plain text, links with their addresses. `safe` is what `safe_html` made of it.

    The converter reads only `safe`: it is written in Python, and takes too long over HTML that is broken on purpose.
    """
    if not safe:
        return " ".join(unescape(_TAG.sub(" ", html)).split())
    reader = html2text.HTML2Text(bodywidth=0)
    reader.ignore_images = True
    reader.ignore_emphasis = True
    try:
        return clean(reader.handle(safe[:_CONVERTED])).strip()
    except Exception:  # the converter is not made for hostile input
        return clean(unescape(nh3.clean(safe, tags=set()))).strip()


def _too_deep(html: str) -> bool:
    depth: Counter[str] = Counter()
    for closing, name in _ELEMENT.findall(html):
        if name.lower() not in _UNCLOSED:
            depth[name.lower()] = max(depth[name.lower()] + (-1 if closing else 1), 0)
    return depth.total() > _DEEPEST
