-- The other systems' names over our tables. All views are security_invoker: who asks sees what row level security lets
-- them see. Where a view is simple, PostgreSQL itself writes through it (ON CONFLICT and RETURNING too), and the
-- triggers of 0006 complete the rows; where it joins, masks or deletes softly, an INSTEAD OF trigger does.
--
-- A column of a view has the document's name; what it has beside those is ours: the tenant, which is part of every key,
-- and what names one of several channels.

SET LOCAL lock_timeout = '100ms';

-- -- conversations and messages by provider ---------------------------------------------------------------------------

-- A row for each provider, those without a conversation too. The full 24 hours: who has written, not who may still be
-- written to.
CREATE VIEW active_conversations_by_provider WITH (security_invoker) AS
SELECT
    p.provider,
    count(c.id) AS total,
    count(c.id) FILTER (WHERE c.status = 'active') AS active,
    count(c.id) FILTER (WHERE c.status = 'escalated') AS escalated,
    count(c.id) FILTER (WHERE c.last_user_message_at > now() - interval '24 hours') AS within_24h
FROM unnest(providers()) WITH ORDINALITY AS p (provider, place)
LEFT JOIN conversations c ON c.provider = p.provider AND c.deleted_at IS NULL
GROUP BY p.provider, p.place
ORDER BY p.place;

CREATE VIEW kommo_conversations WITH (security_invoker) AS
SELECT id, tenant_id, channel_id, contact_id, provider, phone, contact_name, kommo_chat_id, status, last_message_at,
    last_user_message_at, unread_count, ai_context_summary, metadata, created_at, updated_at
FROM conversations WHERE deleted_at IS NULL;
-- The table's default would do; the view's own is what information_schema shows.
ALTER VIEW kommo_conversations ALTER COLUMN provider SET DEFAULT 'kommo';

-- Without channel_id: the conversation has it, and a row that comes without one is completed as a record (0006).
CREATE VIEW kommo_messages WITH (security_invoker) AS
SELECT id, tenant_id, conversation_id, provider, role, content, message_type, metadata, direction, status, external_id,
    contact_name, created_at, updated_at
FROM messages;
ALTER VIEW kommo_messages ALTER COLUMN provider SET DEFAULT 'kommo';
ALTER VIEW kommo_messages ALTER COLUMN message_type SET DEFAULT 'text';

-- -- customers and distributors ---------------------------------------------------------------------------------------

CREATE VIEW customers WITH (security_invoker) AS
SELECT id, tenant_id AS distributor_id, name, phone_number, is_active, created_at, updated_at
FROM contacts WHERE deleted_at IS NULL;

CREATE FUNCTION delete_customer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE contacts SET deleted_at = now() WHERE tenant_id = OLD.distributor_id AND id = OLD.id;
    RETURN OLD;
END
$$;
CREATE TRIGGER customers_delete INSTEAD OF DELETE ON customers FOR EACH ROW EXECUTE FUNCTION delete_customer();

CREATE VIEW distributors WITH (security_invoker) AS
SELECT id, name, settings, created_at, updated_at FROM tenants WHERE deleted_at IS NULL;
-- A tenant is made by a session that stands for it, or by a worker, which stands for none.
ALTER VIEW distributors ALTER COLUMN id SET DEFAULT coalesce(current_tenant(), gen_random_uuid());
GRANT INSERT ON tenants TO palomar_api;

CREATE FUNCTION delete_distributor() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE tenants SET deleted_at = now() WHERE id = OLD.id;
    RETURN OLD;
END
$$;
CREATE TRIGGER distributors_delete INSTEAD OF DELETE ON distributors FOR EACH ROW EXECUTE FUNCTION delete_distributor();

-- -- whatsapp_settings ------------------------------------------------------------------------------------------------

-- Secrets as they came by SQL. The database can't seal them, as it has no key: the clock does, within a second or so,
-- and removes the row. Whoever wrote them can't read them. Several rows of a channel are laid over each other by `seq`.
CREATE TABLE unsealed_credentials (
    tenant_id uuid NOT NULL DEFAULT current_tenant(),
    channel_id uuid NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    secrets jsonb NOT NULL CONSTRAINT check_secrets_are_an_object CHECK (jsonb_typeof(secrets) = 'object'),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, channel_id, seq),
    FOREIGN KEY (tenant_id, channel_id) REFERENCES channels ON DELETE CASCADE
);
SELECT protect_tenant_table('unsealed_credentials');
GRANT INSERT, DELETE ON unsealed_credentials TO palomar_api;
GRANT SELECT (tenant_id, channel_id) ON unsealed_credentials TO palomar_api;  -- to tell whether some wait, and whose

CREATE FUNCTION secret_mask() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT '••••••••' $$;

-- Why a channel is stopped whose secrets wait for the clock, which starts it again by this very sentence.
CREATE FUNCTION sealing_reason() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT 'its credentials wait to be sealed'
$$;

-- `is_active` is what the tenant wants: true also while the secrets wait. `status_reason` says why it does not send.
CREATE VIEW whatsapp_settings WITH (security_invoker) AS
SELECT id, tenant_id, secret_mask() AS api_key, address AS phone_number_id, business_id, secret_mask() AS access_token,
    secret_mask() AS webhook_token, webhook_url,
    status = 'active' OR status_reason IS NOT DISTINCT FROM sealing_reason() AS is_active,
    status_reason, updated_at AS last_updated_at, created_at
FROM channels WHERE provider = 'meta' AND kind = 'whatsapp' AND deleted_at IS NULL;
ALTER VIEW whatsapp_settings ALTER COLUMN is_active SET DEFAULT true;

CREATE FUNCTION write_whatsapp_settings() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    -- What was read and is written back says nothing new.
    secrets jsonb := jsonb_strip_nulls(jsonb_build_object(
        'api_key', nullif(NEW.api_key, secret_mask()),
        'access_token', nullif(NEW.access_token, secret_mask()),
        'webhook_token', nullif(NEW.webhook_token, secret_mask())));
    missing text := CASE
        WHEN NEW.api_key IS NULL THEN 'api_key' WHEN NEW.access_token IS NULL THEN 'access_token'
        WHEN NEW.webhook_token IS NULL THEN 'webhook_token' WHEN NEW.phone_number_id IS NULL THEN 'phone_number_id'
        WHEN NEW.business_id IS NULL AND TG_OP = 'INSERT' THEN 'business_id' END;
    waiting boolean := secrets <> '{}';
BEGIN
    IF missing IS NOT NULL THEN
        RAISE not_null_violation USING MESSAGE = format('%s is missing', missing), COLUMN = missing;
    END IF;
    IF TG_OP = 'INSERT' THEN
        IF NOT secrets ?& ARRAY['api_key', 'access_token', 'webhook_token'] THEN
            RAISE check_violation USING MESSAGE = 'a new row needs its secrets themselves, not what they are shown as';
        END IF;
        INSERT INTO channels (id, tenant_id, provider, kind, address, business_id, webhook_url, credentials, status,
            status_reason, created_at)
        VALUES (coalesce(NEW.id, gen_random_uuid()), coalesce(NEW.tenant_id, session_tenant()), 'meta', 'whatsapp',
            NEW.phone_number_id, NEW.business_id, NEW.webhook_url, '', 'stopped',
            CASE WHEN coalesce(NEW.is_active, true) THEN sealing_reason() ELSE 'switched off in whatsapp_settings' END,
            coalesce(NEW.created_at, now()))
        RETURNING tenant_id, id INTO NEW.tenant_id, NEW.id;
    ELSE
        PERFORM refuse_changed_key(OLD.tenant_id = NEW.tenant_id AND OLD.id = NEW.id, 'tenant_id and id');
        waiting := waiting OR EXISTS (
            SELECT FROM unsealed_credentials WHERE tenant_id = OLD.tenant_id AND channel_id = OLD.id);
        UPDATE channels SET
            address = NEW.phone_number_id, business_id = NEW.business_id, webhook_url = NEW.webhook_url,
            status = CASE WHEN NEW.is_active AND NOT waiting THEN 'active' ELSE 'stopped' END,
            status_reason = CASE
                WHEN NEW.is_active AND waiting THEN sealing_reason()
                WHEN NEW.is_active THEN NULL
                WHEN OLD.is_active THEN 'switched off in whatsapp_settings'
                ELSE status_reason END  -- it had stopped before, and why has not changed
        WHERE tenant_id = OLD.tenant_id AND id = OLD.id;
        IF NEW.is_active AND NOT OLD.is_active AND NOT waiting THEN  -- what was put off meanwhile is due
            UPDATE messages SET due_at = now(), not_before = NULL
            WHERE tenant_id = OLD.tenant_id AND channel_id = OLD.id AND status = 'ready';
        END IF;
    END IF;
    IF secrets <> '{}' THEN
        INSERT INTO unsealed_credentials (tenant_id, channel_id, secrets) VALUES (NEW.tenant_id, NEW.id, secrets);
    END IF;
    SELECT * INTO NEW FROM whatsapp_settings WHERE tenant_id = NEW.tenant_id AND id = NEW.id;
    RETURN NEW;
END
$$;
CREATE TRIGGER whatsapp_settings_write INSTEAD OF INSERT OR UPDATE ON whatsapp_settings
    FOR EACH ROW EXECUTE FUNCTION write_whatsapp_settings();

CREATE FUNCTION delete_whatsapp_settings() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE channels SET deleted_at = now() WHERE tenant_id = OLD.tenant_id AND id = OLD.id;
    DELETE FROM unsealed_credentials WHERE tenant_id = OLD.tenant_id AND channel_id = OLD.id;
    RETURN OLD;
END
$$;
CREATE TRIGGER whatsapp_settings_delete INSTEAD OF DELETE ON whatsapp_settings
    FOR EACH ROW EXECUTE FUNCTION delete_whatsapp_settings();

-- -- what the views over messages share -------------------------------------------------------------------------------

-- Raises where an UPDATE through a view would make a row another one, or move it elsewhere.
CREATE FUNCTION refuse_changed_key(same boolean, columns text) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF same IS NOT TRUE THEN
        RAISE feature_not_supported USING
            MESSAGE = format('%s of a row don''t change', columns), HINT = 'DELETE it, and INSERT another.';
    END IF;
END
$$;

-- The conversation of a channel with this number or chat, made where there is none. `chat` may be as the libraries of
-- WhatsApp write it, 14155238886@c.us. Raises where the channel is not the tenant's.
CREATE FUNCTION conversation_with(tenant uuid, channel uuid, chat text, contact uuid DEFAULT NULL) RETURNS uuid
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

-- -- whatsapp_sessions and whatsapp_messages --------------------------------------------------------------------------

CREATE VIEW whatsapp_sessions WITH (security_invoker) AS
SELECT id, tenant_id, channel_id, phone_number, contact_id AS customer_profile_id, state, context_data, last_message_at,
    created_at, updated_at
FROM sessions;

-- A session's messages go with it, as its users know. The conversation stays: it holds the window and the contact.
CREATE FUNCTION delete_whatsapp_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM messages m USING sessions s
    WHERE s.tenant_id = OLD.tenant_id AND s.id = OLD.id
        AND m.tenant_id = s.tenant_id AND m.conversation_id = s.conversation_id;
    DELETE FROM sessions WHERE tenant_id = OLD.tenant_id AND id = OLD.id;
    RETURN OLD;
END
$$;
CREATE TRIGGER whatsapp_sessions_delete INSTEAD OF DELETE ON whatsapp_sessions
    FOR EACH ROW EXECUTE FUNCTION delete_whatsapp_session();

CREATE VIEW whatsapp_messages WITH (security_invoker) AS
SELECT m.id, m.tenant_id, s.id AS session_id, m.external_id AS message_id, upper(m.direction) AS direction, m.content,
    m.message_type, m.metadata, m.created_at
FROM messages m JOIN sessions s ON s.tenant_id = m.tenant_id AND s.conversation_id = m.conversation_id;
ALTER VIEW whatsapp_messages ALTER COLUMN message_type SET DEFAULT 'text';

CREATE FUNCTION write_whatsapp_message() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    tenant uuid := coalesce(NEW.tenant_id, session_tenant());
    talk record;
BEGIN
    IF NEW.message_id IS NULL OR NEW.direction IS NULL OR NEW.content IS NULL THEN
        RAISE not_null_violation USING MESSAGE = 'message_id, direction or content is missing';
    END IF;
    IF TG_OP = 'UPDATE' THEN
        PERFORM refuse_changed_key(
            OLD.tenant_id = NEW.tenant_id AND OLD.id = NEW.id AND OLD.session_id = NEW.session_id
                AND OLD.direction = upper(NEW.direction),
            'tenant_id, id, session_id and direction');
        UPDATE messages SET
            external_id = NEW.message_id, content = NEW.content, message_type = NEW.message_type,
            metadata = coalesce(NEW.metadata, '{}'), created_at = NEW.created_at
        WHERE tenant_id = OLD.tenant_id AND id = OLD.id;
    ELSE
        SELECT s.id, s.channel_id, s.phone_number, s.conversation_id, c.provider INTO talk
        FROM sessions s JOIN channels c ON c.tenant_id = s.tenant_id AND c.id = s.channel_id
        WHERE s.tenant_id = tenant AND s.id = NEW.session_id;
        IF NOT FOUND THEN
            RAISE foreign_key_violation USING
                MESSAGE = 'session_id names no session of this tenant', COLUMN = 'session_id';
        ELSIF talk.conversation_id IS NULL THEN
            talk.conversation_id := conversation_with(tenant, talk.channel_id, talk.phone_number);
            UPDATE sessions SET conversation_id = talk.conversation_id WHERE tenant_id = tenant AND id = talk.id;
        END IF;
        INSERT INTO messages (id, tenant_id, conversation_id, provider, external_id, direction, content, message_type,
            metadata, created_at)
        VALUES (coalesce(NEW.id, gen_random_uuid()), tenant, talk.conversation_id, talk.provider, NEW.message_id,
            lower(NEW.direction), NEW.content, coalesce(NEW.message_type, 'text'), NEW.metadata,
            coalesce(NEW.created_at, now()))
        RETURNING id INTO NEW.id;
    END IF;
    SELECT * INTO NEW FROM whatsapp_messages WHERE tenant_id = tenant AND id = NEW.id;
    RETURN NEW;
END
$$;
CREATE TRIGGER whatsapp_messages_write INSTEAD OF INSERT OR UPDATE ON whatsapp_messages
    FOR EACH ROW EXECUTE FUNCTION write_whatsapp_message();

CREATE FUNCTION delete_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM messages WHERE tenant_id = OLD.tenant_id AND id = OLD.id;
    RETURN OLD;
END
$$;
CREATE TRIGGER whatsapp_messages_delete INSTEAD OF DELETE ON whatsapp_messages
    FOR EACH ROW EXECUTE FUNCTION delete_message();

-- -- messages_history -------------------------------------------------------------------------------------------------

-- `chat_id` reads back as what we send to.
CREATE VIEW messages_history WITH (security_invoker) AS
SELECT m.id, m.tenant_id, m.channel_id AS whatsapp_instance_id, c.contact_id, m.external_id AS message_id,
    coalesce(c.kommo_chat_id, c.recipient) AS chat_id, m.direction, m.message_type AS type, m.content, m.metadata,
    m.status, m.sent_at, m.delivered_at, m.read_at, m.created_at
FROM messages m JOIN conversations c ON c.tenant_id = m.tenant_id AND c.id = m.conversation_id;
ALTER VIEW messages_history ALTER COLUMN type SET DEFAULT 'text';

CREATE FUNCTION write_message_history() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    tenant uuid := coalesce(NEW.tenant_id, session_tenant());
    talk_id uuid;
    talk record;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        PERFORM refuse_changed_key(
            OLD.tenant_id = NEW.tenant_id AND OLD.id = NEW.id AND OLD.direction = NEW.direction
                AND OLD.whatsapp_instance_id = NEW.whatsapp_instance_id AND OLD.chat_id = NEW.chat_id
                AND OLD.contact_id IS NOT DISTINCT FROM NEW.contact_id,
            'tenant_id, id, whatsapp_instance_id, contact_id, chat_id and direction');
        UPDATE messages SET
            external_id = NEW.message_id, message_type = NEW.type, content = NEW.content,
            metadata = coalesce(NEW.metadata, '{}'), status = NEW.status, sent_at = NEW.sent_at,
            delivered_at = NEW.delivered_at, read_at = NEW.read_at, created_at = NEW.created_at
        WHERE tenant_id = OLD.tenant_id AND id = OLD.id;
    ELSE
        NEW.whatsapp_instance_id := coalesce(NEW.whatsapp_instance_id, only_channel(tenant, NULL, 'whatsapp'));
        NEW.chat_id := coalesce(NEW.chat_id, (
            SELECT given FROM contact_addresses WHERE tenant_id = tenant AND contact_id = NEW.contact_id
            ORDER BY kind <> 'phone', created_at, canonical LIMIT 1));
        IF NEW.chat_id IS NULL THEN
            RAISE not_null_violation USING
                MESSAGE = 'chat_id is missing, and contact_id names no contact with an address', COLUMN = 'chat_id';
        END IF;
        talk_id := conversation_with(tenant, NEW.whatsapp_instance_id, NEW.chat_id, NEW.contact_id);
        SELECT id, provider, contact_id INTO talk FROM conversations WHERE tenant_id = tenant AND id = talk_id;
        IF NEW.contact_id <> talk.contact_id THEN
            RAISE unique_violation USING
                MESSAGE = 'this chat is with another contact', COLUMN = 'contact_id',
                HINT = 'Leave contact_id out, or name the contact of the chat.';
        END IF;
        INSERT INTO messages (id, tenant_id, conversation_id, provider, external_id, direction, message_type, content,
            metadata, status, sent_at, delivered_at, read_at, created_at)
        VALUES (coalesce(NEW.id, gen_random_uuid()), tenant, talk.id, talk.provider, NEW.message_id, NEW.direction,
            coalesce(NEW.type, 'text'), coalesce(NEW.content, ''), NEW.metadata, NEW.status, NEW.sent_at,
            NEW.delivered_at, NEW.read_at, coalesce(NEW.created_at, now()))
        RETURNING id INTO NEW.id;
    END IF;
    SELECT * INTO NEW FROM messages_history WHERE tenant_id = tenant AND id = NEW.id;
    RETURN NEW;
END
$$;
CREATE TRIGGER messages_history_write INSTEAD OF INSERT OR UPDATE ON messages_history
    FOR EACH ROW EXECUTE FUNCTION write_message_history();
CREATE TRIGGER messages_history_delete INSTEAD OF DELETE ON messages_history
    FOR EACH ROW EXECUTE FUNCTION delete_message();

-- -- who may ----------------------------------------------------------------------------------------------------------

GRANT SELECT ON active_conversations_by_provider TO palomar_api, palomar_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON kommo_conversations, kommo_messages, customers, distributors, whatsapp_settings,
    whatsapp_sessions, whatsapp_messages, messages_history TO palomar_api, palomar_worker;
