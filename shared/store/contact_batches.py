"""contacts, contact_addresses, groups and group_contacts: writes a batch of an import's contacts, by few statements."""

from collections.abc import Collection, Sequence
from typing import Final
from uuid import UUID

from shared.database import Connection, new_id
from shared.domain.contact_files.merge import Draft, Key, Known, key_of
from shared.store.arrays import arrays

# From address to address by the key, and from each to its contact: while a tenant has few rows, the planner would
# compare each address with all of them, and keep that plan as they grow. The contacts are locked in one order, so that
# two batches don't lock each other out. Whom another transaction joins or erases meanwhile is not found: the batch then
# collides with the address, and is repeated.
_KNOWN = """
WITH found AS MATERIALIZED (
    SELECT asked.tenant_id, asked.kind, asked.canonical, a.contact_id
    FROM unnest($1::uuid[], $2::text[], $3::text[]) AS asked (tenant_id, kind, canonical)
    CROSS JOIN LATERAL (
        SELECT contact_id FROM contact_addresses
        WHERE tenant_id = asked.tenant_id AND kind = asked.kind AND canonical = asked.canonical OFFSET 0
    ) AS a
    ORDER BY a.contact_id
)
SELECT found.kind, found.canonical, c.id, c.phone_number, c.name, c.is_active, c.deleted_at IS NOT NULL AS is_deleted,
    EXISTS (SELECT FROM erasure_requests e WHERE e.tenant_id = c.tenant_id AND e.contact_id = c.id) AS is_being_erased,
    EXISTS (
        SELECT FROM contact_addresses p WHERE p.contact_id = c.id AND p.tenant_id = c.tenant_id AND p.kind = 'phone'
    ) AS has_phone
FROM found CROSS JOIN LATERAL (
    SELECT * FROM contacts WHERE tenant_id = found.tenant_id AND id = found.contact_id FOR NO KEY UPDATE
) AS c
"""
_ADD_ADDRESSES = """
INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id)
SELECT $1, kind, canonical, given, contact_id
FROM unnest($2::text[], $3::text[], $4::text[], $5::uuid[]) AS added (kind, canonical, given, contact_id)
ON CONFLICT DO NOTHING
"""
_ADD_CONTACTS = """
INSERT INTO contacts (tenant_id, id, phone_number, name, is_active)
SELECT $1, id, phone_number, name, is_active
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::boolean[]) AS added (id, phone_number, name, is_active)
"""
_CHANGE_CONTACTS = """
UPDATE contacts AS c SET phone_number = changed.phone_number, name = changed.name, is_active = changed.is_active,
    deleted_at = CASE WHEN changed.restored THEN NULL ELSE c.deleted_at END
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::boolean[], $6::boolean[])
    AS changed (tenant_id, id, phone_number, name, is_active, restored)
WHERE (c.tenant_id, c.id) = (changed.tenant_id, changed.id)
"""

_GROUPS = """
SELECT g.name, g.id FROM unnest($1::uuid[], $2::text[]) AS asked (tenant_id, name)
JOIN groups g USING (tenant_id, name) WHERE g.name <> '' AND g.deleted_at IS NULL
ORDER BY g.created_at DESC, g.id DESC
"""
# Two imports that need the same new group make one: names are not unique, for tenants may have given one twice.
_LOCK_GROUPS: Final = "SELECT pg_advisory_xact_lock(hashtextextended('groups of ' || $1::uuid, 0))"
_ADD_GROUPS = """
INSERT INTO groups (tenant_id, id, name)
SELECT $1, id, name FROM unnest($2::uuid[], $3::text[]) AS added (id, name)
"""
_ADD_MEMBERS = """
INSERT INTO group_contacts (tenant_id, group_id, contact_id)
SELECT $1, group_id, contact_id FROM unnest($2::uuid[], $3::uuid[]) AS added (group_id, contact_id)
ON CONFLICT DO NOTHING RETURNING group_id
"""


class AddressTaken(Exception):
    """Another transaction has given a contact one of the addresses. Repeat the batch: it finds that contact."""


async def known(connection: Connection, tenant_id: UUID, keys: Collection[Key]) -> dict[Key, Known]:
    """The contacts that have these addresses, their rows locked until the transaction ends."""
    rows = await connection.fetch(_KNOWN, *arrays([(tenant_id, *key) for key in sorted(keys)], 3))
    return {
        (row["kind"], row["canonical"]): Known(
            id=row["id"],
            phone_number=row["phone_number"],
            name=row["name"],
            is_active=row["is_active"],
            is_deleted=row["is_deleted"],
            is_being_erased=row["is_being_erased"],
            has_phone=row["has_phone"],
        )
        for row in rows
    }


async def write(connection: Connection, tenant_id: UUID, drafts: Sequence[Draft]) -> None:
    """Write new contacts, changed ones and their new addresses. Raises AddressTaken."""
    added = sorted((*key_of(address), address.given, draft.id) for draft in drafts for address in draft.new_addresses)
    if added:
        status = await connection.execute(_ADD_ADDRESSES, tenant_id, *arrays(added, 4))
        if int(status.split()[-1]) != len(added):
            raise AddressTaken
    new = [(one.id, one.phone_number, one.name, one.is_active) for one in drafts if one.before is None]
    if new:
        await connection.execute(_ADD_CONTACTS, tenant_id, *arrays(new, 4))
    changed = [
        (tenant_id, one.id, one.phone_number, one.name, one.is_active, one.is_restored)
        for one in drafts
        if one.columns_changed
    ]
    if changed:
        await connection.execute(_CHANGE_CONTACTS, *arrays(changed, 6))


async def groups(connection: Connection, tenant_id: UUID, names: Collection[str]) -> dict[str, UUID]:
    """The live groups of these names, the oldest where several have one."""
    if not names:
        return {}
    asked = [(tenant_id, name) for name in sorted(set(names))]
    return {row["name"]: row["id"] for row in await connection.fetch(_GROUPS, *arrays(asked, 2))}


async def lock_groups(connection: Connection, tenant_id: UUID) -> None:
    """Have no other import make groups of this tenant until the transaction ends."""
    await connection.execute(_LOCK_GROUPS, tenant_id)


async def add_groups(connection: Connection, tenant_id: UUID, names: Sequence[str]) -> dict[str, UUID]:
    """Make groups of these names, which `lock_groups` has kept others from making."""
    made = {name: new_id() for name in names}
    await connection.execute(_ADD_GROUPS, tenant_id, list(made.values()), list(made))
    return made


async def add_members(connection: Connection, tenant_id: UUID, members: Collection[tuple[UUID, UUID]]) -> list[UUID]:
    """Put contacts into groups, as (group, contact); returns the group of each that was not in it before."""
    if not members:
        return []
    rows = await connection.fetch(_ADD_MEMBERS, tenant_id, *arrays(sorted(members), 2))
    return [row["group_id"] for row in rows]
