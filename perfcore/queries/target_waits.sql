-- What each session waits for: the mode of the lock and, where it is known, the relation. A session
-- that waits for another's transaction holds the lock of the row's relation meanwhile.
SELECT l.pid, l.locktype::text AS lock_type, l.mode::text AS mode,
       coalesce(n.nspname || '.' || c.relname, '') AS relation
  FROM pg_catalog.pg_locks l
  LEFT JOIN pg_catalog.pg_locks t
    ON t.pid OPERATOR(pg_catalog.=) l.pid AND t.granted
   AND t.locktype OPERATOR(pg_catalog.=) 'tuple'
   AND l.locktype OPERATOR(pg_catalog.=) 'transactionid'
  LEFT JOIN pg_catalog.pg_class c
    ON c.oid OPERATOR(pg_catalog.=) coalesce(l.relation, t.relation)
   AND coalesce(l.database, t.database) OPERATOR(pg_catalog.=) (
       SELECT d.oid
         FROM pg_catalog.pg_database d
        WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
  LEFT JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
 WHERE NOT l.granted
