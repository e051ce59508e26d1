-- The two roles that processes take at connect. Neither can log in: whoever may become one is granted it.
-- Roles belong to the whole cluster, so another database may have made them already.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'palomar_api') THEN
        BEGIN
            CREATE ROLE palomar_api NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'palomar_worker') THEN
        BEGIN
            CREATE ROLE palomar_worker NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END IF;
    -- From PostgreSQL 16 on, who makes a role may grant it but not take it; somebody else's we may be members of already.
    BEGIN
        EXECUTE format('GRANT palomar_api, palomar_worker TO %I', current_user);
    EXCEPTION WHEN insufficient_privilege THEN NULL;
    END;
END
$$;

GRANT USAGE ON SCHEMA public TO palomar_api, palomar_worker;
