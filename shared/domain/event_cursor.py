"""A place in the order of all events, as clients hold it: 32 characters that they give back to go on behind it. No I/O.

It names the database whose order this is, so that a cursor from before a restore is never taken for one of today, and
the day it was made on, so that one from before the oldest event that is stored is recognised.
"""

from base64 import b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import date, timedelta
from struct import Struct
from struct import error as WrongLength  # noqa: N812
from typing import Final, Self

LENGTH: Final = 32  # characters
LAST: Final = 2**63 - 1  # a sequence number behind every one of its transaction
IDENTITY_BYTES: Final = 6

_PACKED: Final = Struct(">6sHQq")
_FIRST_DAY: Final = date(1970, 1, 1)
# Events carry the time at which their transaction began, and are ordered by when it first wrote.
LONGEST_TRANSACTION: Final = timedelta(days=1)

Place = tuple[int, int]
"""(xid, seq): events are ordered by it."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Everything up to and including `place` has been seen."""

    identity: bytes  # of the database
    day: date  # UTC; no event behind the place is older than the day before
    place: Place

    def __str__(self) -> str:
        packed = _PACKED.pack(self.identity, (self.day - _FIRST_DAY).days, *self.place)
        return urlsafe_b64encode(packed).decode()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError where this is no cursor."""
        try:
            identity, days, xid, seq = _PACKED.unpack(b64decode(text, altchars=b"-_", validate=True))
        except WrongLength as error:
            raise ValueError("no cursor") from error
        return cls(identity, _FIRST_DAY + timedelta(days=days), (xid, seq))

    def may_lack(self, oldest: date) -> bool:
        """Whether an event behind it may be gone, where those of days before `oldest` are."""
        return self.day - LONGEST_TRANSACTION < oldest
