"""campaign_recipients: which of two templates a recipient gets."""

from collections.abc import Sequence
from uuid import UUID

from shared.database import Connection
from shared.store.arrays import arrays

_SET = """
UPDATE campaign_recipients AS r SET variant = new.variant FROM unnest($2::uuid[], $3::int[]) AS new (id, variant)
WHERE r.tenant_id = $1 AND r.id = new.id
"""


async def set_variants(connection: Connection, tenant_id: UUID, variants: Sequence[tuple[UUID, int]]) -> None:
    """Write the variants of these recipients, which the caller has locked."""
    await connection.execute(_SET, tenant_id, *arrays(sorted(variants), 2))
