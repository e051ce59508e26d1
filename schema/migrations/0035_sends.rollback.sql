SET LOCAL lock_timeout = '100ms';

DROP TRIGGER conversations_restored_is_ours ON conversations;
DROP FUNCTION refuse_changed_decision();
DROP TRIGGER messages_send_is_ours ON messages;
DROP FUNCTION refuse_changed_send();
