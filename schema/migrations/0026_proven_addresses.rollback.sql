SET LOCAL lock_timeout = '100ms';

DROP TRIGGER channels_prove_address ON channels;
DROP FUNCTION prove_address();
DROP FUNCTION proving_reason();
DROP INDEX channels_endpoint_address;
ALTER TABLE channels DROP COLUMN proven;
