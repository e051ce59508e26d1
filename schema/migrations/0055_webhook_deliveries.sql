-- Which events a webhook wants, what signs them, how its URL does, and each delivery with its attempts.

SET LOCAL lock_timeout = '100ms';

-- What is empty or null does not matter.
ALTER TABLE webhooks
    ADD COLUMN channel_ids uuid[] NOT NULL DEFAULT '{}',
    ADD COLUMN direction text CONSTRAINT check_direction CHECK (direction IN ('inbound', 'outbound')),
    ADD COLUMN tags text[] NOT NULL DEFAULT '{}',       -- any of them in `metadata.tags` of the contact
    ADD COLUMN in_order boolean NOT NULL DEFAULT false; -- of each conversation

-- What signs beside `webhooks.sealed_secret`. Sealed for: tenant, webhook, key id.
CREATE TABLE webhook_keys (
    tenant_id uuid NOT NULL DEFAULT session_tenant(),
    webhook_id uuid NOT NULL,
    public_key text NOT NULL DEFAULT '',                -- whpk_…
    sealed_private_key text NOT NULL DEFAULT '',        -- whsk_…, Ed25519
    sealed_previous_secret text NOT NULL DEFAULT '',
    sealed_previous_private_key text NOT NULL DEFAULT '',
    previous_until timestamptz,                         -- until then the previous ones sign too
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, webhook_id),
    FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks ON DELETE CASCADE
);

-- How a webhook's URL does, and when a worker looks at its deliveries next. Narrow: each turn of a webhook writes it.
CREATE TABLE webhook_health (
    tenant_id uuid NOT NULL DEFAULT session_tenant(),
    webhook_id uuid NOT NULL,
    due_at timestamptz,                                 -- null: nothing is due
    holder uuid,                                        -- the process that delivers to it; nobody else does meanwhile
    held_until timestamptz,
    failures integer NOT NULL DEFAULT 0,                -- attempts in a row that ended and failed
    first_failed_at timestamptz,                        -- the first of these
    open_until timestamptz,                             -- the circuit breaker is open: no attempt before
    probes integer NOT NULL DEFAULT 0,                  -- that failed since it opened
    disabled_at timestamptz,                            -- by us; what happens meanwhile is missed
    disabled_reason text,
    PRIMARY KEY (tenant_id, webhook_id),
    FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks ON DELETE CASCADE
) WITH (fillfactor = 50);
CREATE INDEX webhook_health_due ON webhook_health (due_at) WHERE due_at IS NOT NULL;

-- The number of the last delivery of a conversation to a webhook that wants them in order.
CREATE TABLE webhook_sequences (
    tenant_id uuid NOT NULL DEFAULT session_tenant(),
    webhook_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    last bigint NOT NULL,
    PRIMARY KEY (tenant_id, webhook_id, conversation_id),
    FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks ON DELETE CASCADE
) WITH (fillfactor = 50);

ALTER TABLE webhook_logs
    ADD COLUMN conversation_id uuid,
    ADD COLUMN sequence bigint,                         -- of the conversation, where the webhook wants them in order
    ADD COLUMN held text CONSTRAINT check_held CHECK (held IN ('waiting', 'missed')),
    ADD COLUMN attempts jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN replay_at timestamptz,                   -- one more attempt is wanted, whatever the state
    ADD COLUMN replay_kind text CONSTRAINT check_replay_kind CHECK (replay_kind IN ('replay', 'test'));

-- How far `events` are matched: from here on. What happened before is nobody's delivery.
CREATE TABLE webhook_cursor (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    xid xid8 NOT NULL,
    seq bigint NOT NULL DEFAULT 0,
    moved_at timestamptz NOT NULL DEFAULT now(),
    holder uuid,
    held_until timestamptz
);
INSERT INTO webhook_cursor (xid) VALUES (pg_snapshot_xmin(pg_current_snapshot()));
GRANT SELECT, UPDATE ON webhook_cursor TO palomar_worker;

SELECT protect_tenant_table(name) FROM unnest(ARRAY[
    'webhook_keys', 'webhook_health', 'webhook_sequences']::regclass[]) AS name;
REVOKE ALL ON webhook_keys, webhook_health, webhook_sequences FROM palomar_api, palomar_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_keys, webhook_health, webhook_sequences TO palomar_worker;
GRANT SELECT ON webhook_health TO palomar_api;
GRANT SELECT (tenant_id, webhook_id, public_key, previous_until) ON webhook_keys TO palomar_api;
