-- People's groups and consents, bot sessions, campaigns, and the tenants' own systems. New tables only.
--
-- Their foreign keys come last: each takes a lock on a table that is written to, and this transaction's end frees it.
-- Of a table's indexes only the primary key begins with the tenant (see 0003).

SET LOCAL lock_timeout = '100ms';

CREATE TABLE api_keys (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL DEFAULT current_tenant(),
    name text NOT NULL DEFAULT '',
    prefix text NOT NULL CHECK (prefix <> ''),  -- what is shown of a key; it is found by it
    hash bytea NOT NULL CONSTRAINT check_hash_is_sha256 CHECK (octet_length(hash) = 32),
    scopes text[] NOT NULL DEFAULT '{}',
    last_used_at timestamptz,
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX api_keys_prefix ON api_keys (prefix) WHERE deleted_at IS NULL;

CREATE TABLE groups (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL DEFAULT current_tenant(),
    name text NOT NULL CHECK (name <> ''),
    description text,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    PRIMARY KEY (tenant_id, id)
);

CREATE TABLE group_contacts (
    tenant_id uuid NOT NULL DEFAULT current_tenant(),
    group_id uuid NOT NULL,
    contact_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, group_id, contact_id),
    FOREIGN KEY (tenant_id, group_id) REFERENCES groups ON DELETE CASCADE
);
CREATE INDEX group_contacts_contact ON group_contacts (contact_id, tenant_id);

-- A ledger: nothing in it is changed. The newest entry of a contact and channel kind is what holds.
CREATE TABLE consents (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL DEFAULT current_tenant(),
    contact_id uuid NOT NULL,
    channel_kind text NOT NULL CONSTRAINT check_consent_kind CHECK (channel_kind IN ('whatsapp', 'sms', 'email')),
    state text NOT NULL CONSTRAINT check_consent_state CHECK (state IN ('opted_in', 'opted_out')),
    source text NOT NULL CONSTRAINT check_consent_source CHECK (source IN ('message', 'provider', 'api', 'import')),
    message_id uuid,                        -- the customer's own words, where they are the evidence
    evidence jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX consents_newest ON consents (contact_id, channel_kind, tenant_id, created_at DESC);
CREATE INDEX consents_message ON consents (message_id, tenant_id) WHERE message_id IS NOT NULL;

-- Where a bot stands in its talk with a person.
CREATE TABLE sessions (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL DEFAULT current_tenant(),
    channel_id uuid NOT NULL,
    conversation_id uuid,
    contact_id uuid,
    phone_number text NOT NULL CHECK (phone_number <> ''),
    state text NOT NULL DEFAULT 'IDLE' CONSTRAINT check_session_state CHECK (state ~ '^[A-Z][A-Z0-9_]{0,63}$'),
    context_data jsonb,
    last_message_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX sessions_phone ON sessions (channel_id, phone_number, tenant_id);
CREATE UNIQUE INDEX sessions_conversation ON sessions (conversation_id, tenant_id);
CREATE INDEX sessions_contact ON sessions (contact_id, tenant_id);

CREATE TABLE message_templates (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL DEFAULT current_tenant(),
    channel_id uuid,                        -- the one it is approved for; null: text of our own, for any channel
    name text NOT NULL CHECK (name <> ''),
    language text,
    external_id text,                       -- Twilio's ContentSid, Meta's template id
    category text,
    content text NOT NULL DEFAULT '',
    variables jsonb NOT NULL DEFAULT '[]',
    status text NOT NULL DEFAULT 'approved' CONSTRAINT check_template_status
        CHECK (status IN ('pending', 'approved', 'paused', 'rejected', 'disabled')),
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX message_templates_name ON message_templates (name, tenant_id) WHERE deleted_at IS NULL;
CREATE INDEX message_templates_channel ON message_templates (channel_id, tenant_id);

CREATE TABLE campaigns (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL DEFAULT current_tenant(),
    whatsapp_instance_id uuid NOT NULL,     -- the channel that sends it, by the name its users know
    message_template_id uuid,
    name text NOT NULL CHECK (name <> ''),
    message text,
    status text NOT NULL DEFAULT 'draft' CONSTRAINT check_campaign_status
        CHECK (status IN ('draft', 'scheduled', 'running', 'paused', 'completed', 'canceled', 'failed')),
    scheduled_at timestamptz,
    started_at timestamptz,
    completed_at timestamptz,
    total_recipients bigint NOT NULL DEFAULT 0 CHECK (total_recipients >= 0),
    sent_count bigint NOT NULL DEFAULT 0 CHECK (sent_count >= 0),
    failed_count bigint NOT NULL DEFAULT 0 CHECK (failed_count >= 0),
    due_at timestamptz,                     -- null: nothing is owed; else the clock hands it on when this has passed
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT check_campaign_says_something CHECK (message IS NOT NULL OR message_template_id IS NOT NULL),
    FOREIGN KEY (tenant_id, message_template_id) REFERENCES message_templates
);
CREATE INDEX campaigns_due ON campaigns (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX campaigns_instance ON campaigns (whatsapp_instance_id, tenant_id);
CREATE INDEX campaigns_template ON campaigns (message_template_id, tenant_id);

CREATE TABLE campaign_recipients (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL DEFAULT current_tenant(),
    campaign_id uuid NOT NULL,
    contact_id uuid NOT NULL,
    message_id uuid,                        -- what was made of it
    status text NOT NULL DEFAULT 'pending' CONSTRAINT check_recipient_status
        CHECK (status IN ('pending', 'queued', 'sent', 'delivered', 'read', 'failed', 'skipped', 'canceled')),
    sent_at timestamptz,
    delivered_at timestamptz,
    read_at timestamptz,
    failed_at timestamptz,
    error_message text,
    message_data jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, campaign_id) REFERENCES campaigns ON DELETE CASCADE
);
CREATE UNIQUE INDEX campaign_recipients_once ON campaign_recipients (campaign_id, contact_id, tenant_id);
CREATE INDEX campaign_recipients_pending ON campaign_recipients (campaign_id, id, tenant_id) WHERE status = 'pending';
CREATE INDEX campaign_recipients_contact ON campaign_recipients (contact_id, tenant_id);
CREATE INDEX campaign_recipients_message ON campaign_recipients (message_id, tenant_id);

CREATE TABLE webhooks (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL DEFAULT current_tenant(),
    name text NOT NULL DEFAULT '',
    url text NOT NULL CONSTRAINT check_webhook_url CHECK (url ~ '^https?://'),
    events text[] NOT NULL DEFAULT '{}',
    secret text NOT NULL DEFAULT '',        -- sealed; associated data: tenant, webhook and key id
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    PRIMARY KEY (tenant_id, id)
);

CREATE TABLE webhook_logs (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL DEFAULT current_tenant(),
    webhook_id uuid NOT NULL,
    event text NOT NULL,
    payload jsonb NOT NULL DEFAULT '{}',
    response text,
    status_code integer,
    success boolean,                        -- null: not known yet
    error_message text,
    attempt_count integer NOT NULL DEFAULT 0 CHECK (attempt_count >= 0),
    due_at timestamptz,                     -- null: nothing is owed
    created_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks ON DELETE CASCADE
);
CREATE INDEX webhook_logs_webhook ON webhook_logs (webhook_id, created_at DESC, tenant_id);
CREATE INDEX webhook_logs_due ON webhook_logs (due_at) WHERE due_at IS NOT NULL;

-- What an API client's request led to, so that the same key gives the same answer.
CREATE TABLE idempotency_keys (
    tenant_id uuid NOT NULL DEFAULT current_tenant(),
    key text NOT NULL CONSTRAINT check_key_length CHECK (length(key) BETWEEN 1 AND 255),
    request_hash bytea NOT NULL,
    status_code integer,                    -- null: the first request is still at work
    response jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);

CREATE TRIGGER api_keys_touch BEFORE UPDATE ON api_keys FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER groups_touch BEFORE UPDATE ON groups FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER sessions_touch BEFORE UPDATE ON sessions FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER message_templates_touch BEFORE UPDATE ON message_templates
    FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER campaigns_touch BEFORE UPDATE ON campaigns FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER campaign_recipients_touch BEFORE UPDATE ON campaign_recipients
    FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER webhooks_touch BEFORE UPDATE ON webhooks FOR EACH ROW EXECUTE FUNCTION touch_updated_at();

SELECT protect_tenant_table(name) FROM unnest(ARRAY[
    'api_keys', 'groups', 'group_contacts', 'consents', 'sessions', 'message_templates', 'campaigns',
    'campaign_recipients', 'webhooks', 'webhook_logs', 'idempotency_keys']::regclass[]) AS name;

GRANT SELECT, INSERT, UPDATE, DELETE ON api_keys, groups, group_contacts, sessions, message_templates, campaigns,
    campaign_recipients, webhooks, webhook_logs, idempotency_keys TO palomar_api;
GRANT SELECT, INSERT ON consents TO palomar_api;

-- The keys into tables that are in use. A tenant's rows go with it.
ALTER TABLE api_keys ADD FOREIGN KEY (tenant_id) REFERENCES tenants ON DELETE CASCADE;
ALTER TABLE groups ADD FOREIGN KEY (tenant_id) REFERENCES tenants ON DELETE CASCADE;
ALTER TABLE message_templates ADD FOREIGN KEY (tenant_id) REFERENCES tenants ON DELETE CASCADE;
ALTER TABLE webhooks ADD FOREIGN KEY (tenant_id) REFERENCES tenants ON DELETE CASCADE;
ALTER TABLE idempotency_keys ADD FOREIGN KEY (tenant_id) REFERENCES tenants ON DELETE CASCADE;
ALTER TABLE sessions ADD FOREIGN KEY (tenant_id, channel_id) REFERENCES channels ON DELETE CASCADE;
ALTER TABLE campaigns ADD FOREIGN KEY (tenant_id, whatsapp_instance_id) REFERENCES channels ON DELETE CASCADE;
ALTER TABLE message_templates ADD FOREIGN KEY (tenant_id, channel_id) REFERENCES channels ON DELETE CASCADE;
ALTER TABLE group_contacts ADD FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts ON DELETE CASCADE;
ALTER TABLE consents ADD FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts ON DELETE CASCADE;
ALTER TABLE campaign_recipients ADD FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts ON DELETE CASCADE;
ALTER TABLE sessions ADD FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts
    ON DELETE SET NULL (contact_id);
ALTER TABLE sessions ADD FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations ON DELETE CASCADE;
ALTER TABLE campaign_recipients ADD FOREIGN KEY (tenant_id, message_id) REFERENCES messages
    ON DELETE SET NULL (message_id);
ALTER TABLE consents ADD FOREIGN KEY (tenant_id, message_id) REFERENCES messages ON DELETE SET NULL (message_id);
