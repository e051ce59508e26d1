"""What goes into a template's variables, as WhatsApp takes it. Pure.

Meta refuses a value with a line break, a tab or more than four blanks in a row, and an empty one (132018, 131008);
Twilio, which hands it on to Meta, answers 63013 and 21656.
"""

import re
from typing import Final

NOTHING: Final = "-"  # where there is no value: a name that nobody told must not cost the customer the message
_BREAKS: Final = re.compile(r"[ ]*[\t\n\v\f\r\x1c-\x1f\x85\u2028\u2029]\s*")
_MOST_BLANKS: Final = re.compile(r" {5,}")


def on_one_line(value: str) -> str:
    """`value` on one line, with at most four blanks in a row; `NOTHING` where nobody would see anything."""
    return never_empty(_MOST_BLANKS.sub("    ", _BREAKS.sub(" ", value)).strip())


def never_empty(value: str) -> str:
    """`value`; `NOTHING` where nobody would see anything: blanks and invisible characters alone are nothing."""
    return value if any(char.isprintable() and not char.isspace() for char in value) else NOTHING
