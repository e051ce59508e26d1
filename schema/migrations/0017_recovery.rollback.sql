SET LOCAL lock_timeout = '100ms';

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
                EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', child);
                EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', child);
                made := made + 1;
            EXCEPTION
                WHEN check_violation OR duplicate_table THEN NULL;
            END;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;

REVOKE SELECT ON _yoyo_log, _yoyo_migration, _yoyo_version, yoyo_lock, events_seq_seq, unsealed_credentials_seq_seq
    FROM palomar_worker;
ALTER TABLE conversations DROP COLUMN reply_restored_at;
ALTER TABLE relay_cursor DROP COLUMN held_until, DROP COLUMN holder;
