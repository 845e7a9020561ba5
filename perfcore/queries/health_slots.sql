-- Replication slots: whether somebody reads them, and what they keep.
SELECT s.slot_name::pg_catalog.text AS name, s.slot_type AS kind, s.active AS is_active,
       coalesce(s.database, '')::pg_catalog.text AS database,
       greatest(pg_catalog.age(s.xmin), pg_catalog.age(s.catalog_xmin))::pg_catalog.int8 AS xid_age,
       coalesce(pg_catalog.pg_wal_lsn_diff(
           CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_receive_lsn()
                ELSE pg_catalog.pg_current_wal_lsn() END, s.restart_lsn), 0)::pg_catalog.int8
           AS retained_bytes
  FROM pg_catalog.pg_replication_slots s
 WHERE NOT s.temporary
 ORDER BY 1
