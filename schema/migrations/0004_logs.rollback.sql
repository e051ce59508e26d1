DROP FUNCTION drop_partitions(text, integer);
DROP FUNCTION make_partitions(integer);
DROP TABLE relay_cursor;
DROP TABLE events;
DROP TABLE inbound_log;
DROP TABLE inbound_keys;
DROP FUNCTION announce_events();
