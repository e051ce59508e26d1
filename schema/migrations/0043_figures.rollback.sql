-- transactional: false

DROP INDEX CONCURRENTLY IF EXISTS sessions_latest;
DROP INDEX CONCURRENTLY IF EXISTS media_latest;
DROP INDEX CONCURRENTLY IF EXISTS messages_waiting;
DROP INDEX CONCURRENTLY IF EXISTS conversations_window;
