-- The memberships are the whole cluster's, and other databases of it stand on them: they stay as they are. All that came
-- before works with them too.
SELECT 1;
