-- transactional: false

DROP INDEX CONCURRENTLY IF EXISTS groups_name;
DROP TABLE IF EXISTS contact_import_defects;
DROP TABLE IF EXISTS contact_imports;
