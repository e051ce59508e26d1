"""conversations: finds or creates them by (channel, canonical address), locks them, and records what messages change.

That a reply is owed, and which process is making it, is in reply_leases.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from shared.database import Connection, new_id
from shared.store.arrays import arrays, ids_by_place

Key = tuple[UUID, UUID, str]  # tenant, channel, canonical address


@dataclass(frozen=True, slots=True)
class WantedConversation:
    """A conversation that a message belongs to."""

    tenant_id: UUID
    channel_id: UUID
    provider: str
    addresses: tuple[str, ...]  # canonical; a conversation with any of them is taken, else a new one gets the first
    recipient: str
    phone: str | None  # as given
    contact_id: UUID
    contact_name: str | None
    kommo_chat_id: str | None = None  # at Kommo each chat is one conversation, whatever others the contact has

    @property
    def key(self) -> Key:
        return self.tenant_id, self.channel_id, self.addresses[0]


@dataclass(frozen=True, slots=True)
class FoundConversation:
    """A conversation that exists; `made`: it was created for this message."""

    id: UUID
    tenant_id: UUID
    made: bool


_KNOWN = """
SELECT c.id, c.tenant_id, c.channel_id, c.address
FROM unnest($1::uuid[], $2::uuid[], $3::text[]) AS asked (tenant_id, channel_id, address)
JOIN conversations c USING (tenant_id, channel_id, address)
"""

# Where no conversation has any of the message's addresses: the contact's conversation in this channel. Two phone
# numbers are two conversations even of one contact; a user id joins its number's conversation, and the other way round.
_OF_CONTACTS = """
SELECT DISTINCT ON (asked.place) asked.place, c.id
FROM unnest($1::int[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[])
    AS asked (place, tenant_id, channel_id, contact_id, phone)
JOIN conversations c USING (tenant_id, channel_id, contact_id)
WHERE asked.phone IS NULL OR c.phone IS NULL
ORDER BY asked.place, c.id
"""

# A conversation that came by SQL may have a phone number as its address, beside its chat.
_OF_CHATS = """
SELECT DISTINCT ON (asked.place) asked.place, c.id
FROM unnest($1::int[], $2::uuid[], $3::uuid[], $4::text[]) AS asked (place, tenant_id, channel_id, kommo_chat_id)
JOIN conversations c USING (tenant_id, channel_id, kommo_chat_id)
ORDER BY asked.place, c.created_at, c.id
"""

# A conversation that came by SQL may have the number in an address that we would write in another way.
_OF_PHONES = """
SELECT asked.place, c.id
FROM unnest($1::int[], $2::uuid[], $3::text[], $4::uuid[], $5::text[])
    AS asked (place, tenant_id, provider, channel_id, phone)
JOIN conversations c USING (tenant_id, provider, channel_id, phone)
"""

_ADD = """
INSERT INTO conversations (id, tenant_id, channel_id, provider, address, recipient, phone, contact_id, contact_name,
    kommo_chat_id)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[],
    $9::text[], $10::text[])
ON CONFLICT DO NOTHING RETURNING id
"""

_LOCK = """
SELECT id, tenant_id FROM conversations
WHERE (tenant_id, id) IN (SELECT * FROM unnest($1::uuid[], $2::uuid[]))
ORDER BY tenant_id, id FOR NO KEY UPDATE
"""

# Those that no other transaction has locked.
_LOCK_FREE = f"{_LOCK} SKIP LOCKED"

# The window opens at the provider's time, and an old webhook never moves it back. A closed or deleted conversation
# opens again. LIMIT 1: one index look-up for each conversation, however many messages are held in all.
_UPDATE = """
UPDATE conversations c SET
    last_user_message_at = greatest(c.last_user_message_at, least(incoming.sent_at, now())),
    unread_count = c.unread_count + incoming.messages,
    user_message_count = c.user_message_count + incoming.messages,
    recipient = incoming.recipient,
    contact_name = coalesce(incoming.contact_name, c.contact_name),
    contact_id = coalesce(c.contact_id, incoming.contact_id),
    last_message_at = greatest(c.last_message_at, incoming.received_at),
    status = CASE WHEN c.status = 'closed' THEN 'active' ELSE c.status END,
    deleted_at = NULL,
    reply_due_at = CASE WHEN incoming.debounce IS NULL OR c.status = 'escalated' THEN c.reply_due_at
        ELSE now() + least(incoming.debounce,
            greatest(coalesce(c.reply_wanted_since, now()) + incoming.longest_wait - now(), interval '0'))
            + CASE WHEN incoming.debounce = interval '0' THEN $7::interval ELSE interval '0' END END,
    reply_wanted_since = CASE WHEN incoming.debounce IS NULL OR c.status = 'escalated' THEN c.reply_wanted_since
        ELSE coalesce(c.reply_wanted_since, now()) END
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::interval[], $6::interval[],
    $8::timestamptz[], $9::int[], $10::timestamptz[], $11::uuid[])
    AS incoming (tenant_id, id, recipient, contact_name, debounce, longest_wait, received_at, messages, sent_at,
        contact_id)
WHERE c.tenant_id = incoming.tenant_id AND c.id = incoming.id
RETURNING c.id, c.reply_due_at IS NOT NULL AS owed, c.tenant_id, incoming.contact_id, (
    SELECT k.deleted_at IS NOT NULL FROM contacts k WHERE k.tenant_id = c.tenant_id AND k.id = incoming.contact_id
    ) AS contact_deleted, (
    SELECT true FROM messages m WHERE m.tenant_id = c.tenant_id AND m.conversation_id = c.id AND m.status = 'held'
    LIMIT 1) AS holds
"""


@dataclass(frozen=True, slots=True)
class ConversationUpdate:
    """What customers' messages change in a conversation. `debounce` None: the channel sends no automatic replies.

    `received_at` is when the newest of the messages reached us; `sent_at` is the latest time that the provider gives,
    and the 24-hour window opens then.
    """

    tenant_id: UUID
    id: UUID
    contact_id: UUID  # the sender's; becomes the conversation's, where it has none
    recipient: str
    contact_name: str | None
    debounce: timedelta | None
    longest_wait: timedelta
    received_at: datetime
    messages: int
    sent_at: datetime


@dataclass(frozen=True, slots=True)
class Updated:
    """Conversations of an update for which something follows."""

    owed: set[UUID]  # ids of those that owe a reply
    held: set[tuple[UUID, UUID]]  # (tenant, id) of those with messages held for the window
    deleted: set[tuple[UUID, UUID]]  # (tenant, contact) of senders who are deleted contacts


async def find_or_make(connection: Connection, wanted: Sequence[WantedConversation]) -> list[FoundConversation]:
    """Find or create the conversation of each, in their order. `lock` them before writing into them."""
    asked = list({(w.tenant_id, w.channel_id, a) for w in wanted for a in w.addresses})
    known = await _known(connection, asked)
    unknown = [w for w in wanted if not any((w.tenant_id, w.channel_id, a) in known for a in w.addresses)]
    known.update(await _of_chats(connection, [w for w in unknown if w.kommo_chat_id is not None]))
    known.update(await _of_contacts(connection, [w for w in unknown if w.kommo_chat_id is None]))
    unknown = [w for w in unknown if w.key not in known]
    leaders = _leaders(unknown)
    new = {leader.key: (new_id(), leader) for leader in leaders}
    made: set[UUID] = set()
    if new:
        rows = [new[key] for key in sorted(new, key=str)]
        added = await connection.fetch(
            _ADD,
            [i for i, _ in rows],
            [w.tenant_id for _, w in rows],
            [w.channel_id for _, w in rows],
            [w.provider for _, w in rows],
            [w.addresses[0] for _, w in rows],
            [w.recipient for _, w in rows],
            [w.phone for _, w in rows],
            [w.contact_id for _, w in rows],
            [w.contact_name for _, w in rows],
            [w.kommo_chat_id for _, w in rows],
        )
        made = {row["id"] for row in added}
        known.update(await _known(connection, sorted(new, key=str)))
        known.update(await _of_phones(connection, [leader for leader in leaders if leader.key not in known]))
        for want, leader in zip(unknown, leaders, strict=True):
            known.setdefault(want.key, known[leader.key])
    ids = [next(known[k] for a in w.addresses if (k := (w.tenant_id, w.channel_id, a)) in known) for w in wanted]
    return [FoundConversation(i, w.tenant_id, i in made) for w, i in zip(wanted, ids, strict=True)]


async def _known(connection: Connection, keys: Sequence[Key]) -> dict[Key, UUID]:
    rows = await connection.fetch(_KNOWN, *arrays(keys, 3))
    return {(row["tenant_id"], row["channel_id"], row["address"]): row["id"] for row in rows}


async def _of_chats(connection: Connection, unknown: Sequence[WantedConversation]) -> dict[Key, UUID]:
    """First address → the conversation that has the same Kommo chat under another address."""
    chats = [(w.tenant_id, w.channel_id, w.kommo_chat_id) for w in unknown]
    found = await ids_by_place(connection, _OF_CHATS, chats)
    return {unknown[place].key: conversation for place, conversation in found.items()}


async def _of_contacts(connection: Connection, unknown: Sequence[WantedConversation]) -> dict[Key, UUID]:
    """First address → the conversation that the contact has already under another address."""
    contacts = [(w.tenant_id, w.channel_id, w.contact_id, w.phone) for w in unknown]
    found = await ids_by_place(connection, _OF_CONTACTS, contacts)
    return {unknown[place].key: conversation for place, conversation in found.items()}


async def _of_phones(connection: Connection, refused: Sequence[WantedConversation]) -> dict[Key, UUID]:
    """First address → the conversation that has the same phone number under another address."""
    phones = [(w.tenant_id, w.provider, w.channel_id, w.phone) for w in refused]
    found = await ids_by_place(connection, _OF_PHONES, phones)
    return {refused[place].key: conversation for place, conversation in found.items()}


def _leaders(unknown: Sequence[WantedConversation]) -> list[WantedConversation]:
    """For each, the one whose new conversation it shares: the first of its contact, by the rule of _OF_CONTACTS."""
    first: dict[tuple[UUID, UUID], list[WantedConversation]] = {}
    leaders = []
    for want in unknown:
        peers = first.setdefault((want.channel_id, want.contact_id), [])
        leader = next((p for p in peers if _is_one(p, want)), None)
        if leader is None:
            peers.append(leader := want)
        leaders.append(leader)
    return leaders


def _is_one(one: WantedConversation, other: WantedConversation) -> bool:
    """Whether two messages of one contact in one channel belong to one conversation."""
    if one.kommo_chat_id != other.kommo_chat_id:
        return False
    return one.phone is None or other.phone is None or one.phone == other.phone


async def lock(connection: Connection, keys: set[tuple[UUID, UUID]]) -> bool:
    """Lock conversations (tenant, id) until the transaction ends, in one order for all. False: some are gone."""
    ordered = sorted(keys)
    rows = await connection.fetch(_LOCK, *arrays(ordered, 2))
    return len(rows) == len(ordered)


async def lock_free(connection: Connection, keys: Sequence[tuple[UUID, UUID]]) -> list[tuple[UUID, UUID]]:
    """As `lock`, without waiting; returns those that no other transaction has locked."""
    ordered = sorted(keys)
    rows = await connection.fetch(_LOCK_FREE, *arrays(ordered, 2))
    return [(row["tenant_id"], row["id"]) for row in rows]


async def lock_each(connection: Connection, keys: set[tuple[UUID, UUID]], *, wait: bool) -> set[tuple[UUID, UUID]]:
    """Lock conversations as `lock` or, without `wait`, as `lock_free`; returns those that are locked now."""
    if not wait:
        return set(await lock_free(connection, list(keys)))
    await lock(connection, keys)
    return keys


async def update_from_messages(
    connection: Connection, conversations: Sequence[ConversationUpdate], handoff: timedelta
) -> Updated:
    """Record that customers wrote in these conversations; returns what follows. The caller holds their locks, so this
    is one statement.

    With a debounce of 0 the caller publishes at once, and the reply is due again a handoff lease later.
    """
    ordered = sorted(conversations, key=lambda c: (c.tenant_id, c.id))
    rows = await connection.fetch(
        _UPDATE,
        [c.tenant_id for c in ordered],
        [c.id for c in ordered],
        [c.recipient for c in ordered],
        [c.contact_name for c in ordered],
        [c.debounce for c in ordered],
        [c.longest_wait for c in ordered],
        handoff,
        [c.received_at for c in ordered],
        [c.messages for c in ordered],
        [c.sent_at for c in ordered],
        [c.contact_id for c in ordered],
    )
    return Updated(
        owed={row["id"] for row in rows if row["owed"]},
        held={(row["tenant_id"], row["id"]) for row in rows if row["holds"]},
        deleted={(row["tenant_id"], row["contact_id"]) for row in rows if row["contact_deleted"]},
    )
