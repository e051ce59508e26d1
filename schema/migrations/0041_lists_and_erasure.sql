-- transactional: false

-- Whom a campaign is for, as its author chose them; and lists of what the management API serves, newest first.

-- Who of them gets it is decided when it starts: campaign_recipients. An erased contact is taken out of the list.
ALTER TABLE campaigns
    ADD COLUMN IF NOT EXISTS recipient_type text,  -- null: nobody has been chosen
    ADD COLUMN IF NOT EXISTS recipient_ids uuid[] NOT NULL DEFAULT '{}';
ALTER TABLE campaigns DROP CONSTRAINT IF EXISTS check_recipient_type,
    ADD CONSTRAINT check_recipient_type CHECK (recipient_type IN ('groups', 'contacts')) NOT VALID;
ALTER TABLE campaigns VALIDATE CONSTRAINT check_recipient_type;

-- Contacts that a tenant has asked to be erased. The clock does it: the search for what mentions them takes long, and
-- reaches tables that no tenant's session may change. A row goes with its contact.
CREATE TABLE IF NOT EXISTS erasure_requests (
    tenant_id uuid NOT NULL DEFAULT session_tenant(),
    contact_id uuid NOT NULL,
    due_at timestamptz NOT NULL DEFAULT now(),
    requested_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, contact_id),
    FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS erasure_requests_due ON erasure_requests (due_at);
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_policies WHERE tablename = 'erasure_requests') THEN
        PERFORM protect_tenant_table('erasure_requests');
    END IF;
END
$$;
GRANT SELECT, INSERT, UPDATE, DELETE ON erasure_requests TO palomar_worker;
GRANT SELECT, INSERT (tenant_id, contact_id) ON erasure_requests TO palomar_api;

-- As 0034 made it. A campaign for the contact that goes is for the one that stays, and who is to be erased still is.
CREATE OR REPLACE FUNCTION keep_columns(tenant uuid, stays uuid, goes uuid) RETURNS void LANGUAGE sql AS $$
    UPDATE contacts AS kept SET name = coalesce(kept.name, gone.name),
        phone_number = coalesce(kept.phone_number, gone.phone_number), is_active = kept.is_active AND gone.is_active,
        created_at = least(kept.created_at, gone.created_at),
        metadata = gone.metadata || kept.metadata || CASE
            WHEN jsonb_typeof(gone.metadata -> 'imported') = 'object'
                AND jsonb_typeof(kept.metadata -> 'imported') = 'object'
            THEN jsonb_build_object('imported', (gone.metadata -> 'imported') || (kept.metadata -> 'imported'))
            ELSE '{}' END
    FROM contacts AS gone
    WHERE kept.tenant_id = tenant AND kept.id = stays AND gone.tenant_id = tenant AND gone.id = goes;
    UPDATE campaigns SET recipient_ids = array_replace(recipient_ids, goes, stays)
    WHERE tenant_id = tenant AND goes = ANY (recipient_ids);
    INSERT INTO erasure_requests (tenant_id, contact_id)
    SELECT tenant, stays FROM erasure_requests AS r WHERE r.tenant_id = tenant AND r.contact_id = goes
    ON CONFLICT DO NOTHING;
$$;

-- Partial, so that none is a choice for looking up a row by its tenant and id (see 0003).
CREATE INDEX CONCURRENTLY IF NOT EXISTS groups_latest ON groups (tenant_id, created_at DESC, id DESC)
    WHERE deleted_at IS NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS message_templates_latest
    ON message_templates (tenant_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS campaigns_latest ON campaigns (tenant_id, created_at DESC, id DESC)
    WHERE deleted_at IS NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS webhooks_latest ON webhooks (tenant_id, created_at DESC, id DESC)
    WHERE deleted_at IS NULL;
