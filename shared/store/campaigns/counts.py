"""campaign_counts: how many recipients of a campaign are in each state. Triggers of campaign_recipients keep it."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from shared.database import Connection

Counts = Mapping[tuple[str, int], int]
"""(state, variant) → recipients; without those of which there is none."""

SENT: Final = frozenset(("sent", "delivered", "read", "replied", "held", "opted_out"))  # the provider has taken theirs

_COUNTS = """
SELECT status, variant, sum(recipients)::bigint AS recipients FROM campaign_counts
WHERE tenant_id = $1 AND campaign_id = $2 GROUP BY status, variant HAVING sum(recipients) <> 0
"""

# A row that another session is writing stays: this one waits for none. A sum is the same before and after.
_FOLD = """
WITH locked AS MATERIALIZED (
    SELECT status, variant, session FROM campaign_counts
    WHERE tenant_id = $1 AND campaign_id = $2 AND session <> 0
    ORDER BY status, variant, session FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM campaign_counts AS c USING locked AS l
    WHERE c.tenant_id = $1 AND c.campaign_id = $2 AND c.status = l.status AND c.variant = l.variant
        AND c.session = l.session
    RETURNING c.status, c.variant, c.recipients
)
INSERT INTO campaign_counts AS c (tenant_id, campaign_id, status, variant, session, recipients)
SELECT $1, $2, status, variant, 0, sum(recipients) FROM gone GROUP BY status, variant ORDER BY status, variant
ON CONFLICT (tenant_id, campaign_id, status, variant, session)
    DO UPDATE SET recipients = c.recipients + excluded.recipients
"""


async def counts(connection: Connection, tenant_id: UUID, campaign_id: UUID) -> Counts:
    """How many recipients of a campaign are in each state, by variant: exact, without counting them."""
    rows = await connection.fetch(_COUNTS, tenant_id, campaign_id)
    return {(row["status"], row["variant"]): row["recipients"] for row in rows}


async def fold(connection: Connection, tenant_id: UUID, campaign_id: UUID) -> None:
    """Make one row a state of the rows of all sessions, for a campaign in which little moves any more."""
    await connection.execute(_FOLD, tenant_id, campaign_id)


def of(found: Counts, *states: str) -> int:
    """How many recipients are in any of these states."""
    return sum(number for (state, _), number in found.items() if state in states)
