-- How long reads of blocks took that were no bulk reads: most of them are random.
SELECT coalesce(sum(i.reads), 0)::pg_catalog.int8 AS reads,
       coalesce(sum(i.read_time), 0)::pg_catalog.float8 AS read_ms
  FROM pg_catalog.pg_stat_io i
 WHERE i.backend_type = 'client backend' AND i.object = 'relation' AND i.context = 'normal'
