"""Makes the regular expression that finds what mentions a person, by their addresses. No I/O."""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from shared.domain import addresses

SHORTEST_SEARCHED: Final = 5  # characters; what is shorter would be found in everybody's rows
SHORTEST_SPACED: Final = 8  # digits; so many are a number however people space them, fewer may be a price or a date

# Nothing before or after that would make it another number or word; the digits of a percent-escape are none of it.
_BEGINS: Final = r"(?:(?<![{inside}])|(?<=%[0-9a-f]{{2}}))"
_ENDS: Final = r"(?![{inside}])"
_SPACES: Final = "(?:[ +()./-]|%2[089f]){0,3}"  # `+54 9 (342) 512-3456`, and in a form


class NothingToSearch(ValueError):
    """The person has no address that could be searched for: what mentions them can't be found."""


def pattern(known: Iterable[tuple[str, str]]) -> str:
    """A regular expression for every way these (kind, address) are written in texts, forms, JSON and URLs.

    A number counts only where no other digit stands beside it, a word where no letter or digit does. What matches is
    the address and nothing around it. Raises NothingToSearch.
    """
    digits: set[str] = set()
    words: set[str] = set()
    for kind, address in known:
        found = addresses.phone(address) if kind == "phone" else None
        if found is not None:
            own = "".join(filter(str.isdigit, address))
            digits |= {way for way in (*addresses.written_ways(found.canonical), own) if len(way) >= SHORTEST_SEARCHED}
        elif len(address) >= SHORTEST_SEARCHED:
            words |= {address, quote(address, safe="")}
    parts = []
    if words:
        parts.append(_standing_alone("0-9a-z", map(re.escape, sorted(words))))
    if digits:
        parts.append(_standing_alone("0-9", map(_spaced, sorted(digits))))
    if not parts:
        raise NothingToSearch("no address that can be searched for")
    return "|".join(parts)


def _standing_alone(inside: str, ways: Iterable[str]) -> str:
    return f"{_BEGINS.format(inside=inside)}(?:{'|'.join(ways)}){_ENDS.format(inside=inside)}"


def _spaced(digits: str) -> str:
    return (_SPACES if len(digits) >= SHORTEST_SPACED else "").join(digits)
