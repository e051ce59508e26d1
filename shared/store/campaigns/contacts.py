"""contacts: what a campaign's message to a single contact needs to know of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from shared.database import Connection
from shared.domain.model import AddressKind

_CONTACT = """
SELECT c.id, c.name, c.metadata, c.deleted_at IS NOT NULL AS is_deleted, a.kind, a.canonical AS address, a.given,
    coalesce(c.phone_number, (
        SELECT p.given FROM contact_addresses AS p WHERE p.tenant_id = $1 AND p.contact_id = c.id AND p.kind = 'phone'
        ORDER BY p.created_at, p.canonical LIMIT 1)) AS phone,
    (SELECT e.given FROM contact_addresses AS e WHERE e.tenant_id = $1 AND e.contact_id = c.id AND e.kind = 'email'
        ORDER BY e.created_at, e.canonical LIMIT 1) AS email
FROM contacts AS c
LEFT JOIN LATERAL (
    SELECT kind, canonical, given FROM contact_addresses
    WHERE tenant_id = $1 AND contact_id = c.id AND kind = ANY($3::text[])
    ORDER BY array_position($3::text[], kind), canonical LIMIT 1
) AS a ON true
WHERE c.tenant_id = $1 AND c.id = $2
"""


@dataclass(frozen=True, slots=True)
class CampaignContact:
    """A contact; `kind`, `address` and `given` are those by which a channel reaches it, None where it does not."""

    id: UUID
    name: str | None
    metadata: Mapping[str, Any]
    is_deleted: bool
    kind: AddressKind | None
    address: str | None
    given: str | None
    phone: str | None
    email: str | None

    def values(self, facts: Mapping[str, Any]) -> dict[str, str]:
        """Placeholder → its value; `facts` are the campaign's own of this contact."""
        known = {
            "contact.name": self.name,
            "contact.phone": self.phone,
            "contact.email": self.email,
            **{f"contact.metadata.{key}": value for key, value in self.metadata.items()},
            **{f"data.{key}": value for key, value in facts.items()},
        }
        return {name: _text(value) for name, value in known.items() if isinstance(value, (str, int, float))}


def _text(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


async def get(
    connection: Connection, tenant_id: UUID, contact_id: UUID, kinds: Sequence[AddressKind]
) -> CampaignContact | None:
    """The contact, with its address of the first of these kinds of which it has one."""
    row = await connection.fetchrow(_CONTACT, tenant_id, contact_id, list(kinds))
    return None if row is None else CampaignContact(**row)
