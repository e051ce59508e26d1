-- Until then no other reply goes ahead of the slots that a campaign has reserved.
ALTER TABLE rate_limits ADD COLUMN IF NOT EXISTS ahead_at timestamptz;
