-- Transactions that were prepared and never ended.
SELECT p.gid, p.owner::pg_catalog.text AS role, p.database::pg_catalog.text AS database,
       p.prepared AS prepared_at, pg_catalog.age(p.transaction)::pg_catalog.int8 AS xid_age
  FROM pg_catalog.pg_prepared_xacts p
 ORDER BY p.prepared
