-- transactional: false

DROP INDEX CONCURRENTLY IF EXISTS contacts_deleted;
DROP INDEX CONCURRENTLY IF EXISTS contacts_latest;
CREATE OR REPLACE TRIGGER api_keys_touch BEFORE UPDATE ON api_keys FOR EACH ROW EXECUTE FUNCTION touch_updated_at();
DROP TABLE IF EXISTS operator_idempotency_keys;
DROP TABLE IF EXISTS operator_keys;
