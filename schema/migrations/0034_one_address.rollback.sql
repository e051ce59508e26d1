-- Whom the migration joined and what it wrote in one way stays so.

DROP TRIGGER IF EXISTS conversations_one_address ON conversations;
DROP FUNCTION IF EXISTS address_as_canonical();
DROP FUNCTION IF EXISTS canonical_address(text, text);

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

CREATE OR REPLACE FUNCTION keep_columns(tenant uuid, stays uuid, goes uuid) RETURNS void LANGUAGE sql AS $$
    UPDATE contacts AS kept SET name = coalesce(kept.name, gone.name),
        phone_number = coalesce(kept.phone_number, gone.phone_number), is_active = kept.is_active AND gone.is_active,
        created_at = least(kept.created_at, gone.created_at)
    FROM contacts AS gone
    WHERE kept.tenant_id = tenant AND kept.id = stays AND gone.tenant_id = tenant AND gone.id = goes
$$;
