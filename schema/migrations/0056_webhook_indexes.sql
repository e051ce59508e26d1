-- transactional: false

-- A webhook's next deliveries, the replays that are wanted of it, and what comes next in a conversation.
CREATE INDEX CONCURRENTLY IF NOT EXISTS webhook_logs_next ON webhook_logs (webhook_id, due_at, tenant_id)
    WHERE due_at IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS webhook_logs_replay ON webhook_logs (webhook_id, replay_at, tenant_id)
    WHERE replay_at IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS webhook_logs_sequence
    ON webhook_logs (webhook_id, conversation_id, sequence, tenant_id) WHERE sequence IS NOT NULL AND success IS NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS webhook_logs_completed ON webhook_logs (completed_at)
    WHERE completed_at IS NOT NULL;
DROP INDEX CONCURRENTLY IF EXISTS webhook_logs_due;
