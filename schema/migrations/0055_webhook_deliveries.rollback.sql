-- transactional: false

DROP TRIGGER IF EXISTS webhooks_moved ON webhooks;
DROP TRIGGER IF EXISTS webhooks_enabled ON webhooks;
DROP TRIGGER IF EXISTS webhooks_written ON webhooks;
DROP TRIGGER IF EXISTS webhook_logs_written ON webhook_logs;
DROP TABLE IF EXISTS webhook_cursor, webhook_behind, webhook_sequences, webhook_health, webhook_keys;
DROP FUNCTION IF EXISTS renew_webhook_health();
DROP FUNCTION IF EXISTS renew_only();
DROP FUNCTION IF EXISTS check_written_webhook();
DROP FUNCTION IF EXISTS check_written_webhook_log();
REVOKE INSERT (id, tenant_id, webhook_id, event, payload, response, status_code, success, error_message, attempt_count,
        created_at, completed_at, metadata),
    UPDATE (event, payload, response, status_code, success, error_message, attempt_count, created_at, completed_at,
        metadata) ON webhook_logs FROM palomar_api;
GRANT INSERT, UPDATE ON webhook_logs TO palomar_api;
ALTER TABLE webhook_logs
    DROP CONSTRAINT IF EXISTS check_delivery, DROP CONSTRAINT IF EXISTS check_times_replay,
    DROP COLUMN IF EXISTS conversation_id, DROP COLUMN IF EXISTS sequence, DROP COLUMN IF EXISTS held,
    DROP COLUMN IF EXISTS attempts, DROP COLUMN IF EXISTS replay_at, DROP COLUMN IF EXISTS replay_kind;
ALTER TABLE webhooks
    DROP CONSTRAINT IF EXISTS check_webhook_direction, DROP CONSTRAINT IF EXISTS check_webhook_lists,
    DROP COLUMN IF EXISTS channel_ids, DROP COLUMN IF EXISTS direction, DROP COLUMN IF EXISTS tags,
    DROP COLUMN IF EXISTS in_order;
