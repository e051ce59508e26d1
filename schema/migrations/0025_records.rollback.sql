SET LOCAL lock_timeout = '100ms';

DROP FUNCTION queue_message(uuid, text, text);
GRANT INSERT, UPDATE ON message_statuses TO palomar_api;
DROP TRIGGER conversations_reply_is_owed ON conversations;
DROP TRIGGER conversations_owe_no_reply ON conversations;
DROP TRIGGER messages_record_not_due ON messages;
DROP TRIGGER messages_recorded ON messages;
DROP FUNCTION owe_no_reply();
DROP FUNCTION refuse_due_record();
DROP FUNCTION keep_record();
