-- transactional: false

-- Campaigns at work: what they say and when, whom they reach, how far they are, and what stops them.
-- shared/domain/campaigns has the rules, docs/campaigns.md the whole.

ALTER TABLE campaigns
    ADD COLUMN IF NOT EXISTS settings jsonb NOT NULL DEFAULT '{}',       -- CampaignSettings
    ADD COLUMN IF NOT EXISTS variables jsonb NOT NULL DEFAULT '{}',      -- of the template: name → text with placeholders
    ADD COLUMN IF NOT EXISTS message_data jsonb NOT NULL DEFAULT '{}',   -- contact → facts of that recipient alone
    ADD COLUMN IF NOT EXISTS media jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN IF NOT EXISTS interactive jsonb,
    ADD COLUMN IF NOT EXISTS recipient_filter jsonb,
    ADD COLUMN IF NOT EXISTS timezone text,                              -- null: the tenant's
    ADD COLUMN IF NOT EXISTS recurrence text,                            -- cron; such a campaign only makes runs
    ADD COLUMN IF NOT EXISTS origin_id uuid,                             -- the campaign that this one is a run of
    ADD COLUMN IF NOT EXISTS frozen_part integer NOT NULL DEFAULT 0,     -- of `recipient_ids`, where the freezing is
    ADD COLUMN IF NOT EXISTS frozen_to uuid,                             -- the last contact of it that has its row
    ADD COLUMN IF NOT EXISTS frozen_at timestamptz,                      -- when all had; null: not yet
    ADD COLUMN IF NOT EXISTS sent_out_at timestamptz,                    -- since when none is pending or queued
    ADD COLUMN IF NOT EXISTS rate_used_to timestamptz,                   -- by its own rate, where it has one
    ADD COLUMN IF NOT EXISTS wave smallint NOT NULL DEFAULT 0,           -- how many waves have ended
    ADD COLUMN IF NOT EXISTS wave_ended_at timestamptz,                  -- null: no look at a wave is under way
    ADD COLUMN IF NOT EXISTS winner smallint,                            -- of two templates, once that is decided
    ADD COLUMN IF NOT EXISTS paused_reason text,
    ADD COLUMN IF NOT EXISTS paused_detail jsonb,
    ADD COLUMN IF NOT EXISTS progress jsonb;                             -- rate and expected end, for a person who looks
ALTER TABLE campaigns DROP CONSTRAINT IF EXISTS check_recipient_type,
    ADD CONSTRAINT check_recipient_type CHECK (recipient_type IN ('groups', 'contacts', 'all', 'campaign')) NOT VALID;
ALTER TABLE campaigns VALIDATE CONSTRAINT check_recipient_type;
ALTER TABLE campaigns DROP CONSTRAINT IF EXISTS check_times_at_work, ADD CONSTRAINT check_times_at_work CHECK (
    least(frozen_at, sent_out_at, rate_used_to, wave_ended_at) >= '0002-01-01 00:00+00'
    AND greatest(frozen_at, sent_out_at, rate_used_to, wave_ended_at) <= '9999-01-01 00:00+00') NOT VALID;
ALTER TABLE campaigns VALIDATE CONSTRAINT check_times_at_work;

-- A tenant's campaigns that send now: so many of them at once, however many there are.
CREATE INDEX CONCURRENTLY IF NOT EXISTS campaigns_due_of_tenant ON campaigns (tenant_id, due_at)
    WHERE due_at IS NOT NULL;

ALTER TABLE campaign_recipients
    ADD COLUMN IF NOT EXISTS reason text,             -- why it was skipped or failed: a code
    ADD COLUMN IF NOT EXISTS address text,            -- canonical, as it was when the campaign began
    ADD COLUMN IF NOT EXISTS not_before timestamptz NOT NULL DEFAULT '1970-01-01 00:00:00+00',
    ADD COLUMN IF NOT EXISTS variant smallint NOT NULL DEFAULT 0,  -- which of two templates
    ADD COLUMN IF NOT EXISTS queued_at timestamptz,
    ADD COLUMN IF NOT EXISTS replied_at timestamptz,
    ADD COLUMN IF NOT EXISTS opted_out_at timestamptz;
ALTER TABLE campaign_recipients
    DROP CONSTRAINT IF EXISTS check_recipient_status,
    ADD CONSTRAINT check_recipient_status CHECK (status IN (
        'pending', 'queued', 'held', 'sent', 'delivered', 'read', 'replied', 'failed', 'skipped', 'opted_out',
        'unknown', 'canceled')) NOT VALID;
ALTER TABLE campaign_recipients VALIDATE CONSTRAINT check_recipient_status;
ALTER TABLE campaign_recipients DROP CONSTRAINT IF EXISTS check_times_at_work, ADD CONSTRAINT check_times_at_work CHECK (
    least(not_before, queued_at, replied_at, opted_out_at) >= '0002-01-01 00:00+00'
    AND greatest(not_before, queued_at, replied_at, opted_out_at) <= '9999-01-01 00:00+00') NOT VALID;
ALTER TABLE campaign_recipients VALIDATE CONSTRAINT check_times_at_work;
CREATE INDEX CONCURRENTLY IF NOT EXISTS campaign_recipients_due
    ON campaign_recipients (campaign_id, not_before, id, tenant_id) WHERE status = 'pending';
CREATE INDEX CONCURRENTLY IF NOT EXISTS campaign_recipients_apart
    ON campaign_recipients (campaign_id, status, id, tenant_id)
    WHERE status NOT IN ('pending', 'sent', 'delivered', 'read');
DROP INDEX CONCURRENTLY IF EXISTS campaign_recipients_pending;

-- Of which recipient of a campaign the message is; null: of none. Not a foreign key: to delete a recipient would have to
-- find its message, and a number that leads nowhere does no harm.
ALTER TABLE messages ADD COLUMN IF NOT EXISTS campaign_recipient_id uuid;

-- How many recipients of a campaign are in each state: exact in every transaction, without counting rows. Each session
-- has rows of its own, so that none waits for another; what is shown is their sum. A row may be negative, a sum is not.
CREATE TABLE IF NOT EXISTS campaign_counts (
    tenant_id uuid NOT NULL DEFAULT session_tenant(),
    campaign_id uuid NOT NULL,
    status text NOT NULL,
    variant smallint NOT NULL,
    session integer NOT NULL,  -- its process id
    recipients bigint NOT NULL,
    PRIMARY KEY (tenant_id, campaign_id, status, variant, session),
    FOREIGN KEY (tenant_id, campaign_id) REFERENCES campaigns ON DELETE CASCADE
) WITH (fillfactor = 50);
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_policies WHERE schemaname = current_schema() AND tablename = 'campaign_counts') THEN
        PERFORM protect_tenant_table('campaign_counts');
    END IF;
END
$$;
REVOKE ALL ON campaign_counts FROM palomar_api, palomar_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON campaign_counts TO palomar_worker, palomar_api;

CREATE OR REPLACE FUNCTION count_added_recipients() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO campaign_counts AS c (tenant_id, campaign_id, status, variant, session, recipients)
    SELECT tenant_id, campaign_id, status, variant, pg_backend_pid(), count(*) FROM added
    GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    ON CONFLICT (tenant_id, campaign_id, status, variant, session)
        DO UPDATE SET recipients = c.recipients + excluded.recipients;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION count_moved_recipients() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO campaign_counts AS c (tenant_id, campaign_id, status, variant, session, recipients)
    SELECT tenant_id, campaign_id, status, variant, pg_backend_pid(), sum(change)
    FROM (
        SELECT tenant_id, campaign_id, status, variant, 1 AS change FROM added
        UNION ALL SELECT tenant_id, campaign_id, status, variant, -1 FROM gone
    ) AS moved
    GROUP BY 1, 2, 3, 4 HAVING sum(change) <> 0 ORDER BY 1, 2, 3, 4
    ON CONFLICT (tenant_id, campaign_id, status, variant, session)
        DO UPDATE SET recipients = c.recipients + excluded.recipients;
    RETURN NULL;
END
$$;

-- Not where the campaign goes too: its counts do.
CREATE OR REPLACE FUNCTION count_removed_recipients() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO campaign_counts AS c (tenant_id, campaign_id, status, variant, session, recipients)
    SELECT g.tenant_id, g.campaign_id, g.status, g.variant, pg_backend_pid(), -count(*) FROM gone AS g
    WHERE EXISTS (SELECT FROM campaigns AS k WHERE k.tenant_id = g.tenant_id AND k.id = g.campaign_id)
    GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
    ON CONFLICT (tenant_id, campaign_id, status, variant, session)
        DO UPDATE SET recipients = c.recipients + excluded.recipients;
    RETURN NULL;
END
$$;

REVOKE ALL ON FUNCTION count_added_recipients(), count_moved_recipients(), count_removed_recipients() FROM PUBLIC;

-- The recipients that are there already are counted under a lock, which a writer waits for.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'campaign_recipients'::regclass
        AND tgname = 'campaign_recipients_added') THEN
        LOCK TABLE campaign_recipients IN SHARE ROW EXCLUSIVE MODE;
        CREATE TRIGGER campaign_recipients_added AFTER INSERT ON campaign_recipients
            REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_added_recipients();
        CREATE TRIGGER campaign_recipients_moved AFTER UPDATE ON campaign_recipients
            REFERENCING OLD TABLE AS gone NEW TABLE AS added FOR EACH STATEMENT
            EXECUTE FUNCTION count_moved_recipients();
        CREATE TRIGGER campaign_recipients_removed AFTER DELETE ON campaign_recipients
            REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION count_removed_recipients();
        SET LOCAL ROLE palomar_worker;
        INSERT INTO campaign_counts (tenant_id, campaign_id, status, variant, session, recipients)
        SELECT tenant_id, campaign_id, status, variant, 0, count(*) FROM campaign_recipients GROUP BY 1, 2, 3, 4;
        RESET ROLE;
    END IF;
END
$$;

-- A recipient follows its message: in the same transaction, whoever moves it. One that has answered or opted out stays
-- so. A message that takes another's place (a resend, a fallback) becomes the recipient's when it is inserted; what
-- happens to the former one then is not the recipient's any more.
CREATE OR REPLACE FUNCTION follow_message() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    reached CONSTANT text := CASE
        WHEN NEW.status IN ('queued', 'held', 'ready', 'sending') THEN 'queued'
        WHEN NEW.status = 'sent' AND NEW.metadata ? 'held' THEN 'held'
        WHEN NEW.status = 'canceled' AND NEW.error_code = 'already_sent' THEN 'sent'  -- the one that it was to replace
        WHEN NEW.status = 'canceled' AND NEW.error_code = 'expired' THEN 'skipped'
        WHEN NEW.status IN ('sent', 'delivered', 'read', 'unknown', 'canceled') THEN NEW.status
        WHEN NEW.status = 'failed' AND NEW.error_code = 'opted_out' THEN 'skipped'
        ELSE 'failed' END;
BEGIN
    UPDATE campaign_recipients AS r SET
        message_id = NEW.id,
        status = CASE WHEN r.status IN ('replied', 'opted_out') THEN r.status ELSE reached END,
        reason = CASE WHEN reached IN ('failed', 'skipped', 'canceled') THEN coalesce(NEW.error_code, NEW.status) END,
        error_message = CASE WHEN reached = 'failed' THEN NEW.error_message END,
        queued_at = coalesce(r.queued_at, NEW.created_at),
        sent_at = NEW.sent_at, delivered_at = NEW.delivered_at, read_at = NEW.read_at, failed_at = NEW.failed_at
    WHERE r.tenant_id = NEW.tenant_id AND r.id = NEW.campaign_recipient_id
        AND (TG_OP = 'INSERT' OR r.message_id = NEW.id)
        AND (r.message_id IS DISTINCT FROM NEW.id OR r.status IS DISTINCT FROM reached);
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION follow_message() FROM PUBLIC;
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'messages'::regclass AND tgname = 'messages_of_recipient') THEN
        CREATE TRIGGER messages_of_recipient AFTER INSERT ON messages FOR EACH ROW
            WHEN (NEW.campaign_recipient_id IS NOT NULL) EXECUTE FUNCTION follow_message();
        CREATE TRIGGER messages_move_recipient AFTER UPDATE OF status, metadata ON messages FOR EACH ROW
            WHEN (NEW.campaign_recipient_id IS NOT NULL AND (OLD.status IS DISTINCT FROM NEW.status
                OR OLD.metadata -> 'held' IS DISTINCT FROM NEW.metadata -> 'held'))
            EXECUTE FUNCTION follow_message();
    END IF;
END
$$;

-- Whether a message of this recipient's may leave now: its campaign is not paused and not canceled. The claim of a send
-- asks it. The lock is shared by claims, and what pauses or cancels takes it alone, before its commit: a claim that
-- began before ends first, and one that begins after reads the new state, for each statement of a volatile function has
-- a snapshot of its own. So no claim follows the commit of a pause.
CREATE OR REPLACE FUNCTION campaign_sends(tenant uuid, recipient uuid) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    campaign uuid;
BEGIN
    SELECT campaign_id INTO campaign FROM campaign_recipients WHERE tenant_id = tenant AND id = recipient;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('campaign ' || campaign, 0));
    RETURN EXISTS (
        SELECT FROM campaigns
        WHERE tenant_id = tenant AND id = campaign AND status NOT IN ('paused', 'canceled', 'failed')
            AND deleted_at IS NULL);
END
$$;

-- As 0022 made it, with the states that are new: of two recipients the one goes that has not been written to.
CREATE OR REPLACE FUNCTION join_contacts(tenant uuid, one uuid, other uuid) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    found uuid[];
    stays uuid;
    goes uuid;
    campaign record;
BEGIN
    PERFORM FROM conversations WHERE tenant_id = tenant AND contact_id IN (one, other) ORDER BY id FOR NO KEY UPDATE;
    PERFORM FROM contacts WHERE tenant_id = tenant AND id IN (one, other) ORDER BY id FOR UPDATE;
    -- Whom the tenant has not deleted, whom its own systems know by a number, who was there first.
    SELECT array_agg(id ORDER BY deleted_at IS NOT NULL, phone_number IS NULL, created_at, id) INTO found
    FROM contacts WHERE tenant_id = tenant AND id IN (one, other);
    IF coalesce(cardinality(found), 0) <> 2 THEN
        RETURN NULL;
    END IF;
    stays := found[1];
    goes := found[2];

    PERFORM keep_opt_outs(tenant, stays, goes);
    UPDATE consents SET contact_id = stays WHERE tenant_id = tenant AND contact_id = goes;

    UPDATE contact_addresses SET contact_id = stays WHERE tenant_id = tenant AND contact_id = goes;
    UPDATE conversations SET contact_id = stays WHERE tenant_id = tenant AND contact_id = goes;
    UPDATE sessions SET contact_id = stays WHERE tenant_id = tenant AND contact_id = goes;
    UPDATE import_aliases SET our_id = stays WHERE tenant_id = tenant AND our_id = goes;
    INSERT INTO group_contacts (tenant_id, group_id, contact_id, created_at)
    SELECT tenant, group_id, stays, created_at FROM group_contacts WHERE tenant_id = tenant AND contact_id = goes
    ON CONFLICT DO NOTHING;

    -- In a campaign with both, the recipient stays that got further: what was sent to one is not sent to the other.
    FOR campaign IN
        SELECT campaign_id, array_agg(id ORDER BY
            array_position(ARRAY['opted_out', 'replied', 'read', 'delivered', 'sent', 'held', 'unknown', 'queued', 'failed',
                'canceled', 'skipped'], status), id)
            AS recipients
        FROM campaign_recipients WHERE tenant_id = tenant AND contact_id = ANY (found)
        GROUP BY campaign_id HAVING count(*) = 2 ORDER BY campaign_id
    LOOP
        DELETE FROM campaign_recipients WHERE tenant_id = tenant AND id = campaign.recipients[2];
        UPDATE campaigns SET total_recipients = greatest(total_recipients - 1, 0)
        WHERE tenant_id = tenant AND id = campaign.campaign_id;
    END LOOP;
    UPDATE campaign_recipients SET contact_id = stays WHERE tenant_id = tenant AND contact_id = goes;

    PERFORM keep_columns(tenant, stays, goes);
    DELETE FROM contacts WHERE tenant_id = tenant AND id = goes;
    INSERT INTO events (name, tenant_id, contact_id, detail)
    VALUES ('contact.joined', tenant, stays, jsonb_build_object('joined', goes));
    RETURN stays;
END
$$;
SELECT protect_functions();
