SET LOCAL lock_timeout = '100ms';

ALTER TABLE messages
    DROP COLUMN called_to,
    DROP COLUMN called_from,
    DROP COLUMN called_as_of;
