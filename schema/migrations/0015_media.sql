-- Files that customers sent: a row for each, and one for each copy in the blob store. New tables only; the foreign key
-- into messages comes last.

SET LOCAL lock_timeout = '100ms';

-- A copy in the blob store, one for all of a tenant's rows with the same bytes. Without a foreign key into tenants: what
-- a tenant that is deleted leaves in the store is deleted by these rows.
CREATE TABLE media_blobs (
    tenant_id uuid NOT NULL DEFAULT session_tenant(),
    sha256 bytea NOT NULL CONSTRAINT check_blob_hash CHECK (length(sha256) = 32),
    key text NOT NULL,                      -- in the store
    size bigint NOT NULL CONSTRAINT check_blob_size CHECK (size >= 0),
    stored_at timestamptz,                  -- null: about to be stored
    going boolean NOT NULL DEFAULT false,   -- being deleted: who wants to store it waits until it is gone
    due_at timestamptz,                     -- when to look whether anybody still names it; null: somebody does
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, sha256)
);
CREATE INDEX media_blobs_due ON media_blobs (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE media (
    id uuid NOT NULL,
    tenant_id uuid NOT NULL DEFAULT session_tenant(),
    message_id uuid NOT NULL,
    position integer NOT NULL,              -- in the message's list `media`, from 0
    url text,                               -- the provider's
    provider_id text,
    mime_type text,
    filename text,
    provider_sha256 text,                   -- as the provider wrote it
    inbound_id bytea,                       -- the webhook it came in
    status text NOT NULL DEFAULT 'wanted' CONSTRAINT check_media_status
        CHECK (status IN ('wanted', 'stored', 'refused', 'expired', 'failed')),
    reason text CONSTRAINT check_media_reason CHECK (reason IN (
        'gone', 'forbidden', 'rejected', 'not_allowed', 'too_large', 'wrong_type', 'wrong_hash', 'no_source',
        'throttled', 'server_error', 'timeout', 'unreachable', 'cut_off', 'unreadable', 'credentials', 'store')),
    due_at timestamptz,                     -- wanted and not due: set aside
    attempts integer NOT NULL DEFAULT 0,
    lease_id uuid,                          -- whoever fetches it
    lease_until timestamptz,
    key text,                               -- of our copy in the blob store
    sha256 bytea,
    size bigint,
    stored_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, sha256) REFERENCES media_blobs,
    CONSTRAINT check_media_stored CHECK (
        CASE status WHEN 'stored' THEN key IS NOT NULL AND sha256 IS NOT NULL AND size IS NOT NULL
        ELSE key IS NULL AND sha256 IS NULL END),
    CONSTRAINT check_media_due CHECK (status = 'wanted' OR due_at IS NULL)
);
CREATE UNIQUE INDEX media_message ON media (message_id, position, tenant_id);
CREATE INDEX media_due ON media (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX media_wanted ON media (created_at) WHERE status = 'wanted';
CREATE INDEX media_blob ON media (sha256, tenant_id) WHERE sha256 IS NOT NULL;

CREATE TRIGGER media_touch BEFORE UPDATE ON media FOR EACH ROW EXECUTE FUNCTION touch_updated_at();

-- A row that goes has its copy looked at, in the same transaction: whoever deletes it need not know of the store, and
-- may be killed. BEFORE, because an AFTER trigger of a cascade runs as somebody whom row level security shows nothing.
CREATE FUNCTION let_go_of_blob() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE media_blobs SET due_at = coalesce(due_at, now()) WHERE tenant_id = OLD.tenant_id AND sha256 = OLD.sha256;
    RETURN OLD;
END
$$;
CREATE TRIGGER media_let_go BEFORE DELETE ON media FOR EACH ROW
    WHEN (OLD.sha256 IS NOT NULL) EXECUTE FUNCTION let_go_of_blob();

SELECT protect_tenant_table('media_blobs');
SELECT protect_tenant_table('media');
GRANT SELECT ON media TO palomar_api;

ALTER TABLE media ADD FOREIGN KEY (tenant_id, message_id) REFERENCES messages ON DELETE CASCADE;

SELECT protect_functions();
