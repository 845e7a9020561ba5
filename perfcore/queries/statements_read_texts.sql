-- Declares a cursor on the texts of some statements: as bytes, for a text may be in no encoding at
-- all, and cut where they would be unreasonable.
DECLARE perfcore_texts NO SCROLL CURSOR FOR
SELECT DISTINCT ON (s.queryid) s.queryid,
       pg_catalog.convert_to(pg_catalog.left(s.query, 65536), %(encoding)s) AS text
  FROM {schema}.pg_stat_statements(true) s
 WHERE s.queryid OPERATOR(pg_catalog.=) ANY (%(queryids)s::bigint[])
   AND s.query IS NOT NULL
   AND s.query OPERATOR(pg_catalog.<>) '<insufficient privilege>'
   AND s.dbid OPERATOR(pg_catalog.=) %(database_oid)s::oid
 ORDER BY s.queryid, s.calls DESC
