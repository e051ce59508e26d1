"""Finds by id what waits for a person's decision: messages of unknown outcome, replies that a restore put aside."""

import re
from collections.abc import Sequence
from typing import Final

from ops.errors import Problem
from shared import database
from shared.store.messages import restored, unknown_sends
from shared.store.messages.restored import OwedReply
from shared.store.messages.unknown_sends import OutboundRef

Decidable = OutboundRef | OwedReply

SHORT_ID: Final = 8  # characters of an id that name a message, if only one begins so
_DIGITS: Final = re.compile(rf"[0-9a-f]{{{SHORT_ID},32}}")
_MANY: Final = 10_000_000


async def named(pool: database.Pool, ids: Sequence[str], *, every_restored: bool) -> list[Decidable]:
    """The rows that these ids name, each once, or all that a restore put aside, in the order in which they were due.

    Raises Problem for an id that is none or means several or nothing.
    """
    if every_restored == bool(ids):
        raise Problem("Give ids, or --restored for all that a restore put to you.", "palomar unknown list shows both.")
    if every_restored:
        return [*await unknown_sends.restored(pool), *await restored.replies(pool, _MANY)]
    found: dict[object, Decidable] = {}
    for given in ids:
        one = await _beginning(pool, given)
        found[one.id] = one
    return list(found.values())


async def _beginning(pool: database.Pool, given: str) -> Decidable:
    digits = given.strip().lower().replace("-", "")
    if not _DIGITS.fullmatch(digits):
        raise Problem(
            f"{given!r} is no id of a message.",
            f"palomar unknown list shows them; the first {SHORT_ID} characters are enough.",
        )
    found: list[Decidable] = [
        *await unknown_sends.beginning(pool, digits),
        *await restored.replies_beginning(pool, digits),
    ]
    if len(found) > 1:
        raise Problem(f"Several messages begin with {given.strip()}.", "Give more of the id.")
    if not found:
        raise Problem(f"No message of ours begins with {given.strip()}.", "palomar unknown list shows them.")
    return found[0]
