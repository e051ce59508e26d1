-- transactional: false

DROP INDEX CONCURRENTLY IF EXISTS conversations_reply_restored;

DO $$
DECLARE
    child regclass;
BEGIN
    FOR child IN
        SELECT inhrelid FROM pg_inherits
        WHERE inhparent IN ('inbound_log'::regclass, 'events'::regclass)
            AND EXISTS (SELECT FROM pg_policy WHERE polrelid = inhrelid)
        ORDER BY inhrelid
    LOOP
        EXECUTE format('DROP POLICY own_rows ON %s', child);
        EXECUTE format('DROP POLICY all_rows ON %s', child);
        EXECUTE format('REVOKE SELECT, INSERT, UPDATE, DELETE ON %s FROM palomar_worker', child);
        COMMIT;
    END LOOP;
END
$$;
