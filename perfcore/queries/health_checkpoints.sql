-- Checkpoints since the counters began: those by time, and those asked for by WAL or by hand.
SELECT c.num_timed AS timed, c.num_requested AS requested,
       coalesce(c.stats_reset, pg_catalog.pg_postmaster_start_time()) AS since
  FROM pg_catalog.pg_stat_checkpointer c
