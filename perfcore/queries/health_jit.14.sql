-- Up to 14 pg_stat_statements does not count what compiling costs.
SELECT 0::pg_catalog.int8 AS statements, 0::pg_catalog.int8 AS calls,
       0::pg_catalog.float8 AS exec_ms, 0::pg_catalog.float8 AS jit_ms
  FROM (SELECT FROM {schema}.pg_stat_statements LIMIT 0) AS loaded
 RIGHT JOIN (VALUES (1)) AS one ON true
