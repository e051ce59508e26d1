"""Finds rows of ours that an imported row is the same as, and adds what the source knows of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from shared.database import Connection
from shared.store.arrays import arrays, ids_by_place
from shared.store.by_key import only_if
from shared.store.imports.rows import ChannelRow, ContactRow, ConversationRow, SessionRow

# -- contacts ----------------------------------------------------------------------------------------------------------

_DETAILS = """
UPDATE contacts c SET is_active = given.is_active, created_at = given.created_at, deleted_at = given.deleted_at,
    metadata = given.metadata::jsonb
FROM unnest($1::uuid[], $2::uuid[], $3::boolean[], $4::timestamptz[], $5::timestamptz[], $6::text[])
    AS given (tenant_id, id, is_active, created_at, deleted_at, metadata)
WHERE c.tenant_id = given.tenant_id AND c.id = given.id
"""
# The contact's own values win over the given ones; within `imported` so does each of its columns.
_FILL_METADATA = """
UPDATE contacts c SET metadata = given.metadata || c.metadata || CASE
    WHEN jsonb_typeof(given.metadata -> 'imported') = 'object' AND jsonb_typeof(c.metadata -> 'imported') = 'object'
    THEN jsonb_build_object('imported', (given.metadata -> 'imported') || (c.metadata -> 'imported')) ELSE '{}' END
FROM (SELECT $3::text::jsonb) AS given (metadata) WHERE (c.tenant_id, c.id) = ($1, $2)
"""
_PHONES = """
SELECT DISTINCT ON (a.contact_id) a.tenant_id, a.contact_id, a.given, a.canonical
FROM unnest($1::uuid[], $2::uuid[]) AS asked (tenant_id, contact_id)
JOIN contact_addresses a USING (tenant_id, contact_id)
WHERE a.kind = 'phone' ORDER BY a.contact_id, a.created_at, a.canonical
"""

_NUMBERS_OF_MAILS = """
SELECT asked.tenant_id, asked.canonical AS mail, number.canonical
FROM unnest($1::uuid[], $2::text[]) AS asked (tenant_id, canonical)
CROSS JOIN LATERAL (
    SELECT contact_id FROM contact_addresses
    WHERE tenant_id = asked.tenant_id AND kind = 'email' AND canonical = asked.canonical OFFSET 0
) AS holder
JOIN contact_addresses AS number ON number.tenant_id = asked.tenant_id AND number.contact_id = holder.contact_id
WHERE number.kind = 'phone'
"""


async def set_details(connection: Connection, rows: Sequence[ContactRow]) -> None:
    """Set what else the source knows of contacts that were just created."""
    ordered = sorted(rows, key=lambda row: (row.tenant_id, row.id))
    await connection.execute(
        _DETAILS,
        [row.tenant_id for row in ordered],
        [row.id for row in ordered],
        [row.is_active for row in ordered],
        [row.created_at for row in ordered],
        [row.deleted_at for row in ordered],
        [row.metadata for row in ordered],
    )


async def fill_metadata(connection: Connection, joined: Sequence[tuple[UUID, ContactRow]]) -> None:
    """Add the source's metadata to contacts of ours (id, row), where ours have no value."""
    given = sorted((row.tenant_id, contact_id, row.metadata) for contact_id, row in joined if row.metadata != "{}")
    await connection.executemany(_FILL_METADATA, given)


async def phones(connection: Connection, keys: set[tuple[UUID, UUID]]) -> dict[tuple[UUID, UUID], tuple[str, str]]:
    """(tenant, contact) → their first phone number, as given and canonical."""
    ordered = sorted(keys)
    rows = await connection.fetch(_PHONES, *arrays(ordered, 2))
    return {(row["tenant_id"], row["contact_id"]): (row["given"], row["canonical"]) for row in rows}


async def numbers_of_mails(connection: Connection, mails: set[tuple[UUID, str]]) -> dict[tuple[UUID, str], set[str]]:
    """(tenant, mail address) → the canonical numbers of its contact; without addresses whose contact has none."""
    ordered = sorted(mails)
    rows = await connection.fetch(_NUMBERS_OF_MAILS, *arrays(ordered, 2))
    found: dict[tuple[UUID, str], set[str]] = {}
    for row in rows:
        found.setdefault((row["tenant_id"], row["mail"]), set()).add(row["canonical"])
    return found


# -- conversations -----------------------------------------------------------------------------------------------------

_BY_PLACE = """
SELECT asked.place, c.id FROM unnest($1::int[], $2::uuid[], $3::uuid[], $4::text[])
    AS asked (place, tenant_id, channel_id, address)
JOIN conversations c USING (tenant_id, channel_id, address)
UNION ALL
SELECT asked.place, c.id FROM unnest($1::int[], $2::uuid[], $3::uuid[], $5::text[], $6::text[])
    AS asked (place, tenant_id, channel_id, phone, provider)
JOIN conversations c USING (tenant_id, channel_id, phone, provider)
"""


async def same_conversations(connection: Connection, rows: Sequence[ConversationRow]) -> dict[UUID, UUID]:
    """Id of the given row → the conversation of ours with the same channel and address, or number."""
    keys = [(row.tenant_id, row.channel_id, row.address, row.phone, row.provider) for row in rows]
    found = await ids_by_place(connection, _BY_PLACE, keys)
    return {rows[place].id: ours for place, ours in found.items()}


_WINDOWS = """
UPDATE conversations c SET last_user_message_at = greatest(c.last_user_message_at, given.at)
FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) AS given (tenant_id, id, at)
WHERE c.tenant_id = given.tenant_id AND c.id = given.id AND given.at > coalesce(c.last_user_message_at, '-infinity')
"""


async def advance_windows(connection: Connection, given: dict[tuple[UUID, UUID], datetime]) -> None:
    """Move the 24-hour window of conversations (tenant, id) forward to when the customer last wrote by the source."""
    ordered = sorted(given)
    await connection.execute(_WINDOWS, *arrays(ordered, 2), [given[k] for k in ordered])


_SAME_SESSIONS = """
SELECT asked.place, s.id FROM unnest($1::int[], $2::uuid[], $3::uuid[], $4::text[])
    AS asked (place, tenant_id, channel_id, phone_number)
JOIN sessions s USING (tenant_id, channel_id, phone_number)
"""


async def same_sessions(connection: Connection, rows: Sequence[SessionRow]) -> dict[UUID, UUID]:
    """Id of the given row → the session of ours with the same channel and number."""
    keys = [(row.tenant_id, row.channel_id, row.phone_number) for row in rows]
    found = await ids_by_place(connection, _SAME_SESSIONS, keys)
    return {rows[place].id: ours for place, ours in found.items()}


_SESSIONS_OF = """
SELECT DISTINCT ON (s.conversation_id) s.conversation_id, s.id
FROM unnest($1::uuid[], $2::uuid[]) AS asked (tenant_id, conversation_id)
JOIN sessions s USING (tenant_id, conversation_id) ORDER BY s.conversation_id, s.created_at, s.id
"""


async def sessions_of(connection: Connection, keys: set[tuple[UUID, UUID]]) -> dict[UUID, UUID]:
    """Conversation → its first session, of conversations (tenant, id)."""
    ordered = sorted(keys)
    rows = await connection.fetch(_SESSIONS_OF, *arrays(ordered, 2))
    return {row["conversation_id"]: row["id"] for row in rows}


@dataclass(frozen=True, slots=True)
class ImportTarget:
    """A conversation of ours that imported messages go into."""

    id: UUID
    tenant_id: UUID
    channel_id: UUID
    provider: str
    created_at: datetime


_LOCK_CONVERSATIONS = """
SELECT c.id, c.tenant_id, c.channel_id, c.provider, c.created_at
FROM unnest($1::uuid[], $2::uuid[]) AS asked (tenant_id, id) JOIN conversations c USING (tenant_id, id)
ORDER BY c.tenant_id, c.id FOR NO KEY UPDATE OF c
"""
_PLACES = """
UPDATE conversations c SET next_out_seq = c.next_out_seq + given.messages
FROM unnest($1::uuid[], $2::uuid[], $3::int[]) AS given (tenant_id, id, messages)
WHERE c.tenant_id = given.tenant_id AND c.id = given.id
RETURNING c.id, c.next_out_seq - given.messages AS first
"""
# The trigger counted the customers' messages as unread and unanswered. They were read, and answered or not, elsewhere.
_SETTLE = """
UPDATE conversations c SET
    unread_count = c.unread_count - given.from_customer,
    answered_count = c.answered_count + given.from_customer,
    last_message_at = greatest(c.last_message_at, given.newest)
FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::timestamptz[]) AS given (tenant_id, id, from_customer, newest)
WHERE c.tenant_id = given.tenant_id AND c.id = given.id
"""
_BY_EXTERNAL = """
SELECT m.tenant_id, m.channel_id, m.external_id, m.id, m.conversation_id, m.direction, m.content
FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS asked (tenant_id, channel_id, external_id)
JOIN messages m USING (tenant_id, channel_id, external_id)
"""


async def lock_conversations(
    connection: Connection, keys: set[tuple[UUID, UUID]]
) -> dict[tuple[UUID, UUID], ImportTarget]:
    """Lock conversations, in the same order as everywhere; returns them by (tenant, id)."""
    ordered = sorted(keys)
    rows = await connection.fetch(_LOCK_CONVERSATIONS, *arrays(ordered, 2))
    return {(row["tenant_id"], row["id"]): ImportTarget(**row) for row in rows}


async def take_places(connection: Connection, wanted: dict[tuple[UUID, UUID], int]) -> dict[UUID, int]:
    """Reserve places in each conversation's order; returns conversation → the first of them."""
    ordered = sorted(wanted)
    rows = await connection.fetch(_PLACES, *arrays(ordered, 2), [wanted[key] for key in ordered])
    return {row["id"]: row["first"] for row in rows}


async def settle(connection: Connection, given: dict[tuple[UUID, UUID], tuple[int, datetime]]) -> None:
    """Correct the counts after an insert: (tenant, conversation) → the customer's messages, and the newest one's
    time."""
    ordered = sorted(given)
    await connection.execute(
        _SETTLE,
        *arrays(ordered, 2),
        [given[key][0] for key in ordered],
        [given[key][1] for key in ordered],
    )


External = tuple[UUID, UUID, str]  # tenant, channel, the provider's id


@dataclass(frozen=True, slots=True)
class Message:
    """What distinguishes a message from another one with the same provider's id."""

    id: UUID
    conversation_id: UUID
    direction: str
    content: str


async def by_external_id(connection: Connection, keys: set[External]) -> dict[External, Message]:
    """Messages of ours by the provider's id."""
    ordered = sorted(keys)
    rows = await connection.fetch(_BY_EXTERNAL, *arrays(ordered, 3))
    return {
        (row["tenant_id"], row["channel_id"], row["external_id"]): Message(
            row["id"], row["conversation_id"], row["direction"], row["content"]
        )
        for row in rows
    }


_MEMBERS = """
SELECT g.group_id, g.contact_id
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS asked (tenant_id, group_id, contact_id)
JOIN group_contacts g USING (tenant_id, group_id, contact_id)
"""
_RECIPIENTS = """
SELECT r.campaign_id, r.contact_id, r.id
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS asked (tenant_id, campaign_id, contact_id)
JOIN campaign_recipients r USING (tenant_id, campaign_id, contact_id)
"""
_CHANNEL = """
SELECT id FROM channels
WHERE (tenant_id, provider, kind, address) = ($1, $2, $3, $4) AND deleted_at IS NULL
"""
_STARTED = f"""
SELECT c.id FROM unnest($1::uuid[], $2::uuid[]) AS asked (tenant_id, id) JOIN campaigns c USING (tenant_id, id)
WHERE {only_if("c.status <> 'draft'")}
"""

Trio = tuple[UUID, UUID, UUID]


async def members(connection: Connection, keys: set[Trio]) -> set[tuple[UUID, UUID]]:
    """(group, contact) of those of these (tenant, group, contact) that exist."""
    rows = await connection.fetch(_MEMBERS, *arrays(sorted(keys), 3))
    return {(row["group_id"], row["contact_id"]) for row in rows}


async def recipients(connection: Connection, keys: set[Trio]) -> dict[tuple[UUID, UUID], UUID]:
    """(campaign, contact) → the existing recipient, of these (tenant, campaign, contact)."""
    rows = await connection.fetch(_RECIPIENTS, *arrays(sorted(keys), 3))
    return {(row["campaign_id"], row["contact_id"]): row["id"] for row in rows}


async def channel_at(connection: Connection, row: ChannelRow) -> UUID | None:
    """The channel of ours with this row's address, unless it is deleted."""
    found: UUID | None = await connection.fetchval(_CHANNEL, row.tenant_id, row.provider, row.kind, row.address)
    return found


async def started(connection: Connection, keys: set[tuple[UUID, UUID]]) -> set[UUID]:
    """Which of these campaigns (tenant, id) are no longer drafts."""
    ordered = sorted(keys)
    return {row["id"] for row in await connection.fetch(_STARTED, *arrays(ordered, 2))}
