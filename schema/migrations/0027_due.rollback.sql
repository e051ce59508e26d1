-- transactional: false

DROP INDEX CONCURRENTLY IF EXISTS messages_due;
CREATE INDEX CONCURRENTLY messages_due ON messages (due_at) WHERE due_at IS NOT NULL;
DROP INDEX CONCURRENTLY IF EXISTS messages_due_to_send;
DROP INDEX CONCURRENTLY IF EXISTS messages_due_otherwise;
