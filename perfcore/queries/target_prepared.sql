-- Prepared transactions of this database: they hold locks without a session.
SELECT p.gid::text AS gid, p.owner::text AS role,
       pg_catalog.date_part('epoch',
         pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) p.prepared) AS age_s,
       pg_catalog.age(p.transaction)::bigint AS xmin_age
  FROM pg_catalog.pg_prepared_xacts p
 WHERE p.database OPERATOR(pg_catalog.=) pg_catalog.current_database()
 ORDER BY p.prepared
