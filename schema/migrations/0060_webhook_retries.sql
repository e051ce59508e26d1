-- transactional: false

-- A webhook's deliveries that were attempted and are owed, by age: when it has recovered they are due by it.
CREATE INDEX CONCURRENTLY IF NOT EXISTS webhook_logs_retried ON webhook_logs (webhook_id, created_at, tenant_id)
    WHERE due_at IS NOT NULL AND attempt_count > 0;
