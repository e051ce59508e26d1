-- transactional: false

-- Three ways around an opt-out by SQL. A conversation's address is canonical whoever writes it, and what we send goes to
-- whom it names. A number that a contact had stays theirs. Who takes a deleted contact's number does not lift its opt-out
-- with an opt-in of their own. And two contacts that become one keep what an import wrote of either.

-- As 0022 made it, and metadata, which came later; of `imported` both halves.
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
    WHERE kept.tenant_id = tenant AND kept.id = stays AND gone.tenant_id = tenant AND gone.id = goes
$$;

-- As 0013 made it; but a contact's former number stays an address of theirs, as what was said from it holds, and the
-- opt-out of a deleted contact who comes back is kept as in a join.
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
    INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id)
    VALUES (NEW.tenant_id, 'phone', number, NEW.phone_number, NEW.id) ON CONFLICT DO NOTHING;
    SELECT a.contact_id INTO holder FROM contact_addresses a
    WHERE a.tenant_id = NEW.tenant_id AND a.kind = 'phone' AND a.canonical = number;
    IF holder = NEW.id THEN
        RETURN NULL;
    ELSIF EXISTS (SELECT FROM contacts WHERE tenant_id = NEW.tenant_id AND id = holder AND deleted_at IS NULL) THEN
        RAISE unique_violation USING
            MESSAGE = 'another contact has this phone number, or had it', CONSTRAINT = 'contact_addresses_pkey',
            COLUMN = 'phone_number', HINT = 'UPDATE that contact instead.';
    END IF;
    -- Somebody who was deleted comes back: what was said goes on, and an opt-out holds.
    UPDATE contact_addresses SET contact_id = NEW.id WHERE tenant_id = NEW.tenant_id AND contact_id = holder;
    UPDATE conversations SET contact_id = NEW.id WHERE tenant_id = NEW.tenant_id AND contact_id = holder;
    PERFORM keep_opt_outs(NEW.tenant_id, NEW.id, holder);
    INSERT INTO consents (tenant_id, contact_id, channel_kind, state, source, message_id, evidence, created_at, scope,
        effective_at)
    SELECT tenant_id, NEW.id, channel_kind, state, source, message_id, evidence, created_at, scope, effective_at
    FROM consents
    WHERE tenant_id = NEW.tenant_id AND contact_id = holder;
    RETURN NULL;
END
$$;

-- A conversation's address as people are found by it: a number in its canonical form, a mail address in lower case. A
-- chat's id is no number, whatever it looks like.
CREATE OR REPLACE FUNCTION canonical_address(of_provider text, given text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE of_provider WHEN 'kommo' THEN given WHEN 'email' THEN lower(given)
        ELSE coalesce(canonical_phone(given), given) END
$$;

-- Whose opt-out is asked says the address, and the recipient is whom we send to: by SQL they are one person. Workers write
-- them from what the provider said.
CREATE OR REPLACE FUNCTION address_as_canonical() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    other_address boolean := TG_OP = 'INSERT' OR NEW.address IS DISTINCT FROM OLD.address;
    other_recipient boolean := TG_OP = 'INSERT' OR NEW.recipient IS DISTINCT FROM OLD.recipient;
BEGIN
    IF NOT (other_address OR other_recipient) THEN
        RETURN NEW;
    ELSIF NOT other_recipient THEN
        NEW.recipient := NEW.address;  -- another person: what we send goes there
    END IF;
    NEW.address := canonical_address(NEW.provider, NEW.address);
    IF canonical_address(NEW.provider, NEW.recipient) <> NEW.address THEN
        RAISE check_violation USING
            MESSAGE = 'recipient is not the person whose address this conversation has', COLUMN = 'recipient',
            HINT = 'Write the same number or id in address and recipient, or leave recipient out.';
    END IF;
    NEW.recipient := CASE NEW.provider WHEN 'email' THEN NEW.recipient
        ELSE coalesce(phone_in_e164(NEW.recipient), NEW.recipient) END;
    RETURN NEW;
END
$$;
-- By its name after those that complete a row or give it another phone, before those that look for whom the address has.
CREATE OR REPLACE TRIGGER conversations_one_address BEFORE INSERT OR UPDATE OF address, recipient ON conversations
    FOR EACH ROW
    WHEN (NEW.provider <> 'kommo' AND NEW.address IS NOT NULL AND NEW.recipient IS NOT NULL
        AND current_user <> 'palomar_worker')
    EXECUTE FUNCTION address_as_canonical();

SELECT protect_functions();

-- -- what is there ----------------------------------------------------------------------------------------------------

-- A conversation at a time, so that no writer waits for long; one that broke off begins anew. Who was made for a number in
-- another spelling, under the kind user_id, is joined with who has the number. A conversation whose canonical address is
-- another conversation's keeps its own: its contact is the right one then, and their opt-out is asked for.
DO $$
DECLARE
    talk record;
    mine uuid;
    holder uuid;
BEGIN
    PERFORM set_config('role', 'palomar_worker', false);
    FOR talk IN
        SELECT tenant_id, id, provider, address, canonical_address(provider, address) AS right_one,
            CASE provider WHEN 'email' THEN 'email' ELSE 'phone' END AS kind
        FROM conversations WHERE provider <> 'kommo' AND canonical_address(provider, address) <> address
        ORDER BY tenant_id, id
    LOOP
        SELECT contact_id INTO mine FROM contact_addresses
        WHERE tenant_id = talk.tenant_id AND kind IN ('user_id', 'email') AND canonical = talk.address;
        IF NOT FOUND THEN
            SELECT contact_id INTO mine FROM conversations WHERE tenant_id = talk.tenant_id AND id = talk.id;
        ELSE
            DELETE FROM contact_addresses
            WHERE tenant_id = talk.tenant_id AND kind IN ('user_id', 'email') AND canonical = talk.address;
        END IF;
        INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id)
        SELECT talk.tenant_id, talk.kind, talk.right_one, talk.address, mine WHERE mine IS NOT NULL
        ON CONFLICT DO NOTHING;
        SELECT contact_id INTO holder FROM contact_addresses
        WHERE tenant_id = talk.tenant_id AND kind = talk.kind AND canonical = talk.right_one;
        IF mine <> holder THEN
            PERFORM join_contacts(talk.tenant_id, mine, holder);
        END IF;
        BEGIN
            UPDATE conversations SET address = talk.right_one, contact_id = coalesce(contact_id, holder)
            WHERE tenant_id = talk.tenant_id AND id = talk.id;
        EXCEPTION WHEN unique_violation THEN NULL;  -- the person's other conversation with this channel has it
        END;
        COMMIT;
    END LOOP;
    -- What we send goes to whom the address names, or to another address of the conversation's contact.
    FOR talk IN
        SELECT c.tenant_id, c.id, c.recipient FROM conversations c
        WHERE c.provider <> 'kommo' AND canonical_address(c.provider, c.recipient)
                <> canonical_address(c.provider, c.address)
            AND NOT EXISTS (
                SELECT FROM contact_addresses a
                WHERE a.tenant_id = c.tenant_id AND a.contact_id = c.contact_id
                    AND canonical_address(c.provider, c.recipient) IN (a.canonical, a.given))
        ORDER BY c.tenant_id, c.id
    LOOP
        UPDATE conversations SET recipient = address
        WHERE tenant_id = talk.tenant_id AND id = talk.id AND recipient = talk.recipient;
        COMMIT;
    END LOOP;
END
$$;
