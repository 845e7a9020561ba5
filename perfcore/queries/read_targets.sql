-- The watched databases.
SELECT target_id, name, server_version, database, last_seen_at, last_error, settings, created_at
  FROM perfcore.targets
 ORDER BY target_id
