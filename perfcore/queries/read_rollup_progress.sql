-- How far hours and days are rolled.
SELECT resolution, rolled_until FROM perfcore.rollup_progress
