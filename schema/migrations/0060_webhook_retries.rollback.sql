-- transactional: false

DROP INDEX CONCURRENTLY IF EXISTS webhook_logs_retried;
