"""messaging_uses: whom a portfolio's numbers have written to outside the window in the last 24 hours."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.database import Connection
from shared.domain.campaigns.tier import PERIOD

FORGOTTEN_AT_ONCE: Final = 1000  # rows

_LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended('messaging_uses:' || $1::uuid || ':' || $2::text, 0))"
_USED = """
SELECT count(*) AS people, min(last_at) AS oldest FROM messaging_uses
WHERE tenant_id = $1 AND portfolio = $2 AND last_at > now() - $3::interval
"""
_FORGET = """
DELETE FROM messaging_uses WHERE (tenant_id, portfolio, contact_id) IN (
    SELECT tenant_id, portfolio, contact_id FROM messaging_uses
    WHERE tenant_id = $1 AND portfolio = $2 AND last_at <= now() - $3::interval
    ORDER BY last_at LIMIT $4 FOR UPDATE SKIP LOCKED)
"""
_USE = """
INSERT INTO messaging_uses AS u (tenant_id, portfolio, contact_id)
SELECT DISTINCT tenant_id, $2::text, contact_id FROM conversations
WHERE tenant_id = $1 AND id = ANY($3::uuid[]) AND contact_id IS NOT NULL ORDER BY contact_id
ON CONFLICT (tenant_id, portfolio, contact_id) DO UPDATE SET last_at = EXCLUDED.last_at
"""


@dataclass(frozen=True, slots=True)
class Used:
    """How many people, and when the first of them was written to."""

    people: int
    oldest: datetime | None


async def lock(connection: Connection, tenant_id: UUID, portfolio: str) -> bool:
    """Lock the portfolio's limit until the transaction ends, so that two campaigns don't both use what is left.

    False: another transaction has it.
    """
    return bool(await connection.fetchval(_LOCK, tenant_id, portfolio))


async def used(connection: Connection, tenant_id: UUID, portfolio: str) -> Used:
    """What is used of the portfolio's limit. Forgets some of the rows that count no more."""
    await connection.execute(_FORGET, tenant_id, portfolio, PERIOD, FORGOTTEN_AT_ONCE)
    row = await connection.fetchrow(_USED, tenant_id, portfolio, PERIOD)
    assert row is not None, "an aggregate has one row"
    return Used(**row)


async def use(connection: Connection, tenant_id: UUID, portfolio: str, conversations: Sequence[UUID]) -> None:
    """Count the people of these conversations: each gets a template now, outside the window."""
    await connection.execute(_USE, tenant_id, portfolio, conversations)
