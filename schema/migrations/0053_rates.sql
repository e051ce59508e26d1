-- transactional: false

-- What messages cost: the operator's price list, what each recipient of a campaign has cost, and their sums.
-- shared/domain/campaigns/prices.py has the rules, docs/costs.md the whole.

-- One price: of a message in a category to a market, from a day on. The operator's, and of no tenant: what is charged is
-- between the operator and the providers. A session of the API reads it to forecast. `palomar rates load` writes it.
CREATE TABLE IF NOT EXISTS message_rates (
    provider text NOT NULL,
    kind text NOT NULL CONSTRAINT check_rate_kind CHECK (kind IN ('whatsapp', 'sms', 'email')),
    market text NOT NULL CONSTRAINT check_rate_market CHECK (market ~ '^([A-Z]{2}|\+[1-9][0-9]{0,14}|\*)$'),
    category text NOT NULL CONSTRAINT check_rate_category CHECK (category ~ '^[a-z][a-z_]{0,39}$'),
    valid_from date NOT NULL,
    price numeric NOT NULL CONSTRAINT check_rate_price CHECK (price BETWEEN 0 AND 1000),
    currency text NOT NULL CONSTRAINT check_rate_currency CHECK (currency ~ '^[A-Z]{3}$'),
    PRIMARY KEY (provider, kind, market, category, valid_from)
);
GRANT SELECT ON message_rates TO palomar_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON message_rates TO palomar_worker;

-- `cost` is null where nothing was charged, or no rate is loaded. `cost_due_at`: a message has been charged and its cost
-- is not written yet; the clock does it.
ALTER TABLE campaign_recipients
    ADD COLUMN IF NOT EXISTS cost numeric,
    ADD COLUMN IF NOT EXISTS cost_currency text,
    ADD COLUMN IF NOT EXISTS cost_category text,
    ADD COLUMN IF NOT EXISTS cost_due_at timestamptz;
ALTER TABLE campaign_recipients DROP CONSTRAINT IF EXISTS check_times_cost, ADD CONSTRAINT check_times_cost CHECK (
    cost_due_at >= '0002-01-01 00:00+00' AND cost_due_at <= '9999-01-01 00:00+00') NOT VALID;
ALTER TABLE campaign_recipients VALIDATE CONSTRAINT check_times_cost;
CREATE INDEX CONCURRENTLY IF NOT EXISTS campaign_recipients_cost_due
    ON campaign_recipients (cost_due_at) WHERE cost_due_at IS NOT NULL;

-- The sums of a campaign, written with the costs of its recipients. An erased recipient's cost stays in them: it was
-- charged. `currency` is empty where no rate is loaded; then only the count says anything.
CREATE TABLE IF NOT EXISTS campaign_costs (
    tenant_id uuid NOT NULL DEFAULT session_tenant(),
    campaign_id uuid NOT NULL,
    market text NOT NULL,    -- ISO country of the recipient's number; * where there is none
    category text NOT NULL,  -- that was charged: the provider's word, else that of the template
    type text NOT NULL,      -- the provider's: regular, free_customer_service, free_entry_point; empty: it names none
    currency text NOT NULL,
    messages bigint NOT NULL,
    units bigint NOT NULL,   -- segments of an SMS; else as many as messages
    amount numeric NOT NULL,
    PRIMARY KEY (tenant_id, campaign_id, market, category, type, currency),
    FOREIGN KEY (tenant_id, campaign_id) REFERENCES campaigns ON DELETE CASCADE
) WITH (fillfactor = 50);
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_policies WHERE schemaname = current_schema() AND tablename = 'campaign_costs') THEN
        PERFORM protect_tenant_table('campaign_costs');
    END IF;
END
$$;
REVOKE ALL ON campaign_costs FROM palomar_api, palomar_worker;
GRANT SELECT ON campaign_costs TO palomar_api;
GRANT SELECT, INSERT, UPDATE ON campaign_costs TO palomar_worker;

-- WhatsApp charges a message that is delivered, all others one that is sent. Within the UPDATE that a receipt makes
-- anyway: the price list, the number's country and the sums are the clock's work.
CREATE OR REPLACE FUNCTION charge_recipient() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    on_delivery CONSTANT boolean := EXISTS (
        SELECT FROM campaigns k JOIN channels c ON c.tenant_id = k.tenant_id AND c.id = k.whatsapp_instance_id
        WHERE k.tenant_id = NEW.tenant_id AND k.id = NEW.campaign_id AND c.kind = 'whatsapp');
BEGIN
    IF on_delivery AND OLD.delivered_at IS NULL AND NEW.delivered_at IS NOT NULL
        OR NOT on_delivery AND OLD.sent_at IS NULL AND NEW.sent_at IS NOT NULL
    THEN
        NEW.cost_due_at := clock_timestamp();
    END IF;
    RETURN NEW;
END
$$;
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'campaign_recipients'::regclass
        AND tgname = 'campaign_recipients_charged') THEN
        CREATE TRIGGER campaign_recipients_charged BEFORE UPDATE OF sent_at, delivered_at ON campaign_recipients
            FOR EACH ROW WHEN (NEW.message_id IS NOT NULL AND (OLD.delivered_at IS NULL AND NEW.delivered_at IS NOT NULL
                OR OLD.sent_at IS NULL AND NEW.sent_at IS NOT NULL))
            EXECUTE FUNCTION charge_recipient();
    END IF;
END
$$;
SELECT protect_functions();
