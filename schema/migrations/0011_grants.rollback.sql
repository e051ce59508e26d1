DROP FUNCTION protect_functions();

DO $$
DECLARE
    name regprocedure;
BEGIN
    FOR name IN
        SELECT oid FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND proowner = current_user::regrole AND NOT prosecdef
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM palomar_api, palomar_worker', name);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO PUBLIC', name);
    END LOOP;
END
$$;

REVOKE INSERT (name, tenant_id, channel_id, conversation_id, message_id, contact_id, detail) ON events FROM palomar_api;
GRANT INSERT ON events TO palomar_api;

REVOKE INSERT (tenant_id, provider, name, secrets, deleted_at), UPDATE (name, secrets, deleted_at)
    ON endpoints FROM palomar_api;
GRANT INSERT, UPDATE ON endpoints TO palomar_api;
