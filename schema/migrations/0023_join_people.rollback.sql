-- Whoever was joined stays one: nothing tells any more what was whose.
SELECT 1;
