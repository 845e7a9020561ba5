-- The standbys that are connected, and how old a snapshot each asks to be kept.
SELECT coalesce(nullif(r.application_name, ''), 'walreceiver') AS name,
       coalesce(pg_catalog.host(r.client_addr), 'local') AS address,
       pg_catalog.age(r.backend_xmin)::pg_catalog.int8 AS xid_age
  FROM pg_catalog.pg_stat_replication r
 ORDER BY 1, 2
