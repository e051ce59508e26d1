-- transactional: false

DROP INDEX CONCURRENTLY IF EXISTS import_aliases_by_our_id;
