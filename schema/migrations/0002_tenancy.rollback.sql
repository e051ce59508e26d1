DROP TABLE rate_limits;
DROP TABLE channels;
DROP TABLE endpoints;
DROP TABLE tenants;
DROP FUNCTION protect_tenant_table(regclass, text);
DROP FUNCTION current_tenant();
DROP FUNCTION announce_change();
DROP FUNCTION check_channel_endpoint();
DROP FUNCTION touch_updated_at();
