"""The text of a message template: which variables it has, and what it says with values for them. No I/O.

A variable stands in double braces, as WhatsApp's templates write it: `Hello {{1}}` or `Hello {{first_name}}`. The
database fills them in by the same rule: queue_template_message.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_VARIABLE: Final = re.compile(r"\{\{([^{}]+)\}\}")
LONGEST_VALUE: Final = 1024  # characters of a variable's value


@dataclass(frozen=True, slots=True)
class Filled:
    """A template's text with values. A variable that was given none stands in it as it did before."""

    text: str
    missing: tuple[str, ...]  # variables without a value, in the order of the text
    unused: tuple[str, ...]  # values that no variable takes


def variables(text: str) -> list[str]:
    """The names of a text's variables, each once, in their order."""
    return list(dict.fromkeys(_VARIABLE.findall(text)))


def prefixed(text: str, prefix: str) -> str:
    """The text with `prefix` before the name of each variable: `Hello {{1}}` → `Hello {{header.1}}`."""
    return _VARIABLE.sub(lambda found: f"{{{{{prefix}{found[1]}}}}}", text)


def fill(text: str, values: Mapping[str, str]) -> Filled:
    """The text with its variables filled in. What stands in a value is never taken for a variable."""
    names = variables(text)
    return Filled(
        _VARIABLE.sub(lambda found: values.get(found[1], found[0]), text),
        tuple(name for name in names if name not in values),
        tuple(name for name in values if name not in names),
    )


def as_value(text: str) -> str:
    """A text as the value of a variable: on one line, without runs of blanks, cut to what fits, and never blank.

    WhatsApp refuses line breaks, tabs and many blanks in a row, and an empty value.
    """
    return " ".join(text.split())[:LONGEST_VALUE] or "-"


def split(text: str) -> tuple[list[str], list[str]]:
    """The names of a text's variables, each as often as it stands there, and the n + 1 pieces of text around these."""
    pieces = _VARIABLE.split(text)
    return pieces[1::2], pieces[::2]
