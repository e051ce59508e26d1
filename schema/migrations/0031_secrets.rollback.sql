SET LOCAL lock_timeout = '100ms';

DROP TRIGGER channels_keep_webhook_url ON channels;
DROP FUNCTION keep_webhook_url();

DROP TRIGGER webhooks_hide_secret ON webhooks;
DROP TRIGGER webhooks_protect_secret ON webhooks;
DROP FUNCTION hide_webhook_secret();
DROP FUNCTION protect_webhook_secret();

SET LOCAL ROLE palomar_worker;
UPDATE webhooks SET url = lower(left(url, strpos(url, ':'))) || substr(url, strpos(url, ':') + 1);
SET LOCAL ROLE NONE;
ALTER TABLE webhooks DROP CONSTRAINT check_webhook_url,
    ADD CONSTRAINT check_webhook_url CHECK (url ~ '^https?://');

-- Sealed as they were; one that still waits is entered again.
SET LOCAL ROLE palomar_worker;
UPDATE webhooks SET secret = sealed_secret WHERE secret <> '';
SET LOCAL ROLE NONE;
DROP TABLE unsealed_webhook_secrets;
ALTER TABLE webhooks DROP COLUMN sealed_secret;
