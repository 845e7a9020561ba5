INSERT INTO perfcore.rollup_progress (resolution, rolled_until)
VALUES (%(resolution)s, %(rolled_until)s)
ON CONFLICT (resolution) DO UPDATE SET rolled_until = excluded.rolled_until
