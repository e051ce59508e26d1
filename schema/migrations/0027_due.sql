-- transactional: false

-- What is due, by the question that is asked of it, so that a million messages that wait for one step are nothing to
-- the clock's look for those of another. A message that is owed stands in one of the two, as it stood in `messages_due`.

DROP INDEX CONCURRENTLY IF EXISTS messages_due_to_send;
CREATE INDEX CONCURRENTLY messages_due_to_send ON messages (provider, lane, due_at)
    WHERE due_at IS NOT NULL AND status IN ('ready', 'unknown');

DROP INDEX CONCURRENTLY IF EXISTS messages_due_otherwise;
CREATE INDEX CONCURRENTLY messages_due_otherwise ON messages (status, due_at)
    WHERE due_at IS NOT NULL AND status NOT IN ('ready', 'unknown');

DROP INDEX CONCURRENTLY IF EXISTS messages_due;
