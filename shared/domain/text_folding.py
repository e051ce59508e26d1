"""Folds texts for comparison: no case, accents, width, invisible characters or surrounding punctuation. No I/O."""

from typing import Final
from unicodedata import category, combining, normalize

_ENCLOSING: Final = "\u20e3"  # draws the key around the digit of a keycap emoji


def fold(text: str, longest: int) -> str:
    """`text` without case, accents, width and invisible characters, with single blanks.

    At most `longest` characters are read, and as many returned: folding may lengthen a text.
    """
    decomposed = normalize("NFKD", normalize("NFKD", text[:longest]).casefold())
    visible = "".join(char for char in decomposed if char.isspace() or not _ignored(char))
    return " ".join(visible.split())[:longest]


def _ignored(char: str) -> bool:
    """Whether it is an accent, a variation selector, a zero-width character, a direction mark or a control
    character."""
    if "\ufe00" <= char <= "\ufe0f" or char == _ENCLOSING:
        return True
    return bool(combining(char)) or category(char) in ("Cc", "Cf", "Cs")


def bare(folded: str, keep: str = "") -> str:
    """`folded` without punctuation, symbols and blanks around it, up to a character of `keep`. A text of only these
    stays as it is."""
    start, end = 0, len(folded)
    while start < end and folded[start] not in keep and category(folded[start])[0] in "PSZ":
        start += 1
    while end > start and folded[end - 1] not in keep and category(folded[end - 1])[0] in "PSZ":
        end -= 1
    return folded[start:end] or folded
