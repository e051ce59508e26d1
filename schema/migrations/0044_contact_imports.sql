-- transactional: false

-- Files of contacts that a tenant imports: how far each is, and which of its lines are wrong. Neither table holds a
-- value of the file, so that no person has to be erased from them.

CREATE TABLE IF NOT EXISTS contact_imports (
    id uuid NOT NULL,
    tenant_id uuid NOT NULL DEFAULT session_tenant() REFERENCES tenants ON DELETE CASCADE,
    key_hash bytea CONSTRAINT check_import_key_is_sha256 CHECK (octet_length(key_hash) = 32),  -- of an Idempotency-Key
    request_hash bytea NOT NULL CONSTRAINT check_import_request_is_sha256 CHECK (octet_length(request_hash) = 32),
    format text NOT NULL CONSTRAINT check_import_format CHECK (format IN ('csv', 'ndjson')),
    default_country text CONSTRAINT check_import_country CHECK (default_country ~ '^[A-Z]{2}$'),
    existing text NOT NULL CONSTRAINT check_import_existing CHECK (existing IN ('update', 'fill', 'keep')),
    group_ids uuid[] NOT NULL DEFAULT '{}',  -- which every contact of the file gets into
    status text NOT NULL DEFAULT 'running' CONSTRAINT check_import_status CHECK (status IN ('running', 'completed')),
    lines integer NOT NULL DEFAULT 0,  -- of the file that are done
    digest bytea NOT NULL CONSTRAINT check_import_digest_is_sha256 CHECK (octet_length(digest) = 32),  -- of those
    -- Of rows; together they are all that are done.
    created integer NOT NULL DEFAULT 0,
    updated integer NOT NULL DEFAULT 0,
    unchanged integer NOT NULL DEFAULT 0,
    refused integer NOT NULL DEFAULT 0,
    defects integer NOT NULL DEFAULT 0,        -- also those beyond what contact_import_defects has
    memberships integer NOT NULL DEFAULT 0,    -- contacts that got into groups, once for each
    groups_created integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT check_times CHECK (
        completed_at >= '0002-01-01 00:00+00' AND completed_at <= '9999-01-01 00:00+00'
        AND created_at >= '0002-01-01 00:00+00' AND created_at <= '9999-01-01 00:00+00'
        AND updated_at >= '0002-01-01 00:00+00' AND updated_at <= '9999-01-01 00:00+00')
);
CREATE UNIQUE INDEX IF NOT EXISTS contact_imports_key ON contact_imports (tenant_id, key_hash)
    WHERE key_hash IS NOT NULL;
-- Partial, by a condition that every row fulfils, so that it is no choice for looking up a row by its key (see 0003).
CREATE INDEX IF NOT EXISTS contact_imports_latest ON contact_imports (tenant_id, created_at DESC, id DESC)
    WHERE status <> '';
CREATE INDEX IF NOT EXISTS contact_imports_age ON contact_imports (created_at);

CREATE TABLE IF NOT EXISTS contact_import_defects (
    tenant_id uuid NOT NULL DEFAULT session_tenant(),
    import_id uuid NOT NULL,
    line integer NOT NULL,
    field text NOT NULL,  -- empty: the whole line
    code text NOT NULL,
    PRIMARY KEY (tenant_id, import_id, line, field),
    FOREIGN KEY (tenant_id, import_id) REFERENCES contact_imports ON DELETE CASCADE
);

CREATE OR REPLACE TRIGGER contact_imports_touch BEFORE UPDATE ON contact_imports
    FOR EACH ROW EXECUTE FUNCTION touch_updated_at();

DO $$
DECLARE
    made text;
BEGIN
    FOREACH made IN ARRAY ARRAY['contact_imports', 'contact_import_defects'] LOOP
        IF NOT EXISTS (SELECT FROM pg_policies WHERE schemaname = current_schema() AND tablename = made) THEN
            PERFORM protect_tenant_table(made);
        END IF;
    END LOOP;
END
$$;
GRANT SELECT, INSERT, UPDATE, DELETE ON contact_imports, contact_import_defects TO palomar_worker;
GRANT SELECT, INSERT (id, tenant_id, key_hash, request_hash, format, default_country, existing, group_ids, digest,
        groups_created),
    UPDATE (status, lines, digest, created, updated, unchanged, refused, defects, memberships, groups_created,
        completed_at)
    ON contact_imports TO palomar_api;
GRANT SELECT, INSERT ON contact_import_defects TO palomar_api;

-- An import finds groups by their names. Partial, as contact_imports_latest.
CREATE INDEX CONCURRENTLY IF NOT EXISTS groups_name ON groups (name, tenant_id) WHERE name <> '';
