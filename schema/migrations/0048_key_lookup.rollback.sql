-- transactional: false

CREATE INDEX CONCURRENTLY IF NOT EXISTS api_keys_prefix ON api_keys (prefix) WHERE deleted_at IS NULL;
DROP INDEX CONCURRENTLY IF EXISTS api_keys_lookup;
