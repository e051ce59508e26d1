-- People and what is said to them. Every key and every foreign key begins with the tenant: a plain foreign key
-- would accept another tenant's row, row level security or not.
--
-- Of a table's indexes only the primary key begins with the tenant. While a table has no statistics the planner takes
-- every condition on tenant_id for selective, and an index that begins with it for as good as the primary key: looking
-- one row up then walks all of the tenant's, and a prepared statement keeps that plan.

CREATE TABLE contacts (
    id uuid NOT NULL,
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    name text,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    PRIMARY KEY (tenant_id, id)
);

CREATE TABLE contact_addresses (
    tenant_id uuid NOT NULL,
    kind text NOT NULL CONSTRAINT check_address_kind CHECK (kind IN ('phone', 'user_id', 'email', 'kommo_chat')),
    canonical text NOT NULL CHECK (canonical <> ''),
    given text NOT NULL,
    contact_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, kind, canonical),
    -- Deferred: two workers meet the same new customer at once, and the address decides whose contact is made.
    FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX contact_addresses_contact ON contact_addresses (contact_id, tenant_id);

CREATE TABLE conversations (
    id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    channel_id uuid NOT NULL,
    contact_id uuid,
    provider text NOT NULL DEFAULT 'kommo' CONSTRAINT check_valid_provider
        CHECK (provider IN ('kommo', 'twilio', 'meta')),
    address text NOT NULL CHECK (address <> ''),  -- canonical
    recipient text NOT NULL,                      -- as the customer's newest message gave it: what we send to
    phone text,                                   -- as it was given; null where a person is known by something else
    kommo_chat_id text,
    contact_name text,
    status text NOT NULL DEFAULT 'active' CONSTRAINT check_conversation_status
        CHECK (status IN ('active', 'escalated', 'closed')),
    last_message_at timestamptz NOT NULL DEFAULT now(),
    last_user_message_at timestamptz,
    unread_count integer NOT NULL DEFAULT 0,
    user_message_count bigint NOT NULL DEFAULT 0,  -- an answer is void where this moved while it was being made
    answered_count bigint NOT NULL DEFAULT 0,      -- of user_message_count, as the newest answer saw it
    ai_context_summary text,
    metadata jsonb NOT NULL DEFAULT '{}',
    -- A reply is owed while reply_due_at is set; whoever holds the lease is making it. Wanted and not due: set aside.
    reply_due_at timestamptz,
    reply_wanted_since timestamptz,
    reply_lease_id uuid,
    reply_lease_until timestamptz,
    next_out_seq bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT check_kommo_requires_chat_id CHECK (provider <> 'kommo' OR kommo_chat_id IS NOT NULL),
    FOREIGN KEY (tenant_id, channel_id) REFERENCES channels ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts ON DELETE CASCADE
) WITH (fillfactor = 80);  -- room for the trigger's update, which touches no index, to stay on its page
-- The first of the unique indexes, so that a conversation made twice is told by the name its users know. Partial, so it
-- is no choice for looking up a row by its tenant and id.
CREATE UNIQUE INDEX idx_twilio_conversation_phone ON conversations (tenant_id, provider, channel_id, phone)
    WHERE phone IS NOT NULL;
CREATE UNIQUE INDEX conversations_address ON conversations (channel_id, address, tenant_id);
CREATE INDEX conversations_contact ON conversations (contact_id, tenant_id);
CREATE INDEX conversations_latest ON conversations (tenant_id, last_message_at DESC) WHERE deleted_at IS NULL;
CREATE INDEX conversations_reply_due ON conversations (reply_due_at) WHERE reply_due_at IS NOT NULL;
-- Replies that were set aside: wanted, and not due by themselves.
CREATE INDEX conversations_set_aside ON conversations (reply_wanted_since)
    WHERE reply_due_at IS NULL AND reply_wanted_since IS NOT NULL;

CREATE TABLE messages (
    id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    channel_id uuid NOT NULL,
    provider text NOT NULL DEFAULT 'kommo' CONSTRAINT check_message_provider
        CHECK (provider IN ('kommo', 'twilio', 'meta')),
    direction text NOT NULL CONSTRAINT check_direction CHECK (direction IN ('inbound', 'outbound')),
    role text NOT NULL CONSTRAINT check_role CHECK (role IN ('user', 'assistant', 'system')),
    message_type text NOT NULL DEFAULT 'text',
    content text NOT NULL DEFAULT '',
    media jsonb NOT NULL DEFAULT '[]',
    metadata jsonb NOT NULL DEFAULT '{}',
    external_id text,
    reply_to text,
    contact_name text,
    provider_timestamp timestamptz,  -- the provider's, never later than our receiving it
    received_at timestamptz,
    -- what we send
    status text NOT NULL CONSTRAINT check_message_status CHECK (status IN (
        'received', 'queued', 'held', 'ready', 'sending', 'unknown', 'sent', 'delivered', 'read',
        'failed', 'expired', 'canceled')),
    dedupe_key text,
    lane text NOT NULL DEFAULT 'normal' CONSTRAINT check_lane CHECK (lane IN ('normal', 'bulk')),
    out_seq bigint,
    window_policy text CONSTRAINT check_window_policy CHECK (window_policy IN ('template', 'hold', 'fail')),
    window_refused_at timestamptz,  -- the provider said the window is closed, whatever we compute: stands until the
                                    -- customer writes again
    template jsonb,                                 -- asked for by whoever made the message
    sent_as jsonb,                                  -- what really went out, where it is not the text
    due_at timestamptz,       -- null: nothing is owed; else the clock hands it on when this has passed
    not_before timestamptz,   -- the provider asked us to wait until then
    expires_at timestamptz,
    claim_id uuid,            -- the send that holds it in `sending`
    attempts integer NOT NULL DEFAULT 0,
    error_code text,
    error_message text,
    admitted_at timestamptz,
    claimed_at timestamptz,
    unknown_at timestamptz,
    sent_at timestamptz,
    delivered_at timestamptz,
    read_at timestamptz,
    failed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations ON DELETE CASCADE,
    -- Or one of ours opens a window. What the network says of a customer (a changed number) comes in as `system`.
    CONSTRAINT check_customers_write_in CHECK (CASE direction WHEN 'inbound' THEN role <> 'assistant' ELSE role <> 'user' END),
    CONSTRAINT check_inbound_is_received CHECK ((direction = 'inbound') = (status = 'received')),
    CONSTRAINT check_outbound_has_place CHECK (direction = 'inbound' OR out_seq IS NOT NULL)
);
CREATE UNIQUE INDEX messages_external ON messages (channel_id, external_id, tenant_id) WHERE external_id IS NOT NULL;
CREATE UNIQUE INDEX messages_dedupe ON messages (dedupe_key, tenant_id) WHERE dedupe_key IS NOT NULL;
CREATE INDEX messages_conversation ON messages (conversation_id, tenant_id, created_at DESC);
CREATE UNIQUE INDEX messages_place ON messages (conversation_id, lane, out_seq, tenant_id) WHERE out_seq IS NOT NULL;
-- One send at a time in a conversation's lane; what is unfinished, in its order.
CREATE UNIQUE INDEX messages_one_sending ON messages (conversation_id, lane, tenant_id) WHERE status = 'sending';
CREATE INDEX messages_unfinished ON messages (conversation_id, lane, tenant_id, out_seq)
    WHERE status IN ('queued', 'ready', 'sending');
CREATE INDEX messages_held ON messages (conversation_id, tenant_id) WHERE status = 'held';
CREATE INDEX messages_unknown ON messages (unknown_at) WHERE status = 'unknown';
CREATE INDEX messages_due ON messages (due_at) WHERE due_at IS NOT NULL;

-- Every receipt, and those that came before their message (message_id is null: parked).
CREATE TABLE message_statuses (
    id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    channel_id uuid NOT NULL,
    message_id uuid,
    external_id text NOT NULL,
    status text NOT NULL,
    error_code text,
    error_message text,
    occurred_at timestamptz,
    received_at timestamptz NOT NULL DEFAULT now(),
    applied boolean NOT NULL DEFAULT false,  -- whether it moved the message forward
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, channel_id) REFERENCES channels ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, message_id) REFERENCES messages ON DELETE CASCADE
);
CREATE UNIQUE INDEX message_statuses_once ON message_statuses (channel_id, external_id, status, tenant_id);
CREATE INDEX message_statuses_external ON message_statuses (external_id, tenant_id) WHERE message_id IS NULL;
CREATE INDEX message_statuses_message ON message_statuses (message_id, tenant_id);
CREATE INDEX message_statuses_parked ON message_statuses (received_at) WHERE message_id IS NULL;

CREATE TRIGGER contacts_touch BEFORE UPDATE ON contacts FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER conversations_touch BEFORE UPDATE ON conversations FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER messages_touch BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION touch_updated_at();

-- The customer wrote: the window opens at the provider's time, and an old webhook never moves it back or reopens it.
-- By statement: a batch of two hundred messages is one update of the conversations they belong to.
-- EXECUTE, so that it is planned anew: without parameters the plan made while the table was empty would stay, and walk
-- all of a tenant's conversations for each one (300 ms a batch instead of 5) until autoanalyze came.
CREATE FUNCTION update_last_user_message_timestamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE
        'UPDATE conversations AS c SET
            last_user_message_at = greatest(c.last_user_message_at, heard.at),
            unread_count = c.unread_count + heard.messages,
            user_message_count = c.user_message_count + heard.messages
        FROM (
            SELECT tenant_id, conversation_id, count(*) AS messages,
                max(least(coalesce(provider_timestamp, received_at, created_at), now())) AS at
            FROM added WHERE role = ''user'' GROUP BY tenant_id, conversation_id
        ) AS heard
        WHERE c.tenant_id = heard.tenant_id AND c.id = heard.conversation_id';
    RETURN NULL;
END
$$;

CREATE TRIGGER trigger_update_last_user_message AFTER INSERT ON messages
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION update_last_user_message_timestamp();

SELECT protect_tenant_table('contacts');
SELECT protect_tenant_table('contact_addresses');
SELECT protect_tenant_table('conversations');
SELECT protect_tenant_table('messages');
SELECT protect_tenant_table('message_statuses');

GRANT SELECT, INSERT, UPDATE, DELETE ON contacts, contact_addresses, conversations, messages, message_statuses
    TO palomar_api;
