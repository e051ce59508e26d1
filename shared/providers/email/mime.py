"""Splits multipart bodies, of forms and of mails, in time linear in their size. No I/O; never raises.

RFC 2046 §5.1 (delimiters), RFC 7578 (forms). The standard library's parser reads each line once for every level of
nesting, and a hostile mail may be nested to any depth.
"""

import binascii
import quopri
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from email.utils import unquote

from shared.providers.email.text import clean, decoded, words

MOST_PARTS = 200  # of one body, at all levels
DEEPEST = 8  # levels of a mail's parts
_HEADERS = 64 * 1024  # bytes of one part's headers; the rest is not read
_LONGEST_VALUE = 20_000  # characters of one header
_LONGEST_STRUCTURED = 1000  # characters of a header with parameters


@dataclass(frozen=True, slots=True)
class Part:
    """One part. Its `name` is that of a form's field, or the place of a part in its mail (`1.2`)."""

    name: str
    headers: Mapping[str, str]  # lower-case names, of repeated ones the first; values on one line
    body: bytes = field(repr=False)
    start: int  # in `body`
    end: int
    filename: str = ""

    @property
    def media_type(self) -> str:
        return media_type(self.headers.get("content-type", ""))

    @property
    def charset(self) -> str:
        return parameter(self.headers.get("content-type", ""), "charset")

    @property
    def is_attached(self) -> bool:
        return bool(self.filename) or self.headers.get("content-disposition", "").strip().lower().startswith(
            "attachment"
        )

    def content(self, most: int | None = None) -> bytes:
        """The bytes without their transfer encoding; `most` bounds the bytes before decoding."""
        end = self.end if most is None else min(self.end, self.start + most)
        raw = self.body[self.start : end]
        match self.headers.get("content-transfer-encoding", "").strip().lower():
            case "base64":
                return _from_base64(raw)
            case "quoted-printable":
                return quopri.decodestring(raw)
        return raw

    def text(self, most: int) -> str:
        """The text of at most so many bytes."""
        return decoded(self.content(most), self.charset)


def form_parts(content_type: str, body: bytes) -> tuple[list[Part], str]:
    """The fields of a multipart/form-data body, and a sentence about what is wrong with it, or an empty text."""
    boundary = parameter(content_type, "boundary")
    if not boundary:
        return [], "content type: multipart/form-data with a boundary is needed"
    parts: list[Part] = []
    for number, (start, end) in enumerate(_pieces(body, 0, len(body), boundary)):
        if number == MOST_PARTS:
            return parts, f"body: more than {MOST_PARTS} parts; the rest was not read"
        headers, start = _headers_of(body, start, end)
        disposition = headers.get("content-disposition", "")
        name = clean(parameter(disposition, "name"))[:100]
        if name:
            filename = words(parameter(disposition, "filename"))[:255]
            parts.append(Part(name, headers, body, start, end, filename))
    return parts, "" if parts else "body: no field of a form is in it"


def mail_parts(body: bytes, start: int = 0, end: int | None = None) -> list[Part]:
    """All parts of a mail in order: the mail itself first (named `0`), and parts within parts."""
    found: list[Part] = []
    _read_mail(body, start, len(body) if end is None else end, "", DEEPEST, found)
    return found


def _read_mail(body: bytes, start: int, end: int, place: str, deeper: int, found: list[Part]) -> None:
    headers, start = _headers_of(body, start, end)
    filename = words(
        parameter(headers.get("content-disposition", ""), "filename")
        or parameter(headers.get("content-type", ""), "name")
    )[:255]
    part = Part(place or "0", headers, body, start, end, filename)
    found.append(part)
    boundary = parameter(headers.get("content-type", ""), "boundary")
    if not (part.media_type.startswith("multipart/") and boundary and deeper):
        return
    for number, (inner, until) in enumerate(_pieces(body, start, end, boundary), start=1):
        if len(found) >= MOST_PARTS:
            return
        _read_mail(body, inner, until, f"{place}.{number}" if place else str(number), deeper - 1, found)


def headers_of(text: str) -> dict[str, str]:
    """Headers by lower-case name, each on one line; of a repeated header the first. A broken line costs no other.

    Several From headers, which are forbidden, are joined, so that a signed one does not hide an unsigned one.
    """
    found: dict[str, list[str]] = {}
    lines: list[str] = []  # of the current header
    for line in _LINES.split(text[:_HEADERS]):  # not splitlines: U+2028 in a subject is no line end
        if line[:1] in (" ", "\t"):
            lines.append(line)
        elif (named := _HEADER.match(line)) is not None:
            lines = [line[named.end() :]]
            first = found.setdefault(named[1].lower(), lines)
            if first is not lines and named[1].lower() == "from":
                first.append(",")
                first.append(line[named.end() :])
                lines = first
        else:
            lines = []
    return {name: " ".join(" ".join(lines)[:_LONGEST_VALUE].split()) for name, lines in found.items()}


def media_type(content_type: str) -> str:
    """`text/plain` of a Content-Type."""
    return clean(content_type.partition(";")[0].strip().lower())[:100]


def parameter(header: str, name: str) -> str:
    """One parameter of a header, RFC 2231 included; empty where there is none."""
    message = Message()
    message["content-type"] = "x/x;" + header[:_LONGEST_STRUCTURED].partition(";")[2]
    try:
        found = message.get_param(name, "")
        if isinstance(found, tuple):  # (charset, language, bytes as text)
            return decoded(found[2].encode("raw_unicode_escape"), found[0] or "").strip()
        return unquote(found).strip()
    except (ValueError, LookupError, TypeError):  # continuations that contradict each other
        return ""


def _headers_of(body: bytes, start: int, end: int) -> tuple[dict[str, str], int]:
    """The headers of the part that begins at `start`, and the place where its content begins."""
    for line_break in (b"\r\n", b"\n"):  # no headers
        if body.startswith(line_break, start, end):
            return {}, start + len(line_break)
    near = min(end, start + _HEADERS)
    blank = _BLANK.search(body, start, near)
    if blank is None:  # only headers, or headers without an end
        return headers_of(decoded(body[start:near])), end
    return headers_of(decoded(body[start : blank.start()])), blank.end()


_BLANK = re.compile(rb"\n\r?\n")
_LINES = re.compile(r"\r\n|\n|\r")
_HEADER = re.compile(r"([!-9;-~]{1,100})[ \t]{0,20}:")  # RFC 5322 §3.6.8


def _pieces(body: bytes, start: int, end: int, boundary: str) -> Iterator[tuple[int, int]]:
    """(start, end) of each part; a part that is cut off ends with the body."""
    delimiter = rb"--" + re.escape(boundary.encode("utf-8", "replace")) + rb"(--)?[ \t]*(?=\r?\n|\Z)"
    first = re.compile(delimiter).match(body, start, end)
    begun = None if first is None else _below(body, first.end())
    if first is not None and first[1]:
        return
    for found in re.compile(rb"\n" + delimiter).finditer(body, start if first is None else first.end(), end):
        if begun is not None:
            until = found.start() - (body[found.start() - 1 : found.start()] == b"\r")
            yield begun, max(until, begun)
        if found[1]:
            return
        begun = _below(body, found.end())
    if begun is not None and begun < end:
        yield begun, end


def _below(body: bytes, at: int) -> int:
    """The start of the line after the line break at this place."""
    return at + (2 if body.startswith(b"\r\n", at) else 1)


def _from_base64(raw: bytes) -> bytes:
    """Base64 decoded as far as possible: characters outside its alphabet are skipped."""
    try:
        return binascii.a2b_base64(raw)
    except binascii.Error:  # cut off
        alphabet = re.sub(rb"[^A-Za-z0-9+/]", b"", raw)
        try:
            return binascii.a2b_base64(alphabet[: len(alphabet) // 4 * 4])
        except binascii.Error:
            return b""
