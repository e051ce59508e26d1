-- Tenants, their channels, and the endpoints that providers call.

CREATE TABLE tenants (
    id uuid PRIMARY KEY,
    name text NOT NULL CHECK (name <> ''),
    settings jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);

-- One webhook URL. `tenant_id` is null where one provider app serves several tenants (Meta).
CREATE TABLE endpoints (
    id uuid PRIMARY KEY,
    tenant_id uuid REFERENCES tenants ON DELETE CASCADE,
    provider text NOT NULL CONSTRAINT check_endpoint_provider CHECK (provider IN ('kommo', 'twilio', 'meta')),
    name text NOT NULL DEFAULT '',
    secrets text NOT NULL,  -- sealed JSON; associated data: tenant, endpoint and key id
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);

-- One sender of a tenant: what the other systems call a WhatsApp instance.
CREATE TABLE channels (
    id uuid NOT NULL,
    tenant_id uuid NOT NULL REFERENCES tenants ON DELETE CASCADE,
    -- Plain on purpose, and guarded by a trigger: an endpoint may belong to no tenant.
    endpoint_id uuid REFERENCES endpoints ON DELETE SET NULL,
    provider text NOT NULL CONSTRAINT check_channel_provider CHECK (provider IN ('kommo', 'twilio', 'meta')),
    kind text NOT NULL CONSTRAINT check_channel_kind CHECK (kind IN ('whatsapp', 'sms', 'email')),
    name text NOT NULL DEFAULT '',
    address text NOT NULL CHECK (address <> ''),
    credentials text NOT NULL,  -- sealed JSON; associated data: tenant, channel and key id
    settings jsonb NOT NULL DEFAULT '{}',
    status text NOT NULL DEFAULT 'active' CONSTRAINT check_channel_status CHECK (status IN ('active', 'stopped')),
    status_reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    PRIMARY KEY (tenant_id, id)
);
-- A number is one channel of a kind while it is in use; a deleted one may be added again.
CREATE UNIQUE INDEX channels_address ON channels (tenant_id, provider, kind, address) WHERE deleted_at IS NULL;
CREATE INDEX channels_endpoint ON channels (endpoint_id);

-- An endpoint may belong to no tenant, so its foreign key can't carry one; this keeps a channel off another tenant's.
CREATE FUNCTION check_channel_endpoint() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.endpoint_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM endpoints WHERE id = NEW.endpoint_id AND (tenant_id IS NULL OR tenant_id = NEW.tenant_id)
    ) THEN
        RAISE foreign_key_violation USING MESSAGE = 'endpoint_id names no endpoint of this tenant';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER channels_endpoint_is_ours BEFORE INSERT OR UPDATE OF endpoint_id ON channels
    FOR EACH ROW EXECUTE FUNCTION check_channel_endpoint();

-- Rates shared by all senders: the bucket's next free moment, moved on by whoever takes a slice.
CREATE TABLE rate_limits (
    tenant_id uuid NOT NULL,
    channel_id uuid NOT NULL,
    free_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, channel_id),
    FOREIGN KEY (tenant_id, channel_id) REFERENCES channels ON DELETE CASCADE
);

CREATE FUNCTION touch_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;

CREATE TRIGGER tenants_touch BEFORE UPDATE ON tenants FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER endpoints_touch BEFORE UPDATE ON endpoints FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
CREATE TRIGGER channels_touch BEFORE UPDATE ON channels FOR EACH ROW EXECUTE FUNCTION touch_updated_at();

-- Ingress and the senders hold endpoints and channels in memory and listen for changes. Without an id: anybody who can
-- connect may listen.
CREATE FUNCTION announce_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('palomar_' || coalesce(TG_ARGV[0], TG_TABLE_NAME), '');
    RETURN NULL;
END
$$;

CREATE TRIGGER endpoints_changed AFTER INSERT OR UPDATE OR DELETE ON endpoints
    FOR EACH ROW EXECUTE FUNCTION announce_change();
CREATE TRIGGER channels_changed AFTER INSERT OR UPDATE OR DELETE ON channels
    FOR EACH ROW EXECUTE FUNCTION announce_change();
-- A deleted tenant's endpoints take nothing more; deleting the row itself deletes them, which is told above.
CREATE TRIGGER tenants_changed AFTER UPDATE OF deleted_at ON tenants
    FOR EACH ROW EXECUTE FUNCTION announce_change('endpoints');

-- The tenant of this transaction; null where none is set. After a transaction the setting is '' rather than null.
CREATE FUNCTION current_tenant() RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT nullif(current_setting('app.tenant_id', true), '')::uuid
$$;

-- Row level security of one tenant table. FORCE, or its owner would see everything.
CREATE FUNCTION protect_tenant_table(name regclass, tenant_column text DEFAULT 'tenant_id') RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', name);
    EXECUTE format(
        'CREATE POLICY own_rows ON %s TO palomar_api USING (%I = nullif(current_setting(''app.tenant_id'', true), '''')::uuid)',
        name, tenant_column);
    EXECUTE format('CREATE POLICY all_rows ON %s TO palomar_worker USING (true) WITH CHECK (true)', name);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO palomar_worker', name);
END
$$;

SELECT protect_tenant_table('tenants', 'id');
SELECT protect_tenant_table('endpoints');
SELECT protect_tenant_table('channels');
SELECT protect_tenant_table('rate_limits');

GRANT SELECT, UPDATE ON tenants TO palomar_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON endpoints, channels TO palomar_api;
