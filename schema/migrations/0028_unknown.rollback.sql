-- transactional: false

DROP INDEX CONCURRENTLY IF EXISTS messages_unknown;
CREATE INDEX CONCURRENTLY messages_unknown ON messages (unknown_at) WHERE status = 'unknown';
DROP INDEX CONCURRENTLY IF EXISTS messages_unknown_of;
