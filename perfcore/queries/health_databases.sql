-- How old each database's oldest transaction and multixact ids are.
SELECT d.datname::pg_catalog.text AS name,
       pg_catalog.age(d.datfrozenxid)::pg_catalog.int8 AS xid_age,
       pg_catalog.mxid_age(d.datminmxid)::pg_catalog.int8 AS mxid_age
  FROM pg_catalog.pg_database d
 ORDER BY 2 DESC, 1
