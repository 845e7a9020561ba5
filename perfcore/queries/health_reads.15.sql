-- How long reads of blocks took in this database; up to 15 bulk reads are among them.
SELECT coalesce(d.blks_read, 0) AS reads, coalesce(d.blk_read_time, 0) AS read_ms
  FROM pg_catalog.pg_stat_database d
 WHERE d.datname = pg_catalog.current_database()
