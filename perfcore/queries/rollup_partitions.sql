-- The partitions of the raw samples by name, the default one left out.
SELECT c.relname::text AS name
  FROM pg_inherits i
  JOIN pg_class c ON c.oid = i.inhrelid
 WHERE i.inhparent = 'perfcore.performance_metrics'::regclass
   AND c.relname ~ '^performance_metrics_[0-9]{8}$'
