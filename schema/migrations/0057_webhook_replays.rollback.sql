-- transactional: false

CREATE INDEX CONCURRENTLY IF NOT EXISTS webhook_logs_webhook ON webhook_logs (webhook_id, created_at DESC, tenant_id);
DROP INDEX CONCURRENTLY IF EXISTS webhook_logs_latest;
DROP INDEX CONCURRENTLY IF EXISTS webhook_logs_failed;
DROP TABLE IF EXISTS webhook_replays;
