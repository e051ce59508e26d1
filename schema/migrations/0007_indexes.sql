-- transactional: false

-- What the documents look up by. Made while everybody goes on writing; one that broke off is dropped and made again.

ALTER TABLE messages VALIDATE CONSTRAINT check_ai_processing_status;

DROP INDEX CONCURRENTLY IF EXISTS idx_conversations_provider_status;
CREATE INDEX CONCURRENTLY idx_conversations_provider_status ON conversations (provider, status, tenant_id);

DROP INDEX CONCURRENTLY IF EXISTS idx_conversations_provider_phone;
CREATE INDEX CONCURRENTLY idx_conversations_provider_phone ON conversations (provider, phone, tenant_id)
    WHERE phone IS NOT NULL;

DROP INDEX CONCURRENTLY IF EXISTS conversations_kommo_chat;
CREATE INDEX CONCURRENTLY conversations_kommo_chat ON conversations (kommo_chat_id, tenant_id)
    WHERE kommo_chat_id IS NOT NULL;

DROP INDEX CONCURRENTLY IF EXISTS idx_messages_provider;
CREATE INDEX CONCURRENTLY idx_messages_provider ON messages (provider, tenant_id);

DROP INDEX CONCURRENTLY IF EXISTS messages_ai_processing;
CREATE INDEX CONCURRENTLY messages_ai_processing ON messages (ai_processing_status, tenant_id)
    WHERE ai_processing_status IS NOT NULL;

-- Messages lie in the order in which they came: their ages need no more than this, which costs an insert nothing.
DROP INDEX CONCURRENTLY IF EXISTS messages_created;
CREATE INDEX CONCURRENTLY messages_created ON messages USING brin (created_at);

DROP INDEX CONCURRENTLY IF EXISTS contacts_phone_number;
CREATE INDEX CONCURRENTLY contacts_phone_number ON contacts (phone_number, tenant_id) WHERE phone_number IS NOT NULL;
