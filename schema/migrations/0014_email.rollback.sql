-- transactional: false

-- Stops at the first table that has a row of e-mail: delete its channels, conversations and endpoints before.

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
ORDER BY p.place;

ALTER TABLE messages DROP CONSTRAINT IF EXISTS check_message_provider,
    ADD CONSTRAINT check_message_provider CHECK (provider IN ('kommo', 'twilio', 'meta')) NOT VALID;
ALTER TABLE messages VALIDATE CONSTRAINT check_message_provider;

ALTER TABLE conversations DROP CONSTRAINT IF EXISTS check_valid_provider,
    ADD CONSTRAINT check_valid_provider CHECK (provider IN ('kommo', 'twilio', 'meta')) NOT VALID;
ALTER TABLE conversations VALIDATE CONSTRAINT check_valid_provider;

ALTER TABLE channels DROP CONSTRAINT IF EXISTS check_channel_provider,
    ADD CONSTRAINT check_channel_provider CHECK (provider IN ('kommo', 'twilio', 'meta')) NOT VALID;
ALTER TABLE channels VALIDATE CONSTRAINT check_channel_provider;

ALTER TABLE endpoints DROP CONSTRAINT IF EXISTS check_endpoint_provider,
    ADD CONSTRAINT check_endpoint_provider CHECK (provider IN ('kommo', 'twilio', 'meta')) NOT VALID;
ALTER TABLE endpoints VALIDATE CONSTRAINT check_endpoint_provider;

CREATE OR REPLACE FUNCTION providers() RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ARRAY['kommo', 'twilio', 'meta']
$$;

SELECT protect_functions();
