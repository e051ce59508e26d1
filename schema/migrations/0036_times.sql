-- transactional: false

-- The times that came after 0024 are such that every program reads them, as all the others are.

ALTER TABLE conversations DROP CONSTRAINT IF EXISTS check_times_restored, ADD CONSTRAINT check_times_restored CHECK (
    reply_restored_at >= '0002-01-01 00:00+00' AND reply_restored_at <= '9999-01-01 00:00+00') NOT VALID;
ALTER TABLE conversations VALIDATE CONSTRAINT check_times_restored;
ALTER TABLE messages DROP CONSTRAINT IF EXISTS check_times_called, ADD CONSTRAINT check_times_called CHECK (
    absent_at >= '0002-01-01 00:00+00' AND absent_at <= '9999-01-01 00:00+00'
    AND called_as_of >= '0002-01-01 00:00+00' AND called_as_of <= '9999-01-01 00:00+00') NOT VALID;
ALTER TABLE messages VALIDATE CONSTRAINT check_times_called;
