-- transactional: false

-- A new provider is one statement; e-mail is one; the window answers whoever may see the conversation; and a template is
-- queued by SQL.

-- -- providers --------------------------------------------------------------------------------------------------------

-- Which providers there are stands in providers() alone: a new one's migration replaces that function, and the four
-- CHECKs, and the view that counts, admit it. The three that the documents name stand in `check_valid_provider` too, where
-- their users look.
ALTER TABLE endpoints DROP CONSTRAINT IF EXISTS check_endpoint_provider,
    ADD CONSTRAINT check_endpoint_provider CHECK (provider = ANY (providers())) NOT VALID;
ALTER TABLE endpoints VALIDATE CONSTRAINT check_endpoint_provider;

ALTER TABLE channels DROP CONSTRAINT IF EXISTS check_channel_provider,
    ADD CONSTRAINT check_channel_provider CHECK (provider = ANY (providers())) NOT VALID;
ALTER TABLE channels VALIDATE CONSTRAINT check_channel_provider;

ALTER TABLE conversations DROP CONSTRAINT IF EXISTS check_valid_provider,
    ADD CONSTRAINT check_valid_provider
        CHECK (provider IN ('kommo', 'twilio', 'meta') OR provider = ANY (providers())) NOT VALID;
ALTER TABLE conversations VALIDATE CONSTRAINT check_valid_provider;

ALTER TABLE messages DROP CONSTRAINT IF EXISTS check_message_provider,
    ADD CONSTRAINT check_message_provider CHECK (provider = ANY (providers())) NOT VALID;
ALTER TABLE messages VALIDATE CONSTRAINT check_message_provider;

-- The documented three always, any other where there is something to count.
CREATE OR REPLACE VIEW active_conversations_by_provider WITH (security_invoker) AS
SELECT
    p.provider,
    count(c.id) AS total,
    count(c.id) FILTER (WHERE c.status = 'active') AS active,
    count(c.id) FILTER (WHERE c.status = 'escalated') AS escalated,
    count(c.id) FILTER (WHERE c.last_user_message_at > now() - interval '24 hours') AS within_24h
FROM unnest(providers()) WITH ORDINALITY AS p (provider, place)
LEFT JOIN conversations c ON c.provider = p.provider AND c.deleted_at IS NULL
GROUP BY p.provider, p.place
HAVING p.provider IN ('kommo', 'twilio', 'meta') OR count(c.id) > 0
ORDER BY p.place;

-- -- e-mail -----------------------------------------------------------------------------------------------------------

-- Channels of kind e-mail that an import made stood under Twilio, and their conversations were counted there. A channel
-- at a time, its messages in pages, so that no writer waits for long; the channel last, so that a second run finds it.
DO $$
DECLARE
    mail record;
    moved bigint;
BEGIN
    PERFORM set_config('role', 'palomar_worker', false);
    FOR mail IN SELECT tenant_id, id FROM channels WHERE kind = 'email' AND provider <> 'email' LOOP
        LOOP
            UPDATE messages SET provider = 'email' WHERE (tenant_id, id) IN (
                SELECT m.tenant_id, m.id FROM conversations c
                JOIN messages m ON m.tenant_id = c.tenant_id AND m.conversation_id = c.id
                WHERE c.tenant_id = mail.tenant_id AND c.channel_id = mail.id AND m.provider <> 'email' LIMIT 500);
            GET DIAGNOSTICS moved = ROW_COUNT;
            COMMIT;
            EXIT WHEN moved = 0;
        END LOOP;
        LOOP
            UPDATE conversations SET provider = 'email' WHERE (tenant_id, id) IN (
                SELECT tenant_id, id FROM conversations
                WHERE tenant_id = mail.tenant_id AND channel_id = mail.id AND provider <> 'email' LIMIT 500);
            GET DIAGNOSTICS moved = ROW_COUNT;
            COMMIT;
            EXIT WHEN moved = 0;
        END LOOP;
        UPDATE channels SET provider = 'email',
            address = CASE WHEN EXISTS (
                SELECT FROM channels other WHERE other.tenant_id = mail.tenant_id AND other.provider = 'email'
                    AND other.kind = 'email' AND other.address = channels.address AND other.deleted_at IS NULL
            ) THEN address || ' ' || id ELSE address END
        WHERE tenant_id = mail.tenant_id AND id = mail.id;
        COMMIT;
    END LOOP;
END
$$;

ALTER TABLE channels DROP CONSTRAINT IF EXISTS check_email_is_a_provider,
    ADD CONSTRAINT check_email_is_a_provider CHECK ((kind = 'email') = (provider = 'email')) NOT VALID;
ALTER TABLE channels VALIDATE CONSTRAINT check_email_is_a_provider;

-- -- the window -------------------------------------------------------------------------------------------------------

-- As 0009 made it for a tenant's session: one row for every id, and what the tenant doesn't have may not be written to.
-- A session without a tenant is answered by the id alone where it may see the conversation, as workers may; where it
-- can't, no answer is right, and it is an error.
CREATE OR REPLACE FUNCTION check_whatsapp_24_hour_window(
    conversation_id uuid,
    OUT can_send_proactive boolean, OUT open_until timestamptz, OUT last_user_message_at timestamptz
) LANGUAGE plpgsql STABLE SECURITY INVOKER AS $$
#variable_conflict use_column
DECLARE
    asked CONSTANT uuid := check_whatsapp_24_hour_window.conversation_id;
    kind text;
BEGIN
    -- By tenant and id, which is the key; over all tenants where the session has none.
    SELECT ch.kind, c.last_user_message_at INTO kind, check_whatsapp_24_hour_window.last_user_message_at
    FROM (
        SELECT current_tenant() AS id WHERE current_tenant() IS NOT NULL
        UNION ALL SELECT t.id FROM tenants t WHERE current_tenant() IS NULL
    ) AS whose
    CROSS JOIN LATERAL (
        SELECT c.* FROM conversations c WHERE c.tenant_id = whose.id AND c.id = asked AND c.deleted_at IS NULL OFFSET 0
    ) AS c
    JOIN channels ch ON ch.tenant_id = c.tenant_id AND ch.id = c.channel_id;
    IF NOT FOUND AND current_tenant() IS NULL THEN
        RAISE no_data_found USING
            MESSAGE = format('role %I without a tenant sees no conversation %s', current_user, asked),
            HINT = 'Begin the transaction with SELECT set_config(''app.tenant_id'', ''<the tenant''''s id>'', true), '
                'or ask as palomar_worker.';
    END IF;
    can_send_proactive := coalesce(
        kind <> 'whatsapp' OR is_within_24_hour_window(check_whatsapp_24_hour_window.last_user_message_at), false);
    open_until := CASE WHEN kind = 'whatsapp'
        THEN window_closes_at(check_whatsapp_24_hour_window.last_user_message_at) END;
END
$$;

-- As 0009 made it; a session without a tenant is told so, instead of that nobody needs a template.
CREATE OR REPLACE FUNCTION conversations_needing_templates(provider text) RETURNS SETOF conversations
LANGUAGE sql STABLE SECURITY INVOKER AS $$
    SELECT c.*
    FROM conversations c JOIN channels ch ON ch.tenant_id = c.tenant_id AND ch.id = c.channel_id
    WHERE c.tenant_id = session_tenant() AND c.provider = conversations_needing_templates.provider
        AND c.status = 'active' AND c.deleted_at IS NULL AND ch.kind = 'whatsapp'
        AND NOT is_within_24_hour_window(c.last_user_message_at)
    ORDER BY c.last_message_at DESC, c.id
$$;

-- -- templates --------------------------------------------------------------------------------------------------------

-- Queue an approved template to a conversation of the session's tenant; returns the message's id. It leaves as any other
-- message does, whatever the window says, unless the customer has opted out.
--
-- `template` is a row of message_templates, by its id, name or external_id; where there is none, the provider's own name
-- for it: Twilio's ContentSid, Meta's template name. `variables` are names and values. With a `dedupe_key` a second call
-- of the same key queues nothing and returns the first one's message.
CREATE OR REPLACE FUNCTION queue_template_message(
    conversation uuid, template text, variables jsonb DEFAULT '{}', language text DEFAULT NULL,
    dedupe_key text DEFAULT NULL
) RETURNS uuid LANGUAGE plpgsql SECURITY INVOKER AS $$
#variable_conflict use_column
DECLARE
    tenant CONSTANT uuid := session_tenant();
    asked text := nullif(btrim(queue_template_message.template), '');
    key CONSTANT text := 'template:' || queue_template_message.dedupe_key;
    given CONSTANT jsonb := coalesce(queue_template_message.variables, '{}');
    tongue text := nullif(queue_template_message.language, '');
    filled jsonb := '{}';
    words text;
    variable record;
    talk record;
    known record;
    message uuid;
BEGIN
    IF asked IS NULL OR length(asked) > 512 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'template: a name of 1 to 512 characters is needed';
    ELSIF jsonb_typeof(given) <> 'object' THEN
        RAISE invalid_parameter_value USING
            MESSAGE = 'variables: an object of names and values is needed', HINT = 'Such as {"1": "Ana"}.';
    ELSIF length(queue_template_message.dedupe_key) NOT BETWEEN 1 AND 255 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'dedupe_key: 1 to 255 characters are needed';
    END IF;
    -- The lock under which messages get their places; persist and window take it too.
    SELECT c.id, c.channel_id, c.provider, ch.kind INTO talk
    FROM conversations c JOIN channels ch ON ch.tenant_id = c.tenant_id AND ch.id = c.channel_id
    WHERE c.tenant_id = tenant AND c.id = conversation AND c.deleted_at IS NULL AND ch.deleted_at IS NULL
    FOR NO KEY UPDATE OF c;
    IF NOT FOUND THEN
        RAISE foreign_key_violation USING
            MESSAGE = 'conversation names no conversation of this tenant', COLUMN = 'conversation_id';
    ELSIF talk.provider NOT IN ('twilio', 'meta') THEN
        RAISE feature_not_supported USING
            MESSAGE = format('conversation: %s has no templates', talk.provider),
            HINT = 'Templates are sent through Twilio and Meta.';
    END IF;
    SELECT id INTO message FROM messages WHERE tenant_id = tenant AND dedupe_key = key;
    IF FOUND THEN
        RETURN message;
    END IF;

    SELECT t.name, t.external_id, t.language, t.content, t.channel_id IS NULL AND t.external_id IS NULL AS ours,
        t.is_active AND t.status = 'approved' AS usable, t.status, count(*) OVER () AS several INTO known
    FROM message_templates t
    WHERE t.tenant_id = tenant AND t.deleted_at IS NULL AND asked IN (t.id::text, t.name, t.external_id)
        AND (t.channel_id IS NULL OR t.channel_id = talk.channel_id)
        AND (tongue IS NULL OR t.language IS NULL OR t.language = tongue)
    ORDER BY t.id::text = asked DESC, t.channel_id IS NULL LIMIT 1;
    IF FOUND THEN
        IF known.several > 1 THEN
            RAISE invalid_parameter_value USING
                MESSAGE = format('template: this tenant has %s templates %L', known.several, asked),
                HINT = 'Name one by its id, or say its language.';
        ELSIF known.ours THEN
            RAISE invalid_parameter_value USING
                MESSAGE = format('template %L is a text of the tenant''s own, which nobody has approved', asked),
                HINT = 'Set its channel_id to the channel that it is approved for.';
        ELSIF NOT known.usable THEN
            RAISE invalid_parameter_value USING
                MESSAGE = format('template %L can''t be used: it is %s', asked,
                    CASE WHEN known.status <> 'approved' THEN known.status ELSE 'not active' END);
        END IF;
        asked := CASE talk.provider WHEN 'twilio' THEN coalesce(known.external_id, known.name) ELSE known.name END;
        tongue := coalesce(tongue, known.language);
        words := known.content;
    END IF;
    IF talk.provider = 'meta' AND tongue IS NULL THEN
        RAISE invalid_parameter_value USING
            MESSAGE = 'language: Meta needs the template''s language', HINT = 'Such as en_US.';
    END IF;

    FOR variable IN SELECT e.key AS name, e.value #>> '{}' AS value, jsonb_typeof(e.value) AS kind
        FROM jsonb_each(given) AS e
    LOOP
        IF variable.kind NOT IN ('string', 'number', 'boolean') OR length(variable.value) > 1024 THEN
            RAISE invalid_parameter_value USING
                MESSAGE = format('variables.%s: a text or number of at most 1024 characters is needed', variable.name);
        END IF;
        filled := filled || jsonb_build_object(variable.name, variable.value);
        words := replace(words, '{{' || variable.name || '}}', variable.value);
    END LOOP;

    PERFORM set_config('palomar.queued_by', 'function', true);  -- see 0025
    INSERT INTO messages (tenant_id, conversation_id, channel_id, provider, direction, role, status, message_type,
        content, template, dedupe_key, due_at, out_seq)
    SELECT tenant, talk.id, talk.channel_id, talk.provider, 'outbound', 'assistant', 'queued', 'template',
        coalesce(words, ''), jsonb_build_object('name', asked, 'variables', filled, 'language', tongue), key, now(),
        c.next_out_seq
    FROM conversations c WHERE c.tenant_id = tenant AND c.id = talk.id
    RETURNING id INTO message;
    PERFORM set_config('palomar.queued_by', '', true);
    UPDATE conversations SET last_message_at = greatest(last_message_at, now())
    WHERE tenant_id = tenant AND id = talk.id;
    RETURN message;
END
$$;

-- -- imports ----------------------------------------------------------------------------------------------------------

-- What a row had in the system that it was imported from and that has no column here: `{"imported": {…}}`.
ALTER TABLE contacts ADD COLUMN IF NOT EXISTS metadata jsonb NOT NULL DEFAULT '{}';
ALTER TABLE groups ADD COLUMN IF NOT EXISTS metadata jsonb NOT NULL DEFAULT '{}';
ALTER TABLE message_templates ADD COLUMN IF NOT EXISTS metadata jsonb NOT NULL DEFAULT '{}';
ALTER TABLE campaigns ADD COLUMN IF NOT EXISTS metadata jsonb NOT NULL DEFAULT '{}';
ALTER TABLE campaign_recipients ADD COLUMN IF NOT EXISTS metadata jsonb NOT NULL DEFAULT '{}';
ALTER TABLE webhooks ADD COLUMN IF NOT EXISTS metadata jsonb NOT NULL DEFAULT '{}';
ALTER TABLE webhook_logs ADD COLUMN IF NOT EXISTS metadata jsonb NOT NULL DEFAULT '{}';

SELECT protect_functions();
