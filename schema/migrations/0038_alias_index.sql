-- transactional: false

-- Every imported person has an alias, so that whoever joins two contacts finds the aliases of the one that goes by its id
-- instead of reading all of the tenant's.
DROP INDEX CONCURRENTLY IF EXISTS import_aliases_by_our_id;
CREATE INDEX CONCURRENTLY import_aliases_by_our_id ON import_aliases (tenant_id, our_id);
