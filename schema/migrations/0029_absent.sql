-- A message of unknown outcome, and the moment in which the provider's list was first seen without it. Whoever looks
-- again after a while, and still finds nothing, may have it sent anew.

SET LOCAL lock_timeout = '100ms';

ALTER TABLE messages ADD COLUMN absent_at timestamptz;
