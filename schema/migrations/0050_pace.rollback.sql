ALTER TABLE rate_limits
    DROP COLUMN IF EXISTS slowed_at,
    DROP COLUMN IF EXISTS share,
    DROP COLUMN IF EXISTS bulk_at,
    DROP COLUMN IF EXISTS bulk_free_at;
