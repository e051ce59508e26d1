-- What `palomar import` remembers: how far it is with a source's tables, and which of a source's rows are rows of ours
-- under another id. New tables only; the foreign key into tenants comes last and waits for nobody.

SET LOCAL lock_timeout = '100ms';

-- One row for each table of a source. Operators' own: it spans tenants, and no API role reads it.
CREATE TABLE import_progress (
    system text NOT NULL,
    source bytea NOT NULL,                  -- SHA-256 of where the source is and whom it is imported for
    source_table text NOT NULL,
    after_key text[] NOT NULL,              -- of the last row that is in
    tally jsonb NOT NULL DEFAULT '{}',      -- new, there, skipped and mended with their reasons
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (system, source, source_table)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON import_progress TO palomar_worker;

-- A source's row that joined one of ours: the same person written in two ways, a message that had come already.
CREATE TABLE import_aliases (
    tenant_id uuid NOT NULL DEFAULT current_tenant(),
    system text NOT NULL,
    source_table text NOT NULL,
    source_id text NOT NULL CONSTRAINT check_source_id_length CHECK (length(source_id) <= 255),
    our_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, system, source_table, source_id)
);
SELECT protect_tenant_table('import_aliases');
GRANT SELECT ON import_aliases TO palomar_api;

ALTER TABLE import_aliases ADD FOREIGN KEY (tenant_id) REFERENCES tenants ON DELETE CASCADE;
