SET LOCAL lock_timeout = '100ms';

CREATE OR REPLACE TRIGGER trigger_update_last_user_message AFTER INSERT ON messages
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION update_last_user_message_timestamp();
