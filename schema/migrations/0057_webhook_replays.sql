-- transactional: false

-- Ranges of a webhook's deliveries that are to be sent again, until the clock has marked each delivery in them.
CREATE TABLE IF NOT EXISTS webhook_replays (
    tenant_id uuid NOT NULL DEFAULT session_tenant(),
    webhook_id uuid NOT NULL,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    since timestamptz NOT NULL,
    until timestamptz NOT NULL,
    only_failed boolean NOT NULL,           -- failed and missed ones; else delivered ones too
    after_at timestamptz,                   -- created_at and id of the last one that is marked; null: none yet
    after_id uuid,
    worked_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT check_times CHECK (least(since, until, after_at, worked_at, created_at) >= '0002-01-01 00:00+00'
        AND greatest(since, until, after_at, worked_at, created_at) <= '9999-01-01 00:00+00'),
    PRIMARY KEY (tenant_id, webhook_id, id),
    FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhooks ON DELETE CASCADE
);
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_policies WHERE schemaname = current_schema() AND tablename = 'webhook_replays') THEN
        PERFORM protect_tenant_table('webhook_replays');
    END IF;
END
$$;
REVOKE ALL ON webhook_replays FROM palomar_api, palomar_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_replays TO palomar_worker;

-- A webhook's log, newest first, and what of it failed or was missed. The first without the tenant, whose the webhook is:
-- it would be as good a choice as the partial ones for a webhook's few deliveries that are due, and reads its whole log.
CREATE INDEX CONCURRENTLY IF NOT EXISTS webhook_logs_latest ON webhook_logs (webhook_id, created_at DESC, id DESC);
CREATE INDEX CONCURRENTLY IF NOT EXISTS webhook_logs_failed
    ON webhook_logs (webhook_id, created_at DESC, id DESC, tenant_id)
    WHERE success = false OR (success IS NULL AND held = 'missed');
DROP INDEX CONCURRENTLY IF EXISTS webhook_logs_webhook;
