"""Boxes and lines in a grid of characters. Lines that meet or cross join."""

from collections.abc import Sequence

# Which of the four sides of a cell a line character reaches: left, right, up, down.
_SIDES = {
    "─": "lr",
    "│": "ud",
    "┌": "rd",
    "┐": "ld",
    "└": "ru",
    "┘": "lu",
    "├": "rud",
    "┤": "lud",
    "┬": "lrd",
    "┴": "lru",
}
_CHARACTERS = {frozenset(sides): character for character, sides in {**_SIDES, "┼": "lrud"}.items()}
_SIDES["┼"] = "lrud"


class Canvas:
    """Grows as it is drawn on; (0, 0) is the upper left."""

    def __init__(self) -> None:
        self._cells: dict[tuple[int, int], str] = {}

    def box(self, left: int, top: int, inner: int, texts: Sequence[str]) -> None:
        """A box around lines of text; `inner` is the width between its sides."""
        bottom = top + len(texts) + 1
        for row, corners in ((top, "┌┐"), (bottom, "└┘")):
            self.text(left, row, corners[0] + "─" * inner + corners[1])
        for row, text in enumerate(texts, start=top + 1):
            self.text(left, row, "│ " + text.ljust(inner - 1) + "│")

    def text(self, column: int, row: int, text: str) -> None:
        for offset, character in enumerate(text):
            self._cells[column + offset, row] = character

    def down(self, column: int, top: int, bottom: int) -> None:
        """A line from the lower edge of a box at row `top` into the upper edge of one at row `bottom`."""
        self._join(column, top, "┬")
        for row in range(top + 1, bottom):
            self._join(column, row, "│")
        self._cells[column, bottom] = "▼"

    def around(self, side: int, column: int, top: int, bottom: int) -> None:
        """A line from the right side of a box at row `top`, down in `column`, into the side of one at row `bottom`."""
        self._join(side, top, "├")
        self._join(column, top, "┐")
        for row in range(top + 1, bottom):
            self._join(column, row, "│")
        self._join(column, bottom, "┘")
        for row in (top, bottom):
            for between in range(side + 1, column):
                self._join(between, row, "─")
        self._cells[side + 1, bottom] = "◀"

    def lines(self) -> list[str]:
        """The drawing, a string a row, without blanks at the ends."""
        height = max((row for _, row in self._cells), default=-1) + 1
        width = max((column for column, _ in self._cells), default=-1) + 1
        return ["".join(self._cells.get((x, y), " ") for x in range(width)).rstrip() for y in range(height)]

    def _join(self, column: int, row: int, character: str) -> None:
        sides = set(_SIDES[character]) | set(_SIDES.get(self._cells.get((column, row), " "), ""))
        self._cells[column, row] = _CHARACTERS[frozenset(sides)]
