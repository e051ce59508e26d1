"""Refuses an input that is vast, before its model describes all that is wrong with it. No I/O."""

from typing import Any, Final

from ingress.api.problems import INVALID_INPUT, FieldError, Problem

MOST_PARTS: Final = 5_000  # of one input: members of its objects, and items of its lists
MOST_MEMBERS: Final = 200  # of one object in it


def refuse_vast(given: Any) -> None:
    """Raise the problem of an input with more parts than any procedure takes.

    Pydantic would describe each of them that is wrong, which takes seconds, and no other call is answered meanwhile.
    """
    parts, waiting = 0, [given]
    while waiting:
        part = waiting.pop()
        if not isinstance(part, (dict, list)):
            continue
        parts += len(part)
        if parts > MOST_PARTS or (isinstance(part, dict) and len(part) > MOST_MEMBERS):
            detail = f"It has more than {MOST_PARTS} parts, or an object in it more than {MOST_MEMBERS} members."
            raise Problem(INVALID_INPUT, detail, errors=[FieldError("#", detail, "Divide it into several calls.")])
        waiting.extend(part.values() if isinstance(part, dict) else part)
