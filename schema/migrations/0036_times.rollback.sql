ALTER TABLE messages DROP CONSTRAINT IF EXISTS check_times_called;
ALTER TABLE conversations DROP CONSTRAINT IF EXISTS check_times_restored;
