-- transactional: false

-- What the management API's figures go over, a tenant's part at a time.

-- Windows that close soon. last_message_at, which has an index, changes with it: this one costs no update its shortcut.
CREATE INDEX CONCURRENTLY IF NOT EXISTS conversations_window ON conversations (tenant_id, last_user_message_at)
    WHERE deleted_at IS NULL;
-- What waits for the customer, or for the outcome of a send: few rows of many. By the condition on `direction`, which
-- every row fulfils, it is no choice for statements about one conversation.
CREATE INDEX CONCURRENTLY IF NOT EXISTS messages_waiting ON messages (tenant_id, status, channel_id)
    WHERE status IN ('held', 'unknown') AND direction <> '';
-- Files, the newest first.
CREATE INDEX CONCURRENTLY IF NOT EXISTS media_latest ON media (tenant_id, created_at DESC, id DESC)
    WHERE position >= 0;
CREATE INDEX CONCURRENTLY IF NOT EXISTS sessions_latest ON sessions (tenant_id, last_message_at DESC, id DESC)
    WHERE state <> '';
