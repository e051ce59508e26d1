-- A statement at a time, as the file itself: one that broke off is run again from its start.
DROP INDEX IF EXISTS contacts_phone_number;
DROP INDEX IF EXISTS messages_created;
DROP INDEX IF EXISTS messages_ai_processing;
DROP INDEX IF EXISTS idx_messages_provider;
DROP INDEX IF EXISTS conversations_kommo_chat;
DROP INDEX IF EXISTS idx_conversations_provider_phone;
DROP INDEX IF EXISTS idx_conversations_provider_status;

-- As 0006 made it, not validated.
ALTER TABLE messages
    DROP CONSTRAINT check_ai_processing_status,
    ADD CONSTRAINT check_ai_processing_status CHECK (ai_processing_status IN (
        'pending', 'processing', 'completed', 'failed', 'skipped')) NOT VALID;
