-- transactional: false

-- By conversation: what a manager writes may be a message of ours of unknown outcome, and that is asked for each one.
DROP INDEX CONCURRENTLY IF EXISTS messages_unknown_of;
CREATE INDEX CONCURRENTLY messages_unknown_of ON messages (conversation_id, tenant_id, unknown_at)
    WHERE status = 'unknown';
DROP INDEX CONCURRENTLY IF EXISTS messages_unknown;
