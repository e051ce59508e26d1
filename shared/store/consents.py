"""consents: the ledger of opt-ins and opt-outs, and whether one stops a message. Entries are added and never changed.

shared/domain/consents.py says what they mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal
from uuid import UUID

from shared.database import Connection, Pool, new_id
from shared.domain.model import ChannelKind, ConsentScope, ConsentState
from shared.store.arrays import arrays

Source = Literal["message", "provider", "api", "import"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A contact's opt-in or opt-out for a kind of channel, from when on, and its evidence.

    `dedupe_key` names its cause, once per tenant; None: an entry is added each time.
    """

    tenant_id: UUID
    contact_id: UUID
    channel_kind: ChannelKind
    state: ConsentState
    source: Source
    at: datetime  # when it took effect: the provider's time, or that of the refused call; not when we learned of it
    scope: ConsentScope = "all"
    dedupe_key: str | None = None
    message_id: UUID | None = None  # the customer's message, where it is the evidence
    evidence: Mapping[str, object] = field(default_factory=dict)  # codes and ids, no text and no address


_ADD = """
INSERT INTO consents (id, tenant_id, contact_id, channel_kind, state, source, effective_at, scope, dedupe_key,
    message_id, evidence)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::timestamptz[],
    $8::text[], $9::text[], $10::uuid[], $11::jsonb[])
ON CONFLICT (tenant_id, dedupe_key) WHERE dedupe_key IS NOT NULL DO NOTHING
RETURNING id
"""


async def add(connection: Connection, entries: Sequence[Entry]) -> list[Entry]:
    """Add entries in one statement; returns those that are new."""
    ordered = sorted(entries, key=lambda entry: (entry.tenant_id, entry.dedupe_key or ""))
    ids = [new_id() for _ in ordered]
    rows = await connection.fetch(
        _ADD,
        ids,
        [entry.tenant_id for entry in ordered],
        [entry.contact_id for entry in ordered],
        [entry.channel_kind for entry in ordered],
        [entry.state for entry in ordered],
        [entry.source for entry in ordered],
        [entry.at for entry in ordered],
        [entry.scope for entry in ordered],
        [entry.dedupe_key for entry in ordered],
        [entry.message_id for entry in ordered],
        [entry.evidence for entry in ordered],
    )
    written = {row["id"] for row in rows}
    return [entry for entry_id, entry in zip(ids, ordered, strict=True) if entry_id in written]


_HAS_SAME = """
SELECT true FROM consents
WHERE tenant_id = $1 AND dedupe_key = $2 AND contact_id = $3 AND channel_kind = $4 AND state = $5
"""


async def has_same(connection: Connection, entry: Entry) -> bool:
    """Whether the entry of this one's cause is of the same contact, kind of channel and state."""
    asked = (entry.tenant_id, entry.dedupe_key, entry.contact_id, entry.channel_kind, entry.state)
    return await connection.fetchval(_HAS_SAME, *asked) is not None


# The contact with the address that the conversation `talk` on the channel `via` writes to. Nearly always it is the
# conversation's contact; but one that came by SQL may have another contact, or none.
_RECIPIENT = """(
SELECT a.contact_id FROM contact_addresses AS a
WHERE a.tenant_id = talk.tenant_id
    AND a.kind = CASE WHEN talk.provider = 'kommo' THEN 'kommo_chat' WHEN via.kind = 'email' THEN 'email'
        WHEN talk.address ~ '^[+]?[0-9]+$' THEN 'phone' ELSE 'user_id' END
    AND a.canonical = CASE WHEN talk.provider = 'kommo' THEN talk.kommo_chat_id ELSE talk.address END
)"""

_CONTACTS_OF_CONVERSATIONS = f"""
SELECT talk.id, coalesce({_RECIPIENT}, talk.contact_id) AS contact_id, via.kind
FROM unnest($1::uuid[], $2::uuid[]) AS asked (tenant_id, id)
JOIN conversations AS talk USING (tenant_id, id)
JOIN channels AS via ON via.tenant_id = talk.tenant_id AND via.id = talk.channel_id
"""


async def contacts_of_conversations(
    connection: Connection, conversations: Sequence[tuple[UUID, UUID]]
) -> dict[UUID, tuple[UUID, ChannelKind]]:
    """Conversation → the contact that it writes to, and its kind of channel; without those that have no contact."""
    keys = sorted(set(conversations))
    rows = await connection.fetch(_CONTACTS_OF_CONVERSATIONS, *arrays(keys, 2))
    return {row["id"]: (row["contact_id"], row["kind"]) for row in rows if row["contact_id"] is not None}


# The scope of the opt-out that keeps the message `m` of the surrounding statement from leaving; NULL where it may
# leave. Every step that lets a message go on uses this one expression, so that all of them have the whole rule. An
# opt-out counts by the conversation's contact and by the contact that has its address. Where these are two, an opt-in
# of the one lifts the other's opt-out only if it is later and the customer's own: any other was given for a contact
# that had not opted out. Anyone can write a mail in another's name, so a mail lifts a block only where its author is
# proven.
STOPPED_BY: Final = f"""(
    SELECT min(holds.scope) FROM (
        SELECT DISTINCT ON (k.contact_id, k.scope) k.scope, k.state, k.effective_at, talk.last_user_message_at,
            via.kind = 'email' AS is_mail,
            max(k.effective_at) FILTER (WHERE k.state = 'opted_in' AND k.source IN ('message', 'provider'))
                OVER (PARTITION BY k.scope) AS lifted_at
        FROM conversations AS talk
        JOIN channels AS via ON via.tenant_id = talk.tenant_id AND via.id = talk.channel_id
        CROSS JOIN LATERAL (SELECT talk.contact_id AS id UNION ALL {_RECIPIENT}) AS who
        JOIN consents AS k ON k.contact_id = who.id AND k.channel_kind = via.kind AND k.tenant_id = talk.tenant_id
        WHERE talk.tenant_id = m.tenant_id AND talk.id = m.conversation_id
        ORDER BY k.contact_id, k.scope, k.effective_at DESC, k.state DESC
    ) AS holds
    WHERE holds.state = 'opted_out' AND coalesce(holds.lifted_at <= holds.effective_at, true) AND CASE holds.scope
        WHEN 'blocked' THEN CASE
            WHEN holds.is_mail THEN NOT EXISTS (
                SELECT FROM messages AS written
                WHERE written.tenant_id = m.tenant_id AND written.conversation_id = m.conversation_id
                    AND written.role = 'user' AND written.received_at > holds.effective_at
                    AND written.metadata -> 'proven' = 'true')
            ELSE coalesce(holds.last_user_message_at <= holds.effective_at, true) END
        WHEN 'marketing' THEN m.lane = 'bulk' OR EXISTS (
            SELECT FROM message_templates AS form
            WHERE form.tenant_id = m.tenant_id AND lower(form.category) = 'marketing'  -- deleted ones too
                AND coalesce(m.sent_as, m.template) ->> 'name' IN (form.name, form.external_id))
        ELSE true END
)"""


_ANSWERS_STOPPED = f"""
SELECT m.conversation_id, {STOPPED_BY} AS stopped_by FROM (
    SELECT tenant_id, conversation_id, 'normal' AS lane, NULL::jsonb AS sent_as, NULL::jsonb AS template
    FROM unnest($1::uuid[], $2::uuid[]) AS asked (tenant_id, conversation_id)
) AS m
"""


async def answers_stopped(connection: Connection, keys: Sequence[tuple[UUID, UUID]]) -> set[UUID]:
    """Those of these (tenant, conversation) in which an opt-out would keep an answer from leaving."""
    rows = await connection.fetch(_ANSWERS_STOPPED, *arrays(keys, 2)) if keys else []
    return {row["conversation_id"] for row in rows if row["stopped_by"] is not None}


async def answer_stopped(connection: Connection, tenant_id: UUID, conversation_id: UUID) -> bool:
    """Whether an opt-out would keep an answer in this conversation from leaving."""
    return bool(await answers_stopped(connection, [(tenant_id, conversation_id)]))


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """An entry for an operator. `holds`: it is the newest of its channel kind and scope, so it counts."""

    channel_kind: str
    scope: str
    state: str
    source: str
    effective_at: datetime
    evidence: Mapping[str, object]
    holds: bool


_LEDGER = """
SELECT channel_kind, scope, state, source, effective_at, evidence,
    row_number() OVER (PARTITION BY channel_kind, scope ORDER BY effective_at DESC, state DESC) = 1 AS holds
FROM consents WHERE tenant_id = $1 AND contact_id = $2 ORDER BY effective_at DESC, state DESC LIMIT $3
"""


async def ledger(connection: Connection | Pool, tenant_id: UUID, contact_id: UUID, limit: int) -> list[LedgerEntry]:
    """A contact's entries, newest first."""
    return [LedgerEntry(**row) for row in await connection.fetch(_LEDGER, tenant_id, contact_id, limit)]


_WORDS = "SELECT settings -> 'consents' FROM tenants WHERE id = $1"
_SET_WORDS = """
UPDATE tenants SET settings = CASE WHEN $2::jsonb IS NULL THEN settings - 'consents'
    ELSE jsonb_set(settings, '{consents}', $2) END
WHERE id = $1 RETURNING id
"""


async def settings(connection: Connection | Pool, tenant_id: UUID) -> dict[str, object] | None:
    """A tenant's own words as they are stored; None where it has the defaults."""
    found: dict[str, object] | None = await connection.fetchval(_WORDS, tenant_id)
    return found


async def set_settings(connection: Connection | Pool, tenant_id: UUID, consents: Mapping[str, object] | None) -> bool:
    """Replace a tenant's words (None: the defaults); check them with `shared.domain.consents.words_of` before."""
    return await connection.fetchval(_SET_WORDS, tenant_id, consents) is not None
