-- transactional: false

DROP TRIGGER IF EXISTS campaign_recipients_charged ON campaign_recipients;
DROP FUNCTION IF EXISTS charge_recipient();
DROP TABLE IF EXISTS campaign_costs;
DROP INDEX CONCURRENTLY IF EXISTS campaign_recipients_cost_due;
ALTER TABLE campaign_recipients
    DROP CONSTRAINT IF EXISTS check_times_cost,
    DROP COLUMN IF EXISTS cost, DROP COLUMN IF EXISTS cost_currency, DROP COLUMN IF EXISTS cost_category,
    DROP COLUMN IF EXISTS cost_due_at;
DROP TABLE IF EXISTS message_rates;
