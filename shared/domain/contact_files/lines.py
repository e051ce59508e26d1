"""Cuts a stream of bytes into lines, and holds no more of it than the longest line that is allowed. No I/O."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass

from shared.domain.contact_files.defects import LONGEST_LINE, FileRefused

# The marks that other encodings put before a text. UTF-32's first one begins as UTF-16's does.
_FOREIGN_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file with its end; `raw` is None where it is too long."""

    number: int  # from 1
    raw: bytes | None


class Lines:
    """Takes the file in pieces of any size."""

    def __init__(self) -> None:
        self._rest = b""
        self._number = 0
        self._overflowing = False  # within a line that is too long, of which nothing is held

    def feed(self, piece: bytes) -> Iterator[Line]:
        """The lines that end in this piece. Raises FileRefused for a file in another encoding."""
        held = self._rest + piece
        begin = 0
        while (end := held.find(b"\n", begin)) >= 0:
            yield self._line(held[begin : end + 1])
            begin = end + 1
        self._rest = held[begin:]
        if len(self._rest) > LONGEST_LINE:
            self._overflowing = True
            self._rest = b""

    def end(self) -> Iterator[Line]:
        """The last line, where the file does not end with a line's end."""
        if self._rest or self._overflowing:
            rest, self._rest = self._rest, b""
            yield self._line(rest)

    def _line(self, raw: bytes) -> Line:
        self._number += 1
        too_long = self._overflowing or len(raw) > LONGEST_LINE
        self._overflowing = False
        if self._number == 1:
            raw = _without_mark(raw)
        return Line(self._number, None if too_long else raw)


def _without_mark(raw: bytes) -> bytes:
    """The file's first line without UTF-8's mark."""
    if raw.startswith(_FOREIGN_MARKS) or b"\0" in raw:
        raise FileRefused("The file is no UTF-8.", "Save it in the encoding UTF-8; spreadsheets call it CSV UTF-8.")
    return raw.removeprefix(codecs.BOM_UTF8)
