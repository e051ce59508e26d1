-- transactional: false

-- What the management API needs beside the tenants' keys of 0005: an operator's keys, which belong to no tenant, and
-- lists of contacts that cost the same for a million as for a thousand.

-- An operator's keys open procedures that span tenants. Only workers and the palomar command reach them: a tenant's SQL
-- session can write a key of its own into api_keys, and never one of these.
CREATE TABLE IF NOT EXISTS operator_keys (
    id uuid PRIMARY KEY,
    name text NOT NULL DEFAULT '',
    prefix text NOT NULL CHECK (prefix <> ''),  -- what is shown of a key; it is found by it
    hash bytea NOT NULL CONSTRAINT check_operator_hash_is_sha256 CHECK (octet_length(hash) = 32),
    scopes text[] NOT NULL DEFAULT '{}',
    last_used_at timestamptz,
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);
CREATE INDEX IF NOT EXISTS operator_keys_prefix ON operator_keys (prefix) WHERE deleted_at IS NULL;

-- As idempotency_keys, of requests by an operator's key. A row goes by its age, as those keys are never deleted.
CREATE TABLE IF NOT EXISTS operator_idempotency_keys (
    operator_key_id uuid NOT NULL,
    key text NOT NULL CONSTRAINT check_operator_key_length CHECK (length(key) BETWEEN 1 AND 255),
    request_hash bytea NOT NULL,
    status_code integer,
    response jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (operator_key_id, key)
);
CREATE INDEX IF NOT EXISTS operator_idempotency_keys_age ON operator_idempotency_keys (created_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON operator_keys, operator_idempotency_keys TO palomar_worker;

-- That a key was used is no change of it.
CREATE OR REPLACE TRIGGER api_keys_touch BEFORE UPDATE OF name, prefix, hash, scopes, expires_at, deleted_at ON api_keys
    FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE OR REPLACE TRIGGER operator_keys_touch
    BEFORE UPDATE OF name, prefix, hash, scopes, expires_at, deleted_at ON operator_keys
    FOR EACH ROW EXECUTE FUNCTION touch_updated_at();

-- A page of contacts begins where the last one ended. Partial, so that neither is a choice for looking up a contact by its
-- tenant and id (see 0003).
CREATE INDEX CONCURRENTLY IF NOT EXISTS contacts_latest ON contacts (tenant_id, created_at DESC, id DESC)
    WHERE deleted_at IS NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS contacts_deleted ON contacts (tenant_id, created_at DESC, id DESC)
    WHERE deleted_at IS NOT NULL;
