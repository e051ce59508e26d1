"""Has transactions that check something and then write take turns."""

from shared.database import Connection

_TAKE = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"


async def take(connection: Connection, what: str) -> None:
    """Wait until no other transaction has this turn, and have it until the transaction ends."""
    await connection.execute(_TAKE, what)
