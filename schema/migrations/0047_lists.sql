-- transactional: false

-- The few of many that lists are asked for by their state: no page of them reads the others. None costs a message that
-- comes in or is sent more than a look at the predicate; each repeats it, so that none is a choice for other statements.

-- Contacts that are not active.
CREATE INDEX CONCURRENTLY IF NOT EXISTS contacts_inactive ON contacts (tenant_id, created_at DESC, id DESC)
    WHERE deleted_at IS NULL AND NOT is_active;
-- Conversations that wait for a person, or are closed.
CREATE INDEX CONCURRENTLY IF NOT EXISTS conversations_inactive
    ON conversations (tenant_id, status, last_message_at DESC, id DESC)
    WHERE deleted_at IS NULL AND status <> 'active';
-- Messages that wait for the customer or for the outcome of their send, and those that never arrived. By the condition
-- on `direction`, which every row fulfils, it is no choice for looking up a message by its tenant and id (see 0042).
CREATE INDEX CONCURRENTLY IF NOT EXISTS messages_apart ON messages (tenant_id, status, created_at DESC, id DESC)
    WHERE status IN ('held', 'unknown', 'failed', 'expired', 'canceled') AND direction <> '';
