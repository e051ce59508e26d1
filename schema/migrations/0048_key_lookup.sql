-- transactional: false

-- A look-up of a key reads the one row with its hash, however many rows a tenant's session has written with its prefix.
CREATE INDEX CONCURRENTLY IF NOT EXISTS api_keys_lookup ON api_keys (prefix, hash) WHERE deleted_at IS NULL;
DROP INDEX CONCURRENTLY IF EXISTS api_keys_prefix;
