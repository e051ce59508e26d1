-- Secrets that can't be sealed come later again, so that they keep no others waiting; and what is sealed is Palomar's to
-- write.

SET LOCAL lock_timeout = '100ms';

-- When the clock tries them next. Not for a session to write: its INSERT names the other columns.
ALTER TABLE unsealed_credentials ADD COLUMN due_at timestamptz NOT NULL DEFAULT now()
    CONSTRAINT check_times_due CHECK (due_at >= '0002-01-01 00:00+00' AND due_at <= '9999-01-01 00:00+00');
CREATE INDEX unsealed_credentials_due ON unsealed_credentials (tenant_id, due_at);
REVOKE INSERT ON unsealed_credentials FROM palomar_api;
GRANT INSERT (tenant_id, channel_id, secrets) ON unsealed_credentials TO palomar_api;

ALTER TABLE unsealed_webhook_secrets ADD COLUMN due_at timestamptz NOT NULL DEFAULT now()
    CONSTRAINT check_times_due CHECK (due_at >= '0002-01-01 00:00+00' AND due_at <= '9999-01-01 00:00+00');
CREATE INDEX unsealed_webhook_secrets_due ON unsealed_webhook_secrets (tenant_id, due_at);
REVOKE INSERT ON unsealed_webhook_secrets FROM palomar_api;
GRANT INSERT (tenant_id, webhook_id, secret) ON unsealed_webhook_secrets TO palomar_api;

-- A session has no key, so what it writes there opens for nobody. A backup is restored as the table's owner.
CREATE FUNCTION refuse_sealed_credentials() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_get_userbyid((SELECT relowner FROM pg_class WHERE oid = TG_RELID)) = current_user THEN
        RETURN NEW;
    END IF;
    RAISE check_violation USING
        MESSAGE = 'credentials: only Palomar writes what is sealed',
        HINT = 'write the secrets of a Meta number to whatsapp_settings; for others: palomar channels set ID --credentials',
        COLUMN = 'credentials';
END
$$;
CREATE TRIGGER channels_refuse_new_credentials BEFORE INSERT ON channels FOR EACH ROW
    WHEN (NEW.credentials <> '' AND current_user <> 'palomar_worker')
    EXECUTE FUNCTION refuse_sealed_credentials();
CREATE TRIGGER channels_refuse_credentials BEFORE UPDATE OF credentials ON channels FOR EACH ROW
    WHEN (NEW.credentials IS DISTINCT FROM OLD.credentials AND current_user <> 'palomar_worker')
    EXECUTE FUNCTION refuse_sealed_credentials();

SELECT protect_functions();
