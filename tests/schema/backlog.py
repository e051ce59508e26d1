"""A busy installation by SQL: two tenants, each with thousands of conversations that have something waiting."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from uuid import uuid4

from tests.schema.people import Connection, Tenant, add_tenant

# Of each conversation $n the same rows, by ids that follow from its number: `pg_temp.made('contact', n)`.
_IDS = """
CREATE FUNCTION pg_temp.made(kind text, n int) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT md5(%(seed)s || kind || n)::uuid
$$
"""
_PAST = (
    """INSERT INTO channels (id, tenant_id, endpoint_id, provider, kind, address, credentials)
    SELECT pg_temp.made('channel', n), %(tenant)s, %(endpoint)s, 'twilio', 'sms', n, 'sealed'
    FROM generate_series(1, 40) n""",
    """INSERT INTO contacts (id, tenant_id, name)
    SELECT pg_temp.made('contact', n), %(tenant)s, 'Ana' FROM generate_series(1, %(count)s) n""",
    """INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id)
    SELECT %(tenant)s, 'phone', '+34' || 600000000 + n, '+34' || 600000000 + n, pg_temp.made('contact', n)
    FROM generate_series(1, %(count)s) n""",
    """INSERT INTO conversations (id, tenant_id, channel_id, provider, address, recipient, phone, contact_id,
        kommo_chat_id, last_user_message_at, user_message_count, reply_due_at, reply_wanted_since, next_out_seq,
        created_at)
    SELECT pg_temp.made('conversation', n), %(tenant)s, %(channel)s, 'twilio', '+34' || 600000000 + n,
        '+34' || 600000000 + n, '+34' || 600000000 + n, pg_temp.made('contact', n), 'chat' || n,
        now() - interval '30 hours', 1, NULL, NULL, 1000,
        now() - interval '60 days'
    FROM generate_series(1, %(count)s) n""",
    """INSERT INTO sessions (id, tenant_id, channel_id, conversation_id, contact_id, phone_number)
    SELECT pg_temp.made('session', n), %(tenant)s, %(channel)s, pg_temp.made('conversation', n),
        pg_temp.made('contact', n), '+34' || 600000000 + n
    FROM generate_series(1, %(count)s) n""",
    """INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, status, content,
        external_id, received_at, created_at)
    SELECT pg_temp.made('received', n), %(tenant)s, pg_temp.made('conversation', n), %(channel)s, 'twilio', 'inbound',
        'user', 'received', 'hello', 'in' || n, now() - interval '30 hours', now() - interval '30 hours'
    FROM generate_series(1, %(count)s) n""",
    # One of each state in each conversation.
    """INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, status, content,
        dedupe_key, out_seq, external_id, claimed_at, attempts, created_at)
    SELECT pg_temp.made(status, n), %(tenant)s, pg_temp.made('conversation', n), %(channel)s, 'twilio', 'outbound',
        'assistant', status, 'answer', status || ':' || n, place,
        CASE WHEN status <> 'failed' THEN status || n END, now(), 1, now() - interval '29 hours'
    FROM generate_series(1, %(count)s) n,
        unnest(ARRAY['delivered', 'sent', 'failed']) WITH ORDINALITY AS of (status, place)""",
    """INSERT INTO message_statuses (id, tenant_id, channel_id, message_id, external_id, status)
    SELECT pg_temp.made('receipt', n), %(tenant)s, %(channel)s, pg_temp.made('delivered', n), 'delivered' || n,
        'delivered'
    FROM generate_series(1, %(count)s) n""",
    """INSERT INTO consents (id, tenant_id, contact_id, channel_kind, state, source, effective_at, scope, dedupe_key)
    SELECT pg_temp.made('consent', n), %(tenant)s, pg_temp.made('contact', n), 'whatsapp', 'opted_in', 'message',
        now(), 'all', 'consent' || n
    FROM generate_series(1, %(count)s) n""",
    """INSERT INTO media_blobs (tenant_id, sha256, key, size, stored_at)
    SELECT %(tenant)s, sha256(n::text::bytea), 'key' || n, 1, now() FROM generate_series(1, %(count)s) n""",
    """INSERT INTO media (id, tenant_id, message_id, position, url, status, key, sha256, size)
    SELECT pg_temp.made('stored', n), %(tenant)s, pg_temp.made('received', n), 1, 'https://a.example/', 'stored',
        'key' || n, sha256(n::text::bytea), 1
    FROM generate_series(1, %(count)s) n""",
    """INSERT INTO inbound_keys (id, received_at)
    SELECT sha256((%(seed)s || n)::bytea), now() FROM generate_series(1, %(count)s) n""",
    """INSERT INTO inbound_log (id, endpoint_id, tenant_id, provider, received_at, method, url, content_type, headers,
        body)
    SELECT sha256((%(seed)s || n)::bytea), %(endpoint)s, %(tenant)s, 'twilio', now(), 'POST', '/', 'text', '{}', ''
    FROM generate_series(1, %(count)s) n""",
    """INSERT INTO events (name, tenant_id, channel_id, conversation_id, message_id)
    SELECT 'message.received', %(tenant)s, %(channel)s, pg_temp.made('conversation', n), pg_temp.made('received', n)
    FROM generate_series(1, %(count)s) n""",
    """INSERT INTO import_aliases (tenant_id, system, source_table, source_id, our_id)
    SELECT %(tenant)s, 'kommo', 'kommo_messages', n, pg_temp.made('received', n)
    FROM generate_series(1, %(count)s) n""",
    """INSERT INTO groups (id, tenant_id, name)
    SELECT pg_temp.made('group', n), %(tenant)s, 'Group' FROM generate_series(1, %(count)s) n""",
    """INSERT INTO group_contacts (tenant_id, group_id, contact_id)
    SELECT %(tenant)s, pg_temp.made('group', n), pg_temp.made('contact', n) FROM generate_series(1, %(count)s) n""",
    """INSERT INTO campaigns (id, tenant_id, whatsapp_instance_id, name, message)
    SELECT pg_temp.made('campaign', n), %(tenant)s, %(channel)s, 'Campaign', 'Hello'
    FROM generate_series(1, %(count)s) n""",
    """INSERT INTO campaign_recipients (id, tenant_id, campaign_id, contact_id)
    SELECT pg_temp.made('addressee', n), %(tenant)s, pg_temp.made('campaign', n), pg_temp.made('contact', n)
    FROM generate_series(1, %(count)s) n""",
    """INSERT INTO webhooks (id, tenant_id, url, events, sealed_secret, created_at)
    SELECT pg_temp.made('webhook', n), %(tenant)s, 'https://a.example', '{*}', 'sealed', now() - interval '60 days'
    FROM generate_series(1, %(count)s) n""",
    """INSERT INTO webhook_keys (tenant_id, webhook_id, public_key)
    SELECT %(tenant)s, pg_temp.made('webhook', n), 'whpk_' FROM generate_series(1, %(count)s) n""",
    """INSERT INTO webhook_health (tenant_id, webhook_id)
    SELECT %(tenant)s, pg_temp.made('webhook', n) FROM generate_series(1, %(count)s) n""",
    """INSERT INTO webhook_sequences (tenant_id, webhook_id, conversation_id, last)
    SELECT %(tenant)s, pg_temp.made('webhook', 1 + n %% 20), pg_temp.made('conversation', n), 1
    FROM generate_series(1, %(count)s) n""",
    """INSERT INTO webhook_logs (id, tenant_id, webhook_id, event, conversation_id, sequence, success, attempt_count,
        completed_at, created_at)
    SELECT pg_temp.made('delivery', n), %(tenant)s, pg_temp.made('webhook', 1 + n %% 20), 'message_received',
        pg_temp.made('conversation', n), 1, true, 1, now(), now() - interval '1 day'
    FROM generate_series(1, %(count)s) n""",
    # The first webhook has a long log, of which a tenth failed.
    """INSERT INTO webhook_logs (id, tenant_id, webhook_id, event, success, attempt_count, completed_at, created_at)
    SELECT gen_random_uuid(), %(tenant)s, pg_temp.made('webhook', 1), 'message_received', n %% 10 <> 0, 1, now(),
        now() - interval '1 hour' - n * interval '1 second'
    FROM generate_series(1, 1000) n""",
    # The first conversation has gone on for long, and much of it waits.
    """INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, status, content,
        external_id, received_at, out_seq, lane, due_at, created_at)
    SELECT gen_random_uuid(), %(tenant)s, pg_temp.made('conversation', 1), %(channel)s, 'twilio', direction, role,
        status, 'talk', status || 'long' || n, now(), CASE direction WHEN 'outbound' THEN 100 + n END, 'normal',
        CASE status WHEN 'ready' THEN now() + interval '1 hour' END,
        now() - interval '28 hours' + n * interval '1 minute'
    FROM generate_series(1, 400) n, (VALUES ('inbound', 'user', 'received'), ('outbound', 'assistant', 'sent'))
        AS of (direction, role, status)""",
)
_WAITING = (
    # A reply is owed in each: half of them are due, a quarter in an hour, and the others are set aside.
    """UPDATE conversations c SET reply_wanted_since = now(), reply_due_at = CASE n %% 4
        WHEN 0 THEN NULL WHEN 1 THEN now() + interval '1 hour' ELSE now() END
    FROM generate_series(1, %(count)s) n
    WHERE c.tenant_id = %(tenant)s AND c.id = pg_temp.made('conversation', n)""",
    # One in each state; half of them are due.
    """INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, status, content,
        dedupe_key, out_seq, due_at, claim_id, claimed_at, unknown_at, attempts, created_at)
    SELECT pg_temp.made(status, n), %(tenant)s, pg_temp.made('conversation', n), %(channel)s, 'twilio', 'outbound',
        'assistant', status, 'answer', status || ':' || n, 10 + place,
        now() + interval '1 hour' * (n %% 2), CASE status WHEN 'sending' THEN gen_random_uuid() END, now(),
        CASE status WHEN 'unknown' THEN now() END, 1, now() - interval '29 hours'
    FROM generate_series(1, %(count)s) n,
        unnest(ARRAY['unknown', 'sending', 'ready', 'queued', 'held'])
            WITH ORDINALITY AS of (status, place)""",
    """INSERT INTO erasure_requests (tenant_id, contact_id, due_at)
    SELECT %(tenant)s, pg_temp.made('contact', n), now() + interval '1 hour' * (n %% 2)
    FROM generate_series(1, %(count)s) n""",
    """INSERT INTO contact_imports (id, tenant_id, key_hash, request_hash, format, existing, digest, created_at)
    SELECT pg_temp.made('import', n), %(tenant)s, sha256(n::text::bytea), sha256(''), 'csv', 'update', sha256(''),
        now() - interval '1 day' * (n %% 2)
    FROM generate_series(1, %(count)s) n""",
    """INSERT INTO contact_import_defects (tenant_id, import_id, line, field, code)
    SELECT %(tenant)s, pg_temp.made('import', 1), n, 'name', 'too_long_name' FROM generate_series(1, %(count)s) n""",
    """INSERT INTO message_statuses (id, tenant_id, channel_id, message_id, external_id, status, received_at)
    SELECT pg_temp.made('parked', n), %(tenant)s, %(channel)s, NULL, 'parked' || n, 'delivered',
        now() - interval '2 days'
    FROM generate_series(1, %(count)s) n""",
    """INSERT INTO media (id, tenant_id, message_id, position, url, due_at)
    SELECT pg_temp.made('wanted', n), %(tenant)s, pg_temp.made('received', n), 0, 'https://a.example/',
        now() + interval '1 hour' * (n %% 2)
    FROM generate_series(1, %(count)s) n""",
    # Half of the webhooks are due. The first one has a backlog: in the order of a conversation, missed, wanted again.
    """UPDATE webhook_health h SET due_at = now() + interval '1 hour' * (n %% 2)
    FROM generate_series(1, %(count)s) n
    WHERE h.tenant_id = %(tenant)s AND h.webhook_id = pg_temp.made('webhook', n)""",
    """INSERT INTO webhook_logs (id, tenant_id, webhook_id, event, conversation_id, sequence, due_at, created_at)
    SELECT pg_temp.made('pending', n), %(tenant)s, pg_temp.made('webhook', 1 + n %% 20), 'message_received',
        pg_temp.made('conversation', n), 2, now() + interval '1 hour' * (n %% 2), now()
    FROM generate_series(1, %(count)s) n""",
    """INSERT INTO webhook_logs (id, tenant_id, webhook_id, event, conversation_id, sequence, due_at, held, replay_at,
        replay_kind, success, completed_at, created_at)
    SELECT gen_random_uuid(), %(tenant)s, pg_temp.made('webhook', 1), 'message_received',
        CASE WHEN held = 'waiting' THEN pg_temp.made('conversation', 1) END, CASE WHEN held = 'waiting' THEN 2 + n END,
        CASE WHEN due THEN now() + interval '1 hour' END, held, CASE WHEN NOT due AND held IS NULL THEN now() END,
        CASE WHEN NOT due AND held IS NULL THEN 'replay' END, CASE WHEN NOT due AND held IS NULL THEN false END,
        CASE WHEN NOT due AND held IS NULL THEN now() END, now() - n * interval '1 second'
    FROM generate_series(1, 400) n, (VALUES (true, NULL), (false, 'waiting'), (false, 'missed'), (false, NULL))
        AS of (due, held)""",
    """INSERT INTO webhook_replays (id, tenant_id, webhook_id, since, until, only_failed, worked_at)
    SELECT pg_temp.made('replay', n), %(tenant)s, pg_temp.made('webhook', n), now() - interval '1 day', now(),
        n %% 4 < 2, now() - interval '1 hour' * (n %% 2)
    FROM generate_series(1, %(count)s) n""",
    """INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, status, content,
        out_seq, lane, due_at, created_at)
    SELECT gen_random_uuid(), %(tenant)s, pg_temp.made('conversation', 1), %(channel)s, 'twilio', 'outbound',
        'assistant', 'ready', 'talk', 1000 + n, 'normal', now() + interval '1 hour',
        now() - interval '20 hours' + n * interval '1 second'
    FROM generate_series(1, 400) n""",
)


@dataclass(frozen=True)
class Busy:
    """A tenant with so many conversations, whose rows have ids made from `seed`, a word and a number."""

    tenant: Tenant
    seed: str
    count: int

    @classmethod
    def unborn(cls, count: int) -> Self:
        """One that has no row yet."""
        return cls(Tenant(uuid4(), uuid4(), uuid4()), uuid4().hex, count)


def fill(worker: Connection, busy: Busy) -> None:
    """The tenant and its conversations, and nothing that waits."""
    add_tenant(worker, busy.tenant)
    _write(worker, busy, _PAST)


def wait(worker: Connection, busy: Busy) -> None:
    """Of each of its conversations something comes to wait in every state."""
    _write(worker, busy, _WAITING)


def _write(worker: Connection, busy: Busy, rows: Sequence[str]) -> None:
    values = {
        "tenant": busy.tenant.id,
        "channel": busy.tenant.channel_id,
        "endpoint": busy.tenant.endpoint_id,
        "seed": busy.seed,
        "count": busy.count,
    }
    worker.execute("DROP FUNCTION IF EXISTS pg_temp.made(text, int)")
    worker.execute(_IDS.replace("%(seed)s", f"'{busy.seed}'").encode())
    for row in rows:
        worker.execute(row.encode(), values)
