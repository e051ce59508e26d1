-- The role of DATABASE_URL may become palomar_api and palomar_worker, and has nobody's rights until it does. What it
-- inherited let every statement of its own see all tenants' rows.

DO $$
BEGIN
    IF current_setting('server_version_num')::integer >= 160000 THEN
        EXECUTE format('GRANT palomar_api, palomar_worker TO %I WITH INHERIT FALSE, SET TRUE', current_user);
    ELSE
        -- There it is roles that do not inherit, not memberships. The login role may be a member of others, which is not
        -- ours to change: a role that does not inherit stands between it and our two.
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'palomar_member') THEN
            BEGIN
                CREATE ROLE palomar_member NOLOGIN NOINHERIT;
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
            END;
        END IF;
        GRANT palomar_api, palomar_worker TO palomar_member;
        EXECUTE format('GRANT palomar_member TO %I', current_user);
        EXECUTE format('REVOKE palomar_api, palomar_worker FROM %I', current_user);
    END IF;
-- Who may not grant them leaves it to a superuser: `palomar verify` says so, with the statement.
EXCEPTION WHEN insufficient_privilege THEN NULL;
END
$$;
