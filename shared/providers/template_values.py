"""Writes the values of a template's variables so that WhatsApp accepts them. No I/O.

Meta refuses a value with a line break, a tab or more than four blanks in a row, and an empty one (132018, 131008);
Twilio, which passes it to Meta, answers 63013 and 21656.
"""

import re
from typing import Final

NOTHING: Final = "-"  # in place of an empty value: a customer whose name is not known still gets the message
_BREAKS: Final = re.compile(r"[ ]*[\t\n\v\f\r\x1c-\x1f\x85\u2028\u2029]\s*")
_MOST_BLANKS: Final = re.compile(r" {5,}")


def on_one_line(value: str) -> str:
    """`value` on one line, with at most four blanks in a row; `NOTHING` where it has no visible character."""
    return never_empty(_MOST_BLANKS.sub("    ", _BREAKS.sub(" ", value)).strip())


def never_empty(value: str) -> str:
    """`value`; `NOTHING` where it has no visible character."""
    return value if any(char.isprintable() and not char.isspace() for char in value) else NOTHING
