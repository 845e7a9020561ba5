-- The write-ahead log written since its counter began.
SELECT w.wal_bytes::pg_catalog.float8 AS wal_bytes,
       coalesce(w.stats_reset, pg_catalog.pg_postmaster_start_time()) AS since
  FROM pg_catalog.pg_stat_wal w
