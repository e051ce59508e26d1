-- transactional: false

-- A webhook's next deliveries, the replays that are wanted of it, what comes next in a conversation. Each begins with the
-- webhook: one that begins with the tenant would be a choice for looking up a row by its tenant and id (see 0003).
CREATE INDEX CONCURRENTLY IF NOT EXISTS webhook_logs_next ON webhook_logs (webhook_id, due_at, tenant_id)
    WHERE due_at IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS webhook_logs_replay ON webhook_logs (webhook_id, replay_at, tenant_id)
    WHERE replay_at IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS webhook_logs_sequence
    ON webhook_logs (webhook_id, conversation_id, sequence, tenant_id) WHERE sequence IS NOT NULL AND success IS NULL;
-- What is over, by when it ended; what was missed, or came by SQL without an end, by when it was written. Retention.
CREATE INDEX CONCURRENTLY IF NOT EXISTS webhook_logs_over ON webhook_logs ((coalesce(completed_at, created_at)))
    WHERE due_at IS NULL AND replay_at IS NULL AND held IS DISTINCT FROM 'waiting';
DROP INDEX CONCURRENTLY IF EXISTS webhook_logs_due;
