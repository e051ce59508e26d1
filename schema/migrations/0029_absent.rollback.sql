SET LOCAL lock_timeout = '100ms';

ALTER TABLE messages DROP COLUMN absent_at;
