-- The texts of some statements, cut where they would be unreasonable.
SELECT DISTINCT ON (s.queryid) s.queryid, pg_catalog.left(s.query, 65536) AS text
  FROM {schema}.pg_stat_statements(true) s
 WHERE s.queryid OPERATOR(pg_catalog.=) ANY (%(queryids)s::bigint[])
   AND s.query IS NOT NULL
   AND s.dbid OPERATOR(pg_catalog.=) (
       SELECT d.oid
         FROM pg_catalog.pg_database d
        WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
 ORDER BY s.queryid, s.calls DESC
