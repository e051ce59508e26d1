SET LOCAL lock_timeout = '100ms';

DROP TABLE IF EXISTS webhook_cursor, webhook_sequences, webhook_health, webhook_keys;
ALTER TABLE webhook_logs
    DROP COLUMN IF EXISTS conversation_id, DROP COLUMN IF EXISTS sequence, DROP COLUMN IF EXISTS held,
    DROP COLUMN IF EXISTS attempts, DROP COLUMN IF EXISTS replay_at, DROP COLUMN IF EXISTS replay_kind;
ALTER TABLE webhooks
    DROP COLUMN IF EXISTS channel_ids, DROP COLUMN IF EXISTS direction, DROP COLUMN IF EXISTS tags,
    DROP COLUMN IF EXISTS in_order;
