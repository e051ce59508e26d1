DROP INDEX contacts_phone_number;
DROP INDEX messages_created;
DROP INDEX messages_ai_processing;
DROP INDEX idx_messages_provider;
DROP INDEX idx_conversations_provider_phone;
DROP INDEX idx_conversations_provider_status;
