-- Checkpoints since the counters began: those by time, and those asked for by WAL or by hand.
SELECT b.checkpoints_timed AS timed, b.checkpoints_req AS requested,
       coalesce(b.stats_reset, pg_catalog.pg_postmaster_start_time()) AS since
  FROM pg_catalog.pg_stat_bgwriter b
