"""A tenant with a row of its own in every table."""

from uuid import uuid4

from tests.schema.people import Connection, Tenant, add_conversation, add_tenant

# In the order of their keys. A table that is missing here fails the test that everything stands on.
_ROWS = (
    "INSERT INTO rate_limits (tenant_id, channel_id) VALUES (%(tenant)s, %(channel)s)",
    "INSERT INTO contacts (id, tenant_id, name, phone_number) VALUES (%(contact)s, %(tenant)s, %(text)s, %(phone)s)",
    "INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id) "
    "VALUES (%(tenant)s, 'phone', %(phone)s, %(phone)s, %(contact)s)",
    "UPDATE conversations SET contact_id = %(contact)s, contact_name = %(text)s WHERE id = %(conversation)s",
    "INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, content, status, "
    "external_id) VALUES (%(message)s, %(tenant)s, %(conversation)s, %(channel)s, 'twilio', 'inbound', 'user', "
    "%(text)s, 'received', %(text)s)",
    "INSERT INTO messages (id, tenant_id, conversation_id, channel_id, provider, direction, role, content, status, "
    "out_seq, dedupe_key) VALUES (%(answer)s, %(tenant)s, %(conversation)s, %(channel)s, 'twilio', 'outbound', "
    "'assistant', %(text)s, 'sent', 1, %(text)s)",
    "INSERT INTO message_statuses (tenant_id, channel_id, message_id, external_id, status) "
    "VALUES (%(tenant)s, %(channel)s, %(answer)s, %(text)s, 'sent')",
    "INSERT INTO media_blobs (tenant_id, sha256, key, size) "
    "VALUES (%(tenant)s, sha256(%(text)s::text::bytea), %(text)s, 1)",
    "INSERT INTO media (id, tenant_id, message_id, position, filename, status, key, sha256, size) "
    "VALUES (%(message)s, %(tenant)s, %(message)s, 0, %(text)s, 'stored', %(text)s, sha256(%(text)s::text::bytea), 1)",
    "INSERT INTO sessions (tenant_id, channel_id, conversation_id, contact_id, phone_number) "
    "VALUES (%(tenant)s, %(channel)s, %(conversation)s, %(contact)s, %(phone)s)",
    "INSERT INTO channels (tenant_id, provider, kind, address, credentials) "
    "VALUES (%(tenant)s, 'meta', 'whatsapp', %(text)s, 'sealed')",
    "INSERT INTO expiring_windows (tenant_id, conversation_id, opened_at) VALUES (%(tenant)s, %(conversation)s, now())",
    "INSERT INTO unsealed_credentials (tenant_id, channel_id, secrets) VALUES (%(tenant)s, %(channel)s, '{}')",
    "INSERT INTO groups (id, tenant_id, name) VALUES (%(group)s, %(tenant)s, %(text)s)",
    "INSERT INTO group_contacts (tenant_id, group_id, contact_id) VALUES (%(tenant)s, %(group)s, %(contact)s)",
    "INSERT INTO consents (tenant_id, contact_id, channel_kind, state, source, message_id) "
    "VALUES (%(tenant)s, %(contact)s, 'whatsapp', 'opted_in', 'message', %(message)s)",
    "INSERT INTO erasure_requests (tenant_id, contact_id) VALUES (%(tenant)s, %(contact)s)",
    "INSERT INTO contact_imports (id, tenant_id, request_hash, format, existing, digest) "
    "VALUES (%(contact)s, %(tenant)s, sha256(%(text)s::text::bytea), 'csv', 'update', sha256(''))",
    "INSERT INTO contact_import_defects (tenant_id, import_id, line, field, code) "
    "VALUES (%(tenant)s, %(contact)s, 2, 'name', 'too_long_name')",
    "INSERT INTO message_templates (id, tenant_id, channel_id, name) "
    "VALUES (%(template)s, %(tenant)s, %(channel)s, %(text)s)",
    "INSERT INTO campaigns (id, tenant_id, whatsapp_instance_id, message_template_id, name) "
    "VALUES (%(campaign)s, %(tenant)s, %(channel)s, %(template)s, %(text)s)",
    "INSERT INTO campaign_recipients (tenant_id, campaign_id, contact_id, message_id) "
    "VALUES (%(tenant)s, %(campaign)s, %(contact)s, %(answer)s)",
    "INSERT INTO campaign_costs (tenant_id, campaign_id, market, category, type, currency, messages, units, amount) "
    "VALUES (%(tenant)s, %(campaign)s, 'ES', 'marketing', 'regular', 'EUR', 1, 1, 0.05)",
    "INSERT INTO campaign_answers (tenant_id, contact_id, kind, at) VALUES (%(tenant)s, %(contact)s, 'replied', now())",
    "INSERT INTO messaging_uses (tenant_id, portfolio, contact_id) VALUES (%(tenant)s, %(text)s, %(contact)s)",
    "INSERT INTO webhooks (id, tenant_id, name, url) VALUES (%(webhook)s, %(tenant)s, %(text)s, 'https://a.example')",
    "INSERT INTO unsealed_webhook_secrets (tenant_id, webhook_id, secret) VALUES (%(tenant)s, %(webhook)s, %(text)s)",
    "INSERT INTO webhook_keys (tenant_id, webhook_id, public_key) VALUES (%(tenant)s, %(webhook)s, %(text)s)",
    "INSERT INTO webhook_health (tenant_id, webhook_id, failures) VALUES (%(tenant)s, %(webhook)s, 4)",
    "INSERT INTO webhook_sequences (tenant_id, webhook_id, conversation_id, last) "
    "VALUES (%(tenant)s, %(webhook)s, %(conversation)s, 1)",
    "INSERT INTO webhook_replays (tenant_id, webhook_id, since, until, only_failed) "
    "VALUES (%(tenant)s, %(webhook)s, now(), now(), true)",
    "INSERT INTO webhook_behind (tenant_id, xid, seq) VALUES (%(tenant)s, '1', 1)",
    "INSERT INTO webhook_logs (tenant_id, webhook_id, event) VALUES (%(tenant)s, %(webhook)s, 'message.received')",
    "INSERT INTO api_keys (tenant_id, prefix, hash) VALUES (%(tenant)s, %(text)s, sha256(%(text)s::text::bytea))",
    "INSERT INTO idempotency_keys (tenant_id, key, request_hash) VALUES (%(tenant)s, %(text)s, '')",
    "INSERT INTO import_aliases (tenant_id, system, source_table, source_id, our_id) "
    "VALUES (%(tenant)s, 'kommo', 'kommo_messages', %(text)s, %(message)s)",
    "INSERT INTO events (name, tenant_id, message_id) VALUES ('message.received', %(tenant)s, %(message)s)",
    "INSERT INTO inbound_log (id, endpoint_id, tenant_id, provider, received_at, method, url, content_type, headers, "
    "body) VALUES (sha256(%(text)s::text::bytea), %(endpoint)s, %(tenant)s, 'twilio', now(), 'POST', %(text)s, 'text', "
    "'{}', %(text)s::text::bytea)",
)


def furnish(worker: Connection, text: str) -> Tenant:
    """A tenant; `text` stands in its rows, and is to be unlike any other tenant's."""
    tenant = add_tenant(worker)
    conversation = add_conversation(worker, tenant)
    found = worker.execute("SELECT phone FROM conversations WHERE id = %s", (conversation,)).fetchone()
    assert found is not None
    names = ("contact", "message", "answer", "group", "template", "campaign", "webhook")
    values = {
        "tenant": tenant.id,
        "channel": tenant.channel_id,
        "endpoint": tenant.endpoint_id,
        "conversation": conversation,
        "phone": found[0],
        "text": text,
        **{name: uuid4() for name in names},
    }
    for row in _ROWS:
        worker.execute(row.encode(), values)
    return tenant
