-- Databases that take any bytes for a text.
SELECT d.datname::text AS name
  FROM pg_catalog.pg_database d
 WHERE pg_catalog.pg_encoding_to_char(d.encoding) OPERATOR(pg_catalog.=) 'SQL_ASCII'
   AND d.datallowconn
   AND NOT d.datistemplate
 ORDER BY d.datname
