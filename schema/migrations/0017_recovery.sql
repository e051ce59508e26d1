-- What a backup needs to hold every row, and what a restore and the relay need to do their part.

SET LOCAL lock_timeout = '100ms';

-- The one active relay holds the cursor by a lease. An advisory lock can be taken by whoever can connect.
ALTER TABLE relay_cursor ADD COLUMN holder uuid, ADD COLUMN held_until timestamptz;

-- A reply that was owed when the database was lost. It may have left since, so a person decides.
ALTER TABLE conversations ADD COLUMN reply_restored_at timestamptz;

-- pg_dump reads each partition, each sequence and the list of migrations by itself, as the role that sees all tenants.
GRANT SELECT ON _yoyo_log, _yoyo_migration, _yoyo_version, yoyo_lock, events_seq_seq, unsealed_credentials_seq_seq
    TO palomar_worker;

-- A day's partition is a tenant table too: reached directly it keeps its rows apart, by the policies of its parent.
-- Rows of days for which nobody made a partition land in the default one, and the day is then left there.
CREATE OR REPLACE FUNCTION make_partitions(days_ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public SET timezone = 'UTC' AS $$
DECLARE
    parent text;
    day date;
    child text;
    made integer := 0;
BEGIN
    FOREACH parent IN ARRAY ARRAY['inbound_log', 'events'] LOOP
        FOR day IN SELECT generate_series(current_date - 1, current_date + days_ahead, interval '1 day')::date LOOP
            child := parent || '_' || to_char(day, 'YYYYMMDD');
            CONTINUE WHEN to_regclass('public.' || child) IS NOT NULL;
            BEGIN
                EXECUTE format('CREATE TABLE public.%I PARTITION OF public.%I FOR VALUES FROM (%L) TO (%L)',
                    child, parent, day::timestamptz, (day + 1)::timestamptz);
                PERFORM protect_tenant_table(child::regclass);
                made := made + 1;
            EXCEPTION
                WHEN check_violation OR duplicate_table THEN NULL;
            END;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;
