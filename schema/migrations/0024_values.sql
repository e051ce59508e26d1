-- transactional: false

-- Values that PostgreSQL takes and Python does not are refused where a tenant writes them. One row of them made whoever
-- read it fail, for everybody: a date before Christ or infinity, a number such as 1e400, an event's name that no routing
-- key can hold. What is there already is brought within the bounds.
-- A statement at a time: one that broke off is run again from its start.

-- Bring a table's times within its CHECK, as a worker, who sees every tenant's rows.
CREATE OR REPLACE PROCEDURE bring_times_within(of_table regclass, VARIADIC columns text[]) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('role', 'palomar_worker', true);
    EXECUTE format('UPDATE %s SET %s WHERE NOT (%s)', of_table,
        (SELECT string_agg(format('%I = least(greatest(%1$I, ''0002-01-01 00:00+00''), ''9999-01-01 00:00+00'')', c), ', ')
            FROM unnest(columns) AS c),
        (SELECT string_agg(format('coalesce(%I BETWEEN ''0002-01-01 00:00+00'' AND ''9999-01-01 00:00+00'', true)', c),
            ' AND ') FROM unnest(columns) AS c));
END
$$;

ALTER TABLE api_keys DROP CONSTRAINT IF EXISTS check_times, ADD CONSTRAINT check_times CHECK (
        created_at >= '0002-01-01 00:00+00' AND created_at <= '9999-01-01 00:00+00'
        AND deleted_at >= '0002-01-01 00:00+00' AND deleted_at <= '9999-01-01 00:00+00'
        AND expires_at >= '0002-01-01 00:00+00' AND expires_at <= '9999-01-01 00:00+00'
        AND last_used_at >= '0002-01-01 00:00+00' AND last_used_at <= '9999-01-01 00:00+00'
        AND updated_at >= '0002-01-01 00:00+00' AND updated_at <= '9999-01-01 00:00+00') NOT VALID;
CALL bring_times_within('api_keys', 'created_at', 'deleted_at', 'expires_at', 'last_used_at', 'updated_at');
ALTER TABLE api_keys VALIDATE CONSTRAINT check_times;

ALTER TABLE campaign_recipients DROP CONSTRAINT IF EXISTS check_times, ADD CONSTRAINT check_times CHECK (
        created_at >= '0002-01-01 00:00+00' AND created_at <= '9999-01-01 00:00+00'
        AND delivered_at >= '0002-01-01 00:00+00' AND delivered_at <= '9999-01-01 00:00+00'
        AND failed_at >= '0002-01-01 00:00+00' AND failed_at <= '9999-01-01 00:00+00'
        AND read_at >= '0002-01-01 00:00+00' AND read_at <= '9999-01-01 00:00+00'
        AND sent_at >= '0002-01-01 00:00+00' AND sent_at <= '9999-01-01 00:00+00'
        AND updated_at >= '0002-01-01 00:00+00' AND updated_at <= '9999-01-01 00:00+00') NOT VALID;
CALL bring_times_within('campaign_recipients', 'created_at', 'delivered_at', 'failed_at', 'read_at', 'sent_at', 'updated_at');
ALTER TABLE campaign_recipients VALIDATE CONSTRAINT check_times;

ALTER TABLE campaigns DROP CONSTRAINT IF EXISTS check_times, ADD CONSTRAINT check_times CHECK (
        completed_at >= '0002-01-01 00:00+00' AND completed_at <= '9999-01-01 00:00+00'
        AND created_at >= '0002-01-01 00:00+00' AND created_at <= '9999-01-01 00:00+00'
        AND deleted_at >= '0002-01-01 00:00+00' AND deleted_at <= '9999-01-01 00:00+00'
        AND due_at >= '0002-01-01 00:00+00' AND due_at <= '9999-01-01 00:00+00'
        AND scheduled_at >= '0002-01-01 00:00+00' AND scheduled_at <= '9999-01-01 00:00+00'
        AND started_at >= '0002-01-01 00:00+00' AND started_at <= '9999-01-01 00:00+00'
        AND updated_at >= '0002-01-01 00:00+00' AND updated_at <= '9999-01-01 00:00+00') NOT VALID;
CALL bring_times_within('campaigns', 'completed_at', 'created_at', 'deleted_at', 'due_at', 'scheduled_at', 'started_at', 'updated_at');
ALTER TABLE campaigns VALIDATE CONSTRAINT check_times;

ALTER TABLE channels DROP CONSTRAINT IF EXISTS check_times, ADD CONSTRAINT check_times CHECK (
        created_at >= '0002-01-01 00:00+00' AND created_at <= '9999-01-01 00:00+00'
        AND deleted_at >= '0002-01-01 00:00+00' AND deleted_at <= '9999-01-01 00:00+00'
        AND updated_at >= '0002-01-01 00:00+00' AND updated_at <= '9999-01-01 00:00+00') NOT VALID;
CALL bring_times_within('channels', 'created_at', 'deleted_at', 'updated_at');
ALTER TABLE channels VALIDATE CONSTRAINT check_times;

ALTER TABLE consents DROP CONSTRAINT IF EXISTS check_times, ADD CONSTRAINT check_times CHECK (
        created_at >= '0002-01-01 00:00+00' AND created_at <= '9999-01-01 00:00+00'
        AND effective_at >= '0002-01-01 00:00+00' AND effective_at <= '9999-01-01 00:00+00') NOT VALID;
CALL bring_times_within('consents', 'created_at', 'effective_at');
ALTER TABLE consents VALIDATE CONSTRAINT check_times;

ALTER TABLE contact_addresses DROP CONSTRAINT IF EXISTS check_times, ADD CONSTRAINT check_times CHECK (
        created_at >= '0002-01-01 00:00+00' AND created_at <= '9999-01-01 00:00+00') NOT VALID;
CALL bring_times_within('contact_addresses', 'created_at');
ALTER TABLE contact_addresses VALIDATE CONSTRAINT check_times;

ALTER TABLE contacts DROP CONSTRAINT IF EXISTS check_times, ADD CONSTRAINT check_times CHECK (
        created_at >= '0002-01-01 00:00+00' AND created_at <= '9999-01-01 00:00+00'
        AND deleted_at >= '0002-01-01 00:00+00' AND deleted_at <= '9999-01-01 00:00+00'
        AND updated_at >= '0002-01-01 00:00+00' AND updated_at <= '9999-01-01 00:00+00') NOT VALID;
CALL bring_times_within('contacts', 'created_at', 'deleted_at', 'updated_at');
ALTER TABLE contacts VALIDATE CONSTRAINT check_times;

ALTER TABLE conversations DROP CONSTRAINT IF EXISTS check_times, ADD CONSTRAINT check_times CHECK (
        created_at >= '0002-01-01 00:00+00' AND created_at <= '9999-01-01 00:00+00'
        AND deleted_at >= '0002-01-01 00:00+00' AND deleted_at <= '9999-01-01 00:00+00'
        AND last_message_at >= '0002-01-01 00:00+00' AND last_message_at <= '9999-01-01 00:00+00'
        AND last_user_message_at >= '0002-01-01 00:00+00' AND last_user_message_at <= '9999-01-01 00:00+00'
        AND reply_due_at >= '0002-01-01 00:00+00' AND reply_due_at <= '9999-01-01 00:00+00'
        AND reply_lease_until >= '0002-01-01 00:00+00' AND reply_lease_until <= '9999-01-01 00:00+00'
        AND reply_wanted_since >= '0002-01-01 00:00+00' AND reply_wanted_since <= '9999-01-01 00:00+00'
        AND updated_at >= '0002-01-01 00:00+00' AND updated_at <= '9999-01-01 00:00+00') NOT VALID;
CALL bring_times_within('conversations', 'created_at', 'deleted_at', 'last_message_at', 'last_user_message_at', 'reply_due_at', 'reply_lease_until', 'reply_wanted_since', 'updated_at');
ALTER TABLE conversations VALIDATE CONSTRAINT check_times;

ALTER TABLE group_contacts DROP CONSTRAINT IF EXISTS check_times, ADD CONSTRAINT check_times CHECK (
        created_at >= '0002-01-01 00:00+00' AND created_at <= '9999-01-01 00:00+00') NOT VALID;
CALL bring_times_within('group_contacts', 'created_at');
ALTER TABLE group_contacts VALIDATE CONSTRAINT check_times;

ALTER TABLE groups DROP CONSTRAINT IF EXISTS check_times, ADD CONSTRAINT check_times CHECK (
        created_at >= '0002-01-01 00:00+00' AND created_at <= '9999-01-01 00:00+00'
        AND deleted_at >= '0002-01-01 00:00+00' AND deleted_at <= '9999-01-01 00:00+00'
        AND updated_at >= '0002-01-01 00:00+00' AND updated_at <= '9999-01-01 00:00+00') NOT VALID;
CALL bring_times_within('groups', 'created_at', 'deleted_at', 'updated_at');
ALTER TABLE groups VALIDATE CONSTRAINT check_times;

ALTER TABLE idempotency_keys DROP CONSTRAINT IF EXISTS check_times, ADD CONSTRAINT check_times CHECK (
        created_at >= '0002-01-01 00:00+00' AND created_at <= '9999-01-01 00:00+00') NOT VALID;
CALL bring_times_within('idempotency_keys', 'created_at');
ALTER TABLE idempotency_keys VALIDATE CONSTRAINT check_times;

ALTER TABLE message_statuses DROP CONSTRAINT IF EXISTS check_times, ADD CONSTRAINT check_times CHECK (
        occurred_at >= '0002-01-01 00:00+00' AND occurred_at <= '9999-01-01 00:00+00'
        AND received_at >= '0002-01-01 00:00+00' AND received_at <= '9999-01-01 00:00+00') NOT VALID;
CALL bring_times_within('message_statuses', 'occurred_at', 'received_at');
ALTER TABLE message_statuses VALIDATE CONSTRAINT check_times;

ALTER TABLE message_templates DROP CONSTRAINT IF EXISTS check_times, ADD CONSTRAINT check_times CHECK (
        created_at >= '0002-01-01 00:00+00' AND created_at <= '9999-01-01 00:00+00'
        AND deleted_at >= '0002-01-01 00:00+00' AND deleted_at <= '9999-01-01 00:00+00'
        AND updated_at >= '0002-01-01 00:00+00' AND updated_at <= '9999-01-01 00:00+00') NOT VALID;
CALL bring_times_within('message_templates', 'created_at', 'deleted_at', 'updated_at');
ALTER TABLE message_templates VALIDATE CONSTRAINT check_times;

ALTER TABLE messages DROP CONSTRAINT IF EXISTS check_times, ADD CONSTRAINT check_times CHECK (
        admitted_at >= '0002-01-01 00:00+00' AND admitted_at <= '9999-01-01 00:00+00'
        AND ai_processed_at >= '0002-01-01 00:00+00' AND ai_processed_at <= '9999-01-01 00:00+00'
        AND claimed_at >= '0002-01-01 00:00+00' AND claimed_at <= '9999-01-01 00:00+00'
        AND created_at >= '0002-01-01 00:00+00' AND created_at <= '9999-01-01 00:00+00'
        AND delivered_at >= '0002-01-01 00:00+00' AND delivered_at <= '9999-01-01 00:00+00'
        AND due_at >= '0002-01-01 00:00+00' AND due_at <= '9999-01-01 00:00+00'
        AND expires_at >= '0002-01-01 00:00+00' AND expires_at <= '9999-01-01 00:00+00'
        AND failed_at >= '0002-01-01 00:00+00' AND failed_at <= '9999-01-01 00:00+00'
        AND not_before >= '0002-01-01 00:00+00' AND not_before <= '9999-01-01 00:00+00'
        AND provider_timestamp >= '0002-01-01 00:00+00' AND provider_timestamp <= '9999-01-01 00:00+00'
        AND read_at >= '0002-01-01 00:00+00' AND read_at <= '9999-01-01 00:00+00'
        AND received_at >= '0002-01-01 00:00+00' AND received_at <= '9999-01-01 00:00+00'
        AND sent_at >= '0002-01-01 00:00+00' AND sent_at <= '9999-01-01 00:00+00'
        AND unknown_at >= '0002-01-01 00:00+00' AND unknown_at <= '9999-01-01 00:00+00'
        AND updated_at >= '0002-01-01 00:00+00' AND updated_at <= '9999-01-01 00:00+00'
        AND window_refused_at >= '0002-01-01 00:00+00' AND window_refused_at <= '9999-01-01 00:00+00') NOT VALID;
CALL bring_times_within('messages', 'admitted_at', 'ai_processed_at', 'claimed_at', 'created_at', 'delivered_at', 'due_at', 'expires_at', 'failed_at', 'not_before', 'provider_timestamp', 'read_at', 'received_at', 'sent_at', 'unknown_at', 'updated_at', 'window_refused_at');
ALTER TABLE messages VALIDATE CONSTRAINT check_times;

ALTER TABLE sessions DROP CONSTRAINT IF EXISTS check_times, ADD CONSTRAINT check_times CHECK (
        created_at >= '0002-01-01 00:00+00' AND created_at <= '9999-01-01 00:00+00'
        AND last_message_at >= '0002-01-01 00:00+00' AND last_message_at <= '9999-01-01 00:00+00'
        AND updated_at >= '0002-01-01 00:00+00' AND updated_at <= '9999-01-01 00:00+00') NOT VALID;
CALL bring_times_within('sessions', 'created_at', 'last_message_at', 'updated_at');
ALTER TABLE sessions VALIDATE CONSTRAINT check_times;

ALTER TABLE tenants DROP CONSTRAINT IF EXISTS check_times, ADD CONSTRAINT check_times CHECK (
        created_at >= '0002-01-01 00:00+00' AND created_at <= '9999-01-01 00:00+00'
        AND deleted_at >= '0002-01-01 00:00+00' AND deleted_at <= '9999-01-01 00:00+00'
        AND updated_at >= '0002-01-01 00:00+00' AND updated_at <= '9999-01-01 00:00+00') NOT VALID;
CALL bring_times_within('tenants', 'created_at', 'deleted_at', 'updated_at');
ALTER TABLE tenants VALIDATE CONSTRAINT check_times;

ALTER TABLE unsealed_credentials DROP CONSTRAINT IF EXISTS check_times, ADD CONSTRAINT check_times CHECK (
        created_at >= '0002-01-01 00:00+00' AND created_at <= '9999-01-01 00:00+00') NOT VALID;
CALL bring_times_within('unsealed_credentials', 'created_at');
ALTER TABLE unsealed_credentials VALIDATE CONSTRAINT check_times;

ALTER TABLE webhook_logs DROP CONSTRAINT IF EXISTS check_times, ADD CONSTRAINT check_times CHECK (
        completed_at >= '0002-01-01 00:00+00' AND completed_at <= '9999-01-01 00:00+00'
        AND created_at >= '0002-01-01 00:00+00' AND created_at <= '9999-01-01 00:00+00'
        AND due_at >= '0002-01-01 00:00+00' AND due_at <= '9999-01-01 00:00+00') NOT VALID;
CALL bring_times_within('webhook_logs', 'completed_at', 'created_at', 'due_at');
ALTER TABLE webhook_logs VALIDATE CONSTRAINT check_times;

ALTER TABLE webhooks DROP CONSTRAINT IF EXISTS check_times, ADD CONSTRAINT check_times CHECK (
        created_at >= '0002-01-01 00:00+00' AND created_at <= '9999-01-01 00:00+00'
        AND deleted_at >= '0002-01-01 00:00+00' AND deleted_at <= '9999-01-01 00:00+00'
        AND updated_at >= '0002-01-01 00:00+00' AND updated_at <= '9999-01-01 00:00+00') NOT VALID;
CALL bring_times_within('webhooks', 'created_at', 'deleted_at', 'updated_at');
ALTER TABLE webhooks VALIDATE CONSTRAINT check_times;

DROP PROCEDURE bring_times_within(regclass, VARIADIC text[]);

-- Settings are an object of bounded size, and each number in them a double. Others are kept as text in `unread`, and
-- nobody answers by themselves until they are mended.
ALTER TABLE channels DROP CONSTRAINT IF EXISTS check_settings, ADD CONSTRAINT check_settings CHECK (
    jsonb_typeof(settings) = 'object' AND pg_column_size(settings) < 1048576
    AND NOT jsonb_path_exists(settings, '$.** ? (@.type() == "number" && (@ > 1e300 || @ < -1e300))')) NOT VALID;
DO $$
BEGIN
    PERFORM set_config('role', 'palomar_worker', true);
    UPDATE channels SET settings = jsonb_build_object('reply', '{"engine": "none"}'::jsonb, 'unread',
        left(settings::text, 100000))
    WHERE NOT (jsonb_typeof(settings) = 'object' AND pg_column_size(settings) < 1048576
        AND NOT jsonb_path_exists(settings, '$.** ? (@.type() == "number" && (@ > 1e300 || @ < -1e300))'));
END
$$;
ALTER TABLE channels VALIDATE CONSTRAINT check_settings;

ALTER TABLE tenants DROP CONSTRAINT IF EXISTS check_settings, ADD CONSTRAINT check_settings CHECK (
    jsonb_typeof(settings) = 'object' AND pg_column_size(settings) < 1048576
    AND NOT jsonb_path_exists(settings, '$.** ? (@.type() == "number" && (@ > 1e300 || @ < -1e300))')) NOT VALID;
DO $$
BEGIN
    PERFORM set_config('role', 'palomar_worker', true);
    UPDATE tenants SET settings = jsonb_build_object('unread', left(settings::text, 100000))
    WHERE NOT (jsonb_typeof(settings) = 'object' AND pg_column_size(settings) < 1048576
        AND NOT jsonb_path_exists(settings, '$.** ? (@.type() == "number" && (@ > 1e300 || @ < -1e300))'));
END
$$;
ALTER TABLE tenants VALIDATE CONSTRAINT check_settings;

-- What every reader of a message takes apart: the clock reads many tenants' at once.
ALTER TABLE messages DROP CONSTRAINT IF EXISTS check_shapes, ADD CONSTRAINT check_shapes CHECK (
    jsonb_typeof(media) = 'array'
    AND (coalesce(jsonb_typeof(template), 'null') = 'null' OR (jsonb_typeof(template -> 'name') = 'string'
        AND jsonb_typeof(template -> 'variables') = 'object')) IS TRUE
    AND (coalesce(jsonb_typeof(sent_as), 'null') = 'null' OR (jsonb_typeof(sent_as -> 'name') = 'string'
        AND jsonb_typeof(sent_as -> 'variables') = 'object')) IS TRUE) NOT VALID;
DO $$
BEGIN
    PERFORM set_config('role', 'palomar_worker', true);
    UPDATE messages SET
        media = CASE jsonb_typeof(media) WHEN 'array' THEN media ELSE '[]' END,
        template = CASE WHEN (coalesce(jsonb_typeof(template), 'null') = 'null' OR (jsonb_typeof(template -> 'name') = 'string'
        AND jsonb_typeof(template -> 'variables') = 'object')) IS TRUE THEN template
            ELSE '{"name": "unreadable", "variables": {}}' END,
        sent_as = CASE WHEN (coalesce(jsonb_typeof(sent_as), 'null') = 'null' OR (jsonb_typeof(sent_as -> 'name') = 'string'
        AND jsonb_typeof(sent_as -> 'variables') = 'object')) IS TRUE THEN sent_as
            ELSE '{"name": "unreadable", "variables": {}}' END
    WHERE NOT (jsonb_typeof(media) = 'array'
    AND (coalesce(jsonb_typeof(template), 'null') = 'null' OR (jsonb_typeof(template -> 'name') = 'string'
        AND jsonb_typeof(template -> 'variables') = 'object')) IS TRUE
    AND (coalesce(jsonb_typeof(sent_as), 'null') = 'null' OR (jsonb_typeof(sent_as -> 'name') = 'string'
        AND jsonb_typeof(sent_as -> 'variables') = 'object')) IS TRUE);
END
$$;
ALTER TABLE messages VALIDATE CONSTRAINT check_shapes;

-- An event's name is its routing key, which holds 255 bytes.
ALTER TABLE events DROP CONSTRAINT IF EXISTS check_event_name,
    ADD CONSTRAINT check_event_name CHECK (octet_length(name) BETWEEN 1 AND 128) NOT VALID;
DO $$
BEGIN
    PERFORM set_config('role', 'palomar_worker', true);
    UPDATE events SET name = CASE name WHEN '' THEN 'unnamed' ELSE left(name, 32) END
    WHERE octet_length(name) NOT BETWEEN 1 AND 128;
END
$$;
ALTER TABLE events VALIDATE CONSTRAINT check_event_name;
