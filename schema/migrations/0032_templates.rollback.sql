-- What stood under Twilio and is e-mail stays e-mail.

ALTER TABLE webhook_logs DROP COLUMN IF EXISTS metadata;
ALTER TABLE webhooks DROP COLUMN IF EXISTS metadata;
ALTER TABLE campaign_recipients DROP COLUMN IF EXISTS metadata;
ALTER TABLE campaigns DROP COLUMN IF EXISTS metadata;
ALTER TABLE message_templates DROP COLUMN IF EXISTS metadata;
ALTER TABLE groups DROP COLUMN IF EXISTS metadata;
ALTER TABLE contacts DROP COLUMN IF EXISTS metadata;

DROP FUNCTION IF EXISTS queue_template_message(uuid, text, jsonb, text, text);

CREATE OR REPLACE FUNCTION conversations_needing_templates(provider text) RETURNS SETOF conversations
LANGUAGE sql STABLE SECURITY INVOKER AS $$
    SELECT c.*
    FROM conversations c JOIN channels ch ON ch.tenant_id = c.tenant_id AND ch.id = c.channel_id
    WHERE c.tenant_id = current_tenant() AND c.provider = conversations_needing_templates.provider
        AND c.status = 'active' AND c.deleted_at IS NULL AND ch.kind = 'whatsapp'
        AND NOT is_within_24_hour_window(c.last_user_message_at)
    ORDER BY c.last_message_at DESC, c.id
$$;

CREATE OR REPLACE FUNCTION check_whatsapp_24_hour_window(
    conversation_id uuid,
    OUT can_send_proactive boolean, OUT open_until timestamptz, OUT last_user_message_at timestamptz
) LANGUAGE sql STABLE SECURITY INVOKER AS $$
    SELECT
        coalesce(found.kind <> 'whatsapp' OR is_within_24_hour_window(found.last_user_message_at), false),
        CASE WHEN found.kind = 'whatsapp' THEN window_closes_at(found.last_user_message_at) END,
        found.last_user_message_at
    FROM (VALUES (conversation_id)) AS asked (id) LEFT JOIN (
        SELECT c.id, c.last_user_message_at, ch.kind
        FROM conversations c JOIN channels ch ON ch.tenant_id = c.tenant_id AND ch.id = c.channel_id
        WHERE c.tenant_id = current_tenant() AND c.deleted_at IS NULL
    ) AS found ON found.id = asked.id
$$;

ALTER TABLE channels DROP CONSTRAINT IF EXISTS check_email_is_a_provider;

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
HAVING p.provider <> 'email' OR count(c.id) > 0
ORDER BY p.place;

ALTER TABLE messages DROP CONSTRAINT IF EXISTS check_message_provider,
    ADD CONSTRAINT check_message_provider CHECK (provider IN ('kommo', 'twilio', 'meta', 'email')) NOT VALID;
ALTER TABLE messages VALIDATE CONSTRAINT check_message_provider;

ALTER TABLE conversations DROP CONSTRAINT IF EXISTS check_valid_provider,
    ADD CONSTRAINT check_valid_provider CHECK (provider IN ('kommo', 'twilio', 'meta', 'email')) NOT VALID;
ALTER TABLE conversations VALIDATE CONSTRAINT check_valid_provider;

ALTER TABLE channels DROP CONSTRAINT IF EXISTS check_channel_provider,
    ADD CONSTRAINT check_channel_provider CHECK (provider IN ('kommo', 'twilio', 'meta', 'email')) NOT VALID;
ALTER TABLE channels VALIDATE CONSTRAINT check_channel_provider;

ALTER TABLE endpoints DROP CONSTRAINT IF EXISTS check_endpoint_provider,
    ADD CONSTRAINT check_endpoint_provider CHECK (provider IN ('kommo', 'twilio', 'meta', 'email')) NOT VALID;
ALTER TABLE endpoints VALIDATE CONSTRAINT check_endpoint_provider;
