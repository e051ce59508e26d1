"""unsealed_credentials: a channel's secrets that came by SQL, until the clock seals them. The database has no key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from shared.database import Connection
from shared.store import channels
from shared.store.fair_share import of_each_tenant, try_later


@dataclass(frozen=True, slots=True)
class Unsealed:
    """A channel, locked, with secrets that wait to be sealed."""

    tenant_id: UUID
    id: UUID
    provider: str
    endpoint_id: UUID | None
    sealed: str  # what it has; empty for one that is new
    resumes: bool  # it is stopped for their sake alone
    secrets: Mapping[str, str]
    newest: int  # of the rows that the secrets came in


# The channel is what is locked: two clocks with a row each of one channel would lay the older over the newer.
_UNSEALED = f"""
SELECT c.tenant_id, c.id, c.provider, c.endpoint_id, c.credentials AS sealed,
    c.status = 'stopped' AND c.status_reason IS NOT DISTINCT FROM sealing_reason() AS resumes
FROM ({of_each_tenant("unsealed_credentials", "channel_id")}) AS due
JOIN channels c ON c.tenant_id = due.tenant_id AND c.id = due.id
ORDER BY due.place, c.tenant_id, c.id LIMIT $1 FOR NO KEY UPDATE OF c SKIP LOCKED
"""
_UNSEALED_LATER = try_later("unsealed_credentials", "channel_id")
_SECRETS = """
SELECT seq, secrets FROM unsealed_credentials WHERE tenant_id = $1 AND channel_id = $2 ORDER BY seq
"""
_DONE = "DELETE FROM unsealed_credentials WHERE tenant_id = $1 AND channel_id = $2 AND seq <= $3"


async def unsealed(connection: Connection, limit: int) -> list[Unsealed]:
    """Channels whose secrets wait, at most `limit`, of each tenant in turn; none that somebody else holds."""
    found = []
    for channel in await connection.fetch(_UNSEALED, limit):
        if rows := await connection.fetch(_SECRETS, channel["tenant_id"], channel["id"]):
            given = [
                row["secrets"] for row in rows if isinstance(row["secrets"], dict)
            ]  # one that can't be read is lost
            secrets = {name: value for row in given for name, value in row.items()}
            found.append(Unsealed(**channel, secrets=secrets, newest=rows[-1]["seq"]))
    return found


async def seal_later(connection: Connection, waiting: Sequence[Unsealed]) -> None:
    """What could not be sealed is tried again in a minute: until then it takes no other's turn."""
    await connection.execute(_UNSEALED_LATER, [c.tenant_id for c in waiting], [c.id for c in waiting])


async def seal(connection: Connection, channel: Unsealed, credentials: str) -> None:
    """Exchange the waiting secrets of a channel for sealed credentials, and let it send where it stopped for them.

    Of what was put off, some conversations' is due at once: the transaction is the caller's, and other channels' wait.
    """
    await channels.set_credentials(connection, channel.tenant_id, channel.id, credentials)
    await connection.execute(_DONE, channel.tenant_id, channel.id, channel.newest)
    if channel.resumes:
        await channels.resume_in_transaction(connection, channel.tenant_id, channel.id)
