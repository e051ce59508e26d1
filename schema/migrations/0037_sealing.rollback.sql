SET LOCAL lock_timeout = '100ms';

DROP TRIGGER channels_refuse_credentials ON channels;
DROP TRIGGER channels_refuse_new_credentials ON channels;
DROP FUNCTION refuse_sealed_credentials();

REVOKE INSERT (tenant_id, webhook_id, secret) ON unsealed_webhook_secrets FROM palomar_api;
GRANT INSERT ON unsealed_webhook_secrets TO palomar_api;
ALTER TABLE unsealed_webhook_secrets DROP COLUMN due_at;

REVOKE INSERT (tenant_id, channel_id, secrets) ON unsealed_credentials FROM palomar_api;
GRANT INSERT ON unsealed_credentials TO palomar_api;
ALTER TABLE unsealed_credentials DROP COLUMN due_at;
