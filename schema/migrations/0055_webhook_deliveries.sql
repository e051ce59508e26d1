-- transactional: false

-- Outbound webhooks: which events a webhook wants, what signs them, how its URL does, each delivery with its attempts.
-- shared/domain/webhooks has the rules, docs/webhooks.md the whole.

-- Which events: an empty list and null mean any.
ALTER TABLE webhooks
    ADD COLUMN IF NOT EXISTS channel_ids uuid[] NOT NULL DEFAULT '{}',
    ADD COLUMN IF NOT EXISTS direction text,                            -- of the message
    ADD COLUMN IF NOT EXISTS tags text[] NOT NULL DEFAULT '{}',         -- any of them in the contact's `metadata.tags`
    ADD COLUMN IF NOT EXISTS in_order boolean NOT NULL DEFAULT false;   -- of each conversation
ALTER TABLE webhooks DROP CONSTRAINT IF EXISTS check_webhook_direction,
    ADD CONSTRAINT check_webhook_direction CHECK (direction IN ('inbound', 'outbound')) NOT VALID;
ALTER TABLE webhooks VALIDATE CONSTRAINT check_webhook_direction;
-- Matching reads all webhooks of many tenants at once, so each of them is plain lists of bounded length.
ALTER TABLE webhooks DROP CONSTRAINT IF EXISTS check_webhook_lists, ADD CONSTRAINT check_webhook_lists CHECK (
    CASE WHEN array_ndims(events) > 1 OR array_ndims(tags) > 1 OR array_ndims(channel_ids) > 1 THEN false
        ELSE greatest(cardinality(events), cardinality(tags), cardinality(channel_ids)) <= 1000
            AND array_position(events, NULL) IS NULL AND array_position(tags, NULL) IS NULL
            AND array_position(channel_ids, NULL) IS NULL END) NOT VALID;
DO $$
BEGIN
    PERFORM set_config('role', 'palomar_worker', true);
    UPDATE webhooks SET events = ARRAY(SELECT name FROM unnest(events) AS name WHERE name IS NOT NULL LIMIT 1000)
    WHERE CASE WHEN array_ndims(events) > 1 THEN true
        ELSE cardinality(events) > 1000 OR array_position(events, NULL) IS NOT NULL END;
END
$$;
ALTER TABLE webhooks VALIDATE CONSTRAINT check_webhook_lists;

-- What signs beside `webhooks.sealed_secret`. Sealed for: tenant, webhook, key id.
CREATE TABLE IF NOT EXISTS webhook_keys (
    tenant_id uuid NOT NULL DEFAULT session_tenant(),
    webhook_id uuid NOT NULL,
    public_key text NOT NULL DEFAULT '',                -- whpk_…
    sealed_private_key text NOT NULL DEFAULT '',        -- whsk_…, Ed25519
    sealed_previous_secret text NOT NULL DEFAULT '',
    sealed_previous_private_key text NOT NULL DEFAULT '',
    previous_until timestamptz,                         -- until then the previous ones sign too
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT check_times CHECK (least(previous_until, updated_at) >= '0002-01-01 00:00+00'
        AND greatest(previous_until, updated_at) <= '9999-01-01 00:00+00'),
    PRIMARY KEY (tenant_id, webhook_id),
    FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks ON DELETE CASCADE
);

-- How a webhook's URL does, and when a worker looks at its deliveries next. Narrow: each turn of a webhook writes it.
CREATE TABLE IF NOT EXISTS webhook_health (
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
    replay_failures integer NOT NULL DEFAULT 0,         -- replays in a row that failed; they are no part of the above
    replay_open_until timestamptz,                      -- no replay before
    CONSTRAINT check_times CHECK (
        least(due_at, held_until, first_failed_at, open_until, disabled_at, replay_open_until) >= '0002-01-01 00:00+00'
        AND greatest(due_at, held_until, first_failed_at, open_until, disabled_at, replay_open_until)
            <= '9999-01-01 00:00+00'),
    PRIMARY KEY (tenant_id, webhook_id),
    FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks ON DELETE CASCADE
) WITH (fillfactor = 50);
CREATE INDEX CONCURRENTLY IF NOT EXISTS webhook_health_due ON webhook_health (due_at) WHERE due_at IS NOT NULL;

-- The number of the last delivery of a conversation to a webhook that wants them in order. Not a foreign key to the
-- conversation: matching would wait for whoever holds one. The clock deletes what is left of deleted ones.
CREATE TABLE IF NOT EXISTS webhook_sequences (
    tenant_id uuid NOT NULL DEFAULT session_tenant(),
    webhook_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    last bigint NOT NULL,
    PRIMARY KEY (tenant_id, webhook_id, conversation_id),
    FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks ON DELETE CASCADE
) WITH (fillfactor = 50);

-- Tenants whose events could not be matched in time, as they hold locks: theirs are matched apart, from here on. Not a
-- foreign key to the tenant, whose row it may have locked.
CREATE TABLE IF NOT EXISTS webhook_behind (
    tenant_id uuid PRIMARY KEY DEFAULT session_tenant() REFERENCES tenants ON DELETE CASCADE,
    xid xid8 NOT NULL,
    seq bigint NOT NULL,
    retry_at timestamptz NOT NULL DEFAULT now(),
    in_vain integer NOT NULL DEFAULT 0                  -- attempts in a row
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['webhook_keys', 'webhook_health', 'webhook_sequences', 'webhook_behind'] LOOP
        IF NOT EXISTS (SELECT FROM pg_policies WHERE schemaname = current_schema() AND tablename = name) THEN
            PERFORM protect_tenant_table(name::regclass);
        END IF;
    END LOOP;
END
$$;
REVOKE ALL ON webhook_keys, webhook_health, webhook_sequences, webhook_behind FROM palomar_api, palomar_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_keys, webhook_health, webhook_sequences, webhook_behind
    TO palomar_worker;
GRANT SELECT (tenant_id, webhook_id, public_key, previous_until) ON webhook_keys TO palomar_api;
GRANT SELECT, UPDATE (due_at, failures, first_failed_at, open_until, probes, disabled_at, disabled_reason,
    replay_failures, replay_open_until) ON webhook_health TO palomar_api;

ALTER TABLE webhook_logs
    ADD COLUMN IF NOT EXISTS conversation_id uuid,
    ADD COLUMN IF NOT EXISTS sequence bigint,           -- of the conversation, where the webhook wants them in order
    ADD COLUMN IF NOT EXISTS held text,
    ADD COLUMN IF NOT EXISTS attempts jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN IF NOT EXISTS replay_at timestamptz,     -- one more attempt is wanted, whatever the state
    ADD COLUMN IF NOT EXISTS replay_kind text;
ALTER TABLE webhook_logs DROP CONSTRAINT IF EXISTS check_delivery, ADD CONSTRAINT check_delivery CHECK (
    held IN ('waiting', 'missed') AND replay_kind IN ('replay', 'test') AND jsonb_typeof(attempts) = 'array') NOT VALID;
ALTER TABLE webhook_logs VALIDATE CONSTRAINT check_delivery;
ALTER TABLE webhook_logs DROP CONSTRAINT IF EXISTS check_times_replay, ADD CONSTRAINT check_times_replay CHECK (
    replay_at >= '0002-01-01 00:00+00' AND replay_at <= '9999-01-01 00:00+00') NOT VALID;
ALTER TABLE webhook_logs VALIDATE CONSTRAINT check_times_replay;

-- A tenant's session writes what the fifth document names. What is owed, and what was tried, only workers write.
REVOKE INSERT, UPDATE ON webhook_logs FROM palomar_api;
GRANT INSERT (id, tenant_id, webhook_id, event, payload, response, status_code, success, error_message, attempt_count,
        created_at, completed_at, metadata),
    UPDATE (event, payload, response, status_code, success, error_message, attempt_count, created_at, completed_at,
        metadata) ON webhook_logs TO palomar_api;

-- How far `events` are matched: from here on. What happened before is nobody's delivery.
CREATE TABLE IF NOT EXISTS webhook_cursor (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    xid xid8 NOT NULL,
    seq bigint NOT NULL DEFAULT 0,
    moved_at timestamptz NOT NULL DEFAULT now(),
    holder uuid,
    held_until timestamptz
);
INSERT INTO webhook_cursor (xid) VALUES (pg_snapshot_xmin(pg_current_snapshot())) ON CONFLICT DO NOTHING;
GRANT SELECT, UPDATE ON webhook_cursor TO palomar_worker;

-- A log that a session writes is a record: nothing is owed for it. It is as short as what the workers write, who read
-- many; and a delivery that is under way is theirs.
CREATE OR REPLACE FUNCTION check_written_webhook_log() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wrong CONSTANT text := CASE
        WHEN pg_column_size(NEW.payload) >= 1048576 THEN 'payload'
        WHEN pg_column_size(NEW.metadata) >= 1048576 THEN 'metadata'
        WHEN octet_length(NEW.response) >= 1048576 THEN 'response'
        WHEN octet_length(NEW.error_message) >= 1048576 THEN 'error_message'
        WHEN octet_length(NEW.event) NOT BETWEEN 1 AND 128 THEN 'event'
        WHEN NEW.attempt_count > 1000000 THEN 'attempt_count' END;
BEGIN
    IF wrong IS NOT NULL THEN
        RAISE check_violation USING MESSAGE = format('%s of a webhook''s log is out of bounds', wrong), COLUMN = wrong,
            HINT = 'event has 1 to 128 bytes, attempt_count is at most 1,000,000, each other column below 1 MiB';
    END IF;
    IF TG_OP = 'UPDATE' AND (OLD.due_at IS NOT NULL OR OLD.held IS NOT NULL OR OLD.replay_at IS NOT NULL) THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = 'this delivery is not done yet, and Palomar alone changes it',
            HINT = 'To give it up, delete it.';
    END IF;
    RETURN NEW;
END
$$;
CREATE OR REPLACE TRIGGER webhook_logs_written BEFORE INSERT OR UPDATE ON webhook_logs FOR EACH ROW
    WHEN (current_user <> 'palomar_worker') EXECUTE FUNCTION check_written_webhook_log();

-- The same of a webhook, and how many of them a tenant may make: each event is matched with all.
CREATE OR REPLACE FUNCTION check_written_webhook() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wrong CONSTANT text := CASE
        WHEN octet_length(NEW.url) > 8192 THEN 'url'
        WHEN octet_length(NEW.secret) > 1024 THEN 'secret'
        WHEN octet_length(NEW.name) > 8192 THEN 'name'
        WHEN pg_column_size(NEW.events) > 65536 THEN 'events'
        WHEN pg_column_size(NEW.tags) > 65536 THEN 'tags' END;
BEGIN
    IF wrong IS NOT NULL THEN
        RAISE check_violation USING MESSAGE = format('%s of a webhook is too long', wrong), COLUMN = wrong,
            HINT = 'secret has at most 1,024 bytes, url and name 8,192, events and tags 65,536';
    END IF;
    IF NEW.deleted_at IS NULL AND (TG_OP = 'INSERT' OR OLD.deleted_at IS NOT NULL) AND (
        SELECT count(*) FROM webhooks WHERE tenant_id = NEW.tenant_id AND deleted_at IS NULL) >= 500
    THEN
        RAISE check_violation USING MESSAGE = 'a tenant has at most 500 webhooks';
    END IF;
    RETURN NEW;
END
$$;
CREATE OR REPLACE TRIGGER webhooks_written BEFORE INSERT OR UPDATE ON webhooks FOR EACH ROW
    WHEN (current_user <> 'palomar_worker') EXECUTE FUNCTION check_written_webhook();

-- A session's UPDATE of a webhook has to make its health as new, below. So it may do that and nothing else: whatever it
-- writes, failures and the breaker are forgotten, and a webhook that we disabled stays so unless `disabled_at` is emptied.
CREATE OR REPLACE FUNCTION renew_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.failures := 0;
    NEW.first_failed_at := NULL;
    NEW.open_until := NULL;
    NEW.probes := 0;
    NEW.replay_failures := 0;
    NEW.replay_open_until := NULL;
    IF NEW.disabled_at IS NULL THEN
        NEW.disabled_reason := NULL;
        NEW.due_at := least(OLD.due_at, now());
    ELSE
        NEW.disabled_at := OLD.disabled_at;
        NEW.disabled_reason := OLD.disabled_reason;
        NEW.due_at := OLD.due_at;
    END IF;
    RETURN NEW;
END
$$;
CREATE OR REPLACE TRIGGER webhook_health_renewed BEFORE UPDATE ON webhook_health FOR EACH ROW
    WHEN (current_user <> 'palomar_worker') EXECUTE FUNCTION renew_only();

-- To switch a webhook on enables it where we disabled it, also where `is_active = true` is written over true: a webhook
-- that we disabled has it. A new URL is tried at once.
CREATE OR REPLACE FUNCTION renew_webhook_health() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    enables CONSTANT boolean := TG_ARGV[0] = 'enable';
BEGIN
    UPDATE webhook_health AS h SET
        failures = 0, first_failed_at = NULL, open_until = NULL, probes = 0,
        replay_failures = 0, replay_open_until = NULL,
        disabled_at = CASE WHEN NOT enables THEN h.disabled_at END,
        disabled_reason = CASE WHEN NOT enables THEN h.disabled_reason END,
        due_at = CASE WHEN enables OR h.disabled_at IS NULL THEN least(h.due_at, now()) ELSE h.due_at END
    WHERE h.tenant_id = NEW.tenant_id AND h.webhook_id = NEW.id
        AND (NOT enables OR NOT OLD.is_active OR h.disabled_at IS NOT NULL);
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER webhooks_enabled AFTER UPDATE OF is_active ON webhooks FOR EACH ROW
    WHEN (NEW.is_active) EXECUTE FUNCTION renew_webhook_health('enable');
CREATE OR REPLACE TRIGGER webhooks_moved AFTER UPDATE OF url ON webhooks FOR EACH ROW
    WHEN (NEW.url <> OLD.url) EXECUTE FUNCTION renew_webhook_health('url');

SELECT protect_functions();
