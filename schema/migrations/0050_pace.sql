-- Two lanes share a channel's rate: `free_at` is when its next message may leave, `bulk_free_at` when the next one of a
-- campaign may; `bulk_at` is when a campaign last reserved. After the provider refused a message as too fast, at
-- `slowed_at`, the channel has this share of its rate, and more for each quiet while since.
ALTER TABLE rate_limits
    ADD COLUMN IF NOT EXISTS bulk_free_at timestamptz,
    ADD COLUMN IF NOT EXISTS bulk_at timestamptz,
    ADD COLUMN IF NOT EXISTS share double precision NOT NULL DEFAULT 1,
    ADD COLUMN IF NOT EXISTS slowed_at timestamptz;
