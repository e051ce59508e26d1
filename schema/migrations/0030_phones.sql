-- transactional: false

-- One number, one spelling: phones are stored in E.164 with `+`, whoever writes them and however. The canonical form,
-- which also folds what the networks write in two ways, stays what people are found by. A session is joined to its
-- number's conversation when it is made, and a conversation that was deleted softly comes back with its customer.

-- `5491123456789`, `+54 9 11 2345-6789` → `+5491123456789`; `+44 (0) 7911 123456` → `+447911123456`. A short code has no
-- `+`. Null where there is no number in it. The same as `given` of shared/addresses.py.
CREATE OR REPLACE FUNCTION phone_in_e164(given text) RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    number text := canonical_phone(given);
    dialled text := '+' || regexp_replace(given, '[^0-9]', '', 'g');
    folded boolean := CASE left(number, 3)
        WHEN '+52' THEN dialled = '+521' || substr(number, 4)
        WHEN '+54' THEN dialled = '+549' || substr(number, 4)
        WHEN '+55' THEN dialled = left(number, 5) || substr(number, 7)
        ELSE false END;
BEGIN
    -- What was folded is dialled as it was given: the network that wrote it so knows it so.
    RETURN CASE WHEN folded THEN dialled ELSE number END;
END
$$;

-- -- whoever writes ---------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION write_phone_in_e164() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.phone := coalesce(phone_in_e164(NEW.phone), NEW.phone);
    RETURN NEW;
END
$$;
CREATE OR REPLACE FUNCTION write_phone_number_in_e164() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.phone_number := coalesce(phone_in_e164(NEW.phone_number), NEW.phone_number);
    RETURN NEW;
END
$$;

-- Triggers fire by their names: these come before those that complete the rows. The workers write E.164 by themselves;
-- of theirs only what plainly is something else costs a call.
CREATE OR REPLACE TRIGGER conversations_as_e164 BEFORE INSERT OR UPDATE OF phone ON conversations FOR EACH ROW
    WHEN (NEW.phone IS NOT NULL AND (current_user <> 'palomar_worker' OR NEW.phone !~ '^\+[0-9]+$'))
    EXECUTE FUNCTION write_phone_in_e164();
CREATE OR REPLACE TRIGGER contacts_as_e164 BEFORE INSERT OR UPDATE OF phone_number ON contacts FOR EACH ROW
    WHEN (NEW.phone_number IS NOT NULL AND (current_user <> 'palomar_worker' OR NEW.phone_number !~ '^\+[0-9]+$'))
    EXECUTE FUNCTION write_phone_number_in_e164();
CREATE OR REPLACE TRIGGER sessions_as_e164 BEFORE INSERT OR UPDATE OF phone_number ON sessions FOR EACH ROW
    WHEN (NEW.phone_number IS NOT NULL AND (current_user <> 'palomar_worker' OR NEW.phone_number !~ '^\+[0-9]+$'))
    EXECUTE FUNCTION write_phone_number_in_e164();

-- As 0008 made it; what we send to is E.164 too.
CREATE OR REPLACE FUNCTION conversation_with(tenant uuid, channel uuid, chat text, contact uuid DEFAULT NULL)
RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    given text := regexp_replace(chat, '@(c\.us|s\.whatsapp\.net)$', '');
    number text := canonical_phone(given);
    chat_provider text;
    talk_id uuid;
BEGIN
    SELECT provider INTO chat_provider FROM channels
    WHERE tenant_id = tenant AND id = channel AND deleted_at IS NULL;
    IF NOT FOUND THEN
        RAISE foreign_key_violation USING MESSAGE = 'there is no such channel of this tenant', COLUMN = 'channel_id';
    END IF;
    IF chat_provider = 'kommo' THEN  -- one that has a number too is known by its chat all the same
        SELECT id INTO talk_id FROM conversations
        WHERE kommo_chat_id = chat AND tenant_id = tenant AND channel_id = channel ORDER BY created_at, id LIMIT 1;
        IF FOUND THEN
            RETURN talk_id;
        END IF;
    END IF;
    given := coalesce(phone_in_e164(given), CASE WHEN chat_provider = 'email' THEN lower(given) ELSE given END);
    -- DO NOTHING, and then look: somebody else may be making it at this moment.
    INSERT INTO conversations (tenant_id, channel_id, provider, address, recipient, phone, kommo_chat_id, contact_id)
    SELECT tenant, channel, chat_provider, coalesce(number, given), given, CASE WHEN number IS NOT NULL THEN given END,
        CASE WHEN chat_provider = 'kommo' THEN chat END,
        coalesce(contact, CASE WHEN chat_provider = 'kommo' THEN contact_of_chat(tenant, chat, number, NULL)
            ELSE contact_of_phone(tenant, CASE WHEN number IS NOT NULL THEN given END, NULL) END)
    WHERE NOT EXISTS (
        SELECT FROM conversations
        WHERE tenant_id = tenant AND channel_id = channel AND address = coalesce(number, given))
    ON CONFLICT DO NOTHING;
    SELECT id INTO talk_id FROM conversations
    WHERE tenant_id = tenant AND channel_id = channel AND address = coalesce(number, given);
    RETURN talk_id;
END
$$;

-- -- sessions ---------------------------------------------------------------------------------------------------------

-- A session that comes by SQL: on the tenant's one WhatsApp channel, in the conversation of its number, which is made
-- where there is none: what its customer writes afterwards, wherever it comes in, is the session's.
CREATE OR REPLACE FUNCTION complete_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.tenant_id := coalesce(NEW.tenant_id, session_tenant());
    NEW.channel_id := coalesce(NEW.channel_id, only_channel(NEW.tenant_id, NULL, 'whatsapp'));
    IF NEW.conversation_id IS NULL AND NEW.phone_number <> '' THEN
        NEW.conversation_id := conversation_with(NEW.tenant_id, NEW.channel_id, NEW.phone_number);
    END IF;
    RETURN NEW;
END
$$;

-- Another number by SQL: the session is that one's now.
CREATE OR REPLACE FUNCTION move_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.conversation_id := conversation_with(NEW.tenant_id, NEW.channel_id, NEW.phone_number);
    RETURN NEW;
END
$$;
CREATE OR REPLACE TRIGGER sessions_phone_changed BEFORE UPDATE OF phone_number ON sessions FOR EACH ROW
    WHEN (NEW.phone_number <> '' AND NEW.phone_number IS DISTINCT FROM OLD.phone_number
        AND current_user <> 'palomar_worker')
    EXECUTE FUNCTION move_session();

-- -- conversations that were deleted softly ---------------------------------------------------------------------------

-- As 0003 made it; a customer who writes after their conversation was deleted brings it back. An older message, of an
-- import or a record, does not.
CREATE OR REPLACE FUNCTION update_last_user_message_timestamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE
        'UPDATE conversations AS c SET
            last_user_message_at = greatest(c.last_user_message_at, heard.at),
            unread_count = c.unread_count + heard.messages,
            user_message_count = c.user_message_count + heard.messages,
            deleted_at = CASE WHEN heard.at < c.deleted_at THEN c.deleted_at END
        FROM (
            SELECT tenant_id, conversation_id, count(*) AS messages,
                max(least(coalesce(provider_timestamp, received_at, created_at), now())) AS at
            FROM added WHERE role = ''user'' GROUP BY tenant_id, conversation_id
        ) AS heard
        WHERE c.tenant_id = heard.tenant_id AND c.id = heard.conversation_id';
    RETURN NULL;
END
$$;

-- Who looks a conversation up finds none that is deleted, and makes one. The new row takes the deleted one's place: its
-- unique keys, its history, its window. Before: the deleted row gives its keys up, under an address that names its heir.
CREATE OR REPLACE FUNCTION inherit_conversation() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    gone conversations;
BEGIN
    SELECT c.* INTO gone FROM conversations c
    WHERE c.tenant_id = NEW.tenant_id AND c.channel_id = NEW.channel_id AND c.address = NEW.address
        AND c.deleted_at IS NOT NULL AND c.id <> NEW.id
        AND NOT EXISTS (  -- one that keeps the new row out
            SELECT FROM conversations live WHERE live.tenant_id = NEW.tenant_id AND (live.id = NEW.id
                OR live.channel_id = NEW.channel_id AND live.phone = NEW.phone AND live.provider = NEW.provider
                    AND live.id <> c.id))
    FOR UPDATE;
    IF FOUND THEN
        UPDATE conversations SET address = 'inherited by ' || NEW.id, phone = NULL
        WHERE tenant_id = gone.tenant_id AND id = gone.id;
        NEW.contact_id := coalesce(NEW.contact_id, gone.contact_id);
        NEW.contact_name := coalesce(NEW.contact_name, gone.contact_name);
        NEW.ai_context_summary := coalesce(NEW.ai_context_summary, gone.ai_context_summary);
        NEW.metadata := gone.metadata || NEW.metadata;
        NEW.last_user_message_at := greatest(NEW.last_user_message_at, gone.last_user_message_at);
        NEW.unread_count := gone.unread_count;
        NEW.user_message_count := gone.user_message_count;
        NEW.answered_count := gone.answered_count;
        NEW.next_out_seq := gone.next_out_seq;
        NEW.created_at := gone.created_at;
        NEW.reply_restored_at := gone.reply_restored_at;
        IF gone.status = 'escalated' AND NEW.status = 'active' THEN  -- an agent has it, until they give it back
            NEW.status := gone.status;
        END IF;
    END IF;
    RETURN NEW;
END
$$;
CREATE OR REPLACE TRIGGER conversations_place_taken BEFORE INSERT ON conversations FOR EACH ROW
    WHEN (current_user <> 'palomar_worker') EXECUTE FUNCTION inherit_conversation();

-- After: what hangs on the deleted row moves, and it goes.
CREATE OR REPLACE FUNCTION move_inheritance() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    old_id uuid;
BEGIN
    SELECT id INTO old_id FROM conversations
    WHERE tenant_id = NEW.tenant_id AND channel_id = NEW.channel_id AND address = 'inherited by ' || NEW.id;
    IF FOUND THEN
        UPDATE messages SET conversation_id = NEW.id WHERE tenant_id = NEW.tenant_id AND conversation_id = old_id;
        UPDATE sessions SET conversation_id = NEW.id WHERE tenant_id = NEW.tenant_id AND conversation_id = old_id;
        DELETE FROM conversations WHERE tenant_id = NEW.tenant_id AND id = old_id;
    END IF;
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER conversations_inherited AFTER INSERT ON conversations FOR EACH ROW
    WHEN (current_user <> 'palomar_worker') EXECUTE FUNCTION move_inheritance();

SELECT protect_functions();

-- -- what is there ----------------------------------------------------------------------------------------------------

-- In pages with a commit after each, so that no writer waits for long. One that broke off begins anew, and finds the
-- rows of its first try right. What reads like a number and is none stays; so does one whose place is taken.
DO $$
DECLARE
    last_tenant uuid := '00000000-0000-0000-0000-000000000000';
    last_id uuid := last_tenant;
    page record;
BEGIN
    PERFORM set_config('role', 'palomar_worker', false);
    LOOP
        SELECT array_agg(tenant_id) AS tenants, array_agg(id) AS ids INTO page FROM (
            SELECT tenant_id, id FROM conversations
            WHERE (tenant_id, id) > (last_tenant, last_id) AND phone !~ '^\+[0-9]+$'
            ORDER BY tenant_id, id LIMIT 500) AS next;
        EXIT WHEN page.ids IS NULL;
        UPDATE conversations c SET phone = phone_in_e164(c.phone),
            recipient = CASE WHEN c.recipient = c.phone THEN phone_in_e164(c.phone) ELSE c.recipient END
        FROM unnest(page.tenants, page.ids) AS told (tenant_id, id)
        WHERE c.tenant_id = told.tenant_id AND c.id = told.id AND phone_in_e164(c.phone) <> c.phone
            AND NOT EXISTS (
                SELECT FROM conversations other
                WHERE other.tenant_id = c.tenant_id AND other.provider = c.provider
                    AND other.channel_id = c.channel_id AND other.phone = phone_in_e164(c.phone));
        COMMIT;
        last_tenant := page.tenants[cardinality(page.ids)];
        last_id := page.ids[cardinality(page.ids)];
    END LOOP;
END
$$;

DO $$
DECLARE
    last_tenant uuid := '00000000-0000-0000-0000-000000000000';
    last_id uuid := last_tenant;
    page record;
BEGIN
    PERFORM set_config('role', 'palomar_worker', false);
    LOOP
        SELECT array_agg(tenant_id) AS tenants, array_agg(id) AS ids INTO page FROM (
            SELECT tenant_id, id FROM contacts
            WHERE (tenant_id, id) > (last_tenant, last_id) AND phone_number !~ '^\+[0-9]+$'
            ORDER BY tenant_id, id LIMIT 500) AS next;
        EXIT WHEN page.ids IS NULL;
        UPDATE contacts c SET phone_number = phone_in_e164(c.phone_number)
        FROM unnest(page.tenants, page.ids) AS told (tenant_id, id)
        WHERE c.tenant_id = told.tenant_id AND c.id = told.id AND phone_in_e164(c.phone_number) <> c.phone_number;
        COMMIT;
        last_tenant := page.tenants[cardinality(page.ids)];
        last_id := page.ids[cardinality(page.ids)];
    END LOOP;
END
$$;

-- Sessions: of two of one number the one that moved last stays, in the conversation that either has. Then all are
-- written in one way, and those without a conversation get theirs, made as their tenant would make it.
DO $$
DECLARE
    twins record;
    alone record;
BEGIN
    PERFORM set_config('role', 'palomar_worker', false);
    FOR twins IN
        SELECT tenant_id, array_agg(id ORDER BY last_message_at DESC, id) AS ids,
            (array_agg(conversation_id) FILTER (WHERE conversation_id IS NOT NULL))[1] AS talk
        FROM sessions WHERE phone_in_e164(phone_number) IS NOT NULL
        GROUP BY tenant_id, channel_id, phone_in_e164(phone_number)
        HAVING count(*) > 1 AND count(DISTINCT conversation_id) <= 1
    LOOP
        UPDATE import_aliases SET our_id = twins.ids[1]
        WHERE tenant_id = twins.tenant_id AND source_table = 'whatsapp_sessions' AND our_id = ANY (twins.ids[2:]);
        DELETE FROM sessions WHERE tenant_id = twins.tenant_id AND id = ANY (twins.ids[2:]);
        UPDATE sessions SET conversation_id = twins.talk WHERE tenant_id = twins.tenant_id AND id = twins.ids[1];
    END LOOP;
    COMMIT;
    UPDATE sessions s SET phone_number = phone_in_e164(s.phone_number)
    WHERE s.phone_number !~ '^\+[0-9]+$' AND phone_in_e164(s.phone_number) <> s.phone_number
        AND NOT EXISTS (
            SELECT FROM sessions other WHERE other.tenant_id = s.tenant_id AND other.channel_id = s.channel_id
                AND other.phone_number = phone_in_e164(s.phone_number));
    COMMIT;
    SELECT array_agg(s.tenant_id) AS tenants, array_agg(s.id) AS ids INTO alone
    FROM sessions s JOIN channels c ON c.tenant_id = s.tenant_id AND c.id = s.channel_id AND c.deleted_at IS NULL
    WHERE s.conversation_id IS NULL;
    FOR place IN 1 .. coalesce(cardinality(alone.ids), 0) LOOP
        PERFORM set_config('role', 'palomar_api', true),
            set_config('app.tenant_id', alone.tenants[place]::text, true);
        BEGIN
            UPDATE sessions SET conversation_id = conversation_with(tenant_id, channel_id, phone_number)
            WHERE tenant_id = alone.tenants[place] AND id = alone.ids[place];
        EXCEPTION WHEN unique_violation THEN NULL;  -- another session is of this person
        END;
        COMMIT;
    END LOOP;
END
$$;
