"""unsealed_credentials: a channel's secrets that came by SQL, until the clock seals them. The database has no key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from shared.database import Connection
from shared.store import channels
from shared.store.fair_share import of_each_tenant, try_later


@dataclass(frozen=True, slots=True)
class Unsealed:
    """A locked channel with secrets that wait to be sealed."""

    tenant_id: UUID
    id: UUID
    provider: str
    endpoint_id: UUID | None
    sealed: str  # its credentials; empty for a new channel
    resumes: bool  # it is stopped only until they are sealed
    secrets: Mapping[str, str]
    newest: int  # `seq` of the newest row that holds them


# The channel is locked, not the rows: of two clocks with a row each, one could write the older secrets over the newer.
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
    """Channels with waiting secrets, at most `limit`, of each tenant in turn; without those that are locked."""
    found = []
    for channel in await connection.fetch(_UNSEALED, limit):
        if rows := await connection.fetch(_SECRETS, channel["tenant_id"], channel["id"]):
            # Secrets that are not a JSON object can't be used, and are dropped.
            given = [row["secrets"] for row in rows if isinstance(row["secrets"], dict)]
            secrets = {name: value for row in given for name, value in row.items()}
            found.append(Unsealed(**channel, secrets=secrets, newest=rows[-1]["seq"]))
    return found


async def seal_later(connection: Connection, waiting: Sequence[Unsealed]) -> None:
    """Try secrets that could not be sealed again in a minute, so that they don't delay others."""
    await connection.execute(_UNSEALED_LATER, [c.tenant_id for c in waiting], [c.id for c in waiting])


async def seal(connection: Connection, channel: Unsealed, credentials: str) -> None:
    """Replace the waiting secrets of a channel by sealed credentials, and resume it where it was stopped for them.

    Only some of its postponed messages are due at once: the transaction is the caller's, and other channels wait for
    it.
    """
    await channels.set_credentials(connection, channel.tenant_id, channel.id, credentials)
    await connection.execute(_DONE, channel.tenant_id, channel.id, channel.newest)
    if channel.resumes:
        await channels.resume_in_transaction(connection, channel.tenant_id, channel.id)
