"""What matching reads for a batch of events: the tenants' webhooks, and the messages and contacts of the events."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from shared.database import Connection
from shared.domain.webhooks.bodies import LARGEST
from shared.domain.webhooks.matching import WebhookFilter, tags_of
from shared.store.arrays import arrays
from shared.store.contact_records import COLUMNS as CONTACT_COLUMNS
from shared.store.contact_records import ContactRecord
from shared.store.messages.records import MessageRecord

MOST_TAGS: Final = 65536  # bytes of a contact's tags; longer ones are none

Key = tuple[UUID, UUID]
"""(tenant, id)."""


@dataclass(frozen=True, slots=True)
class Wanting:
    """A live and active webhook."""

    tenant_id: UUID
    wants: WebhookFilter
    in_order: bool
    created_at: datetime
    updated_at: datetime

    @property
    def key(self) -> Key:
        return self.tenant_id, self.wants.webhook_id


@dataclass(frozen=True, slots=True)
class Person:
    """The contact that an event is about."""

    record: ContactRecord
    tags: frozenset[str]


_WEBHOOKS = """
SELECT tenant_id, id, events, channel_ids, direction, tags, in_order, created_at, updated_at FROM webhooks
WHERE tenant_id = ANY($1::uuid[]) AND deleted_at IS NULL AND is_active
"""
# A body has no room for what is larger. Of a large message only so much is read that its body is thin.
_MESSAGES = f"""
SELECT m.id, m.tenant_id, m.conversation_id, m.channel_id, m.provider, m.direction, m.role, m.message_type,
    CASE WHEN too_large THEN repeat('x', {LARGEST}) ELSE m.content END AS content,
    CASE WHEN too_large THEN '[]' ELSE m.media END AS media,
    CASE WHEN too_large THEN NULL ELSE coalesce(m.sent_as, m.template) END AS template,
    m.status, m.external_id, m.error_code, m.error_message,
    CASE WHEN too_large THEN '{{}}' ELSE m.metadata END AS metadata,
    m.sent_at, m.delivered_at, m.read_at, m.created_at, m.updated_at
FROM unnest($1::uuid[], $2::uuid[]) AS wanted (tenant_id, id)
CROSS JOIN LATERAL (
    SELECT *, octet_length(content) > {LARGEST} OR octet_length(media::text) > {LARGEST}
        OR octet_length(metadata::text) > {LARGEST}
        OR octet_length(coalesce(sent_as, template)::text) > {LARGEST} AS too_large
    FROM messages WHERE tenant_id = wanted.tenant_id AND id = wanted.id OFFSET 0
) AS m
"""
_CONTACTS = f"""
SELECT c.*, wanted.place FROM unnest($1::int[], $2::uuid[], $3::uuid[], $4::uuid[])
    AS wanted (place, of_tenant, of_contact, of_conversation)
LEFT JOIN LATERAL (
    SELECT contact_id FROM conversations
    WHERE wanted.of_contact IS NULL AND tenant_id = wanted.of_tenant AND id = wanted.of_conversation OFFSET 0
) AS talk ON true
CROSS JOIN LATERAL (
    SELECT {CONTACT_COLUMNS},
        CASE WHEN octet_length((metadata -> 'tags')::text) < {MOST_TAGS} THEN metadata -> 'tags' END AS tags
    FROM contacts
    WHERE tenant_id = wanted.of_tenant AND id = coalesce(wanted.of_contact, talk.contact_id) OFFSET 0
) AS c
"""


async def webhooks_of(connection: Connection, tenant_ids: Iterable[UUID]) -> list[Wanting]:
    """The live and active webhooks of these tenants."""
    return [
        Wanting(
            row["tenant_id"],
            WebhookFilter(
                row["id"],
                tuple(row["events"]),
                frozenset(row["channel_ids"]),
                row["direction"],
                frozenset(row["tags"]),
            ),
            row["in_order"],
            row["created_at"],
            row["updated_at"],
        )
        for row in await connection.fetch(_WEBHOOKS, sorted(set(tenant_ids)))
    ]


async def messages_of(connection: Connection, keys: Iterable[Key]) -> dict[Key, MessageRecord]:
    """The messages with these keys."""
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    rows = await connection.fetch(_MESSAGES, *arrays(wanted, 2))
    return {(row["tenant_id"], row["id"]): MessageRecord(**row) for row in rows}


async def people_of(
    connection: Connection, wanted: Sequence[tuple[UUID, UUID | None, UUID | None]]
) -> dict[tuple[UUID, UUID | None, UUID | None], Person]:
    """The contacts of (tenant, contact, conversation): the contact itself, else the conversation's."""
    asked = list(dict.fromkeys(wanted))
    if not asked:
        return {}
    found: dict[tuple[UUID, UUID | None, UUID | None], Person] = {}
    for row in await connection.fetch(_CONTACTS, list(range(len(asked))), *arrays(asked, 3)):
        members: dict[str, Any] = dict(row)
        place, tags = members.pop("place"), members.pop("tags")
        found[asked[place]] = Person(ContactRecord(**members), tags_of({"tags": tags}))
    return found
