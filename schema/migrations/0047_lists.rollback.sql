-- transactional: false

DROP INDEX CONCURRENTLY IF EXISTS messages_apart;
DROP INDEX CONCURRENTLY IF EXISTS conversations_inactive;
DROP INDEX CONCURRENTLY IF EXISTS contacts_inactive;
