-- What the API's role does not need, it may not do: each of these told of other tenants, or spoke for the machinery.

-- An endpoint may belong to no tenant, so its key holds none: an id of one's own choice would tell whether it is taken.
REVOKE INSERT, UPDATE ON endpoints FROM palomar_api;
GRANT INSERT (tenant_id, provider, name, secrets, deleted_at), UPDATE (name, secrets, deleted_at)
    ON endpoints TO palomar_api;

-- An event's place in the order is PostgreSQL's to give: the relay would never come by one with an older number.
REVOKE INSERT ON events FROM palomar_api;
GRANT INSERT (name, tenant_id, channel_id, conversation_id, message_id, contact_id, detail) ON events TO palomar_api;

-- PostgreSQL lets everybody run a new function. A migration that makes functions ends with this: the two roles may run
-- them, as rows that complete themselves need, and nobody else. Those that only triggers run need no grant at all.
CREATE FUNCTION protect_functions() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    open_to_all record;
BEGIN
    FOR open_to_all IN
        SELECT p.oid::regprocedure AS name, p.prorettype = 'trigger'::regtype OR p.proname LIKE 'protect\_%' AS ours_alone
        FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proowner = current_user::regrole
            AND EXISTS (
                SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a WHERE a.grantee = 0)
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', open_to_all.name);
        IF NOT open_to_all.ours_alone THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO palomar_api, palomar_worker', open_to_all.name);
        END IF;
    END LOOP;
END
$$;
SELECT protect_functions();
