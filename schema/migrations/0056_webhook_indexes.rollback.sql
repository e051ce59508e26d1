-- transactional: false

CREATE INDEX CONCURRENTLY IF NOT EXISTS webhook_logs_due ON webhook_logs (due_at) WHERE due_at IS NOT NULL;
DROP INDEX CONCURRENTLY IF EXISTS webhook_logs_next;
DROP INDEX CONCURRENTLY IF EXISTS webhook_logs_replay;
DROP INDEX CONCURRENTLY IF EXISTS webhook_logs_sequence;
DROP INDEX CONCURRENTLY IF EXISTS webhook_logs_over;
