"""rate_limits: how fast a channel sends, over all processes. One row a channel says when its next message may leave."""

from datetime import timedelta
from uuid import UUID

from shared.database import Connection, Pool

# The bucket is one moment: when the channel's next message may leave. A reservation moves it on; that of an idle
# channel starts now, so no unused rate is saved up.
_RESERVE = """
INSERT INTO rate_limits AS r (tenant_id, channel_id, free_at)
VALUES ($1, $2, clock_timestamp() + $3::interval)
ON CONFLICT (tenant_id, channel_id) DO UPDATE
    SET free_at = greatest(r.free_at, clock_timestamp()) + $3::interval
    WHERE r.free_at <= clock_timestamp() + $4::interval
RETURNING extract(epoch FROM r.free_at - $3::interval - clock_timestamp())::float8
"""

_FREE_IN = """
SELECT extract(epoch FROM free_at - clock_timestamp())::float8 FROM rate_limits WHERE tenant_id = $1 AND channel_id = $2
"""


async def reserve(
    pool: Pool, tenant_id: UUID, channel_id: UUID, length: timedelta, longest: timedelta
) -> tuple[float, bool]:
    """Reserve `length` of a channel's rate if that begins within `longest`; later, it would be lost while the row
    waits.

    Returns the seconds until it begins (≤ 0: now), and whether it was reserved.
    """
    starts_in: float | None = await pool.fetchval(_RESERVE, tenant_id, channel_id, length, longest)
    if starts_in is not None:
        return starts_in, True
    free_in: float = await pool.fetchval(_FREE_IN, tenant_id, channel_id)
    return free_in, False


_PAUSE = """
INSERT INTO rate_limits AS r (tenant_id, channel_id, free_at) VALUES ($1, $2, clock_timestamp() + $3::interval)
ON CONFLICT (tenant_id, channel_id) DO UPDATE SET free_at = greatest(r.free_at, clock_timestamp() + $3::interval)
"""


async def pause(connection: Connection, tenant_id: UUID, channel_id: UUID, wait: timedelta) -> None:
    """The provider throttles the channel: nothing is reserved of its rate until `wait` has passed."""
    await connection.execute(_PAUSE, tenant_id, channel_id, wait)
