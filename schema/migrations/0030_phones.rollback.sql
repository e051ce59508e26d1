-- What was written in E.164 stays so, and every session keeps its conversation.

DROP TRIGGER IF EXISTS conversations_inherited ON conversations;
DROP TRIGGER IF EXISTS conversations_place_taken ON conversations;
DROP TRIGGER IF EXISTS conversations_as_e164 ON conversations;
DROP TRIGGER IF EXISTS contacts_as_e164 ON contacts;
DROP TRIGGER IF EXISTS sessions_phone_changed ON sessions;
DROP TRIGGER IF EXISTS sessions_as_e164 ON sessions;

CREATE OR REPLACE FUNCTION update_last_user_message_timestamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE
        'UPDATE conversations AS c SET
            last_user_message_at = greatest(c.last_user_message_at, heard.at),
            unread_count = c.unread_count + heard.messages,
            user_message_count = c.user_message_count + heard.messages
        FROM (
            SELECT tenant_id, conversation_id, count(*) AS messages,
                max(least(coalesce(provider_timestamp, received_at, created_at), now())) AS at
            FROM added WHERE role = ''user'' GROUP BY tenant_id, conversation_id
        ) AS heard
        WHERE c.tenant_id = heard.tenant_id AND c.id = heard.conversation_id';
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION complete_session() RETURNS trigger LANGUAGE plpgsql AS $$
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

CREATE OR REPLACE FUNCTION conversation_with(tenant uuid, channel uuid, chat text, contact uuid DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql AS $$
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
    -- As it is dialled: the canonical form, which folds what the networks write in two ways, is for finding.
    IF number LIKE '+%' THEN
        given := '+' || regexp_replace(given, '[^0-9]', '', 'g');
    END IF;
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

DROP FUNCTION IF EXISTS move_inheritance();
DROP FUNCTION IF EXISTS inherit_conversation();
DROP FUNCTION IF EXISTS move_session();
DROP FUNCTION IF EXISTS write_phone_number_in_e164();
DROP FUNCTION IF EXISTS write_phone_in_e164();
DROP FUNCTION IF EXISTS phone_in_e164(text);
