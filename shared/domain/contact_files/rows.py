"""Reads the rows of a file of contacts, in CSV or NDJSON: a row that can't be read costs no other row anything. No I/O.

A row of CSV may go over several lines, within quotation marks. Where a mark opens a cell that does not end, only the
line with that mark is lost: the lines behind it are read again, as rows of their own.
"""

import csv
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import orjson

from shared.domain.contact_files.columns import Columns, field_of
from shared.domain.contact_files.defects import (
    LONGEST_LINE,
    MOST_COLUMNS,
    MOST_LINES_OF_A_ROW,
    Defect,
    Field,
    FileRefused,
)
from shared.domain.contact_files.lines import Line

Format = Literal["csv", "ndjson"]
Cells = Mapping[Field, Any]  # of CSV: text, without those that are empty

_DELIMITERS: Final = (",", ";", "\t")


@dataclass(frozen=True, slots=True)
class Row:
    """A row: its cells, or what is wrong with it. The header and blank lines have neither."""

    first: int  # the numbers of its first and last line
    last: int
    raw: bytes  # as it stands in the file; of a line that is too long, only that it was
    cells: Cells | None = None
    defects: tuple[Defect, ...] = ()


class Rows(Protocol):
    """Reads a file line by line."""

    @property
    def ignored(self) -> Iterable[str]:
        """Names of columns that are not imported, as far as they have come."""

    def feed(self, lines: Iterable[Line]) -> Iterator[Row]:
        """The rows that end with these lines. Raises FileRefused."""

    def end(self) -> Iterator[Row]:
        """The rows that the end of the file ends. Raises FileRefused."""


def rows_of(format_: Format) -> Rows:
    """A reader of this format."""
    return CsvRows() if format_ == "csv" else JsonRows()


class CsvRows:
    """Comma, semicolon or tab between cells: what the header has most of. The header names the columns."""

    def __init__(self) -> None:
        self._columns: Columns | None = None
        self._delimiter = _DELIMITERS[0]
        self._open: list[Line] = []  # of a row that goes on
        self._texts: list[str] = []  # the same, decoded
        self._size = 0  # of the same, in bytes

    @property
    def ignored(self) -> Iterable[str]:
        return () if self._columns is None else self._columns.ignored

    def feed(self, lines: Iterable[Line]) -> Iterator[Row]:
        waiting = deque(lines)
        while waiting:
            line = waiting.popleft()
            text = _text(line)
            if isinstance(text, str) and self._fits(line):
                yield from self._take(line, text)
            elif self._open:
                yield self._give_up([line], waiting)
            else:
                assert isinstance(text, Defect)
                yield self._unreadable(line, text)

    def end(self) -> Iterator[Row]:
        while self._open:
            waiting: deque[Line] = deque()
            yield self._give_up([], waiting)
            yield from self.feed(waiting)
        if self._columns is None:
            raise FileRefused("The file is empty.", "Send a file with a header and a line for each contact.")

    def _fits(self, line: Line) -> bool:
        return not self._open or (
            len(self._open) < MOST_LINES_OF_A_ROW and self._size + len(line.raw or b"") <= LONGEST_LINE
        )

    def _give_up(self, more: list[Line], waiting: deque[Line]) -> Row:
        """Lose the line that opened a cell without an end; the ones behind it are to be read again."""
        first, *others = self._open
        waiting.extendleft(reversed([*others, *more]))
        self._open, self._texts, self._size = [], [], 0
        return self._unreadable(first, Defect(first.number, None, "open_quote"))

    def _take(self, line: Line, text: str) -> Iterator[Row]:
        is_first = not self._open
        self._open.append(line)
        self._texts.append(text)
        self._size += len(line.raw or b"")
        if not is_first and '"' not in text:  # it can't end the cell
            return
        if self._columns is None and is_first:
            self._delimiter = max(_DELIMITERS, key=text.count)
        try:
            cells = self._cells()
        except csv.Error:
            cells = "malformed"
        if cells is None:
            return
        opened, self._open, self._texts, self._size = self._open, [], [], 0
        yield self._row(opened, cells)

    def _cells(self) -> list[str] | str | None:
        """The cells of what has come of a row; None where it goes on."""
        if len(self._texts) == 1 and '"' not in self._texts[0]:
            return self._texts[0].rstrip("\r\n").split(self._delimiter)
        reader = csv.reader(iter([*self._texts, ""]), delimiter=self._delimiter)
        cells = next(reader)
        return None if reader.line_num > len(self._texts) else cells  # it went on to the line that is none

    def _row(self, lines: Sequence[Line], cells: Sequence[str] | str) -> Row:
        first, last = lines[0].number, lines[-1].number
        raw = b"".join(line.raw or b"" for line in lines)
        if isinstance(cells, str):
            return self._unreadable(Line(first, raw), Defect(first, None, cells), last)
        given = [cell.strip() for cell in cells]
        if not any(given):
            return Row(first, last, raw)
        if self._columns is None:
            self._columns = Columns.of(given)
            return Row(first, last, raw)
        if len(given) > len(self._columns.fields) and any(given[len(self._columns.fields) :]):
            return Row(first, last, raw, defects=(Defect(first, None, "too_many_cells"),))
        named = zip(self._columns.fields, given, strict=False)
        return Row(first, last, raw, {field: _unguarded(cell) for field, cell in named if field is not None and cell})

    def _unreadable(self, line: Line, defect: Defect, last: int | None = None) -> Row:
        if self._columns is None:
            raise FileRefused("The header can't be read.", "Begin the file with one line that names its columns.")
        return _unreadable(line, defect, last)


class JsonRows:
    """An object a line."""

    def __init__(self) -> None:
        self.ignored: dict[str, None] = {}

    def feed(self, lines: Iterable[Line]) -> Iterator[Row]:
        for line in lines:
            yield self._row(line)

    def end(self) -> Iterator[Row]:
        return iter(())

    def _row(self, line: Line) -> Row:
        text = _text(line)
        if isinstance(text, Defect):
            return _unreadable(line, text)
        number, raw = line.number, line.raw or b""
        if not text.strip():
            return Row(number, number, raw)
        try:
            given = orjson.loads(text)
        except orjson.JSONDecodeError:
            given = None
        if not isinstance(given, dict):
            return _unreadable(line, Defect(number, None, "no_json"))
        cells: dict[Field, Any] = {}
        for name, value in given.items():
            field = field_of(name)
            if field is None or field in cells:
                if len(self.ignored) < MOST_COLUMNS:
                    self.ignored[name[:100]] = None
            elif value is not None:
                cells[field] = value
        return Row(number, number, raw, cells)


def _text(line: Line) -> str | Defect:
    if line.raw is None:
        return Defect(line.number, None, "too_long")
    if b"\0" in line.raw:
        return Defect(line.number, None, "nul")
    try:
        return line.raw.decode()
    except UnicodeDecodeError:
        return Defect(line.number, None, "encoding")


def _unreadable(line: Line, defect: Defect, last: int | None = None) -> Row:
    return Row(line.number, last or line.number, b"\0" if line.raw is None else line.raw, defects=(defect,))


def _unguarded(cell: str) -> str:
    """The cell without the `'` that keeps a spreadsheet from taking it for a formula, as our exports write it."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in ("=", "+", "-", "@") else cell
