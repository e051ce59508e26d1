DROP TABLE message_statuses;
DROP TABLE messages;
DROP TABLE conversations;
DROP TABLE contact_addresses;
DROP TABLE contacts;
DROP FUNCTION update_last_user_message_timestamp();
