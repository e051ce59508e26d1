-- What the replaced systems' users know of tables that are in use: columns, defaults, and rows that complete themselves
-- when they come by SQL instead of from a worker. Nothing here rewrites or scans a table.

SET LOCAL lock_timeout = '100ms';

-- The providers there are, for what lists them; the tables' own CHECKs stand beside it.
CREATE FUNCTION providers() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ARRAY['kommo', 'twilio', 'meta']
$$;

-- shared/addresses.py in SQL, for numbers that come by SQL: one person is one contact, however the number is written.
-- Null where there is no number in it.
CREATE FUNCTION canonical_phone(given text) RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    dialled text := regexp_replace(given, '^\s*(whatsapp|tel|sms|rcs):\s*', '', 'i');
    digits text := regexp_replace(dialled, '[^0-9]', '', 'g');
BEGIN
    IF dialled !~ '^\s*\+?[0-9 ().-]+$' OR length(digits) NOT BETWEEN 3 AND 15 THEN
        RETURN NULL;
    ELSIF length(digits) <= 6 AND dialled !~ '^\s*\+' THEN
        RETURN digits;  -- a short code
    ELSIF digits ~ '^521[0-9]{10}$' THEN
        RETURN '+52' || right(digits, 10);
    ELSIF digits ~ '^549[0-9]{10}$' THEN
        RETURN '+54' || right(digits, 10);
    ELSIF digits ~ '^55[1-9][0-9][6-9][0-9]{7}$' AND substr(digits, 5, 2) NOT IN ('70', '77', '78', '79') THEN
        RETURN '+' || left(digits, 4) || '9' || right(digits, 8);
    END IF;
    RETURN '+' || digits;
END
$$;

-- The tenant that a row without one belongs to: the session's. Raises where the session has none.
CREATE FUNCTION session_tenant() RETURNS uuid LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF current_tenant() IS NULL THEN
        RAISE not_null_violation USING
            MESSAGE = 'this session has no tenant',
            HINT = 'Begin the transaction with SELECT set_config(''app.tenant_id'', ''<the tenant''''s id>'', true).';
    END IF;
    RETURN current_tenant();
END
$$;

-- The one channel of a tenant at a provider, or of a kind at any. Raises where there is none, or where there are
-- several to choose from.
CREATE FUNCTION only_channel(tenant uuid, of_provider text, of_kind text DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql STABLE AS $$
DECLARE
    found uuid[];
BEGIN
    SELECT array_agg(id ORDER BY id) INTO found FROM channels
    WHERE tenant_id = tenant AND deleted_at IS NULL
        AND (of_provider IS NULL OR provider = of_provider) AND (of_kind IS NULL OR kind = of_kind);
    IF coalesce(cardinality(found), 0) <> 1 THEN
        RAISE not_null_violation USING
            MESSAGE = format('channel_id is missing, and this tenant has %s channels of %s',
                coalesce(cardinality(found), 0),
                concat_ws(' and ', 'provider ' || quote_literal(of_provider), 'kind ' || quote_literal(of_kind))),
            HINT = CASE WHEN found IS NULL THEN 'Add one with: palomar channels add.'
                ELSE 'Name one of them in channel_id.' END;
    END IF;
    RETURN found[1];
END
$$;

-- -- contacts ---------------------------------------------------------------------------------------------------------

ALTER TABLE contacts
    ADD COLUMN phone_number text,
    ALTER COLUMN id SET DEFAULT gen_random_uuid(),
    ALTER COLUMN tenant_id SET DEFAULT current_tenant();
ALTER TABLE contact_addresses ALTER COLUMN tenant_id SET DEFAULT current_tenant();

-- A number that a contact gets by SQL is an address of theirs; the workers write addresses themselves.
CREATE FUNCTION keep_phone_as_address() RETURNS trigger LANGUAGE plpgsql AS $$
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
    INSERT INTO consents (tenant_id, contact_id, channel_kind, state, source, message_id, evidence, created_at)
    SELECT tenant_id, NEW.id, channel_kind, state, source, message_id, evidence, created_at FROM consents
    WHERE tenant_id = NEW.tenant_id AND contact_id = holder;
    RETURN NULL;
END
$$;
CREATE TRIGGER contacts_phone_added AFTER INSERT ON contacts FOR EACH ROW
    WHEN (NEW.phone_number IS NOT NULL AND current_user <> 'palomar_worker')
    EXECUTE FUNCTION keep_phone_as_address();
CREATE TRIGGER contacts_phone_changed AFTER UPDATE OF phone_number ON contacts FOR EACH ROW
    WHEN (NEW.phone_number IS NOT NULL AND NEW.phone_number IS DISTINCT FROM OLD.phone_number
        AND current_user <> 'palomar_worker')
    EXECUTE FUNCTION keep_phone_as_address();

-- -- conversations ----------------------------------------------------------------------------------------------------

ALTER TABLE conversations
    ALTER COLUMN id SET DEFAULT gen_random_uuid(),
    ALTER COLUMN tenant_id SET DEFAULT current_tenant();

-- The contact with this phone number, made where there is none or only a deleted one.
CREATE FUNCTION contact_of_phone(tenant uuid, phone text, name text) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    found uuid;
BEGIN
    SELECT a.contact_id INTO found FROM contact_addresses a
    JOIN contacts c ON c.tenant_id = a.tenant_id AND c.id = a.contact_id AND c.deleted_at IS NULL
    WHERE a.tenant_id = tenant AND a.kind = 'phone' AND a.canonical = canonical_phone(phone);
    IF found IS NULL AND canonical_phone(phone) IS NOT NULL THEN
        INSERT INTO contacts (tenant_id, name, phone_number) VALUES (tenant, name, phone) RETURNING id INTO found;
    END IF;
    RETURN found;
END
$$;

-- The contact with this chat of Kommo's, else with this phone number, made where there is none; the chat is an address of
-- theirs, so that a webhook finds them by it.
CREATE FUNCTION contact_of_chat(tenant uuid, chat text, phone text, name text) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    found uuid;
BEGIN
    SELECT a.contact_id INTO found FROM contact_addresses a
    JOIN contacts c ON c.tenant_id = a.tenant_id AND c.id = a.contact_id AND c.deleted_at IS NULL
    WHERE a.tenant_id = tenant AND a.kind = 'kommo_chat' AND a.canonical = chat;
    IF found IS NULL THEN
        found := contact_of_phone(tenant, phone, name);
        IF found IS NULL THEN
            INSERT INTO contacts (tenant_id, name) VALUES (tenant, name) RETURNING id INTO found;
        END IF;
        INSERT INTO contact_addresses AS a (tenant_id, kind, canonical, given, contact_id)
        VALUES (tenant, 'kommo_chat', chat, chat, found)
        ON CONFLICT (tenant_id, kind, canonical) DO UPDATE SET contact_id = excluded.contact_id;
    END IF;
    RETURN found;
END
$$;

-- A conversation that comes by SQL: its channel is the tenant's one of the provider, its address the number or chat.
CREATE FUNCTION complete_conversation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.tenant_id := coalesce(NEW.tenant_id, session_tenant());
    NEW.metadata := coalesce(NEW.metadata, '{}');
    NEW.recipient := coalesce(NEW.recipient, NEW.phone, NEW.kommo_chat_id, NEW.id::text);
    NEW.address := coalesce(NEW.address, canonical_phone(NEW.phone), NEW.kommo_chat_id, NEW.recipient);
    IF NEW.channel_id IS NULL THEN
        IF (NEW.provider = ANY (providers()) AND (NEW.provider <> 'kommo' OR NEW.kommo_chat_id IS NOT NULL)) IS NOT TRUE
        THEN
            NEW.channel_id := NEW.id;  -- of no channel: a CHECK or NOT NULL refuses this row, by its own name
            RETURN NEW;
        END IF;
        NEW.channel_id := only_channel(NEW.tenant_id, NEW.provider);
    END IF;
    IF NEW.contact_id IS NULL AND NEW.provider = 'kommo' AND NEW.kommo_chat_id <> '' THEN
        NEW.contact_id := contact_of_chat(NEW.tenant_id, NEW.kommo_chat_id, NEW.phone, NEW.contact_name);
    ELSIF NEW.contact_id IS NULL AND NEW.phone IS NOT NULL THEN
        NEW.contact_id := contact_of_phone(NEW.tenant_id, NEW.phone, NEW.contact_name);
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER conversations_complete BEFORE INSERT ON conversations FOR EACH ROW
    WHEN (NEW.tenant_id IS NULL OR NEW.channel_id IS NULL OR NEW.address IS NULL OR NEW.recipient IS NULL)
    EXECUTE FUNCTION complete_conversation();

-- Another number by SQL: the conversation is with that person now, and what we send goes there.
CREATE FUNCTION readdress_conversation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.recipient := NEW.phone;
    NEW.address := coalesce(canonical_phone(NEW.phone), NEW.phone);
    IF canonical_phone(NEW.phone) IS DISTINCT FROM canonical_phone(OLD.phone) THEN
        NEW.contact_id := coalesce(contact_of_phone(NEW.tenant_id, NEW.phone, NEW.contact_name), NEW.contact_id);
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER conversations_phone_changed BEFORE UPDATE OF phone ON conversations FOR EACH ROW
    WHEN (NEW.phone IS NOT NULL AND NEW.phone IS DISTINCT FROM OLD.phone AND current_user <> 'palomar_worker')
    EXECUTE FUNCTION readdress_conversation();

-- -- messages ---------------------------------------------------------------------------------------------------------

ALTER TABLE messages
    ADD COLUMN ai_processing_status text,
    ADD COLUMN ai_processed_at timestamptz,
    ADD COLUMN ai_metadata jsonb,
    ADD CONSTRAINT check_ai_processing_status CHECK (ai_processing_status IN (
        'pending', 'processing', 'completed', 'failed', 'skipped')) NOT VALID,
    ALTER COLUMN id SET DEFAULT gen_random_uuid(),
    ALTER COLUMN tenant_id SET DEFAULT current_tenant();

-- A message that comes by SQL is the record of one that was written or sent elsewhere: Palomar never sends it.
CREATE FUNCTION complete_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.tenant_id := coalesce(NEW.tenant_id, session_tenant());
    IF NEW.channel_id IS NULL THEN
        SELECT channel_id INTO NEW.channel_id FROM conversations
        WHERE tenant_id = NEW.tenant_id AND id = NEW.conversation_id;
        IF NOT FOUND THEN
            RAISE foreign_key_violation USING
                MESSAGE = 'conversation_id names no conversation of this tenant', COLUMN = 'conversation_id';
        END IF;
    END IF;
    NEW.metadata := coalesce(NEW.metadata, '{}');
    IF NEW.direction IS NULL AND NEW.role IS NULL THEN
        RAISE not_null_violation USING MESSAGE = 'role is missing: user, assistant or system', COLUMN = 'role';
    END IF;
    NEW.direction := coalesce(NEW.direction, CASE WHEN NEW.role = 'user' THEN 'inbound' ELSE 'outbound' END);
    NEW.role := coalesce(NEW.role, CASE WHEN NEW.direction = 'inbound' THEN 'user' ELSE 'assistant' END);
    NEW.status := coalesce(NEW.status, CASE WHEN NEW.direction = 'inbound' THEN 'received' ELSE 'sent' END);
    IF NEW.status NOT IN ('received', 'sent', 'delivered', 'read', 'failed') THEN
        RAISE check_violation USING
            MESSAGE = format(
                'status %L: a message recorded by SQL is received, sent, delivered, read or failed', NEW.status),
            HINT = 'What Palomar is to send goes through its API.', COLUMN = 'status';
    END IF;
    IF NEW.direction = 'outbound' AND NEW.out_seq IS NULL THEN
        UPDATE conversations SET next_out_seq = next_out_seq + 1
        WHERE tenant_id = NEW.tenant_id AND id = NEW.conversation_id RETURNING next_out_seq - 1 INTO NEW.out_seq;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER messages_complete BEFORE INSERT ON messages FOR EACH ROW
    WHEN (NEW.tenant_id IS NULL OR NEW.channel_id IS NULL OR NEW.direction IS NULL OR NEW.role IS NULL
        OR NEW.status IS NULL)
    EXECUTE FUNCTION complete_message();

-- shared/statuses.py in SQL, for receipts that come by SQL: they move a message forward or not at all, and none makes
-- it one that Palomar would send. To cancel what has not left yet is anybody's right.
CREATE FUNCTION message_rank(status text) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(array_position(ARRAY['sent', 'failed', 'delivered', 'read'], status), 0)
$$;
CREATE FUNCTION move_message_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status = 'canceled' AND OLD.status IN ('queued', 'held', 'ready') THEN
        NULL;
    ELSIF NEW.status NOT IN ('received', 'sent', 'delivered', 'read', 'failed') THEN
        RAISE check_violation USING
            MESSAGE = format('a message can''t be made %L by SQL', NEW.status),
            HINT = 'What Palomar is to send goes through its API.', COLUMN = 'status';
    ELSIF message_rank(NEW.status) < message_rank(OLD.status) THEN
        RAISE check_violation USING
            MESSAGE = format('a message that is %L does not become %L', OLD.status, NEW.status),
            HINT = 'The order is sent, failed, delivered, read.', COLUMN = 'status';
    END IF;
    NEW.due_at := NULL;  -- nothing is owed any more
    RETURN NEW;
END
$$;
CREATE TRIGGER messages_move_forward BEFORE UPDATE OF status ON messages FOR EACH ROW
    WHEN (NEW.status IS DISTINCT FROM OLD.status AND current_user <> 'palomar_worker')
    EXECUTE FUNCTION move_message_forward();

-- -- sessions ---------------------------------------------------------------------------------------------------------

-- A session that comes by SQL: on the tenant's one WhatsApp channel, in the conversation that its number has there.
CREATE FUNCTION complete_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.tenant_id := coalesce(NEW.tenant_id, session_tenant());
    NEW.channel_id := coalesce(NEW.channel_id, only_channel(NEW.tenant_id, NULL, 'whatsapp'));
    NEW.conversation_id := coalesce(NEW.conversation_id, (
        SELECT id FROM conversations
        WHERE tenant_id = NEW.tenant_id AND channel_id = NEW.channel_id
            AND address = coalesce(canonical_phone(NEW.phone_number), NEW.phone_number)));
    RETURN NEW;
END
$$;
CREATE TRIGGER sessions_complete BEFORE INSERT ON sessions FOR EACH ROW
    WHEN (NEW.tenant_id IS NULL OR NEW.channel_id IS NULL OR NEW.conversation_id IS NULL)
    EXECUTE FUNCTION complete_session();

-- -- defaults of the rest ---------------------------------------------------------------------------------------------

ALTER TABLE channels
    ADD COLUMN business_id text,            -- Meta's, of the account that the number belongs to
    ADD COLUMN webhook_url text,
    ALTER COLUMN id SET DEFAULT gen_random_uuid(),
    ALTER COLUMN tenant_id SET DEFAULT current_tenant();
ALTER TABLE endpoints
    ALTER COLUMN id SET DEFAULT gen_random_uuid(),
    ALTER COLUMN tenant_id SET DEFAULT current_tenant();
ALTER TABLE message_statuses
    ALTER COLUMN id SET DEFAULT gen_random_uuid(),
    ALTER COLUMN tenant_id SET DEFAULT current_tenant();
ALTER TABLE tenants ALTER COLUMN id SET DEFAULT gen_random_uuid();
