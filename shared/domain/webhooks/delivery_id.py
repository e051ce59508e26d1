"""The id of a delivery: the same for a webhook and an event, however often they are matched. No I/O.

It is the header `webhook-id`, by which the receiver knows what it has received before.
"""

from datetime import datetime
from hashlib import sha256
from struct import Struct
from typing import Final
from uuid import UUID

from shared.domain.event_cursor import Place

_PLACE: Final = Struct(">Qq")
_VERSION: Final = 8 << 76  # RFC 9562: of our own making
_VARIANT: Final = 2 << 62


def delivery_id(webhook_id: UUID, identity: bytes, place: Place, at: datetime) -> UUID:
    """A UUID of version 8 that begins with the time of the event, so that indexes grow at one end.

    `identity` is the one of the database: after a restore, other events have the places of those that are gone.
    """
    milliseconds = min(max(int(at.timestamp() * 1000), 0), 2**48 - 1)
    digest = sha256(webhook_id.bytes + identity + _PLACE.pack(*place)).digest()
    rest = int.from_bytes(digest[:10])
    chance = (rest & ~(0xF << 76) & ~(3 << 62)) & (2**80 - 1)
    return UUID(int=milliseconds << 80 | chance | _VERSION | _VARIANT)
