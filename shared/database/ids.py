"""Makes the ids of new rows."""

from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """A UUIDv7, made by the application. It is time-ordered, so that indexes grow at one end."""
    return uuid7()
