-- transactional: false

-- The partitions that are there get their parents' policies, each in a transaction of its own: the relay reads all of
-- them, and would wait for all of them.
DO $$
DECLARE
    child regclass;
BEGIN
    FOR child IN
        SELECT inhrelid FROM pg_inherits
        WHERE inhparent IN ('inbound_log'::regclass, 'events'::regclass)
            AND NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = inhrelid)
        ORDER BY inhrelid
    LOOP
        PERFORM protect_tenant_table(child);
        COMMIT;
    END LOOP;
END
$$;

DROP INDEX CONCURRENTLY IF EXISTS conversations_reply_restored;
CREATE INDEX CONCURRENTLY conversations_reply_restored ON conversations (reply_restored_at)
    WHERE reply_restored_at IS NOT NULL;
