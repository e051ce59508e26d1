-- Contacts that turn out to be one person become one: a webhook may name by number and by user id whom we knew as two.

SET LOCAL lock_timeout = '100ms';

-- An opt-out that one of two contacts holds is not lifted by an older word for the other one, nor by one that is not the
-- customer's own: that was said of somebody who had not opted out. Where the newest of their entries together would lift
-- it, `stays` gets an opt-out of that entry's moment: at the same moment the opt-out holds, and what the customer says
-- later lifts it.
CREATE FUNCTION keep_opt_outs(tenant uuid, stays uuid, goes uuid) RETURNS void LANGUAGE sql AS $$
    INSERT INTO consents (tenant_id, contact_id, channel_kind, state, source, scope, effective_at, dedupe_key, evidence)
    SELECT tenant, stays, channel_kind, 'opted_out', 'api', scope, lifted_at,
        concat_ws(':', 'joined', goes, channel_kind, scope, extract(epoch FROM lifted_at)),
        jsonb_build_object('by', 'join', 'joined', goes)
    FROM (
        SELECT channel_kind, scope, max(effective_at) FILTER (WHERE state = 'opted_in') AS lifted_at
        FROM (
            SELECT DISTINCT ON (contact_id, channel_kind, scope) channel_kind, scope, state, source, effective_at
            FROM consents WHERE tenant_id = tenant AND contact_id IN (stays, goes)
            ORDER BY contact_id, channel_kind, scope, effective_at DESC, state DESC
        ) AS newest
        GROUP BY channel_kind, scope
        HAVING count(DISTINCT state) = 2
            AND max(effective_at) FILTER (WHERE state = 'opted_in')
                > max(effective_at) FILTER (WHERE state = 'opted_out')
            AND bool_or(state = 'opted_in' AND source NOT IN ('message', 'provider'))
    ) AS lifted
    ON CONFLICT DO NOTHING
$$;

-- What the row of the one that goes had and that of the other one lacks.
CREATE FUNCTION keep_columns(tenant uuid, stays uuid, goes uuid) RETURNS void LANGUAGE sql AS $$
    UPDATE contacts AS kept SET name = coalesce(kept.name, gone.name),
        phone_number = coalesce(kept.phone_number, gone.phone_number), is_active = kept.is_active AND gone.is_active,
        created_at = least(kept.created_at, gone.created_at)
    FROM contacts AS gone
    WHERE kept.tenant_id = tenant AND kept.id = stays AND gone.tenant_id = tenant AND gone.id = goes
$$;

-- Joins two contacts of a tenant and returns the id of the one that stays; null where one of them is not there (any
-- more). The other one's row goes, so that no foreign key can name it: who read its id before and writes it after gets a
-- foreign_key_violation, repeats the transaction, and finds the one that stayed.
--
-- Conversations are locked before contacts, as everywhere. A contact's lock keeps new references to it away.
CREATE FUNCTION join_contacts(tenant uuid, one uuid, other uuid) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    found uuid[];
    stays uuid;
    goes uuid;
    campaign record;
BEGIN
    PERFORM FROM conversations WHERE tenant_id = tenant AND contact_id IN (one, other) ORDER BY id FOR NO KEY UPDATE;
    PERFORM FROM contacts WHERE tenant_id = tenant AND id IN (one, other) ORDER BY id FOR UPDATE;
    -- Whom the tenant has not deleted, whom its own systems know by a number, who was there first.
    SELECT array_agg(id ORDER BY deleted_at IS NOT NULL, phone_number IS NULL, created_at, id) INTO found
    FROM contacts WHERE tenant_id = tenant AND id IN (one, other);
    IF coalesce(cardinality(found), 0) <> 2 THEN
        RETURN NULL;
    END IF;
    stays := found[1];
    goes := found[2];

    PERFORM keep_opt_outs(tenant, stays, goes);
    UPDATE consents SET contact_id = stays WHERE tenant_id = tenant AND contact_id = goes;

    UPDATE contact_addresses SET contact_id = stays WHERE tenant_id = tenant AND contact_id = goes;
    UPDATE conversations SET contact_id = stays WHERE tenant_id = tenant AND contact_id = goes;
    UPDATE sessions SET contact_id = stays WHERE tenant_id = tenant AND contact_id = goes;
    UPDATE import_aliases SET our_id = stays WHERE tenant_id = tenant AND our_id = goes;
    INSERT INTO group_contacts (tenant_id, group_id, contact_id, created_at)
    SELECT tenant, group_id, stays, created_at FROM group_contacts WHERE tenant_id = tenant AND contact_id = goes
    ON CONFLICT DO NOTHING;

    -- In a campaign with both, the recipient stays that got further: what was sent to one is not sent to the other.
    FOR campaign IN
        SELECT campaign_id, array_agg(id ORDER BY
            array_position(ARRAY['read', 'delivered', 'sent', 'queued', 'failed', 'canceled', 'skipped'], status), id)
            AS recipients
        FROM campaign_recipients WHERE tenant_id = tenant AND contact_id = ANY (found)
        GROUP BY campaign_id HAVING count(*) = 2 ORDER BY campaign_id
    LOOP
        DELETE FROM campaign_recipients WHERE tenant_id = tenant AND id = campaign.recipients[2];
        UPDATE campaigns SET total_recipients = greatest(total_recipients - 1, 0)
        WHERE tenant_id = tenant AND id = campaign.campaign_id;
    END LOOP;
    UPDATE campaign_recipients SET contact_id = stays WHERE tenant_id = tenant AND contact_id = goes;

    PERFORM keep_columns(tenant, stays, goes);
    DELETE FROM contacts WHERE tenant_id = tenant AND id = goes;
    INSERT INTO events (name, tenant_id, contact_id, detail)
    VALUES ('contact.joined', tenant, stays, jsonb_build_object('joined', goes));
    RETURN stays;
END
$$;

-- A conversation by SQL that names no contact: it is with whoever has its address.
CREATE FUNCTION find_conversation_contact() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    of_kind text := CASE WHEN NEW.provider = 'kommo' THEN 'kommo_chat' WHEN NEW.address LIKE '%@%' THEN 'email'
        WHEN canonical_phone(NEW.address) = NEW.address THEN 'phone' ELSE 'user_id' END;
    known_by text := CASE of_kind WHEN 'email' THEN lower(NEW.address) WHEN 'kommo_chat' THEN NEW.kommo_chat_id
        ELSE NEW.address END;
BEGIN
    IF known_by IS NULL OR known_by = NEW.id::text THEN
        NULL;  -- nobody can be reached there
    ELSIF of_kind = 'kommo_chat' THEN
        NEW.contact_id := contact_of_chat(NEW.tenant_id, known_by, NEW.phone, NEW.contact_name);
    ELSIF of_kind = 'phone' THEN
        NEW.contact_id := contact_of_phone(NEW.tenant_id, known_by, NEW.contact_name);
    ELSE
        SELECT contact_id INTO NEW.contact_id FROM contact_addresses
        WHERE tenant_id = NEW.tenant_id AND kind = of_kind AND canonical = known_by;
        IF NOT FOUND THEN
            INSERT INTO contacts (tenant_id, name) VALUES (NEW.tenant_id, NEW.contact_name)
            RETURNING id INTO NEW.contact_id;
            INSERT INTO contact_addresses (tenant_id, kind, canonical, given, contact_id)
            VALUES (NEW.tenant_id, of_kind, known_by, NEW.address, NEW.contact_id);
        END IF;
    END IF;
    RETURN NEW;
END
$$;
-- Its name comes after that of conversations_complete, and so does its turn.
CREATE TRIGGER conversations_with_contact BEFORE INSERT OR UPDATE OF contact_id ON conversations FOR EACH ROW
    WHEN (NEW.contact_id IS NULL AND NEW.tenant_id IS NOT NULL AND NEW.address IS NOT NULL
        AND current_user <> 'palomar_worker')
    EXECUTE FUNCTION find_conversation_contact();

SELECT protect_functions();
-- It moves what the API's role may only add to.
REVOKE EXECUTE ON FUNCTION join_contacts(uuid, uuid, uuid), keep_columns(uuid, uuid, uuid) FROM palomar_api;
