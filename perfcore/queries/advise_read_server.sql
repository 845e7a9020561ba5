-- The heaviest statements that pg_stat_statements has counted in this database, as a workload.
SELECT s.queryid, min(s.query) AS text, sum(s.calls) AS calls
  FROM {schema}.pg_stat_statements s
 WHERE s.dbid OPERATOR(pg_catalog.=) (
       SELECT d.oid
         FROM pg_catalog.pg_database d
        WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
   AND s.queryid IS NOT NULL
   AND s.query OPERATOR(pg_catalog.<>) '<insufficient privilege>'
   AND pg_catalog.strpos(s.query, '/* perfcore */') OPERATOR(pg_catalog.=) 0
 GROUP BY s.queryid
HAVING sum(s.calls) OPERATOR(pg_catalog.>) 0
 ORDER BY sum(s.total_exec_time) DESC, s.queryid
 LIMIT 500
