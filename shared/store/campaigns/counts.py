"""campaign_counts: how many recipients of a campaign are in each state, exact in every transaction."""

from collections.abc import Mapping
from uuid import UUID

from shared.database import Connection

_COUNTS = """
SELECT status, variant, sum(recipients)::bigint AS recipients FROM campaign_counts
WHERE tenant_id = $1 AND campaign_id = $2 GROUP BY status, variant
"""


async def counts(connection: Connection, tenant_id: UUID, campaign_id: UUID) -> Mapping[tuple[str, int], int]:
    """Recipients of a campaign by (status, variant)."""
    rows = await connection.fetch(_COUNTS, tenant_id, campaign_id)
    return {(row["status"], row["variant"]): row["recipients"] for row in rows}
