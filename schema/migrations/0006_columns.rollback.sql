ALTER TABLE tenants ALTER COLUMN id DROP DEFAULT;
ALTER TABLE message_statuses ALTER COLUMN id DROP DEFAULT, ALTER COLUMN tenant_id DROP DEFAULT;
ALTER TABLE endpoints ALTER COLUMN id DROP DEFAULT, ALTER COLUMN tenant_id DROP DEFAULT;
ALTER TABLE channels
    DROP COLUMN webhook_url,
    DROP COLUMN business_id,
    ALTER COLUMN id DROP DEFAULT,
    ALTER COLUMN tenant_id DROP DEFAULT;

DROP TRIGGER sessions_complete ON sessions;
DROP FUNCTION complete_session();

DROP TRIGGER messages_move_forward ON messages;
DROP TRIGGER messages_complete ON messages;
ALTER TABLE messages
    DROP CONSTRAINT check_ai_processing_status,
    DROP COLUMN ai_metadata,
    DROP COLUMN ai_processed_at,
    DROP COLUMN ai_processing_status,
    ALTER COLUMN id DROP DEFAULT,
    ALTER COLUMN tenant_id DROP DEFAULT;

DROP TRIGGER conversations_phone_changed ON conversations;
DROP TRIGGER conversations_complete ON conversations;
ALTER TABLE conversations ALTER COLUMN id DROP DEFAULT, ALTER COLUMN tenant_id DROP DEFAULT;

DROP TRIGGER contacts_phone_changed ON contacts;
DROP TRIGGER contacts_phone_added ON contacts;
ALTER TABLE contact_addresses ALTER COLUMN tenant_id DROP DEFAULT;
ALTER TABLE contacts DROP COLUMN phone_number, ALTER COLUMN id DROP DEFAULT, ALTER COLUMN tenant_id DROP DEFAULT;

DROP FUNCTION move_message_forward();
DROP FUNCTION message_rank(text);
DROP FUNCTION complete_message();
DROP FUNCTION readdress_conversation();
DROP FUNCTION complete_conversation();
DROP FUNCTION contact_of_chat(uuid, text, text, text);
DROP FUNCTION contact_of_phone(uuid, text, text);
DROP FUNCTION keep_phone_as_address();
DROP FUNCTION only_channel(uuid, text, text);
DROP FUNCTION session_tenant();
DROP FUNCTION canonical_phone(text);
DROP FUNCTION providers();
