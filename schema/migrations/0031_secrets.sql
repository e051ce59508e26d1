-- What else of a tenant's by SQL is a secret, and where Meta's webhooks of numbers that came by SQL come in.

SET LOCAL lock_timeout = '100ms';

-- -- webhooks ---------------------------------------------------------------------------------------------------------

-- `secret` says whether there is one: empty, or what secrets are shown as. One that waits to be sealed is in no row that
-- its tenant can read; until then `sealed_secret` is what it was.
ALTER TABLE webhooks ADD COLUMN sealed_secret text NOT NULL DEFAULT '';  -- associated data: tenant, webhook and key id

CREATE TABLE unsealed_webhook_secrets (
    tenant_id uuid NOT NULL DEFAULT session_tenant(),
    webhook_id uuid NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    secret text NOT NULL,                   -- empty: it has none any more
    created_at timestamptz NOT NULL DEFAULT now()
        CONSTRAINT check_times CHECK (created_at >= '0002-01-01 00:00+00' AND created_at <= '9999-01-01 00:00+00'),
    PRIMARY KEY (tenant_id, webhook_id, seq),
    FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks ON DELETE CASCADE
);
SELECT protect_tenant_table('unsealed_webhook_secrets');
GRANT INSERT ON unsealed_webhook_secrets TO palomar_api;
GRANT SELECT ON unsealed_webhook_secrets_seq_seq TO palomar_worker;  -- a backup reads it

-- A scheme is one in capitals too.
ALTER TABLE webhooks DROP CONSTRAINT check_webhook_url,
    ADD CONSTRAINT check_webhook_url CHECK (url ~* '^https?://');

-- What was read and is written back says nothing new, and what is sealed is the clock's to write.
CREATE FUNCTION protect_webhook_secret() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.sealed_secret := CASE WHEN TG_OP = 'UPDATE' THEN OLD.sealed_secret ELSE '' END;
    IF NEW.secret = secret_mask() THEN
        IF TG_OP = 'INSERT' THEN
            RAISE check_violation USING
                MESSAGE = 'a new webhook needs its secret itself, not what it is shown as', COLUMN = 'secret';
        END IF;
        NEW.secret := CASE WHEN OLD.secret = '' THEN '' ELSE secret_mask() END;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER webhooks_protect_secret BEFORE INSERT OR UPDATE ON webhooks FOR EACH ROW
    WHEN (current_user <> 'palomar_worker') EXECUTE FUNCTION protect_webhook_secret();

-- After, for a row that ON CONFLICT keeps out must leave no secret behind. Its RETURNING still shows the writer what
-- was written; nobody reads it later.
CREATE FUNCTION hide_webhook_secret() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.secret = secret_mask() OR (NEW.secret = CASE WHEN TG_OP = 'UPDATE' THEN OLD.secret ELSE '' END) THEN
        RETURN NULL;
    END IF;
    INSERT INTO unsealed_webhook_secrets (tenant_id, webhook_id, secret) VALUES (NEW.tenant_id, NEW.id, NEW.secret);
    UPDATE webhooks SET secret = secret_mask() WHERE tenant_id = NEW.tenant_id AND id = NEW.id AND secret <> '';
    RETURN NULL;
END
$$;
CREATE TRIGGER webhooks_hide_secret AFTER INSERT OR UPDATE OF secret ON webhooks FOR EACH ROW
    WHEN (current_user <> 'palomar_worker') EXECUTE FUNCTION hide_webhook_secret();

-- What is there: sealed by an import, or in clear by SQL.
SET LOCAL ROLE palomar_worker;
INSERT INTO unsealed_webhook_secrets (tenant_id, webhook_id, secret)
SELECT tenant_id, id, secret FROM webhooks
WHERE secret <> '' AND secret !~ '^v1\.[A-Za-z0-9_-]{1,32}\.[A-Za-z0-9_-]+$';
UPDATE webhooks SET secret = secret_mask(),
    sealed_secret = CASE WHEN secret ~ '^v1\.[A-Za-z0-9_-]{1,32}\.[A-Za-z0-9_-]+$' THEN secret ELSE '' END
WHERE secret <> '';
SET LOCAL ROLE NONE;

-- -- whatsapp_settings ------------------------------------------------------------------------------------------------

-- Once Palomar takes a number's webhooks, `webhook_url` is the address to enter at Meta, which the clock writes.
CREATE FUNCTION keep_webhook_url() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.webhook_url := OLD.webhook_url;
    RETURN NEW;
END
$$;
CREATE TRIGGER channels_keep_webhook_url BEFORE UPDATE OF webhook_url ON channels FOR EACH ROW
    WHEN (OLD.endpoint_id IS NOT NULL AND current_user <> 'palomar_worker') EXECUTE FUNCTION keep_webhook_url();

SELECT protect_functions();
