"""Whom a campaign is for, in SQL: contacts in pages, each with its address, its values, and why it is skipped if it is.

Freezing inserts what this says, and the preview counts it: the two are one text, and can't come to differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from shared.database import Connection
from shared.domain.campaigns.placeholders import Used
from shared.domain.model import AddressKind, ChannelKind
from shared.store.by_key import only_if
from shared.store.campaigns.records import Json, RecipientType

LIMIT: Final = 1_000  # contacts of a page: as long as its transaction lasts, join_contacts waits for them
_BEFORE_ALL: Final = UUID(int=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What decides of each contact whether the campaign is for it, and what it has of it."""

    campaign_id: UUID
    channel_id: UUID
    channel_kind: ChannelKind
    address_kinds: Sequence[AddressKind]  # by which the channel reaches a contact, the best first
    used: Sequence[Used] = ()  # by the campaign's texts
    us_marketing: bool = False  # numbers of the United States are skipped, for WhatsApp takes no marketing to them
    outside_us: Sequence[str] = ()  # area codes of the other `+1` numbers
    free_form: bool = False  # a text goes where the window is open, so also to the United States
    tags: Sequence[str] | None = None
    opted_in: bool = False
    seen_after: datetime | None = None
    seen_before: datetime | None = None
    statuses: Sequence[str] = ()  # of another campaign's recipients
    skipped_for: Sequence[str] = ()  # reasons, where `statuses` has `skipped`
    final: Sequence[str] = ()  # reasons of failures that another try would repeat
    earlier: Sequence[UUID] = ()  # groups whose contacts have been counted

    def as_json(self) -> Json:
        """As the statements read it."""
        fields = [
            {"field": one.field.name, "source": one.field.source, "key": one.field.key, "needed": one.needed}
            for one in self.used
        ]
        return {
            **asdict(self),
            "campaign_id": str(self.campaign_id),
            "channel_id": str(self.channel_id),
            "earlier": [str(one) for one in self.earlier],
            "used": fields,
            "has_facts": any(one.field.source == "data" for one in self.used),
        }


@dataclass(frozen=True, slots=True)
class Audience:
    """The contacts that a campaign chooses from, in parts: one for each of its groups, else one."""

    tenant_id: UUID
    source: RecipientType
    ids: Sequence[UUID]
    rules: Rules

    @property
    def parts(self) -> int:
        return len(self.ids) if self.source == "groups" else 1


@dataclass(frozen=True, slots=True)
class Place:
    """How far one has come: in this part, behind this contact (None: at its beginning)."""

    part: int = 0
    after: UUID | None = None


def arguments(audience: Audience, place: Place, limit: int) -> tuple[object, ...]:
    """Of a statement that begins with `pages`."""
    ids = [audience.ids[place.part]] if audience.source == "groups" else list(audience.ids)
    return audience.tenant_id, ids, place.after or _BEFORE_ALL, limit, audience.rules.as_json()


# -- the statement: $1 tenant, $2 ids, $3 the contact before the page, $4 its length, $5 Rules -------------------------

_RULES: Final = """rule AS MATERIALIZED (
    SELECT * FROM jsonb_to_record($5) AS r (campaign_id uuid, channel_id uuid, channel_kind text, address_kinds text[],
        used jsonb, has_facts boolean, us_marketing boolean, outside_us text[], free_form boolean, tags text[],
        opted_in boolean, seen_after timestamptz, seen_before timestamptz, statuses text[], skipped_for text[],
        final text[], earlier uuid[])
), used AS MATERIALIZED (
    SELECT u.* FROM rule
    CROSS JOIN LATERAL jsonb_to_recordset(rule.used) AS u (field text, source text, key text, needed boolean)
), facts AS MATERIALIZED (  -- of single recipients, in one value: a page looks each of its contacts up in it
    SELECT jsonb_object_agg(lower(one.key), one.value) AS of
    FROM rule JOIN campaigns AS k ON k.tenant_id = $1 AND k.id = rule.campaign_id
    CROSS JOIN LATERAL jsonb_each(
        CASE WHEN rule.has_facts AND jsonb_typeof(k.message_data) = 'object' THEN k.message_data ELSE '{}' END) AS one
)"""
# The contacts of a page, by their ids, whether the campaign is for them or not.
_PAGE: Final[Mapping[RecipientType, str]] = {
    "groups": """page AS MATERIALIZED (
    SELECT contact_id AS id FROM group_contacts AS m
    WHERE tenant_id = $1 AND group_id = ($2::uuid[])[1] AND contact_id > $3 AND EXISTS (
        SELECT FROM groups AS g WHERE g.tenant_id = m.tenant_id AND g.id = m.group_id AND g.deleted_at IS NULL)
    ORDER BY contact_id LIMIT $4
)""",
    "contacts": """page AS MATERIALIZED (
    SELECT id FROM contacts WHERE tenant_id = $1 AND id = ANY($2::uuid[]) AND id > $3 ORDER BY id LIMIT $4
)""",
    "all": """page AS MATERIALIZED (
    SELECT id FROM contacts WHERE tenant_id = $1 AND id > $3 AND $2::uuid[] IS NOT NULL ORDER BY id LIMIT $4
)""",
    "campaign": """page AS MATERIALIZED (
    SELECT contact_id AS id, status, reason FROM campaign_recipients
    WHERE tenant_id = $1 AND campaign_id = ($2::uuid[])[1] AND contact_id > $3 ORDER BY contact_id LIMIT $4
)""",
}
# Which of them are to be recipients, before the filter.
_CHOSEN: Final[Mapping[RecipientType, str]] = {
    "groups": """(rule.earlier = '{}' OR NOT EXISTS (
        SELECT FROM group_contacts AS b JOIN groups AS g ON g.tenant_id = b.tenant_id AND g.id = b.group_id
        WHERE b.tenant_id = $1 AND b.contact_id = p.id AND b.group_id = ANY(rule.earlier) AND g.deleted_at IS NULL))""",
    "contacts": "true",
    "all": "c.deleted_at IS NULL",
    "campaign": """p.status = ANY(rule.statuses) AND CASE p.status
        WHEN 'failed' THEN coalesce(p.reason, '') <> ALL(rule.final)
        WHEN 'skipped' THEN p.reason = ANY(rule.skipped_for) ELSE true END""",
}


def _scalar(json: str) -> str:
    """The text of a JSON value that is a text, a number, true or false; NULL of any other."""
    return f"CASE WHEN jsonb_typeof({json}) IN ('string', 'number', 'boolean') THEN {json} #>> '{{}}' END"


def _oldest(kind: AddressKind) -> str:
    """A contact's first address of a kind, as it was given."""
    return f"""(SELECT own.given FROM contact_addresses AS own
            WHERE own.contact_id = c.id AND own.tenant_id = c.tenant_id AND {only_if(f"own.kind = '{kind}'")}
            ORDER BY own.created_at, own.canonical LIMIT 1)"""


_CONVERSATIONS: Final = f"""conversations AS talk
        WHERE talk.contact_id = c.id AND talk.tenant_id = c.tenant_id
            AND {only_if("talk.channel_id = rule.channel_id")}"""


def pages(source: RecipientType) -> str:
    """What a statement begins with. `judged` has the contacts of a page, says of each whether it is to be a recipient,
    and what would become of it. It is materialized, so that each is judged once."""
    # A short code is no person's. A chat is reached through the channel that it is on. `STOPPED_BY` of
    # shared/store/consents.py decides again when a message is about to leave, and by more: here an opt-out need only be
    # found where the contact itself has it.
    return f"""WITH {_RULES}, {_PAGE[source]}, judged AS MATERIALIZED (
    SELECT c.id AS contact_id, place.canonical AS address, known.found, known.missing, CASE
        WHEN c.deleted_at IS NOT NULL THEN 'deleted'
        WHEN NOT c.is_active THEN 'inactive'
        WHEN consent.opted_out THEN 'opted_out'
        WHEN place.canonical IS NULL THEN 'no_address'
        WHEN rule.us_marketing AND place.canonical LIKE '+1%'
            AND substr(place.canonical, 3, 3) <> ALL(rule.outside_us) AND NOT (rule.free_form AND EXISTS (
                SELECT FROM {_CONVERSATIONS} AND is_within_24_hour_window(talk.last_user_message_at)))
            THEN 'us_marketing'
        WHEN known.missing IS NOT NULL THEN 'missing_variables' END AS reason,
        ({_CHOSEN[source]})
        AND (rule.tags IS NULL OR c.metadata -> 'tags' ?| rule.tags)
        AND (NOT rule.opted_in OR consent.opted_in)
        AND (rule.seen_after IS NULL AND rule.seen_before IS NULL OR (
            SELECT max(talk.last_user_message_at) >= coalesce(rule.seen_after, '-infinity')
                AND max(talk.last_user_message_at) < coalesce(rule.seen_before, 'infinity')
            FROM {_CONVERSATIONS})) AS is_chosen
    FROM rule CROSS JOIN page AS p
    CROSS JOIN LATERAL (
        SELECT id, tenant_id, name, phone_number, metadata, is_active, deleted_at FROM contacts
        WHERE tenant_id = $1 AND id = p.id OFFSET 0
    ) AS c
    LEFT JOIN LATERAL (
        SELECT own.canonical FROM contact_addresses AS own
        WHERE own.contact_id = c.id AND own.tenant_id = c.tenant_id AND CASE
            WHEN own.kind <> ALL(rule.address_kinds) THEN false
            WHEN own.kind = 'phone' THEN own.canonical LIKE '+%'
            WHEN own.kind = 'kommo_chat' THEN EXISTS (
                SELECT FROM {_CONVERSATIONS}
                    AND talk.kommo_chat_id = own.canonical AND talk.deleted_at IS NULL OFFSET 0)
            ELSE true END
        ORDER BY array_position(rule.address_kinds, own.kind),
            coalesce(c.phone_number IN (own.given, own.canonical), false) DESC, own.created_at, own.canonical
        LIMIT 1
    ) AS place ON true
    CROSS JOIN LATERAL (
        SELECT bool_or(holds.state = 'opted_out' AND (holds.scope <> 'blocked' OR NOT EXISTS (
                SELECT FROM {_CONVERSATIONS} AND talk.last_user_message_at > holds.effective_at))) AS opted_out,
            bool_or(holds.state = 'opted_in' AND holds.scope <> 'blocked') AS opted_in
        FROM (
            SELECT DISTINCT ON (k.scope) k.scope, k.state, k.effective_at FROM consents AS k
            WHERE k.contact_id = c.id AND k.channel_kind = rule.channel_kind AND k.tenant_id = c.tenant_id
            ORDER BY k.scope, k.effective_at DESC, k.state DESC
        ) AS holds
    ) AS consent
    CROSS JOIN LATERAL (
        SELECT coalesce(jsonb_object_agg(one.field, one.value) FILTER (WHERE one.value <> ''), '{{}}') AS found,
            array_agg(one.field) FILTER (WHERE one.needed AND coalesce(one.value, '') = '') AS missing
        FROM (
            SELECT used.field, used.needed, left(btrim(CASE used.source
                WHEN 'name' THEN c.name
                WHEN 'phone' THEN coalesce(c.phone_number, {_oldest("phone")})
                WHEN 'email' THEN {_oldest("email")}
                WHEN 'metadata' THEN {_scalar("(c.metadata -> used.key)")}
                ELSE {_scalar("((SELECT of FROM facts) -> c.id::text -> used.key)")} END, E' \\t\\r\\n'), 1024) AS value
            FROM used OFFSET 0
        ) AS one
    ) AS known
)"""


_FAILURES: Final = """
SELECT DISTINCT via.provider, page.reason FROM (
    SELECT campaign_id, status, reason FROM campaign_recipients
    WHERE tenant_id = $1 AND campaign_id = $2 AND contact_id > $3 ORDER BY contact_id LIMIT $4
) AS page
JOIN campaigns AS k ON k.tenant_id = $1 AND k.id = $2
JOIN channels AS via ON via.tenant_id = $1 AND via.id = k.whatsapp_instance_id
WHERE page.status = 'failed' AND page.reason IS NOT NULL
"""


async def failures(
    connection: Connection, audience: Audience, place: Place, limit: int = LIMIT
) -> set[tuple[str, str]]:
    """Of a page of another campaign's recipients: by which provider and for which reasons messages to them failed."""
    rows = await connection.fetch(_FAILURES, audience.tenant_id, audience.ids[0], place.after or _BEFORE_ALL, limit)
    return {(row["provider"], row["reason"]) for row in rows}
