ALTER TABLE rate_limits DROP COLUMN IF EXISTS ahead_at;
