-- For which window of a conversation the event `window.expiring` is recorded: the one that the customer's message of
-- `opened_at` opened. A table of its own: the row of a conversation, which every message changes, is neither written
-- again nor has a new `updated_at`. No index beside its key: the clock finds windows by conversations_window (0043).
CREATE TABLE IF NOT EXISTS expiring_windows (
    tenant_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    opened_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, conversation_id),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES conversations ON DELETE CASCADE
);
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_policies WHERE tablename = 'expiring_windows') THEN
        PERFORM protect_tenant_table('expiring_windows');
    END IF;
END
$$;
REVOKE ALL ON expiring_windows FROM palomar_api, palomar_worker;
GRANT SELECT, INSERT, UPDATE ON expiring_windows TO palomar_worker;
