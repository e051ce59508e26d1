-- What came in and what happened, by day: old days are dropped, not deleted. No foreign keys here: three checks for
-- each webhook on the hottest path, for rows that are gone within weeks anyway.

-- Outlives the days of inbound_log, so that a redelivery of yesterday's webhook is still one row.
CREATE TABLE inbound_keys (
    id bytea PRIMARY KEY,  -- SHA-256 of endpoint id and body
    received_at timestamptz NOT NULL
);
CREATE INDEX inbound_keys_received ON inbound_keys (received_at);

CREATE TABLE inbound_log (
    id bytea NOT NULL,
    endpoint_id uuid NOT NULL,
    tenant_id uuid,
    provider text NOT NULL,
    receipts boolean NOT NULL DEFAULT false,
    received_at timestamptz NOT NULL,
    method text NOT NULL,
    url text NOT NULL,
    content_type text NOT NULL,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    outcome text NOT NULL DEFAULT 'parsed' CONSTRAINT check_inbound_outcome CHECK (outcome IN ('parsed', 'partly', 'unparsed')),
    error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);
CREATE INDEX inbound_log_tenant ON inbound_log (tenant_id, created_at);

CREATE TABLE events (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq bigint GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL,
    tenant_id uuid NOT NULL,
    channel_id uuid,
    conversation_id uuid,
    message_id uuid,
    contact_id uuid,
    -- Codes and numbers. Bounded, because the relay puts many into one message of the broker.
    detail jsonb NOT NULL DEFAULT '{}' CONSTRAINT check_detail_size CHECK (pg_column_size(detail) < 8192),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (xid, seq, created_at)
) PARTITION BY RANGE (created_at);
CREATE INDEX events_tenant ON events (tenant_id, xid, seq);

-- Where the relay is: everything up to and including (xid, seq) is confirmed by the broker.
CREATE TABLE relay_cursor (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    xid xid8 NOT NULL DEFAULT '0',
    seq bigint NOT NULL DEFAULT 0,
    moved_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO relay_cursor DEFAULT VALUES;

CREATE FUNCTION announce_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('palomar_events', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER events_announced AFTER INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION announce_events();

SELECT protect_tenant_table('inbound_log');
SELECT protect_tenant_table('events');
GRANT SELECT ON inbound_log TO palomar_api;
GRANT SELECT, INSERT ON events TO palomar_api;
GRANT SELECT, INSERT, DELETE ON inbound_keys TO palomar_worker;
GRANT SELECT, UPDATE ON relay_cursor TO palomar_worker;

-- A day's partition is a tenant table too: reached directly it must keep its rows apart as well.
-- Rows of days for which nobody made a partition land in the default one, and the day is then left there.
CREATE FUNCTION make_partitions(days_ahead integer) RETURNS integer
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

-- Drops whole days older than `days`. What the default partition holds of them is the caller's to delete: the owner
-- may not see rows (FORCE).
CREATE FUNCTION drop_partitions(parent text, days integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public SET timezone = 'UTC' AS $$
DECLARE
    child record;
    dropped integer := 0;
BEGIN
    IF parent NOT IN ('inbound_log', 'events') OR days < 1 THEN
        RAISE EXCEPTION 'drop_partitions takes inbound_log or events and at least one day';
    END IF;
    FOR child IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = ('public.' || parent)::regclass AND c.relname ~ '_[0-9]{8}$'
            AND to_date(right(c.relname, 8), 'YYYYMMDD') < current_date - days
    LOOP
        EXECUTE format('DROP TABLE public.%I', child.relname);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$$;
REVOKE ALL ON FUNCTION make_partitions(integer), drop_partitions(text, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION make_partitions(integer), drop_partitions(text, integer) TO palomar_worker;

CREATE TABLE inbound_log_default PARTITION OF inbound_log DEFAULT;
CREATE TABLE events_default PARTITION OF events DEFAULT;
ALTER TABLE inbound_log_default ENABLE ROW LEVEL SECURITY;
ALTER TABLE inbound_log_default FORCE ROW LEVEL SECURITY;
ALTER TABLE events_default ENABLE ROW LEVEL SECURITY;
ALTER TABLE events_default FORCE ROW LEVEL SECURITY;

SELECT make_partitions(7);
