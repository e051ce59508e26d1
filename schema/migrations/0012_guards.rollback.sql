ALTER TABLE webhook_logs ALTER COLUMN tenant_id SET DEFAULT current_tenant();
ALTER TABLE webhooks ALTER COLUMN tenant_id SET DEFAULT current_tenant();
ALTER TABLE campaign_recipients ALTER COLUMN tenant_id SET DEFAULT current_tenant();
ALTER TABLE campaigns ALTER COLUMN tenant_id SET DEFAULT current_tenant();
ALTER TABLE message_templates ALTER COLUMN tenant_id SET DEFAULT current_tenant();
ALTER TABLE consents ALTER COLUMN tenant_id SET DEFAULT current_tenant();
ALTER TABLE group_contacts ALTER COLUMN tenant_id SET DEFAULT current_tenant();
ALTER TABLE groups ALTER COLUMN tenant_id SET DEFAULT current_tenant();
ALTER TABLE contacts ALTER COLUMN tenant_id SET DEFAULT current_tenant();

DROP TRIGGER conversations_of_channel ON conversations;
DROP TRIGGER messages_on_channel ON messages;
DROP FUNCTION check_conversation_provider();
DROP FUNCTION check_message_channel();
