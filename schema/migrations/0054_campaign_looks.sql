-- transactional: false

-- What a look at a campaign has to know of the former ones: outcomes from which an automatic pause counts, the comparison.
ALTER TABLE campaigns ADD COLUMN IF NOT EXISTS looks jsonb NOT NULL DEFAULT '{}';

-- Whom a portfolio's numbers have written to by template outside the window, for Meta's limit of 24 hours. Contacts and
-- not addresses: what is erased of a person is erased here too. Older rows go with the next use of that portfolio.
CREATE TABLE IF NOT EXISTS messaging_uses (
    tenant_id uuid NOT NULL DEFAULT session_tenant(),
    portfolio text NOT NULL,
    contact_id uuid NOT NULL,
    last_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, portfolio, contact_id),
    FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts ON DELETE CASCADE
);
CREATE INDEX CONCURRENTLY IF NOT EXISTS messaging_uses_latest ON messaging_uses (tenant_id, portfolio, last_at);
CREATE INDEX CONCURRENTLY IF NOT EXISTS messaging_uses_contact ON messaging_uses (contact_id, tenant_id);

-- Answers and opt-outs of people to whom a campaign has written, until the clock enters them into the recipients. Only
-- inserted here: whoever stores a customer's message holds other locks, and must not wait for a recipient's row.
CREATE TABLE IF NOT EXISTS campaign_answers (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    tenant_id uuid NOT NULL DEFAULT session_tenant(),
    contact_id uuid NOT NULL,
    kind text NOT NULL CONSTRAINT check_kind CHECK (kind IN ('replied', 'opted_out')),
    channel_id uuid,        -- of an answer
    channel_kind text,      -- of an opt-out
    refused_message text,   -- ours, of an opt-out that a provider's refusal shows
    reason text,            -- that refusal's code
    at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT check_times CHECK (least(at, created_at) >= '0002-01-01 00:00+00'
        AND greatest(at, created_at) <= '9999-01-01 00:00+00'),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, contact_id) REFERENCES contacts ON DELETE CASCADE
);
CREATE INDEX CONCURRENTLY IF NOT EXISTS campaign_answers_oldest ON campaign_answers (tenant_id, created_at);
CREATE INDEX CONCURRENTLY IF NOT EXISTS campaign_answers_contact ON campaign_answers (contact_id, tenant_id);

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_policies WHERE schemaname = current_schema() AND tablename = 'messaging_uses') THEN
        PERFORM protect_tenant_table('messaging_uses');
    END IF;
    IF NOT EXISTS (SELECT FROM pg_policies WHERE schemaname = current_schema() AND tablename = 'campaign_answers') THEN
        PERFORM protect_tenant_table('campaign_answers');
    END IF;
END
$$;
REVOKE ALL ON messaging_uses, campaign_answers FROM palomar_api, palomar_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON messaging_uses TO palomar_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON campaign_answers TO palomar_worker;
GRANT INSERT ON campaign_answers TO palomar_api;

-- What persist asks once for a batch, and then for each message: these are functions of their own, and cheap by their
-- word. By the true cost of a look into campaign_recipients for each message, PostgreSQL would make the plan of persist's
-- statement anew each time, which takes longer than all these looks.
--
-- Whether one of these tenants has ever had a campaign.
CREATE OR REPLACE FUNCTION has_recipients(tenants uuid[]) RETURNS boolean LANGUAGE plpgsql STABLE COST 1 AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM (SELECT DISTINCT tenant FROM unnest(tenants) AS one (tenant)) AS asked CROSS JOIN LATERAL (
            SELECT FROM campaign_recipients AS r WHERE r.tenant_id = asked.tenant ORDER BY r.id LIMIT 1) AS first);
END
$$;
-- Notes a customer's message where a campaign has written to the contact in the last 31 days: answers count for 30 days
-- at most.
CREATE OR REPLACE FUNCTION note_answer(tenant uuid, contact uuid, channel uuid, said_at timestamptz) RETURNS void
LANGUAGE plpgsql COST 1 AS $$
BEGIN
    IF EXISTS (
        SELECT FROM campaign_recipients AS r
        WHERE r.tenant_id = tenant AND r.contact_id = contact AND r.queued_at > now() - interval '31 days')
    THEN
        INSERT INTO campaign_answers (tenant_id, contact_id, kind, channel_id, at)
        VALUES (tenant, contact, 'replied', channel, said_at);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION has_recipients(uuid[]), note_answer(uuid, uuid, uuid, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION has_recipients(uuid[]), note_answer(uuid, uuid, uuid, timestamptz) TO palomar_worker;

-- An opt-out, however it was entered, in the same way.
CREATE OR REPLACE FUNCTION note_opt_out() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO campaign_answers (tenant_id, contact_id, kind, channel_kind, refused_message, reason, at)
    SELECT NEW.tenant_id, NEW.contact_id, 'opted_out', NEW.channel_kind, NEW.evidence ->> 'refused_message',
        NEW.evidence ->> 'error_code', NEW.effective_at
    WHERE EXISTS (
        SELECT FROM campaign_recipients AS r WHERE r.tenant_id = NEW.tenant_id AND r.contact_id = NEW.contact_id
            AND r.queued_at > now() - interval '31 days');
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION note_opt_out() FROM PUBLIC;
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'consents'::regclass AND tgname = 'consents_opt_out') THEN
        CREATE TRIGGER consents_opt_out AFTER INSERT ON consents FOR EACH ROW WHEN (NEW.state = 'opted_out')
            EXECUTE FUNCTION note_opt_out();
    END IF;
END
$$;

-- As 0041 made it. What a contact that goes has answered, and whom a portfolio has written to, is the one's that stays.
CREATE OR REPLACE FUNCTION keep_columns(tenant uuid, stays uuid, goes uuid) RETURNS void LANGUAGE sql AS $$
    UPDATE contacts AS kept SET name = coalesce(kept.name, gone.name),
        phone_number = coalesce(kept.phone_number, gone.phone_number), is_active = kept.is_active AND gone.is_active,
        created_at = least(kept.created_at, gone.created_at),
        metadata = gone.metadata || kept.metadata || CASE
            WHEN jsonb_typeof(gone.metadata -> 'imported') = 'object'
                AND jsonb_typeof(kept.metadata -> 'imported') = 'object'
            THEN jsonb_build_object('imported', (gone.metadata -> 'imported') || (kept.metadata -> 'imported'))
            ELSE '{}' END
    FROM contacts AS gone
    WHERE kept.tenant_id = tenant AND kept.id = stays AND gone.tenant_id = tenant AND gone.id = goes;
    UPDATE campaigns SET recipient_ids = array_replace(recipient_ids, goes, stays)
    WHERE tenant_id = tenant AND goes = ANY (recipient_ids);
    INSERT INTO erasure_requests (tenant_id, contact_id)
    SELECT tenant, stays FROM erasure_requests AS r WHERE r.tenant_id = tenant AND r.contact_id = goes
    ON CONFLICT DO NOTHING;
    UPDATE campaign_answers SET contact_id = stays WHERE tenant_id = tenant AND contact_id = goes;
    INSERT INTO messaging_uses AS u (tenant_id, portfolio, contact_id, last_at)
    SELECT tenant, portfolio, stays, last_at FROM messaging_uses AS m WHERE m.tenant_id = tenant AND m.contact_id = goes
    ON CONFLICT (tenant_id, portfolio, contact_id) DO UPDATE SET last_at = greatest(u.last_at, EXCLUDED.last_at);
$$;
