SET LOCAL lock_timeout = '100ms';

DROP TRIGGER conversations_with_contact ON conversations;
DROP FUNCTION find_conversation_contact();
DROP FUNCTION join_contacts(uuid, uuid, uuid);
DROP FUNCTION keep_columns(uuid, uuid, uuid);
DROP FUNCTION keep_opt_outs(uuid, uuid, uuid);
