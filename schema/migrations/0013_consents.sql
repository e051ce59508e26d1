-- transactional: false

-- The ledger's order is that of what happened, not of when we heard of it; a provider tells some things twice; and not
-- every opt-out is of everything.

ALTER TABLE consents
    ADD COLUMN IF NOT EXISTS scope text NOT NULL DEFAULT 'all',
    ADD COLUMN IF NOT EXISTS effective_at timestamptz,
    ADD COLUMN IF NOT EXISTS dedupe_key text;  -- what the entry was written for, which is written once

-- One of the future would hold against all that comes before it.
CREATE OR REPLACE FUNCTION complete_consent() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.effective_at := least(coalesce(NEW.effective_at, NEW.created_at), NEW.created_at, now());
    RETURN NEW;
END
$$;
DROP TRIGGER IF EXISTS consents_complete ON consents;
CREATE TRIGGER consents_complete BEFORE INSERT ON consents FOR EACH ROW EXECUTE FUNCTION complete_consent();

UPDATE consents SET effective_at = created_at WHERE effective_at IS NULL;

ALTER TABLE consents
    DROP CONSTRAINT IF EXISTS check_consent_scope,
    ADD CONSTRAINT check_consent_scope CHECK (scope IN ('all', 'blocked', 'marketing')) NOT VALID;
ALTER TABLE consents VALIDATE CONSTRAINT check_consent_scope;

ALTER TABLE consents
    DROP CONSTRAINT IF EXISTS check_consent_time,
    ADD CONSTRAINT check_consent_time CHECK (effective_at IS NOT NULL AND effective_at <= created_at) NOT VALID;
ALTER TABLE consents VALIDATE CONSTRAINT check_consent_time;

CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS consents_dedupe ON consents (dedupe_key, tenant_id)
    WHERE dedupe_key IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS consents_latest
    ON consents (contact_id, channel_kind, tenant_id, scope, effective_at DESC);
DROP INDEX CONCURRENTLY IF EXISTS consents_newest;

-- As 0006 made it; somebody who was deleted and comes back keeps what they said with its time and scope.
CREATE OR REPLACE FUNCTION keep_phone_as_address() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    number text := canonical_phone(NEW.phone_number);
    holder uuid;
BEGIN
    IF number IS NULL THEN
        RAISE check_violation USING
            MESSAGE = format('phone_number %L is no phone number', NEW.phone_number),
            HINT = 'Write it in international form, such as +14155238886.', COLUMN = 'phone_number';
    END IF;
    IF TG_OP = 'UPDATE' THEN
        DELETE FROM contact_addresses WHERE tenant_id = NEW.tenant_id AND contact_id = NEW.id AND kind = 'phone'
            AND canonical = canonical_phone(OLD.phone_number) AND canonical <> number;
    END IF;
    INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id)
    VALUES (NEW.tenant_id, 'phone', number, NEW.phone_number, NEW.id) ON CONFLICT DO NOTHING;
    SELECT a.contact_id INTO holder FROM contact_addresses a
    WHERE a.tenant_id = NEW.tenant_id AND a.kind = 'phone' AND a.canonical = number;
    IF holder = NEW.id THEN
        RETURN NULL;
    ELSIF EXISTS (SELECT FROM contacts WHERE tenant_id = NEW.tenant_id AND id = holder AND deleted_at IS NULL) THEN
        RAISE unique_violation USING
            MESSAGE = 'another contact has this phone number', CONSTRAINT = 'contact_addresses_pkey',
            COLUMN = 'phone_number', HINT = 'UPDATE that contact instead.';
    END IF;
    -- Somebody who was deleted comes back: what was said goes on, and an opt-out holds.
    UPDATE contact_addresses SET contact_id = NEW.id WHERE tenant_id = NEW.tenant_id AND contact_id = holder;
    UPDATE conversations SET contact_id = NEW.id WHERE tenant_id = NEW.tenant_id AND contact_id = holder;
    INSERT INTO consents (tenant_id, contact_id, channel_kind, state, source, message_id, evidence, created_at, scope,
        effective_at)
    SELECT tenant_id, NEW.id, channel_kind, state, source, message_id, evidence, created_at, scope, effective_at
    FROM consents
    WHERE tenant_id = NEW.tenant_id AND contact_id = holder;
    RETURN NULL;
END
$$;
SELECT protect_functions();
